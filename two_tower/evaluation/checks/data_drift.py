"""The data is like the data that the champion was trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from two_tower.contracts import GateCheck
from two_tower.metrics_file import CheckResult, Evaluation


class DataDrift(GateCheck):
    """No column may have drifted further from the champion's data, by its population stability index."""

    type: Literal["data_drift"] = "data_drift"
    at_most: float = Field(0.25, gt=0, le=1e6, description="0.1 is a moderate change, 0.25 a large one.")

    @property
    def name(self) -> str:
        return f"data drift <= {self.at_most:g}"

    def check(self, evaluation: Evaluation) -> CheckResult:
        drift = evaluation.drift
        if drift is None:
            reason = "There is no champion whose data this could be compared with."
            return self.result(None, reason, threshold=self.at_most)
        largest = drift.largest
        value = float(largest.psi or 0.0)
        reason = f"{largest.column}: {largest.reason}" if largest.column else "No column has changed beyond chance."
        return self.result(value <= self.at_most, reason, value=value, threshold=self.at_most)
