"""The queries of a split, by hand."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from two_tower.contracts import Repeats
from two_tower.errors import DataError
from two_tower.evaluation import Queries


def queries(
    rows: list[tuple[list[int], list[int]]], *, exclude_seen: bool = False, repeats: Repeats = "miss"
) -> Queries:
    """Queries of (seen, relevant) items."""
    lists = pa.list_(pa.int32())
    table = pa.table(
        {"seen": pa.array([seen for seen, _ in rows], lists), "relevant": pa.array([row for _, row in rows], lists)}
    )
    return Queries(table, items=10, exclude_seen=exclude_seen, repeats=repeats, split="validation")


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


ROWS: list[tuple[list[int], list[int]]] = [([1, 2], [2, 5]), ([3], [3]), ([], [4])]


def test_repeats_stay_relevant_and_cannot_be_found() -> None:
    found = queries(ROWS, exclude_seen=True)
    (block,) = found.blocks()
    assert found.rows.tolist() == [0, 1, 2] and block.relevant.members.tolist() == [2, 5, 3, 4]
    assert block.exclude is not None and block.exclude.tolist() == [[1, 2], [3, -1], [-1, -1]]
    assert found.relevant_counts().tolist() == [2, 1, 1] and found.findable_counts().tolist() == [1, 0, 1]
    assert asdict(found.repeated) == {"counted": "miss", "queries": 1, "of_queries": 3, "relevant": 2, "of_relevant": 4}
    sample = found.sample(np.array([1]))
    assert sample.rows.tolist() == [1] and sample.findable_counts().tolist() == [0]


def test_repeats_can_be_left_out() -> None:
    found = queries(ROWS, exclude_seen=True, repeats="leave_out")
    assert found.rows.tolist() == [0, 2]
    assert found.relevant_counts().tolist() == found.findable_counts().tolist() == [1, 1]
    assert asdict(found.repeated) == {
        "counted": "leave_out",
        "queries": 1,
        "of_queries": 3,
        "relevant": 2,
        "of_relevant": 4,
    }
    assert found.sample(np.array([1])).relevant_counts().tolist() == [1]


def test_what_was_seen_is_like_any_other_item_where_it_may_be_returned() -> None:
    found = queries(ROWS)
    assert found.repeated is None and found.findable_counts().tolist() == [2, 1, 1]


@pytest.mark.parametrize("repeats", ["miss", "leave_out"])
def test_the_empty_window_is_named(repeats: Repeats) -> None:
    with pytest.raises(DataError, match=r"the validation window .* new to the user: make data\.split\.validation"):
        queries([([1], [1])], exclude_seen=True, repeats=repeats)
