"""The challenger against the champion on every slice: a dot plot with the interval of the paired difference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from two_tower.report.systems import (
    compared_words,
    first_of_kind,
    main_k,
    measured,
    metric_title,
    ordered_systems,
    without_champion,
)

_ALL = "all queries"
_GROUPS = {"users": "Users", "history": "Length of the history", "items": "Relevant items"}
_ORDER = ("returning_users", "new_users", "repeated", "new_to_user", "warm_new_to_user", "cold_items", "head", "middle",
          "tail")  # fmt: skip
_WHAT = {
    "returning_users": "with an event before the cut-off",
    "new_users": "without an event before the cut-off",
    "repeated": "of the user's past",
    "new_to_user": "not of the user's past",
    "cold_items": "without a training event",
    "head": "the first third of the training events",
    "middle": "the second third",
    "tail": "the last third, and what has no event",
}
_MOST_MEDIANS = 4.0
"""The axis of the differences ends at this many medians of the intervals' ends; a wider interval is cut there."""


def slices_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rows of the dot plot in groups, its axes, and a table of every system; None without slices.

    The challenger's rival is the champion or, without one, the best baseline.
    """
    systems = ordered_systems(metrics)
    own = first_of_kind(systems, "challenger")
    if own is None or not metrics["slices"]:
        return None
    rival = first_of_kind(systems, "champion") or first_of_kind(systems, "baseline")
    main = f"recall@{main_k(metrics)}"
    whole = {**metrics, "label": _ALL, "group": _ALL, "too_small": False}
    groups: list[dict[str, Any]] = [{"title": None, "rows": [_row(_ALL, whole, own, rival, main)]}]
    for group, names in _grouped(metrics["slices"]).items():
        rows = [_row(name, metrics["slices"][name], own, rival, main) for name in names]
        groups.append({"title": _GROUPS.get(group, group), "rows": rows})
    rows = [row for group in groups for row in group["rows"]]
    axes = _place(rows)
    return {
        "own": own,
        "rival": rival,
        "without_champion": without_champion(metrics),
        "metric": metric_title(main),
        "confidence": metrics["confidence"],
        "smallest": metrics.get("smallest_slice"),
        "groups": groups,
        **axes,
        "table": _table(metrics, groups, [name for name in systems if systems[name].get("kind") != "exact"], main),
    }


def _grouped(slices: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the slices in each group: users, history and items first, then the columns."""
    groups: dict[str, list[str]] = {}
    for name, part in slices.items():
        groups.setdefault(part["group"], []).append(name)
    first = [group for group in _GROUPS if group in groups]

    def order(name: str) -> tuple[Any, ...]:
        if name in _ORDER:
            return 0, _ORDER.index(name), name
        if slices[name]["group"] == "history":
            return 1, int((re.findall(r"\d+", name) or ["0"])[0]), name
        return 2, -slices[name]["queries"], name

    return {
        group: sorted(groups[group], key=order)
        for group in [*first, *sorted(group for group in groups if group not in first)]
    }


def _row(name: str, part: Mapping[str, Any], own: str, rival: str | None, main: str) -> dict[str, Any]:
    """A slice's figures of the two systems at one K."""
    difference = None if part["too_small"] or rival is None else part["comparisons"].get(rival, {}).get(main)
    return {
        "name": name,
        "label": part["label"],
        "what": _WHAT.get(name),
        "queries": part["queries"],
        "too_small": part["too_small"],
        "own": _figure(part, own, main),
        "rival": _figure(part, rival, main) if rival else measured(None),
        "difference": difference and {**difference, **compared_words(difference)},
    }


def _figure(part: Mapping[str, Any], system: str, key: str) -> dict[str, Any]:
    return measured(part["systems"].get(system, {"metrics": {}})["metrics"].get(key))


def _place(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Puts each row's places in percent of the plot's width into it; the ticks of the two axes."""
    figures = [row[system] for row in rows for system in ("own", "rival")]
    most = max((value for row in figures for value in (row["value"], row["high"]) if value is not None), default=0) or 1
    ends = [max(abs(row["difference"]["low"]), abs(row["difference"]["high"])) for row in rows if row["difference"]]
    limit = min(max(ends), _MOST_MEDIANS * float(np.median(ends))) if ends else 0.0
    limit = 1.08 * (limit or max(ends, default=0) or 1.0)

    def along(value: float) -> float:
        return round(100 * value / (1.04 * most), 2)

    def around(value: float) -> float:
        return round(50 + 50 * min(max(value / limit, -1), 1), 2)

    for row in rows:
        row["at"] = {
            "own": _mapped(row["own"]["value"], along),
            "rival": _mapped(row["rival"]["value"], along),
            "low": _mapped(row["own"]["low"], along),
            "high": _mapped(row["own"]["high"], along),
        }
        if row["difference"]:
            found = row["difference"]
            ends_at = {"from": around(found["low"]), "to": around(found["high"])}
            row["at"] |= {"difference": around(found["difference"]), **ends_at}
    return {
        "ticks": [{"at": along(tick), "label": f"{tick:g}"} for tick in _ticks(0, 1.04 * most, 5)],
        "difference_ticks": [
            {"at": around(tick), "label": f"{tick:+g}".replace("-", "−") if tick else "0"}
            for tick in _ticks(-0.9 * limit, 0.9 * limit, 4)
        ]
        if ends
        else [],
    }


def _mapped(value: float | None, place: Any) -> float | None:
    return None if value is None else place(value)


def _ticks(low: float, high: float, most: int) -> list[float]:
    ticks = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in ticks if low <= tick <= high]


def _table(
    metrics: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], systems: Sequence[str], main: str
) -> dict[str, Any]:
    """Every system's figure on every slice, with what the paired comparison says of it."""
    rows = []
    for row in (row for group in groups[1:] for row in group["rows"]):
        part = metrics["slices"][row["name"]]
        cells = []
        for system in systems:
            difference = part["comparisons"].get(system, {}).get(main)
            cells.append(
                {**_figure(part, system, main), **(compared_words(difference) if difference else {"words": None})}
            )
        rows.append({**row, "cells": cells})
    return {"systems": list(systems), "rows": rows}
