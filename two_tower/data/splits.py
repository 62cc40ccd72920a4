"""Which event belongs to which split, and what each example and query may see of its user's past.

Everything here works on events sorted by (group, time, order in the source), a group being a user, or, where the
logs have no users, a query text; `starts` are the groups' first rows, with the number of rows at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from two_tower.config import GlobalTime, LeaveLastOut
from two_tower.contracts import Int64
from two_tower.errors import DataError

Int8 = npt.NDArray[np.int8]

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Windows:
    """Where the windows of a split by time begin, in microseconds; a window's first moment belongs to it."""

    end: int
    """The newest event."""
    validation_from: int | None
    """None in a split by order."""
    test_from: int | None
    recent: int
    """The length of the recent window."""

    @classmethod
    def of(cls, split: GlobalTime | LeaveLastOut, *, end: int, recent: int) -> Windows:
        """The windows of a log whose newest event is at `end`: test is (end - test, end], validation lies before."""
        if isinstance(split, LeaveLastOut):
            return cls(end, None, None, recent)
        test_from = end - span(split.test) + 1
        return cls(end, test_from - span(split.validation), test_from, recent)

    def cutoff(self, split: int) -> int:
        """The moment before which a query of the split sees, or, in a split by order, the end of the logs."""
        starts = {VALIDATION: self.validation_from, TEST: self.test_from}
        return self.end + 1 if (start := starts[split]) is None else start


def span(duration: object) -> int:
    """A `timedelta` in microseconds."""
    from datetime import timedelta

    assert isinstance(duration, timedelta)
    return duration // timedelta(microseconds=1)


def assign(time: Int64, starts: Int64, windows: Windows) -> Int8:
    """The split `[rows]` of each event: `TRAIN`, `VALIDATION` or `TEST`.

    By order, a group's last event is the test target and the one before it the validation target; a group of fewer
    than three events has neither.
    """
    if windows.validation_from is not None and windows.test_from is not None:
        return ((time >= windows.validation_from).astype(np.int8) + (time >= windows.test_from)).astype(np.int8)
    part = np.zeros(len(time), dtype=np.int8)
    ends = starts[1:][np.diff(starts) >= 3]
    part[ends - 1] = TEST
    part[ends - 2] = VALIDATION
    return part


def visible_counts(time: Int64, starts: Int64, *, by_order: bool) -> Int64:
    """How many of the group's preceding events `[rows]` are strictly earlier in time.

    In a split by order every preceding one counts: there the source's order decides, also between equal times,
    for training as for the targets.
    """
    rows = np.arange(len(time), dtype=np.int64)
    first_of_group = np.repeat(starts[:-1], np.diff(starts))
    if by_order:
        return rows - first_of_group
    changes = np.ones(len(time), dtype=bool)
    changes[1:] = time[1:] != time[:-1]
    changes[starts[:-1]] = True
    first_of_moment = np.maximum.accumulate(np.where(changes, rows, 0))
    return first_of_moment - first_of_group


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

    def distinct(self, values: npt.NDArray[np.int32]) -> tuple[Int64, npt.NDArray[np.int32]]:
        """Offsets and values of the distinct `values` of each list, ascending."""
        lists = np.repeat(np.arange(len(self.start), dtype=np.int64), self.stop - self.start)
        pairs = np.unique(lists << 32 | values[self.rows()].astype(np.int64))
        counts = np.bincount(pairs >> 32, minlength=len(self.start))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), (pairs & 0xFFFFFFFF).astype(np.int32)


@dataclass(frozen=True)
class QueryRows:
    """The queries of one split: for each, its group, its past and its targets."""

    group: Int64
    past: Ranges
    target: Ranges


def query_rows(part: Int8, starts: Int64, *, split: int) -> QueryRows:
    """One query for each group with events in the split; its past is what precedes them."""
    before = np.concatenate([[0], np.cumsum(part < split)])
    inside = np.concatenate([[0], np.cumsum(part == split)])
    first = starts[:-1] + (before[starts[1:]] - before[starts[:-1]])
    count = inside[starts[1:]] - inside[starts[:-1]]
    group = np.flatnonzero(count)
    past = Ranges(starts[:-1][group], first[group])
    return QueryRows(group, past, Ranges(first[group], first[group] + count[group]))


def require_events(events: dict[str, int], windows: Windows, *, first: int) -> None:
    """Checks that no split is empty.

    Raises:
        DataError: One is.
    """
    for name in SPLITS:
        if events[name]:
            continue
        if windows.test_from is None:
            raise DataError(
                "data.split: no user has three events, so leave_last_out leaves no targets; use global_time"
            )
        days = (windows.end - first) / 86_400_000_000
        raise DataError(
            f"data.split: the {name} window is empty; the logs span {days:.1f} days, {describe(first)} to "
            f"{describe(windows.end)}, validation begins at {describe(windows.validation_from or 0)} and test at "
            f"{describe(windows.test_from)}; change data.split.test or data.split.validation"
        )


def describe(micros: int) -> str:
    """A time in microseconds as ISO 8601 text to the second."""
    return str(np.datetime64(micros, "us").astype("datetime64[s]"))
