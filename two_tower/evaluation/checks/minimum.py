"""An absolute floor."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from two_tower.evaluation.figures import BoundedFigure, figure
from two_tower.metrics_file import CheckResult, Evaluation


class Minimum(BoundedFigure):
    """A metric has to reach a value."""

    type: Literal["minimum"] = "minimum"
    at_least: float = Field(ge=0, le=1e9, description="The floor.")

    @property
    def name(self) -> str:
        return f"{self.subject} >= {self.at_least:g}"

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        self._within_range("at_least", self.at_least)
        return self

    def check(self, evaluation: Evaluation) -> CheckResult:
        value = figure(evaluation, self.system, self.metric, slice_name=self.slice)
        passed = value >= self.at_least
        reason = f"{self.subject} is {value:.4f}, {'at least' if passed else 'below'} {self.at_least:g}."
        return self.result(passed, reason, value=value, threshold=self.at_least)
