"""Better than a baseline, beyond chance."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import RankingMetric, SliceName, comparison, on, recall_only
from two_tower.metrics_file import CheckResult, Evaluation


class BetterThanBaseline(GateCheck):
    """The two towers have to beat a baseline on the same queries."""

    type: Literal["better_than_baseline"] = "better_than_baseline"
    metric: RankingMetric
    """The metric that is compared."""
    baseline: str = Field(description="The baseline's name, such as `recent_popularity`.")
    slice: SliceName = None
    probability: float | None = Field(
        None, gt=0, lt=1, description="Least probability of being better; without it the interval has to exclude zero."
    )

    @property
    def name(self) -> str:
        return f"{self.metric}{on(self.slice)} above {self.baseline}"

    @model_validator(mode="after")
    def _is_measured_by_slice(self) -> Self:
        if self.slice is not None:
            recall_only(self.metric)
        return self

    def check(self, evaluation: Evaluation) -> CheckResult:
        found = comparison(evaluation, self.baseline, self.metric, slice_name=self.slice)
        if self.probability is None:
            value, threshold = found.low, 0.0
            passed = value > threshold
        else:
            value, threshold = found.probability_better, self.probability
            passed = value >= threshold
        reason = (
            f"{self.metric}{on(self.slice)} differs from that of {self.baseline} by {found.difference:+.4f} "
            f"({found.low:+.4f} to {found.high:+.4f}) and is better with probability "
            f"{found.probability_better:.3f}."
        )
        return self.result(passed, reason, value=value, threshold=threshold)
