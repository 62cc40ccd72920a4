"""Better than a baseline, beyond chance."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from two_tower.contracts import CheckResult, GateCheck
from two_tower.evaluation.figures import Metric, comparison


class BetterThanBaseline(GateCheck):
    """The two towers have to beat a baseline on the same queries."""

    type: Literal["better_than_baseline"] = "better_than_baseline"
    metric: Metric
    baseline: str = Field(description="The baseline's name, such as `recent_popularity`.")
    probability: float | None = Field(
        None, gt=0, lt=1, description="Least probability of being better; without it the interval has to exclude zero."
    )

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        found = comparison(metrics, self.baseline, self.metric)
        if self.probability is None:
            value, threshold = found["low"], 0.0
            passed = value > threshold
        else:
            value, threshold = found["probability_better"], self.probability
            passed = value >= threshold
        return CheckResult(
            name=f"{self.metric} above {self.baseline}",
            status="passed" if passed else "failed",
            value=value,
            threshold=threshold,
            reason=f"{self.metric} differs from that of {self.baseline} by {found['difference']:+.4f} "
            f"({found['low']:+.4f} to {found['high']:+.4f}) and is better with probability "
            f"{found['probability_better']:.3f}.",
            blocking=self.blocking,
        )
