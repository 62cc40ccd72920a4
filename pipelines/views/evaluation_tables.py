"""A stored version's figures on a window, beside another version's, as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from two_tower.evaluation import main_k, shown_metrics

if TYPE_CHECKING:
    from two_tower.registry import Version

CHAMPION = "champion"
"""The system that the other version is measured as."""


def window_in_words(window: Mapping[str, Any] | None) -> str:
    """From when the queries are and until when the version was trained, in one line."""
    from two_tower.progress import moment_text

    if window is None:
        return "the logs are not split by time: whether the version has trained on these queries is not known"
    start, seen = (
        "an unknown time" if window[name] is None else f"{moment_text(int(window[name] * 1_000_000))} UTC"
        for name in ("start", "seen_until")
    )
    return f"queries from {start} on; the version was trained on events until {seen}"


def named(metrics: Mapping[str, Any], *, against: Version | None) -> dict[str, Any]:
    """The metrics with the id of the version that played the champion's part as its name."""
    systems = {against.id if against and name == CHAMPION else name: of for name, of in metrics["systems"].items()}
    return {**metrics, "systems": systems}


def differences_table(metrics: Mapping[str, Any], *, against: Version) -> Table:
    """One row a metric that is shown: both versions' figures, and the paired difference on the same queries."""
    table = Table(title="difference on the same queries", title_justify="left", title_style="bold")
    for column in ("metric", metrics["version"], against.id, "difference", "better with probability"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    systems = metrics["systems"]
    compared = metrics["comparisons"][CHAMPION]
    for name, paired in ((name, compared[name]) for name in shown_metrics(metrics) if name in compared):
        ours, theirs = (systems[system]["metrics"][name]["value"] for system in ("two_tower", CHAMPION))
        table.add_row(name, f"{ours:.4f}", f"{theirs:.4f}", difference_text(paired), probability_text(paired))
    return table


def slices_table(metrics: Mapping[str, Any], *, against: Version | None) -> Table:
    """One row a slice: the recall in it, and with `against` the difference and what it says."""
    metric = f"recall@{main_k(metrics)}"
    table = Table(title=f"{metric} by slice", title_justify="left", title_style="bold")
    table.add_column("slice", overflow="fold")
    others = [against.id, "difference", "better with probability"] if against else []
    for column in ("queries", metrics["version"], *others):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict" if against else "", no_wrap=True)
    for name, found in ordered_slices(metrics["slices"]):
        paired = found["comparisons"].get(CHAMPION, {}).get(metric)
        systems = ("two_tower", CHAMPION) if against else ("two_tower",)
        cells = [_value(found["systems"].get(system, {}).get("metrics", {}).get(metric)) for system in systems]
        if against:
            cells += [difference_text(paired), probability_text(paired)]
        few = "too few queries to judge" if found["too_small"] else ""
        table.add_row(slice_label(name, found), f"{found['queries']:,}", *cells, few or verdict_of(paired))
    return table


def ordered_slices(slices: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The slices that have a query: those of users first, then by history, by item and by column."""
    groups = ["users", "history", "items"]

    def order(slice_: tuple[str, Mapping[str, Any]]) -> tuple[int, str, list[tuple[int, str]]]:
        name, group = slice_[0], slice_[1].get("group", "")
        pieces = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]
        return groups.index(group) if group in groups else len(groups), group, pieces

    return sorted(((name, found) for name, found in slices.items() if found["queries"]), key=order)


def slice_label(name: str, found: Mapping[str, Any]) -> str:
    """How a slice is called for people: its group and its label."""
    label = found.get("label", name.replace("_", " "))
    group = found.get("group")
    return f"{group}: {label}" if group else label


def verdict_of(paired: Mapping[str, float] | None) -> str:
    """What an interval of a difference says."""
    if paired is None:
        return ""
    return "better" if paired["low"] > 0 else "worse" if paired["high"] < 0 else "no clear difference"


def difference_text(paired: Mapping[str, float] | None) -> str:
    """Such as `+0.0120 [-0.0010, +0.0230]`; empty without a difference."""
    return f"{paired['difference']:+.4f} [{paired['low']:+.4f}, {paired['high']:+.4f}]" if paired else ""


def probability_text(paired: Mapping[str, float] | None) -> str:
    """With three decimals; empty without a difference."""
    return f"{paired['probability_better']:.3f}" if paired else ""


def _value(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.4f}" if figure else ""
