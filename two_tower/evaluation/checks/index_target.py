"""The index keeps what `index.target` asks for."""

from __future__ import annotations

from typing import Any, Literal

from two_tower.contracts import CheckResult, GateCheck


class IndexTarget(GateCheck):
    """The index has to keep its target, as measured when it was built."""

    type: Literal["index_target"] = "index_target"

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        target, unmet = metrics["index"].get("target"), metrics["index"].get("unmet") or []
        if target is None:
            status, reason = "skipped", "The index was built without a target, or without queries to measure it on."
        elif unmet:
            status, reason = "failed", f"The index misses its target: {'; '.join(unmet)}."
        else:
            status, reason = "passed", f"The index keeps its target of recall@{target['k']} {target['recall']:g}."
        return CheckResult(
            name="index target",
            status=status,  # type: ignore[arg-type]
            value=None,
            threshold=None,
            reason=reason,
            blocking=self.blocking,
        )
