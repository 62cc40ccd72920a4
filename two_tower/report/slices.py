"""The challenger against the champion on every slice: a dot plot with the interval of the paired difference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from two_tower.metrics_file import Evaluation, SliceFigures
from two_tower.report.systems import (
    Cell,
    ComparedTo,
    compared_words,
    first_of_kind,
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


@dataclass(frozen=True)
class Places:
    """Where a row's figures stand, in percent of the plots' width; None for what is not there."""

    own: float | None
    rival: float | None
    low: float | None
    high: float | None
    difference: float | None = None
    start: float | None = None
    end: float | None = None
    """Of the difference's interval."""


@dataclass(frozen=True)
class SliceRow:
    """A slice's figures of the challenger and its rival at one K."""

    name: str
    label: str | None
    what: str | None
    queries: int
    too_small: bool
    own: Cell
    rival: Cell
    difference: ComparedTo | None


@dataclass(frozen=True)
class Dots:
    """A row of the dot plot."""

    row: SliceRow
    at: Places


@dataclass(frozen=True)
class Group:
    """The rows under one heading; without one, that of all queries."""

    title: str | None
    dots: list[Dots]


@dataclass(frozen=True)
class Tick:
    """A tick of an axis, its place in percent of the width."""

    at: float
    label: str


@dataclass(frozen=True)
class TableRow:
    """Every system's figure on a slice."""

    row: SliceRow
    cells: list[Cell]


@dataclass(frozen=True)
class SlicesSection:
    """The rows of the dot plot in groups, its axes, and a table of every system."""

    own: str
    rival: str | None
    """The champion or, without one, the best baseline."""
    without_champion: str | None
    metric: str
    confidence: float
    smallest: int | None
    groups: list[Group]
    ticks: list[Tick]
    difference_ticks: list[Tick]
    systems: list[str]
    table: list[TableRow]


def slices_section(evaluation: Evaluation) -> SlicesSection | None:
    """The challenger against its rival on every slice; None without slices."""
    systems = ordered_systems(evaluation)
    own = first_of_kind(systems, "challenger")
    if own is None or not evaluation.slices:
        return None
    rival = first_of_kind(systems, "champion") or first_of_kind(systems, "baseline")
    main = evaluation.main_metric
    whole = SliceFigures(
        queries=evaluation.queries,
        systems=evaluation.systems,
        comparisons=evaluation.comparisons,
        label=_ALL,
    )
    rows: dict[str | None, list[SliceRow]] = {None: [_row(_ALL, whole, own, rival, main)]}
    for group, names in _grouped(evaluation.slices).items():
        rows[_GROUPS.get(group, group)] = [_row(name, evaluation.slices[name], own, rival, main) for name in names]
    axes = Axes.of([row for some in rows.values() for row in some])
    shown = [name for name, system in systems.items() if system.kind != "exact"]
    return SlicesSection(
        own,
        rival,
        without_champion=without_champion(evaluation),
        metric=metric_title(main),
        confidence=evaluation.confidence,
        smallest=evaluation.smallest_slice,
        groups=[Group(title, [Dots(row, axes.places(row)) for row in some]) for title, some in rows.items()],
        ticks=axes.ticks(),
        difference_ticks=axes.difference_ticks(),
        systems=shown,
        table=[
            TableRow(row, [_cell(evaluation.slices[row.name], system, main) for system in shown])
            for title, some in rows.items()
            if title
            for row in some
        ],
    )


def _grouped(slices: Mapping[str, SliceFigures]) -> dict[str, list[str]]:
    """The names of the slices in each group: users, history and items first, then the columns."""
    groups: dict[str, list[str]] = {}
    for name, part in slices.items():
        groups.setdefault(part.group, []).append(name)
    first = [group for group in _GROUPS if group in groups]

    def order(name: str) -> tuple[int, int, str]:
        if name in _ORDER:
            return 0, _ORDER.index(name), name
        if slices[name].group == "history":
            return 1, int((re.findall(r"\d+", name) or ["0"])[0]), name
        return 2, -slices[name].queries, name

    return {
        group: sorted(groups[group], key=order)
        for group in [*first, *sorted(group for group in groups if group not in first)]
    }


def _row(name: str, part: SliceFigures, own: str, rival: str | None, main: str) -> SliceRow:
    difference = None if part.too_small or rival is None else part.difference(rival, main)
    return SliceRow(
        name,
        label=part.label,
        what=_WHAT.get(name),
        queries=part.queries,
        too_small=part.too_small,
        own=Cell.of(part.figure(own, main)),
        rival=Cell.of(part.figure(rival, main)) if rival else Cell(),
        difference=ComparedTo.of(rival, difference) if rival and difference else None,
    )


def _cell(part: SliceFigures, system: str, main: str) -> Cell:
    """A system's figure on a slice, with what the paired comparison says of it."""
    difference = part.difference(system, main)
    return Cell.of(part.figure(system, main), words=compared_words(difference)[1] if difference else None)


@dataclass(frozen=True)
class Axes:
    """The two axes of the dot plot."""

    most: float
    """The largest figure."""
    limit: float
    """The difference at either end."""
    compared: bool
    """Whether any row has a difference."""

    @classmethod
    def of(cls, rows: Sequence[SliceRow]) -> Axes:
        """Those that fit the rows."""
        figures = [cell for row in rows for cell in (row.own, row.rival)]
        ends = [max(abs(row.difference.low), abs(row.difference.high)) for row in rows if row.difference]
        limit = min(max(ends), _MOST_MEDIANS * float(np.median(ends))) if ends else 0.0
        return cls(
            most=max((end for cell in figures for end in (cell.value, cell.high) if end is not None), default=0) or 1,
            limit=1.08 * (limit or max(ends, default=0) or 1.0),
            compared=bool(ends),
        )

    def places(self, row: SliceRow) -> Places:
        """Where a row's figures stand."""
        own, found = row.own, row.difference
        figures = (self._along(value) for value in (own.value, row.rival.value, own.low, own.high))
        if not found:
            return Places(*figures)
        return Places(*figures, *(self._around(value) for value in (found.difference, found.low, found.high)))

    def ticks(self) -> list[Tick]:
        """Those of the figures."""
        return [Tick(_place(tick, 1.04 * self.most), f"{tick:g}") for tick in _ticks(0, 1.04 * self.most, 5)]

    def difference_ticks(self) -> list[Tick]:
        """Those of the differences."""
        return [
            Tick(self._around(tick), f"{tick:+g}".replace("-", "−") if tick else "0")
            for tick in (_ticks(-0.9 * self.limit, 0.9 * self.limit, 4) if self.compared else ())
        ]

    def _along(self, value: float | None) -> float | None:
        return None if value is None else _place(value, 1.04 * self.most)

    def _around(self, value: float) -> float:
        return round(50 + 50 * min(max(value / self.limit, -1), 1), 2)


def _place(value: float, end: float) -> float:
    return round(100 * value / end, 2)


def _ticks(low: float, high: float, most: int) -> list[float]:
    ticks = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in ticks if low <= tick <= high]
