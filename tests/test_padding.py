"""List columns, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from two_tower.padding import list_lengths, list_values, padded, padded_ranges

COLUMN = pa.chunked_array([pa.array([[1, 2, 3], [], None, [4]], pa.list_(pa.int32()))])


def test_a_missing_list_is_an_empty_one() -> None:
    assert list_lengths(COLUMN).tolist() == [3, 0, 0, 1]
    assert list_values(COLUMN).tolist() == [1, 2, 3, 4]


def test_padded_lists_keep_the_latest() -> None:
    assert padded(COLUMN, last=2).tolist() == [[2, 3], [-1, -1], [-1, -1], [4, -1]]


def test_padded_lists_are_as_wide_as_the_longest_and_as_wide_as_asked_for() -> None:
    whole = padded(COLUMN)
    assert whole.dtype == np.int32
    assert whole.tolist() == [[1, 2, 3], [-1, -1, -1], [-1, -1, -1], [4, -1, -1]]
    assert padded(COLUMN.slice(1, 2), at_least=1).tolist() == [[-1], [-1]]
    assert padded(COLUMN.slice(1, 2)).shape == (2, 0)
    assert padded(COLUMN.slice(0, 0), at_least=1).shape == (0, 1)


def test_padded_ranges_may_overlap_and_be_empty() -> None:
    values = np.array([7, 8, 9], dtype=np.int32)
    found = padded_ranges(values, np.array([0, 1, 3]), np.array([2, 3, 3]))
    assert found.tolist() == [[7, 8], [8, 9], [-1, -1]]
