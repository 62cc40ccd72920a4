"""A stored version's figures on a window, beside another version's, as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from two_tower.evaluation import shown_metrics
from two_tower.metrics_file import CHALLENGER, Difference, Evaluation, Figure, SliceFigures, Window

if TYPE_CHECKING:
    from two_tower.registry import Version

CHAMPION = "champion"
"""The system that the other version is measured as."""


def window_in_words(window: Window | None) -> str:
    """From when the queries are and until when the version was trained, in one line."""
    from two_tower.progress import moment_text

    if window is None:
        return "the logs are not split by time: whether the version has trained on these queries is not known"
    start, seen = (
        "an unknown time" if at is None else f"{moment_text(int(at * 1_000_000))} UTC"
        for at in (window.start, window.seen_until)
    )
    return f"queries from {start} on; the version was trained on events until {seen}"


def named(evaluation: Evaluation, *, against: Version | None) -> Evaluation:
    """The evaluation with the id of the version that played the champion's part as its name."""
    systems = {against.id if against and name == CHAMPION else name: of for name, of in evaluation.systems.items()}
    return evaluation.model_copy(update={"systems": systems})


def differences_table(evaluation: Evaluation, *, against: Version) -> Table:
    """One row a metric that is shown: both versions' figures, and the paired difference on the same queries."""
    table = Table(title="difference on the same queries", title_justify="left", title_style="bold")
    for column in ("metric", evaluation.version, against.id, "difference", "better with probability"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    for name in shown_metrics(evaluation):
        if paired := evaluation.difference(CHAMPION, name):
            figures = [value_text(evaluation.figure(system, name)) for system in (CHALLENGER, CHAMPION)]
            table.add_row(name, *figures, difference_text(paired), probability_text(paired))
    return table


def slices_table(evaluation: Evaluation, *, against: Version | None) -> Table:
    """One row a slice: the recall in it, and with `against` the difference and what it says."""
    metric = evaluation.main_metric
    table = Table(title=f"{metric} by slice", title_justify="left", title_style="bold")
    table.add_column("slice", overflow="fold")
    others = [against.id, "difference", "better with probability"] if against else []
    for column in ("queries", evaluation.version, *others):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict" if against else "", no_wrap=True)
    for name, found in ordered_slices(evaluation.slices):
        paired = found.difference(CHAMPION, metric)
        systems = (CHALLENGER, CHAMPION) if against else (CHALLENGER,)
        cells = [value_text(found.figure(system, metric)) for system in systems]
        if against:
            cells += [difference_text(paired), probability_text(paired)]
        few = "too few queries to judge" if found.too_small else ""
        table.add_row(slice_label(name, found), f"{found.queries:,}", *cells, few or verdict_of(paired))
    return table


def ordered_slices(slices: Mapping[str, SliceFigures]) -> list[tuple[str, SliceFigures]]:
    """The slices that have a query: those of users first, then by history, by item and by column."""
    groups = ["users", "history", "items"]

    def order(slice_: tuple[str, SliceFigures]) -> tuple[int, str, list[tuple[int, str]]]:
        name, group = slice_[0], slice_[1].group
        pieces = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]
        return groups.index(group) if group in groups else len(groups), group, pieces

    return sorted(((name, found) for name, found in slices.items() if found.queries), key=order)


def slice_label(name: str, found: SliceFigures) -> str:
    """How a slice is called for people: its group and its label."""
    label = name.replace("_", " ") if found.label is None else found.label
    return f"{found.group}: {label}" if found.group else label


def verdict_of(paired: Difference | None) -> str:
    """What an interval of a difference says."""
    if paired is None:
        return ""
    return "better" if paired.low > 0 else "worse" if paired.high < 0 else "no clear difference"


def difference_text(paired: Difference | None) -> str:
    """Such as `+0.0120 [-0.0010, +0.0230]`; empty without a difference."""
    return f"{paired.difference:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]" if paired else ""


def probability_text(paired: Difference | None) -> str:
    """With three decimals; empty without a difference."""
    return f"{paired.probability_better:.3f}" if paired else ""


def value_text(figure: Figure | None) -> str:
    """With four decimals; empty without a figure."""
    return f"{figure.value:.4f}" if figure else ""
