"""The queries of a split, by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from two_tower.errors import DataError
from two_tower.evaluation import Queries


def queries(rows: list[tuple[list[int], list[int]]], *, exclude_seen: bool = False) -> Queries:
    """Queries of (seen, relevant) items."""
    lists = pa.list_(pa.int32())
    table = pa.table(
        {"seen": pa.array([seen for seen, _ in rows], lists), "relevant": pa.array([row for _, row in rows], lists)}
    )
    return Queries(table, items=10, exclude_seen=exclude_seen, split="validation")


def test_discovery_keeps_what_is_new_and_excludes_the_past() -> None:
    found = queries([([1, 2], [2, 5]), ([3], [3]), ([], [4])]).discovery()
    assert found is not None and found.rows.tolist() == [0, 2] and found.exclude_seen
    (block,) = found.blocks()
    assert block.relevant.sizes.tolist() == [1, 1] and block.relevant.members.tolist() == [5, 4]
    assert block.exclude is not None and block.exclude.tolist() == [[1, 2], [-1, -1]]


def test_discovery_is_none_where_it_would_say_nothing_else() -> None:
    assert queries([([1], [2]), ([], [4])]).discovery() is None, "nothing is repeated"
    assert queries([([1], [1])]).discovery() is None, "nothing is new"
    assert queries([([1], [1, 2])], exclude_seen=True).discovery() is None, "it is what is measured anyway"


def test_the_empty_window_is_named() -> None:
    with pytest.raises(DataError, match=r"the validation window .* new to the user: make data\.split\.validation"):
        queries([([1], [1])], exclude_seen=True)
