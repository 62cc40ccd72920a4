"""Building, saving, loading and searching the index."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embeddings import write_embeddings

from two_tower import config
from two_tower.artifacts import content_hash, open_artifact, seal_artifact, write_artifact
from two_tower.errors import ArtifactError, DataError
from two_tower.index import (
    ExactIndex,
    allowed_rows,
    build_index,
    load_embeddings,
    load_index,
    write_vector_search_update,
)


def vectors_of(items: int, dim: int = 8, *, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(items, dim)).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def built(tmp_path: Path, vectors: np.ndarray, **settings: object) -> Path:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors)
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(**settings))
    return tmp_path / "index"


def brute_force(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("queries", [1, 5, 300])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_exact_search_is_brute_force(queries: int, k: int) -> None:
    # Eighths multiply and add without rounding, so that float32 and float64 agree on every tie.
    vectors, asked = np.round(8 * vectors_of(1000)) / 8, np.round(8 * vectors_of(queries, seed=1)) / 8
    rows, scores = ExactIndex(vectors, pa.array([str(row) for row in range(1000)])).search(asked, k)
    np.testing.assert_array_equal(rows, brute_force(vectors, asked, k))
    np.testing.assert_array_equal(scores[:, :1000], np.take_along_axis(asked @ vectors.T, rows, axis=1))
    assert rows.dtype == np.int32 and scores.dtype == np.float32


@pytest.mark.parametrize("queries", [1, 40])
def test_equal_vectors_have_equal_scores_and_come_in_row_order(queries: int) -> None:
    vectors = vectors_of(500, 33)
    vectors[100:400] = vectors[450]
    asked = vectors_of(queries, 33, seed=2)
    asked[0] = vectors[450]
    rows, scores = ExactIndex(vectors, pa.array([str(row) for row in range(500)])).search(asked, 250)
    assert rows[0].tolist() == list(range(100, 350))
    for found, values in zip(rows, scores, strict=True):
        among = (found >= 100) & (found < 400) | (found == 450)
        assert len(set(values[among].tolist())) <= 1
        assert found[among].tolist() == sorted(found[among].tolist())


@pytest.mark.parametrize("kind", ["exact", "scann"])
@pytest.mark.parametrize("items", [1, 10, 17])
def test_k_above_the_corpus_gives_every_item_once_then_nothing(tmp_path: Path, kind: str, items: int) -> None:
    vectors, asked = vectors_of(items), vectors_of(3, seed=1)
    index = load_index(built(tmp_path, vectors, kind=kind))
    for queries in (asked, asked[:1]):
        rows, scores = index.search(queries, items + 5)
        np.testing.assert_array_equal(rows[:, :items], brute_force(vectors, queries, items))
        assert (rows[:, items:] == -1).all() and (scores[:, items:] == -np.inf).all()


@pytest.mark.parametrize("kind", ["auto", "exact", "scann"])
def test_an_empty_corpus_gives_nothing(tmp_path: Path, kind: str) -> None:
    index = load_index(built(tmp_path, np.zeros((0, 8), np.float32), kind=kind))
    rows, scores = index.search(vectors_of(2), 3)
    assert len(index) == 0 and (rows == -1).all() and (scores == -np.inf).all()


def test_no_query_and_wrong_queries() -> None:
    index = ExactIndex(vectors_of(5), pa.array(list("abcde")))
    rows, scores = index.search(np.zeros((0, 8), np.float32), 3)
    assert rows.shape == scores.shape == (0, 3)
    with pytest.raises(ValueError, match=r"shape \[n, 8\], got \[1, 9\]"):
        index.search(np.zeros((1, 9), np.float32), 3)
    with pytest.raises(ValueError, match="query 1 is not finite"):
        index.search(np.array([[0] * 8, [np.nan] * 8], np.float32), 3)


@pytest.mark.parametrize(
    ("items", "kind", "tree"), [(19_999, "exact", False), (20_001, "scann", False), (100_001, "scann", True)]
)
def test_kind_by_corpus_size_and_recall(tmp_path: Path, items: int, kind: str, tree: bool) -> None:
    vectors = vectors_of(items, 16)
    folder = built(tmp_path, vectors, leaves_to_search=0.4)
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["kind"] == kind and settings["dimension"] == 16
    assert [("leaves" in shard["parameters"], shard["rows"]) for shard in settings["shards"]] == [(tree, items)]
    index, asked = load_index(folder), vectors_of(50, 16, seed=1)
    exact = ExactIndex(vectors, index.item_ids).search(asked, 100)[0]
    found, scores = index.search(asked, 100)
    assert np.mean([len(np.intersect1d(*pair)) for pair in zip(found, exact, strict=True)]) / 100 > 0.9
    assert (np.diff(scores, axis=1) <= 0).all()
    one_by_one = np.concatenate([index.search(query[None], 100)[0] for query in asked])
    np.testing.assert_array_equal(one_by_one, found)


def test_a_tree_gives_k_results_even_where_its_leaves_hold_fewer(tmp_path: Path) -> None:
    index = load_index(built(tmp_path, vectors_of(100_001, 4), leaves_to_search=0.001, reorder=10))
    rows, _ = index.search(vectors_of(2, 4, seed=1), 60_000)
    assert all(len(np.unique(found)) == 60_000 and found.min() >= 0 for found in rows)


def test_zero_and_duplicate_vectors_are_found(tmp_path: Path) -> None:
    vectors = vectors_of(2000, 16)
    vectors[:500] = 0
    vectors[500:900] = vectors[1500]
    index = load_index(built(tmp_path, vectors, kind="scann"))
    rows, scores = index.search(np.stack([vectors[1500], np.zeros(16, np.float32)]), 401)
    assert set(rows[0]) == {*range(500, 900), 1500}
    assert np.isfinite(scores).all()


SEARCH = """
import sys, json, numpy as np
from two_tower.index import load_index
index = load_index(sys.argv[1])
rows, scores = index.search(np.load(sys.argv[2]), 20)
print(json.dumps([index.item_ids.to_pylist()[:3], rows.tolist(), scores.tolist()]))
"""


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_moved_index_gives_identical_results_in_a_fresh_process(tmp_path: Path, kind: str) -> None:
    folder, asked = built(tmp_path / "here", vectors_of(3000, 9), kind=kind), vectors_of(4, 9, seed=1)
    rows, scores = load_index(folder).search(asked, 20)
    assert not [path for path in folder.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    shutil.move(folder, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "here")
    np.save(tmp_path / "queries.npy", asked)
    command = [sys.executable, "-c", SEARCH, str(tmp_path / "elsewhere"), str(tmp_path / "queries.npy")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [["item-0", "item-1", "item-2"], rows.tolist(), scores.tolist()]


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_equal_embeddings_give_equal_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (built(tmp_path / name, vectors_of(3000), kind=kind) for name in ("a", "b"))
    assert content_hash(first) == content_hash(second)


def test_the_manifest_says_what_it_was_made_from(tmp_path: Path) -> None:
    folder = built(tmp_path, vectors_of(10))
    manifest = open_artifact(folder, "index").manifest
    embeddings = content_hash(tmp_path / "embeddings")
    assert manifest.made_from == {
        "candidate_embeddings": embeddings,
        "candidate_tower": "c0ffee",
        "prepared_data": "beef",
    }
    assert manifest.data_seen_until == 7
    assert load_index(folder).made_from == manifest.made_from


def test_vector_search_input(tmp_path: Path) -> None:
    ids = ['quote " and \\', "line\nbreak", "Köln 東京", "plain"]
    vectors = np.array([[0, -0.0], [1e-30, 3e38], [0.1, -1 / 3], [1, 2]], np.float32)
    attributes = pa.table({"brand": ["a", None, "b", "a"], "size": [1, 2, None, 4], "price": [0.5, np.nan, 2.5, 3]})
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, ids=ids, attributes=attributes, unavailable=(2,))
    settings = config.VectorSearchSettings(restricts=["size"], crowding="brand", index_update_method="STREAM_UPDATE")
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(vector_search=settings))
    lines = (tmp_path / "index/vector_search/data/part-00000.json").read_text().split("\n")
    assert lines.pop() == ""
    read = [json.loads(line) for line in lines]
    np.testing.assert_array_equal(np.array([line.pop("embedding") for line in read], np.float32), vectors[[0, 1, 3]])
    one, two, four = ([{"namespace": "size", "allow": [size]}] for size in "124")
    assert read == [
        {
            "id": ids[0],
            "restricts": one,
            "numeric_restricts": [{"namespace": "price", "value_double": 0.5}],
            "crowding_tag": "a",
        },
        {"id": ids[1], "restricts": two},
        {
            "id": ids[3],
            "restricts": four,
            "numeric_restricts": [{"namespace": "price", "value_double": 3.0}],
            "crowding_tag": "a",
        },
    ]
    facts = json.loads((tmp_path / "index/vector_search/index.json").read_text())
    assert facts["parameters"]["index_update_method"] == "STREAM_UPDATE"


def test_an_update_between_two_embeddings(tmp_path: Path) -> None:
    """What `load_embeddings` gives is what an update takes, with attributes and without."""
    vectors, attributes = vectors_of(4), pa.table({"brand": ["a", "b", "c", "d"]})
    before, after = (
        load_embeddings(write_embeddings(tmp_path / name, vectors, attributes=attributes, unavailable=gone))
        for name, attributes, gone in (("a", None, (0,)), ("b", attributes, (3,)))
    )
    write_vector_search_update(tmp_path / "update", before, after, config.VectorSearchSettings(crowding="brand"))
    assert json.loads((tmp_path / "update/update.json").read_text()) == {
        "upserts": 3,
        "deletes": 1,
        "is_complete_overwrite": False,
    }


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_attributes_come_with_the_index(tmp_path: Path, kind: str, shards: int) -> None:
    vectors, count = vectors_of(40), 40
    attributes = pa.table(
        {
            "item_id": [f"not-{row}" for row in range(count)],
            "tags": [[str(row % 3), "all"] if row % 2 else None for row in range(count)],
            "price": pa.array([np.nan if row % 7 == 0 else row / 4 for row in range(count)], pa.float32()),
        }
    )
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, attributes=attributes, unavailable=(5, 39))
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(kind=kind, shards=shards))
    index = load_index(tmp_path / "index")
    assert index.attributes is not None and index.item_ids[5].as_py() == "item-6"
    wanted = [
        {**row, "price": row["price"] if row["price"] == row["price"] else None} for row in attributes.to_pylist()
    ]
    del wanted[39], wanted[5]
    assert index.attributes.to_pylist() == wanted
    part = load_index(tmp_path / "index", shard=shards - 1)
    assert part.attributes is not None and part.attributes.to_pylist() == wanted[-len(part) :]
    allowed = allowed_rows(index.attributes, {"tags": ["1"], "price": config.Range(max=4)})
    rows, _ = index.search(vectors[:1], 40, allowed=allowed)
    found = {index.item_ids[int(row)].as_py() for row in rows[0] if row >= 0}
    assert found == {"item-1", "item-13"}


@pytest.mark.parametrize("shards", [1, 3])
def test_an_index_without_attributes_still_counts_its_rows(tmp_path: Path, shards: int) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(10), unavailable=(1,))
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(shards=shards))
    index = load_index(tmp_path / "index")
    assert index.attributes is not None and index.attributes.column_names == []
    assert allowed_rows(index.attributes, {}).tolist() == [True] * 9
    with pytest.raises(DataError, match="there are: none"):
        allowed_rows(index.attributes, {"brand": ["a"]})


def test_a_vector_that_is_not_finite_is_refused_by_its_item(tmp_path: Path) -> None:
    vectors = vectors_of(10)
    vectors[7, 3] = np.nan
    embeddings = write_embeddings(tmp_path / "embeddings", vectors)
    with pytest.raises(ArtifactError, match="'item-7'"):
        build_index(embeddings, tmp_path / "index", index=config.IndexSettings())
    assert not (tmp_path / "index").exists()


def test_repeated_ids_and_missing_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="stands twice"):
        load_embeddings(write_embeddings(tmp_path / "a", vectors_of(2), ids=["x", "x"]))
    with write_artifact(tmp_path / "b", "candidate_embeddings"):
        pass
    with pytest.raises(ArtifactError, match="no Parquet file"):
        load_embeddings(tmp_path / "b")
    folder = write_embeddings(tmp_path / "c", vectors_of(4))
    shutil.copytree(folder, tmp_path / "d")
    with write_artifact(tmp_path / "d2", "candidate_embeddings") as artifact:
        shutil.copy(tmp_path / "d/part-00001.parquet", artifact.path("part-00001.parquet"))
    with pytest.raises(ArtifactError, match="item numbers"):
        load_embeddings(tmp_path / "d2")


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = built(tmp_path, vectors_of(100), kind="scann")
    path = folder / "shard-00000/index/hashed_dataset.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"hashed_dataset\.npy"):
        load_index(folder)


@pytest.mark.parametrize("listed", [False, True])
def test_a_pickle_in_the_folder_is_refused_and_not_run(tmp_path: Path, listed: bool) -> None:
    """Whether somebody put it there afterwards, or it came with an artefact that somebody else made."""
    folder = built(tmp_path, vectors_of(100), kind="scann", shards=2)
    assert not list(folder.rglob("*.pkl")), "our own index has none"
    planted = folder / "shard-00001/index/scann_docids.pkl"
    planted.write_bytes(pickle.dumps(Planted(tmp_path / "was-run")))
    if listed:
        (folder / "manifest.json").unlink()
        seal_artifact(folder, "index")
    with pytest.raises(ArtifactError, match=r"shard-00001/index/scann_docids\.pkl: not loaded"):
        load_index(folder)
    assert not (tmp_path / "was-run").exists()
    load_index(folder, shard=0)


class Planted:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_items_that_are_not_available_are_not_in_the_index(tmp_path: Path) -> None:
    vectors = vectors_of(50)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, unavailable=(0, 7))
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings())
    index = load_index(tmp_path / "index")
    assert len(index) == 48
    assert not {"item-0", "item-7"} & set(index.item_ids.to_pylist())
    rows, _ = index.search(vectors[[7, 8]], 1)
    assert index.item_ids[int(rows[1, 0])].as_py() == "item-8"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_million_candidates(tmp_path: Path, kind: str) -> None:
    vectors, asked = vectors_of(1_000_000, 8), vectors_of(20, 8, seed=1)
    vectors[:1000] = vectors[500_000]
    vectors[1000:2000] = 0
    embeddings = write_embeddings(tmp_path / "embeddings", vectors)
    queries = vectors_of(100, 8, seed=2)
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(kind=kind), queries=queries)
    index = load_index(tmp_path / "index")
    best = ExactIndex(vectors, index.item_ids).search(asked, 100)[1]
    rows, scores = index.search(asked, 100)
    assert np.mean(scores >= best[:, -1:] - 1e-6) > 0.97
    rows, _ = index.search(vectors[500_000:500_001], 1001)
    assert set(rows[0].tolist()) == {*range(1000), 500_000}
    allowed = np.zeros(1_000_000, bool)
    allowed[::100_000] = True
    assert set(index.search(asked, 50, allowed=allowed)[0][0].tolist()) == {-1, *range(0, 1_000_000, 100_000)}
