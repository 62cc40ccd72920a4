"""The list columns of prepared data as NumPy arrays: lengths, entries, and lists padded into a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.contracts import Int32, Int64


def list_lengths(column: pa.ChunkedArray) -> Int64:
    """How many entries each list has, `[rows]`; a missing list has none."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0), dtype=np.int64)


def list_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The entries of all lists, one list after the other, `[entries]`."""
    values: npt.NDArray[Any] = pc.list_flatten(column).to_numpy()
    return values


def padded(column: pa.ChunkedArray, *, last: int | None = None, at_least: int = 0) -> Int32:
    """Lists of item numbers as int32 `[rows, longest]`, padded with -1 at the end.

    Args:
        column: The lists.
        last: How many of each list's last entries are kept; all if not given.
        at_least: The least width.
    """
    lengths = list_lengths(column)
    ends = np.cumsum(lengths)
    kept = lengths if last is None else np.minimum(lengths, last)
    return padded_ranges(list_values(column), ends - kept, ends, at_least=at_least)


def padded_ranges(values: Int32, first: Int64, last: Int64, *, at_least: int = 0) -> Int32:
    """The half-open ranges of `values` as int32 `[ranges, longest or at_least]`, padded with -1 at the end."""
    rows, entries = ranges(first, last)
    width = max(at_least, int((last - first).max(initial=0)))
    matrix = np.full((len(first), width), -1, dtype=np.int32)
    matrix[rows, entries - first[rows]] = values[entries]
    return matrix


def ranges(first: Int64, last: Int64) -> tuple[Int32, Int64]:
    """The number of each of some half-open ranges' entries one after the other: the range's, and its own."""
    lengths = last - first
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return rows, np.arange(len(rows)) + (first - (np.cumsum(lengths) - lengths))[rows]
