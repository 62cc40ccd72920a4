"""The verdict: the gate's sentence, the figures under it, and every check with a bar against its threshold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from two_tower.evaluation import sample_in_words
from two_tower.report.systems import (
    compared_words,
    first_of_kind,
    main_k,
    measured,
    metric_title,
    ordered_systems,
)
from two_tower.report.values import figure, moment

_DECISIONS = {
    "promote": ("Promote", "good"),
    "refuse": ("Refuse", "bad"),
    "keep": ("Keep", "neutral"),
    "try": ("Tried", "neutral"),
}
_STATUSES = {"passed": ("pass", "good"), "failed": ("fail", "bad"), "skipped": ("skipped", "neutral")}
_CONFIGURED = {
    "default": "These are the checks of the default gate; evaluation.gate in the configuration replaces them.",
    "none": "No check is configured (gate: []), so a worse version replaces the champion, too.",
}
_MOST_THRESHOLDS = 3.0
"""A bar ends at this many thresholds; a value beyond it is marked as going on."""


def verdict_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's decision with its reason and its checks; what stands under the title."""
    gate = metrics.get("gate") or {}
    label, tone = _DECISIONS.get(gate.get("decision", ""), ("No verdict", "neutral"))
    checks = gate.get("checks", [])
    return {
        "label": label,
        "tone": tone,
        "best": best_in_words(metrics),
        "reason": gate.get("reason") or "The gate has not been asked.",
        "version": metrics.get("version"),
        "champion": metrics.get("champion"),
        "champion_error": metrics.get("champion_error"),
        "window": _window(metrics.get("window")),
        "headlines": _headlines(metrics),
        "checks": [_check(check) for check in checks],
        "configured": _CONFIGURED.get(gate.get("configured", "")),
        "counts": [
            {"words": words, "tone": tone, "count": count}
            for status, (words, tone) in _STATUSES.items()
            if (count := sum(check["status"] == status for check in checks))
        ],
    }


def best_in_words(metrics: Mapping[str, Any]) -> str | None:
    """Which system has the best recall and what to do where that is a baseline; None where there is none to compare.

    A baseline is better where the paired interval of the difference says so.
    """
    key = f"recall@{main_k(metrics)}"
    systems = ordered_systems(metrics)
    own, best = (first_of_kind(systems, kind) for kind in ("challenger", "baseline"))
    if not own or not best:
        return None
    metric, (ours, theirs) = metric_title(key), (systems[name]["metrics"][key]["value"] for name in (own, best))
    difference = metrics["comparisons"].get(best, {}).get(key)
    words = compared_words(difference)["words"] if difference else "unclear"
    if words == "better":
        return f"The two towers are the best system that was measured: {metric} {ours:.4f}, {best} has {theirs:.4f}."
    if words == "unclear":
        return f"The two towers and {best} cannot be told apart: {metric} {ours:.4f} and {theirs:.4f}."
    return (
        f"{best} is the best system that was measured: {metric} {theirs:.4f}, the two towers have {ours:.4f}. "
        "Serve it for now; more events, features of the items or other settings may change that: two-tower try "
        "measures them on validation queries."
    )


def _window(window: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Up to when the version has seen events, and from when on it is tested."""
    if not window or window["start"] is None or window["seen_until"] is None:
        return None
    return {
        "start": moment(1e6 * window["start"]),
        "seen_until": moment(1e6 * window["seen_until"]),
        "overlaps": window["overlaps"],
    }


def _headlines(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The few figures that stand under the verdict."""
    systems = ordered_systems(metrics)
    key = f"recall@{main_k(metrics)}"
    found = []
    for kind, label in (
        ("challenger", "end to end"),
        ("exact", "model, exact search"),
        ("champion", "champion"),
        ("baseline", "best baseline"),
    ):
        name = first_of_kind(systems, kind)
        system = systems[name] if name else {"metrics": {}}
        value = measured(system["metrics"].get(key))
        if value["value"] is not None:
            detail = name if kind == "baseline" else sample_in_words(system, queries=metrics["queries"])
            found.append({"label": f"{key.capitalize()}, {label}", "detail": detail, "signed": False, **value})
    difference = metrics["comparisons"].get("champion", {}).get(key)
    if difference:
        words = f"{compared_words(difference)['words']}, P(better) {difference['probability_better']:.3f}"
        value = {"value": difference["difference"], "low": difference["low"], "high": difference["high"]}
        found.append({"label": "Challenger minus champion", "detail": words, "signed": True, **value})
    return found


# The checks


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    words, tone = _STATUSES.get(check["status"], (check["status"], "neutral"))
    text = _milliseconds if re.search(r"\bms\b", check["name"]) else figure
    shown = {key: None if check.get(key) is None else text(check[key]) for key in ("value", "threshold")}
    return {**check, "words": words, "tone": tone, "shown": shown, "bar": _bar(check)}


def _milliseconds(value: float) -> str:
    return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def _bar(check: Mapping[str, Any]) -> dict[str, Any] | None:
    """A check's bar, None without a value.

    The places are in percent of its width: the bar's `start` and `width`, the `threshold`, and `zone`, the allowed
    side of it (`start`, `width`).  `beyond` tells that the value lies beyond the bar's end.
    """
    value, threshold = check.get("value"), check.get("threshold")
    if value is None:
        return None
    low, high = _scale(value, value if threshold is None else threshold)

    def place(number: float) -> float:
        return round(100 * (min(max(number, low), high) - low) / (high - low), 2)

    start, end = sorted((place(0.0), place(value)))
    bar: dict[str, Any] = {"start": start, "width": round(end - start, 2), "beyond": not low <= value <= high}
    if threshold is None:
        return bar
    edge = place(threshold)
    zone = {"start": edge, "width": round(100 - edge, 2)} if _at_least(check) else {"start": 0.0, "width": edge}
    return {**bar, "threshold": edge, "zone": zone}


def _scale(value: float, threshold: float) -> tuple[float, float]:
    """The ends of a bar: shares up to 1, differences around 0, anything else to some thresholds."""
    low, high = min(0.0, value, threshold), max(0.0, value, threshold)
    if threshold > 0:
        high = min(high, max(_MOST_THRESHOLDS * threshold, 1.0 if high <= 1 else 0.0))
    if low == 0 and 0.4 < high <= 1:
        return 0.0, 1.0
    room = 0.15 * (high - low) or 1.0
    return (low - room if low < 0 else 0.0), (high + room if high > 0 or low == 0 else room)


def _at_least(check: Mapping[str, Any]) -> bool:
    """Whether values above the threshold are those that pass."""
    value, threshold = check["value"], check["threshold"]
    if value == threshold or check["status"] not in ("passed", "failed"):
        return "<" not in check["name"]
    return bool((value > threshold) == (check["status"] == "passed"))
