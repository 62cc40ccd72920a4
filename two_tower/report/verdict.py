"""The verdict: the gate's sentence, the figures under it, and every check with a bar against its threshold."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from two_tower.evaluation import sample_in_words
from two_tower.metrics_file import CheckResult, Evaluation, Window
from two_tower.report.systems import compared_words, first_of_kind, metric_title, ordered_systems
from two_tower.report.values import figure, moment

_DECISIONS = {
    "promote": ("Promote", "good"),
    "refuse": ("Refuse", "bad"),
    "keep": ("Keep", "neutral"),
    "try": ("Tried", "neutral"),
}
_STATUSES = {"passed": ("pass", "good"), "failed": ("fail", "bad"), "skipped": ("skipped", "neutral")}
_HEADLINES = {
    "challenger": "end to end",
    "exact": "model, exact search",
    "champion": "champion",
    "baseline": "best baseline",
}
_CONFIGURED = {
    "default": "These are the checks of the default gate; evaluation.gate in the configuration replaces them.",
    "none": "No check is configured (gate: []), so a worse version replaces the champion, too.",
}
_MOST_THRESHOLDS = 3.0
"""A bar ends at this many thresholds; a value beyond it is marked as going on."""


@dataclass(frozen=True)
class Headline:
    """One of the few figures that stand under the verdict."""

    label: str
    detail: str | None
    value: float
    low: float | None
    high: float | None
    signed: bool = False


@dataclass(frozen=True)
class Zone:
    """The side of a bar where a check passes, in percent of its width."""

    start: float
    width: float


@dataclass(frozen=True)
class Bar:
    """A check's bar; its places are in percent of its width."""

    start: float
    width: float
    beyond: bool
    """Whether the value lies beyond the bar's end."""
    threshold: float | None = None
    zone: Zone | None = None


@dataclass(frozen=True)
class Check:
    """A check with its bar against the threshold."""

    result: CheckResult
    words: str
    tone: str
    value: str | None
    threshold: str | None
    bar: Bar | None


@dataclass(frozen=True)
class Count:
    """How many checks have a status."""

    words: str
    tone: str
    count: int


@dataclass(frozen=True)
class ShownWindow:
    """Up to when the version has seen events, and from when on it is tested."""

    start: str
    seen_until: str
    overlaps: bool


@dataclass(frozen=True)
class VerdictSection:
    """The gate's decision with its reason and its checks; what stands under the title."""

    label: str
    tone: str
    best: str | None
    reason: str
    version: str
    champion: str | None
    champion_error: str | None
    window: ShownWindow | None
    headlines: list[Headline]
    checks: list[Check]
    configured: str | None
    counts: list[Count]


def verdict_section(evaluation: Evaluation) -> VerdictSection:
    """The gate's decision, and what it was made of."""
    gate = evaluation.gate
    label, tone = _DECISIONS.get(gate.decision, ("No verdict", "neutral"))
    statuses = [check.status for check in gate.checks]
    return VerdictSection(
        label,
        tone,
        best=best_in_words(evaluation),
        reason=gate.reason or "The gate has not been asked.",
        version=evaluation.version,
        champion=evaluation.champion,
        champion_error=evaluation.champion_error,
        window=_window(evaluation.window),
        headlines=_headlines(evaluation),
        checks=[_check(check) for check in gate.checks],
        configured=_CONFIGURED.get(gate.configured or ""),
        counts=[Count(*about, statuses.count(status)) for status, about in _STATUSES.items() if status in statuses],
    )


def best_in_words(evaluation: Evaluation) -> str | None:
    """Which system has the best recall and what to do where that is a baseline; None where there is none to compare.

    A baseline is better where the paired interval of the difference says so.
    """
    key = evaluation.main_metric
    systems = ordered_systems(evaluation)
    own, best = (first_of_kind(systems, kind) for kind in ("challenger", "baseline"))
    if not own or not best:
        return None
    metric, (ours, theirs) = metric_title(key), (systems[name].metrics[key].value for name in (own, best))
    difference = evaluation.difference(best, key)
    words = compared_words(difference)[1] if difference else "unclear"
    if words == "better":
        return f"The two towers are the best system that was measured: {metric} {ours:.4f}, {best} has {theirs:.4f}."
    if words == "unclear":
        return f"The two towers and {best} cannot be told apart: {metric} {ours:.4f} and {theirs:.4f}."
    return (
        f"{best} is the best system that was measured: {metric} {theirs:.4f}, the two towers have {ours:.4f}. "
        "Serve it for now; more events, features of the items or other settings may change that: two-tower try "
        "measures them on validation queries."
    )


def _window(window: Window | None) -> ShownWindow | None:
    if not window or window.start is None or window.seen_until is None:
        return None
    return ShownWindow(moment(1e6 * window.start), moment(1e6 * window.seen_until), window.overlaps)


def _headlines(evaluation: Evaluation) -> list[Headline]:
    systems = ordered_systems(evaluation)
    key = evaluation.main_metric
    found = []
    for kind, label in _HEADLINES.items():
        name = first_of_kind(systems, kind)
        if name and (figure := systems[name].metrics.get(key)):
            detail = name if kind == "baseline" else sample_in_words(systems[name], queries=evaluation.queries)
            found.append(Headline(f"{key.capitalize()}, {label}", detail, figure.value, figure.low, figure.high))
    if difference := evaluation.difference("champion", key):
        words = f"{compared_words(difference)[1]}, P(better) {difference.probability_better:.3f}"
        ends = (difference.difference, difference.low, difference.high)
        found.append(Headline("Challenger minus champion", words, *ends, signed=True))
    return found


# The checks


def _check(check: CheckResult) -> Check:
    words, tone = _STATUSES[check.status]
    text = _milliseconds if re.search(r"\bms\b", check.name) else figure
    value, threshold = (None if number is None else text(number) for number in (check.value, check.threshold))
    return Check(check, words, tone, value, threshold, _bar(check))


def _milliseconds(value: float) -> str:
    return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def _bar(check: CheckResult) -> Bar | None:
    """A check's bar, None without a value."""
    value, threshold = check.value, check.threshold
    if value is None:
        return None
    low, high = _scale(value, value if threshold is None else threshold)

    def place(number: float) -> float:
        return round(100 * (min(max(number, low), high) - low) / (high - low), 2)

    start, end = sorted((place(0.0), place(value)))
    bar = Bar(start, round(end - start, 2), beyond=not low <= value <= high)
    if threshold is None:
        return bar
    edge = place(threshold)
    zone = Zone(edge, round(100 - edge, 2)) if _at_least(check, value, threshold) else Zone(0.0, edge)
    return replace(bar, threshold=edge, zone=zone)


def _scale(value: float, threshold: float) -> tuple[float, float]:
    """The ends of a bar: shares up to 1, differences around 0, anything else to some thresholds."""
    low, high = min(0.0, value, threshold), max(0.0, value, threshold)
    if threshold > 0:
        high = min(high, max(_MOST_THRESHOLDS * threshold, 1.0 if high <= 1 else 0.0))
    if low == 0 and 0.4 < high <= 1:
        return 0.0, 1.0
    room = 0.15 * (high - low) or 1.0
    return (low - room if low < 0 else 0.0), (high + room if high > 0 or low == 0 else room)


def _at_least(check: CheckResult, value: float, threshold: float) -> bool:
    """Whether values above the threshold are those that pass."""
    if value == threshold or check.status == "skipped":
        return "<" not in check.name
    return (value > threshold) == (check.status == "passed")
