"""The gate: checks in, a decision that explains itself out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import LeftOut, TooFewQueries
from two_tower.metrics_file import CheckResult, Evaluation, Gate


class WindowAfterTraining(GateCheck):
    """The test window has to begin after the newest event that the version was trained on."""

    type: Literal["window_after_training"] = "window_after_training"

    @property
    def name(self) -> str:
        return "test window after training"

    def check(self, evaluation: Evaluation) -> CheckResult:
        window = evaluation.window
        if window is None:
            return self.result(None, "The split is not by time, so no moment parts training from test.")
        if window.start is None or window.seen_until is None:
            return self.result(None, "It is not known when the test window begins or until when the version has seen.")
        start, seen_until = _in_words(window.start), _in_words(window.seen_until)
        if window.overlaps:
            return self.result(
                False,
                f"The version was trained on events until {seen_until}, and the test window begins on {start}; take "
                "an earlier version or a later window.",
            )
        return self.result(
            True, f"The version was trained on events until {seen_until}; the test window begins after, on {start}."
        )


def run_gate(checks: Sequence[GateCheck], evaluation: Evaluation, *, default: bool = False) -> Gate:
    """The decision, its reason in one sentence, and what the checks found.

    `refuse` where a blocking check failed, else `keep` where the version is the champion already, else `promote`.
    A check that cannot be evaluated has failed, but an advisory one of a baseline that was left out is skipped.  An
    error in one decides nothing for the others.  One check comes first, whatever the configuration says: that the
    version was not trained on the test window.  Without a query nothing else is checked.  The reason names the
    baselines that are better than the two towers, too.

    Args:
        checks: The configuration's checks.
        evaluation: What was measured.
        default: Whether they are those of the default gate, which the reason then says.
    """
    configured = "none" if not checks else "default" if default else "listed"
    if not evaluation.queries:
        return _without_queries(evaluation, configured=configured)
    results = [_run(check, evaluation) for check in (WindowAfterTraining(), *checks)]
    failed = [result for result in results if result.status == "failed" and result.blocking]
    better = _better_baselines(evaluation)
    if failed:
        by = " by the default gate" if default else ""
        more = f" ({len(failed) - 1} more blocking checks failed)" if len(failed) > 1 else ""
        also = f" Besides, {better}." if better else ""
        decision, reason = "refuse", f"Refused{by}, since {failed[0].name} failed: {failed[0].reason}{more}{also}"
    else:
        keep = evaluation.version == evaluation.champion
        says = "The version is the champion already; " if keep else "The gate lets it through: "
        but = f"; but {better}" if better else ""
        decision, reason = "keep" if keep else "promote", f"{says}{_summary(results, default=default)}{but}."
    return Gate(decision=decision, reason=reason, configured=configured, checks=results)


def _without_queries(evaluation: Evaluation, *, configured: str) -> Gate:
    split = evaluation.split
    unseen = " with a relevant item that is new to the user" if evaluation.exclude_seen else ""
    reason = f"The {split} window holds no query{unseen}; make data.split.{split} longer."
    result = CheckResult(name="queries >= 1", status="failed", value=0, threshold=1, reason=reason, blocking=True)
    return Gate(decision="refuse", reason=f"Refused: {reason}", configured=configured, checks=[result])


def _run(check: GateCheck, evaluation: Evaluation) -> CheckResult:
    try:
        return check.check(evaluation)
    except TooFewQueries as error:
        return check.result(None, f"There is no verdict: {error}.")
    except LeftOut as error:
        return check.result(False if check.blocking else None, f"There is no verdict: {error}.")
    except Exception as error:
        return check.result(False, f"The check cannot be evaluated: {str(error) or type(error).__name__}.")


def _better_baselines(evaluation: Evaluation) -> str:
    """Which baselines are better than the two towers beyond chance, the best first; empty where none is."""
    metric = evaluation.main_metric

    def value(system: str) -> float:
        return evaluation.systems[system].metrics[metric].value

    better = [
        name
        for name, compared in evaluation.comparisons.items()
        if name != "champion" and metric in compared and compared[metric].high < 0
    ]
    if not better:
        return ""
    better.sort(key=value, reverse=True)
    figures = _listed([f"{value(name):.4f}" for name in better])
    subject = f"the baseline {better[0]} is" if len(better) == 1 else f"the baselines {_listed(better)} are"
    return f"{subject} better: {metric} {figures} against {value('two_tower'):.4f}"


def _listed(words: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _summary(results: Sequence[CheckResult], *, default: bool) -> str:
    """What became of the checks, where none that blocks has failed; the first is the gate's own."""
    passed = sum(result.status == "passed" for result in results)
    of_default = " (the default gate)" if default else ""
    counted = f"{passed} of {len(results)} checks passed{of_default}"
    parts = [counted if len(results) > 1 else "no check is configured (gate: [])"]
    if len(results) > 1 and (skipped := sum(result.status == "skipped" for result in results)):
        parts.append(f"{skipped} had nothing to check")
    if advisory := [result.name for result in results if result.status == "failed"]:
        parts.append(f"advisory only: {', '.join(advisory)} failed")
    return "; ".join(parts)


def _in_words(seconds: float) -> str:
    """A moment, such as `3 January 2026, 14:05:00 UTC`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M:%S} UTC"
