"""The index keeps what `index.target` asks for."""

from __future__ import annotations

from typing import Any, Literal

from two_tower.contracts import CheckResult, GateCheck


class IndexTarget(GateCheck):
    """The index has to keep its target, as measured when it was built."""

    type: Literal["index_target"] = "index_target"

    @property
    def name(self) -> str:
        return "index target"

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        target, unmet = metrics["index"].get("target"), metrics["index"].get("unmet") or []
        if target is None:
            return self.result(None, "The index was built without a target, or without queries to measure it on.")
        if unmet:
            return self.result(False, f"The index misses its target: {'; '.join(unmet)}.")
        return self.result(True, f"The index keeps its target of recall@{target['k']} {target['recall']:g}.")
