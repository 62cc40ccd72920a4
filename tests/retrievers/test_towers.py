"""The exported query tower with an index, fed with prepared queries."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from random_artefacts import AGE, item_ids, random_log, write_embeddings, write_prepared, write_query_tower

from two_tower import config
from two_tower.artifacts import open_artifact
from two_tower.errors import ArtifactError
from two_tower.index import ExactIndex, SearchIndex, build_index, load_index
from two_tower.padding import padded
from two_tower.retrievers import TwoTowerRetriever, refuse_mix
from two_tower.towers import QueryTower, query_features

ITEMS = 60
IDS = item_ids(ITEMS)
MADE_FROM = {"candidate_tower": "c0ffee"}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_prepared(folder / "prepared", random_log(users=30, items=ITEMS, events=1500), items=ITEMS)
    embeddings = write_embeddings(folder / "embeddings", vectors, IDS, made_from=MADE_FROM)
    write_query_tower(folder / "query_tower", vectors, IDS, embeddings=embeddings)
    build_index(embeddings, folder / "index", index=config.IndexSettings())
    return folder


@pytest.fixture(scope="module")
def queries(world: Path) -> pa.Table:
    return open_artifact(world / "prepared", "prepared_data").table("test")


@pytest.fixture(scope="module")
def tower(world: Path) -> QueryTower:
    return QueryTower.open(world / "query_tower")


def retriever(tower: QueryTower, index: SearchIndex, *, items: list[str] = IDS) -> TwoTowerRetriever:
    return TwoTowerRetriever(tower, index, items=pa.array(items), features=query_features({"user": {"age": AGE}}))


def embedded_by_hand(queries: pa.Table, vectors: np.ndarray, *, known: int = ITEMS) -> np.ndarray:
    rows = zip(queries["history"].to_pylist(), queries["user.age"].to_pylist(), strict=True)
    return np.array(
        [
            (sum((vectors[item] for item in past if item < known), np.zeros(8)) + 1e-3) * (1 + (age or 0) / 100)
            for past, age in rows
        ]
    )


def test_queries_are_fed_by_the_signature(
    world: Path, tower: QueryTower, queries: pa.Table, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("two_tower.towers.query_tower.BATCH", 7)
    assert queries["user.age"].null_count
    found = retriever(tower, load_index(world / "index")).embed(queries)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embedded_by_hand(queries, vectors), rtol=1e-4, atol=1e-5)


def test_a_towers_folder_is_no_pattern(world: Path, tower: QueryTower, queries: pa.Table, tmp_path: Path) -> None:
    for part in ("query_tower", "index"):
        shutil.copytree(world / part, tmp_path / "[team] work" / part)
    moved = QueryTower.open(tmp_path / "[team] work" / "query_tower")
    index = load_index(tmp_path / "[team] work" / "index")
    expected = retriever(tower, load_index(world / "index")).embed(queries)
    np.testing.assert_array_equal(retriever(moved, index).embed(queries), expected)


def test_results_are_the_best_by_brute_force(
    world: Path, tower: QueryTower, queries: pa.Table, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("two_tower.retrievers.towers.BLOCK", 7)
    found = retriever(tower, load_index(world / "index")).retrieve(queries, 10)
    scores = embedded_by_hand(queries, vectors) @ vectors.T
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1)[:, :10])
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :10], rtol=1e-4)


@pytest.mark.parametrize("k", [1, 15, ITEMS + 3])
def test_exclusions_give_every_allowed_item_and_no_forbidden_one(
    world: Path, tower: QueryTower, queries: pa.Table, k: int
) -> None:
    system = retriever(tower, load_index(world / "index"))
    full, seen = system.retrieve(queries, ITEMS).items.tolist(), queries["seen"].to_pylist()
    found = system.retrieve(queries, k, exclude=padded(queries["seen"]))
    for row, forbidden in enumerate(seen):
        expected = [item for item in full[row] if item not in forbidden][:k]
        assert found.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert (found.scores[row] == -np.inf).tolist() == [False] * len(expected) + [True] * (k - len(expected))


def test_another_versions_items_are_matched_by_their_ids(
    tower: QueryTower, queries: pa.Table, vectors: np.ndarray
) -> None:
    # The other version lacks the last ten items, has two of its own, and numbers all in another way.
    theirs = ["gone-1", *reversed(IDS[: ITEMS - 10]), "gone-2"]
    their_vectors = np.concatenate([100 * vectors[:1], vectors[: ITEMS - 10][::-1], -100 * vectors[:1]])
    index = ExactIndex(their_vectors, pa.array(theirs))
    index.made_from = tower.made_from
    found = retriever(tower, index).retrieve(queries, ITEMS)
    scores = embedded_by_hand(queries, vectors) @ vectors[: ITEMS - 10].T
    np.testing.assert_array_equal(found.items[:, : ITEMS - 10], np.argsort(-scores, axis=1))
    assert (found.items[:, ITEMS - 10 :] == -1).all()
    shallow = retriever(tower, index).retrieve(queries, 3)
    np.testing.assert_array_equal(shallow.items, found.items[:, :3])


def test_unknown_history_items_are_left_out(tower: QueryTower, queries: pa.Table, vectors: np.ndarray) -> None:
    renamed = [*IDS[:50], *(f"new-{number}" for number in range(10))]
    index = ExactIndex(vectors, pa.array(IDS))
    index.made_from = tower.made_from
    found = retriever(tower, index, items=renamed).embed(queries)
    np.testing.assert_allclose(found, embedded_by_hand(queries, vectors, known=50), rtol=1e-4, atol=1e-5)


def test_empty_histories_and_an_empty_index(tower: QueryTower, queries: pa.Table, vectors: np.ndarray) -> None:
    lists = pa.array([[]] * len(queries), pa.list_(pa.int32()))
    bare = queries.set_column(queries.schema.get_field_index("history"), "history", lists)
    index = ExactIndex(vectors[:0], pa.array([], pa.string()))
    index.made_from = tower.made_from
    found = retriever(tower, index).retrieve(bare, 4)
    assert (found.items == -1).all() and found.items.shape == (len(queries), 4)
    assert retriever(tower, index).retrieve(bare.slice(0, 0), 4).items.shape == (0, 4)


def test_a_missing_column_is_named(tower: QueryTower, queries: pa.Table, vectors: np.ndarray) -> None:
    index = ExactIndex(vectors, pa.array(IDS))
    index.made_from = tower.made_from
    with pytest.raises(ArtifactError, match=r"'user\.age'"):
        TwoTowerRetriever(tower, index, items=pa.array(IDS), features={}).retrieve(queries, 3)


def test_a_tower_that_gives_nan_is_refused(
    tower: QueryTower, queries: pa.Table, vectors: np.ndarray, tmp_path: Path
) -> None:
    broken = vectors.copy()
    broken[3] = np.nan
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, IDS, made_from={})
    index = ExactIndex(vectors, pa.array(IDS))
    bad = QueryTower.open(write_query_tower(tmp_path / "tower", broken, IDS, embeddings=embeddings))
    index.made_from = bad.made_from
    with pytest.raises(ArtifactError, match="not finite"):
        retriever(bad, index).retrieve(queries, 3)


def test_a_mix_of_versions_is_refused() -> None:
    refuse_mix({"a": "1", "b": "2"}, {"b": "2", "c": "3"})
    with pytest.raises(ArtifactError, match="made from the b 2, the index from 3"):
        refuse_mix({"a": "1", "b": "2"}, {"a": "1", "b": "3"})
    with pytest.raises(ArtifactError, match="no artefact in common"):
        refuse_mix({"a": "1"}, {"b": "1"})
