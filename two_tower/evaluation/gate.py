"""The gate: checks in, a decision that explains itself out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from two_tower.contracts import CheckResult, GateCheck


def run_gate(checks: Sequence[GateCheck], metrics: dict[str, Any]) -> dict[str, Any]:
    """The `gate` section of metrics.json: `decision`, `reason` (one sentence) and `checks`.

    `refuse` where a blocking check failed, else `keep` where the version is the champion already, else `promote`.
    A check that cannot be evaluated has failed; an error in one decides nothing for the others.

    Args:
        checks: The configuration's checks.
        metrics: The content of metrics.json less `gate`.
    """
    results = [_run(check, metrics) for check in checks]
    failed = [result for result in results if result.status == "failed" and result.blocking]
    if failed:
        more = f" ({len(failed) - 1} more blocking checks failed)" if len(failed) > 1 else ""
        decision, reason = "refuse", f"Refused, since {failed[0].name} failed: {failed[0].reason}{more}"
    elif metrics["version"] == metrics["champion"]:
        decision, reason = "keep", f"The version is the champion already; {_summary(results)}."
    else:
        decision, reason = "promote", f"The gate lets it through: {_summary(results)}."
    return {"decision": decision, "reason": reason, "checks": [asdict(result) for result in results]}


def _run(check: GateCheck, metrics: dict[str, Any]) -> CheckResult:
    try:
        return check.check(metrics)
    except Exception as error:
        settings = check.model_dump(mode="json", exclude={"type", "blocking"}, exclude_none=True)
        name = " ".join([check.type, *(f"{key}={value}" for key, value in settings.items())])
        reason = f"The check cannot be evaluated: {str(error) or type(error).__name__}."
        return CheckResult(name, "failed", None, None, reason, check.blocking)


def _summary(results: Sequence[CheckResult]) -> str:
    """What became of the checks, where none that blocks has failed."""
    if not results:
        return "no check is configured"
    parts = [f"{sum(result.status == 'passed' for result in results)} of {len(results)} checks passed"]
    if skipped := sum(result.status == "skipped" for result in results):
        parts.append(f"{skipped} had nothing to check")
    if advisory := [result.name for result in results if result.status == "failed"]:
        parts.append(f"advisory only: {', '.join(advisory)} failed")
    return "; ".join(parts)
