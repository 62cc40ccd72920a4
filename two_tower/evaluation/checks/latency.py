"""A ceiling for the time of a search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import measured_index
from two_tower.metrics_file import CheckResult, Evaluation

SLOWEST = {"p50": "One search in two", "p95": "One search in twenty", "p99": "One search in a hundred"}


class Latency(GateCheck):
    """The index may not take longer than a ceiling for a single query on one thread."""

    type: Literal["latency"] = "latency"
    percentile: Literal["p50", "p95", "p99"] = "p99"
    """Of the measured times, in milliseconds."""
    at_most_ms: float = Field(gt=0, le=1e9, description="The ceiling in milliseconds.")

    @property
    def name(self) -> str:
        return f"{self.percentile} latency <= {self.at_most_ms:g} ms"

    def check(self, evaluation: Evaluation) -> CheckResult:
        index = measured_index(evaluation)
        value = index.latency(self.percentile)
        reason = (
            f"{SLOWEST[self.percentile]} of the {index.kind} index takes longer than {value:.3g} ms; "
            f"{self.at_most_ms:g} ms are accepted."
        )
        return self.result(value <= self.at_most_ms, reason, value=value, threshold=self.at_most_ms)
