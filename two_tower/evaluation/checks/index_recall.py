"""The index finds what exact search finds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import measured_index
from two_tower.metrics_file import CheckResult, Evaluation


class IndexRecall(GateCheck):
    """The index has to find a share of the exact search's first `k`."""

    type: Literal["index_recall"] = "index_recall"
    k: Literal[10, 100] = 100
    """How many results the share is about."""
    at_least: float = Field(ge=0, le=1)
    """The floor."""

    @property
    def name(self) -> str:
        return f"index recall@{self.k} >= {self.at_least:g}"

    def check(self, evaluation: Evaluation) -> CheckResult:
        index = measured_index(evaluation)
        value = index.recall[self.k]
        if value is None:
            return self.result(None, "The candidates' vectors are not at hand, so exact search has not been measured.")
        passed = value >= self.at_least
        reason = (
            f"The {index.kind} index finds {value:.4f} of the exact first {self.k}, "
            f"{'at least' if passed else 'below'} {self.at_least:g}."
        )
        return self.result(passed, reason, value=value, threshold=self.at_least)
