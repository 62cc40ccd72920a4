"""Filters and exclusions: no forbidden row ever, and as many results as there are allowed candidates, up to k."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from two_tower.config import Range
from two_tower.errors import DataError
from two_tower.index import Effort, ExactIndex, Layout, SearchIndex, allowed_rows
from two_tower.index.quantized import ScannIndex
from two_tower.index.sharded import ShardedIndex

DIM = 16
SHARES = (0.001, 0.01, 0.1, 0.5, 0.99)


def ids(items: int) -> pa.StringArray:
    return pa.array([str(row) for row in range(items)])


def vectors_of(items: int, *, seed: int) -> np.ndarray:
    """Around 50 centres, as the vectors of items are."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(50, DIM))
    vectors = centres[generator.integers(0, 50, items)] + 0.5 * generator.normal(size=(items, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray, exclude: np.ndarray) -> list[int]:
    allowed = allowed.copy()
    allowed[exclude[exclude >= 0]] = False
    rows = np.flatnonzero(allowed)
    scores = vectors[rows].astype(np.float64) @ query.astype(np.float64)
    return rows[np.argsort(-scores, kind="stable")[:k]].tolist()


@given(
    items=st.integers(1, 60),
    queries=st.integers(1, 3),
    k=st.integers(1, 70),
    share=st.floats(0, 1),
    excluded=st.integers(0, 20),
    shards=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None)
def test_exact_search_with_filters_is_brute_force(
    items: int, queries: int, k: int, share: float, excluded: int, shards: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    # Eighths multiply and add without rounding, so that float32 and float64 agree on every tie.
    vectors, asked = (np.round(generator.normal(size=(n, 3)) * 8).astype(np.float32) / 8 for n in (items, queries))
    allowed = generator.random(items) < share
    exclude = generator.integers(-1, items, size=(queries, excluded)).astype(np.int32)
    parts = [rows for rows in np.array_split(np.arange(items), shards) if len(rows)]
    index = ShardedIndex([ExactIndex(vectors[rows], ids(items)[rows[0] : rows[-1] + 1]) for rows in parts])
    for searched in (index, ExactIndex(vectors, ids(items))):
        rows, scores = searched.search(asked, k, allowed=allowed, exclude=exclude)
        for query, found, values, left_out in zip(asked, rows, scores, exclude, strict=True):
            right = brute_force(vectors, query, k, allowed, left_out)
            assert found.tolist() == right + [-1] * (k - len(right))
            np.testing.assert_array_equal(values[: len(right)], vectors[right] @ query)
            assert (values[len(right) :] == -np.inf).all()


@pytest.fixture(scope="module", params=["float32", "int8", "tree", "shards"])
def approximate(request: pytest.FixtureRequest) -> tuple[np.ndarray, SearchIndex]:
    items = 100_500 if request.param == "tree" else 20_000
    vectors = vectors_of(items, seed=1)
    effort = Effort(k=100, reorder=500, leaves_to_search=0.1)
    layout = Layout("int8" if request.param == "int8" else "float32", soar=request.param == "tree")
    parts = np.array_split(np.arange(items), 3 if request.param == "shards" else 1)
    shards = [
        ScannIndex.build(vectors[rows], ids(items)[rows[0] : rows[-1] + 1], layout=layout, effort=effort)
        for rows in parts
    ]
    return vectors, shards[0] if len(shards) == 1 else ShardedIndex(shards)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("queries", [1, 30])
def test_scann_with_filters(approximate: tuple[np.ndarray, SearchIndex], share: float, queries: int) -> None:
    vectors, index = approximate
    generator = np.random.default_rng(int(share * 1000))
    allowed = generator.random(len(index)) < share
    asked = vectors_of(queries, seed=2)
    exclude = generator.integers(-1, len(index), size=(queries, 50)).astype(np.int32)
    rows, scores = index.search(asked, 100, allowed=allowed, exclude=exclude)
    found = 0
    for query, row, values, left_out in zip(asked, rows, scores, exclude, strict=True):
        right = brute_force(vectors, query, 100, allowed, left_out)
        got = row[row >= 0]
        assert len(got) == len(right) == len(set(got.tolist()))
        assert allowed[got].all() and not set(got.tolist()) & set(left_out.tolist())
        assert (np.diff(values[: len(got)]) <= 0).all()
        found += len(set(got.tolist()) & set(right)) / len(right)
    assert found / queries > 0.97


def test_a_filter_against_the_query_is_answered_too(approximate: tuple[np.ndarray, SearchIndex]) -> None:
    """What is allowed lies far from the query, so that the first of all candidates hold none of it."""
    vectors, index = approximate
    query = vectors_of(1, seed=3)
    allowed = (vectors @ query[0]) < np.quantile(vectors @ query[0], 0.3)
    rows, _ = index.search(query, 100, allowed=allowed)
    right = brute_force(vectors, query[0], 100, allowed, np.array([], np.int32))
    assert allowed[rows[0]].all()
    assert len(set(rows[0].tolist()) & set(right)) > 95


def test_wrong_filters() -> None:
    index, query = ExactIndex(vectors_of(5, seed=0), ids(5)), np.zeros((1, DIM), np.float32)
    with pytest.raises(ValueError, match=r"expected allowed to be bool \[5\], got bool \[4\]"):
        index.search(query, 1, allowed=np.ones(4, bool))
    with pytest.raises(ValueError, match=r"expected allowed to be bool \[5\], got int64 \[5\]"):
        index.search(query, 1, allowed=np.arange(5))
    with pytest.raises(ValueError, match=r"exclude of shape \[1, m\], got \[2, 3\]"):
        index.search(query, 1, exclude=np.zeros((2, 3), np.int32))
    with pytest.raises(ValueError, match="exclude names a row outside of -1 to 4"):
        index.search(query, 1, exclude=np.array([[5]], np.int32))
    rows, scores = index.search(query, 3, allowed=np.zeros(5, bool))
    assert (rows == -1).all() and (scores == -np.inf).all()


ATTRIBUTES = pa.table(
    {
        "brand": pa.chunked_array([["a", "b"], ["a", None, ""]]),
        "coded": pa.array(["k", None, "l", "k", "m"]).dictionary_encode(),
        "tags": pa.chunked_array([[["no"]], [["x", None], [], None, ["y", "x"], ["z"]]])[1:],
        "stock": pa.array([7, None, -3, 1 << 62, 8], pa.int64()),
        "small": pa.array([100, None, -3, 4, 8], pa.int8()),
        "price": pa.array([0.1, None, float("nan"), 1e30, -2.5], pa.float32()),
        "new": pa.array([True, None, False, True, False]),
        "never": pa.nulls(5, pa.string()),
    }
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"brand": ["a"]}, [0, 2]),
        ({"brand": ("a", "b", "nowhere")}, [0, 1, 2]),
        ({"brand": []}, []),
        ({"brand": [""]}, [4]),
        ({"coded": ["k", "m"]}, [0, 3, 4]),
        ({"tags": ["x"]}, [0, 3]),
        ({"tags": ["y", "z"]}, [3, 4]),
        ({"tags": ["no"]}, []),
        ({"never": ["a"]}, []),
        ({"new": ["true"]}, [0, 3]),
        ({"stock": ["7", "8", "x"]}, [0, 4]),
        ({"stock": Range(min=7)}, [0, 3, 4]),
        ({"stock": Range(min=-3, max=7)}, [0, 2]),
        ({"stock": Range(max=7.5)}, [0, 2]),
        ({"small": Range(max=1000)}, [0, 2, 3, 4]),
        ({"price": Range(min=0.1, max=0.1)}, [0]),
        ({"price": Range(max=1e300)}, [0, 3, 4]),
        ({"price": Range(min=-1e300)}, [0, 3, 4]),
        ({"price": Range(min=1, max=0)}, []),
        ({"brand": ["a"], "tags": ["x"], "stock": Range(max=10)}, [0]),
    ],
)
def test_rows_that_meet_all_conditions(where: dict[str, Any], expected: list[int]) -> None:
    allowed = allowed_rows(ATTRIBUTES, where)
    assert allowed.dtype == np.bool_ and allowed.shape == (5,)
    assert np.flatnonzero(allowed).tolist() == expected
    assert allowed_rows(ATTRIBUTES[:0], where).tolist() == []


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": ["a"]}, r"no attribute 'colour' to filter by; there are: 'brand', 'coded', .*'never'"),
        ({"brand": "a"}, "attribute 'brand': expected a list of texts or a range, got 'a'"),
        ({"stock": [7]}, r"attribute 'stock': expected a list of texts or a range, got \[7\]"),
        ({"brand": [None]}, "attribute 'brand': expected a list of texts"),
        ({"price": ["0.1"]}, "'price' is float; give a range"),
        ({"brand": Range(min=1)}, "'brand' is string and has no range"),
        ({"tags": Range(min=1)}, "'tags' is list.* and has no range"),
        ({"stock": Range(min="2020-01-01")}, "'stock' is a number; its range goes from '2020-01-01' to inf"),
    ],
)
def test_conditions_that_do_not_fit_are_refused_by_name(where: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        allowed_rows(ATTRIBUTES, where)
