"""An absolute floor."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from two_tower.contracts import CheckResult, GateCheck
from two_tower.evaluation.figures import Metric, system_metric


class Minimum(GateCheck):
    """A metric has to reach a value."""

    type: Literal["minimum"] = "minimum"
    metric: Metric
    system: str = Field("two_tower", description="Whose metric; `two_tower_exact` for the model without its index.")
    at_least: float = Field(ge=0, le=1)

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        value = system_metric(metrics, self.system, self.metric)
        passed = value >= self.at_least
        of = "" if self.system == "two_tower" else f" of {self.system}"
        return CheckResult(
            name=f"{self.metric}{of} >= {self.at_least:g}",
            status="passed" if passed else "failed",
            value=value,
            threshold=self.at_least,
            reason=f"{self.metric}{of} is {value:.4f}, {'at least' if passed else 'below'} {self.at_least:g}.",
            blocking=self.blocking,
        )
