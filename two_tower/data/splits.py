"""Which event belongs to which split, and what each example and query may see of its user's past.

Everything here works on events sorted by (group, given split, time, order in the source), a group being a user, or,
where the logs have no users, a query text; `starts` are the groups' first rows, with the number of rows at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from two_tower.config import DataSettings, Given, GlobalTime
from two_tower.contracts import Bool, Float64, Int64
from two_tower.errors import DataError

Int8 = npt.NDArray[np.int8]

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")
EVER = 1 << 62
"""Longer than any window, in microseconds."""


@dataclass(frozen=True)
class Windows:
    """Where the windows of a split by time begin, in microseconds; a window's first moment belongs to it."""

    end: int
    """The newest event."""
    recent: int
    """The length of the recent window; without times everything is recent."""
    validation_from: int | None = None
    """None in a split by order and in a given one."""
    test_from: int | None = None
    targets: int | None = None
    """In a split by order: how many of a group's last positive events are test targets, and as many validate."""
    apart: bool = False
    """In a split by order: whether events of one moment do not see each other (`ties: apart`)."""
    unordered: bool = False
    """Whether the events of a group have no order at all."""

    @classmethod
    def of(cls, data: DataSettings, *, end: int) -> Windows:
        """The windows of a log whose newest event is at `end`: test is (end - test, end], validation lies before."""
        columns, split = data.interactions.columns, data.split
        recent = span(data.recent) if columns.time else EVER
        if isinstance(split, GlobalTime):
            test_from = end - span(split.test) + 1
            return cls(end, recent, validation_from=test_from - span(split.validation), test_from=test_from)
        if isinstance(split, Given):
            return cls(end, recent, unordered=not (columns.time or columns.order))
        return cls(end, recent, targets=split.k, apart=split.ties == "apart")

    def cutoff(self, split: int) -> int:
        """The moment before which a query of the split sees, or, in a split not by time, the end of the logs."""
        starts = {VALIDATION: self.validation_from, TEST: self.test_from}
        return self.end + 1 if (start := starts[split]) is None else start


def span(duration: object) -> int:
    """A `timedelta` in microseconds."""
    from datetime import timedelta

    assert isinstance(duration, timedelta)
    return duration // timedelta(microseconds=1)


def assign(time: Int64, positive: Bool, starts: Int64, windows: Windows) -> Int8:
    """The split `[rows]` of each event, of a split that is not given: `TRAIN`, `VALIDATION` or `TEST`.

    By order, the test begins with the first of a group's last `targets` positive events and ends with the group;
    validation begins with the first of as many before it.  With ties apart both begin with that event's moment.  A
    group without a positive event before all that has neither.
    """
    if windows.validation_from is not None and windows.test_from is not None:
        return ((time >= windows.validation_from).astype(np.int8) + (time >= windows.test_from)).astype(np.int8)
    moment = _moments(time, starts) if windows.apart else np.arange(len(time))
    k = windows.targets or 1
    rows = np.flatnonzero(positive)
    first, left = np.searchsorted(rows, starts[:-1]), np.searchsorted(rows, starts[1:])
    group = np.flatnonzero(left - first > 2 * k)
    first, left = first[group], left[group]
    begins = []
    for _ in (TEST, VALIDATION):
        begins.append(moment[rows[np.maximum(left - k, first)]])
        left = np.searchsorted(rows, begins[-1])
    has_both = left > first
    part = np.zeros(len(time), dtype=np.int8)
    ends = np.bincount(starts[1:][group[has_both]], minlength=len(time) + 1)
    for begin in begins:  # everything from the first target on, so that a part has no gaps
        part += (np.bincount(begin[has_both], minlength=len(time) + 1) - ends).cumsum()[:-1].astype(np.int8)
    return part


def last_drawn(rows: Int64, *, of: Int64, time: Int64, draw: Float64, k: int) -> Int64:
    """Of the `rows`, the `k` latest of each list (`of`); between equal times the smaller `draw` counts as later."""
    order = np.lexsort((draw, -time, of))
    new = np.flatnonzero(np.diff(of[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(new, np.diff(np.append(new, len(order))))
    return rows[order[place < k]]


def _moments(time: Int64, starts: Int64) -> Int64:
    """The first row `[rows]` of the same group with the same time."""
    changes = np.ones(len(time), dtype=bool)
    changes[1:] = time[1:] != time[:-1]
    changes[starts[:-1]] = True
    return np.maximum.accumulate(np.where(changes, np.arange(len(time), dtype=np.int64), 0))


def visible_counts(time: Int64, starts: Int64, windows: Windows) -> Int64:
    """How many of the group's preceding events `[rows]` are strictly earlier in time; -1 for all but itself.

    In a split by order whose ties are not apart every preceding one counts: there the source's order decides between
    equal times, for training as for the targets.
    """
    if windows.unordered:
        return np.full(len(time), -1, dtype=np.int64)
    by_order = windows.targets is not None and not windows.apart
    seen = np.arange(len(time), dtype=np.int64) if by_order else _moments(time, starts)
    return seen - np.repeat(starts[:-1], np.diff(starts))


@dataclass(frozen=True)
class Ranges:
    """Rows `[start, stop)` of each of several lists."""

    start: Int64
    stop: Int64

    def last(self, n: int) -> Ranges:
        """The last `n` rows of each."""
        return Ranges(np.maximum(self.start, self.stop - n), self.stop)

    def offsets(self) -> Int64:
        """The offsets `[lists + 1]` of the lists laid one after the other."""
        return np.concatenate([[0], np.cumsum(self.stop - self.start)]).astype(np.int64)

    def rows(self) -> Int64:
        """The rows of all the lists, one after the other."""
        offsets = self.offsets()
        return np.arange(offsets[-1]) + np.repeat(self.start - offsets[:-1], self.stop - self.start)

    def within(self, kept: Bool) -> Ranges:
        """The ranges over the rows for which `kept` is true, counted among those rows."""
        counts = np.concatenate([[0], np.cumsum(kept)])
        return Ranges(counts[self.start], counts[self.stop])

    def take(self, lists: Int64) -> Ranges:
        """The ranges of these lists."""
        return Ranges(self.start[lists], self.stop[lists])

    def distinct(self, values: npt.NDArray[np.int32]) -> tuple[Int64, npt.NDArray[np.int32]]:
        """Offsets and values of the distinct `values` of each list, ascending."""
        lists = np.repeat(np.arange(len(self.start), dtype=np.int64), self.stop - self.start)
        pairs = np.sort(lists << 32 | values[self.rows()].astype(np.int64))
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]
        counts = np.bincount(pairs >> 32, minlength=len(self.start))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), (pairs & 0xFFFFFFFF).astype(np.int32)


@dataclass(frozen=True)
class QueryRows:
    """The queries of one split: for each, its group, its past and the events of its window."""

    group: Int64
    past: Ranges
    window: Ranges
    first: Int64
    """`[queries]`: the row of the first target of the window."""


def query_rows(part: Int8, target: Bool, starts: Int64, *, split: int) -> QueryRows:
    """One query for each group with targets in the split; its past is what precedes the split's events."""
    before = np.concatenate([[0], np.cumsum(part < split)])
    inside = np.concatenate([[0], np.cumsum(part == split)])
    targets = np.flatnonzero((part == split) & target)
    place = np.searchsorted(targets, starts)
    group = np.flatnonzero(np.diff(place))
    first = starts[:-1] + (before[starts[1:]] - before[starts[:-1]])
    count = inside[starts[1:]] - inside[starts[:-1]]
    past, window = Ranges(starts[:-1], first).take(group), Ranges(first, first + count).take(group)
    return QueryRows(group, past, window, targets[place[:-1][group]] if len(targets) else group)


def require_events(events: dict[str, int], windows: Windows, *, first: int) -> None:
    """Checks that every split has positive events.

    Raises:
        DataError: One has none.
    """
    for name in SPLITS:
        if events[name]:
            continue
        if windows.targets is not None:
            moments, order = (" in three moments or more", ", ties: order") if windows.apart else ("", "")
            raise DataError(
                f"data.split: no user has {2 * windows.targets + 1} positive events{moments}, so this split leaves no "
                f"targets; use a smaller k{order}, or global_time"
            )
        if windows.test_from is None:
            raise DataError(f"data.split: no positive event is given to {name}; check the section against the logs")
        days = (windows.end - first) / 86_400_000_000
        raise DataError(
            f"data.split: the {name} window is empty; the logs span {days:.1f} days, {describe(first)} to "
            f"{describe(windows.end)}, validation begins at {describe(windows.validation_from or 0)} and test at "
            f"{describe(windows.test_from)}; change data.split.test or data.split.validation"
        )


def describe(micros: int) -> str:
    """A time in microseconds as ISO 8601 text to the second."""
    return str(np.datetime64(micros, "us").astype("datetime64[s]"))
