"""The data is like the data that the champion was trained on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from two_tower.contracts import CheckResult, GateCheck


class DataDrift(GateCheck):
    """No column may have drifted further from the champion's data, by its population stability index."""

    type: Literal["data_drift"] = "data_drift"
    at_most: float = Field(0.25, gt=0, description="0.1 is a moderate change, 0.25 a large one.")

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        drift, name = metrics["drift"], f"data drift <= {self.at_most:g}"
        if drift is None:
            reason = "There is no champion whose data this could be compared with."
            return CheckResult(name, "skipped", None, self.at_most, reason, self.blocking)
        largest = drift["largest"]
        value = float(largest.get("psi", 0.0))
        passed = value <= self.at_most
        reason = f"{largest['column']}: {largest['reason']}" if largest else "No column has changed beyond chance."
        return CheckResult(name, "passed" if passed else "failed", value, self.at_most, reason, self.blocking)
