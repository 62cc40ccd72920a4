"""The candidates are all there."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.contracts import GateCheck
from two_tower.metrics_file import CheckResult, Evaluation
from two_tower.settings import MANY


class Candidates(GateCheck):
    """The index has to hold a number of candidates, or a share of as many as the champion's."""

    type: Literal["candidates"] = "candidates"
    at_least: int | None = Field(None, ge=1, le=MANY, description="Least number of available candidates.")
    of_champion: float | None = Field(
        None, gt=0, le=1e6, description="Least share of the number that the champion's index holds, such as 0.9."
    )

    @property
    def name(self) -> str:
        bounds = [] if self.at_least is None else [f"{self.at_least:,}"]
        bounds += [] if self.of_champion is None else [f"{self.of_champion:g} of the champion's"]
        return f"candidates >= {' and '.join(bounds)}"

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.at_least is None and self.of_champion is None:
            raise PydanticCustomError("candidates", "give at_least, of_champion or both")
        return self

    def check(self, evaluation: Evaluation) -> CheckResult:
        value, champion = evaluation.candidates, evaluation.champion
        bounds = [] if self.at_least is None else [(float(self.at_least), f"{self.at_least:,} are asked for")]
        if self.of_champion is not None and champion is not None and champion != evaluation.version:
            theirs = evaluation.champion_candidates
            if theirs is None:
                why = evaluation.champion_error or "it does not say"
                return self.result(
                    False, f"How many candidates the champion {champion} has is not known: {why}", value=value
                )
            bounds.append((self.of_champion * theirs, f"{self.of_champion:g} of the champion's {theirs:,} at least"))
        if not bounds:
            return self.result(None, "There is no champion to compare with.", value=value)
        threshold = max(bound for bound, _ in bounds)
        reason = f"There are {value:,} candidates; {' and '.join(text for _, text in bounds)}."
        return self.result(value >= threshold, reason, value=value, threshold=threshold)
