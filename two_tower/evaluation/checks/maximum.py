"""A ceiling, for what is too good to be true or too much of something."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from two_tower.evaluation.figures import RANKING, BoundedFigure, figure
from two_tower.metrics_file import CheckResult, Evaluation


class Maximum(BoundedFigure):
    """A metric may not be above a value: a recall that nobody reaches tells of a leak, a high Gini of a few hits."""

    type: Literal["maximum"] = "maximum"
    at_most: float = Field(ge=0, le=1e9, description="The ceiling.")

    @property
    def name(self) -> str:
        return f"{self.subject} <= {self.at_most:g}"

    @model_validator(mode="after")
    def _can_be_exceeded(self) -> Self:
        self._within_range("at_most", self.at_most)
        return self

    def check(self, evaluation: Evaluation) -> CheckResult:
        value = figure(evaluation, self.system, self.metric, slice_name=self.slice)
        passed = value <= self.at_most
        reason = f"{self.subject} is {value:.4f}, {'at most' if passed else 'above'} {self.at_most:g}"
        if not passed and self.metric.split("@")[0] in RANKING:
            reason += "; look for what the model knows of the test window before you believe it"
        return self.result(passed, f"{reason}.", value=value, threshold=self.at_most)
