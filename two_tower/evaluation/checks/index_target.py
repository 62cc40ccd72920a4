"""The index keeps what `index.target` asks for."""

from __future__ import annotations

from typing import Literal

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import measured_index
from two_tower.metrics_file import CheckResult, Evaluation


class IndexTarget(GateCheck):
    """The index has to keep its target, as measured when it was built."""

    type: Literal["index_target"] = "index_target"

    @property
    def name(self) -> str:
        return "index target"

    def check(self, evaluation: Evaluation) -> CheckResult:
        index = measured_index(evaluation)
        target, unmet = index.target, index.unmet or []
        if target is None:
            return self.result(None, "The index was built without a target, or without queries to measure it on.")
        if unmet:
            return self.result(False, f"The index misses its target: {'; '.join(unmet)}.")
        return self.result(True, f"The index keeps its target of recall@{target.k} {target.recall:g}.")
