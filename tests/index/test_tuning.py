"""The index that is chosen from a target, what the manifest says of it, and shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from embeddings import write_embeddings

from two_tower.artifacts import content_hash, open_artifact, read_manifest
from two_tower.config import IndexSettings, IndexTargetSettings
from two_tower.errors import ArtifactError, ConfigError
from two_tower.index import ExactIndex, build_index, load_index, share_found

DIM = 16


def vectors_of(items: int, *, seed: int) -> np.ndarray:
    centres = np.random.default_rng(99).normal(size=(200, DIM))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, 200, items)] + 0.7 * generator.normal(size=(items, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    vectors = vectors_of(101_000, seed=1)
    return write_embeddings(tmp_path_factory.mktemp("large") / "embeddings", vectors), vectors


def recall(folder: Path, vectors: np.ndarray, k: int = 100) -> float:
    index, asked = load_index(folder), vectors_of(300, seed=5)
    best = ExactIndex(vectors, index.item_ids).search(asked, k)[1]
    rows = index.search(asked, k)[0]
    return float(share_found(best, np.einsum("qd,qkd->qk", asked, vectors[rows])).mean())


@pytest.mark.slow
def test_the_target_is_kept_on_other_queries(large: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    embeddings, vectors = large
    found = {}
    for target in (0.8, 0.99):
        out = tmp_path / str(target)
        settings = IndexSettings(target=IndexTargetSettings(recall=target, p99_ms=1000))
        build_index(embeddings, out, index=settings, queries=vectors_of(400, seed=2))
        measured = read_manifest(out, "index").measured
        assert measured["unmet"] == [] and measured["queries"] == 400 and measured["k"] == 100
        assert measured["chosen"]["recall"] >= target
        assert recall(out, vectors) > target - 0.01
        parameters = open_artifact(out, "index").json("settings.json")["shards"][0]["parameters"]
        assert parameters.items() >= measured["chosen"]["effort"].items()
        found[target] = measured["chosen"]
    assert found[0.8]["recall"] < found[0.99]["recall"]
    less, more = (found[target]["effort"] for target in (0.8, 0.99))
    assert any(less[key] < more[key] for key in less), "fewer leaves are searched, or fewer items rescored"


@pytest.mark.slow
def test_memory_chooses_the_storage(large: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    embeddings, vectors = large
    raw = vectors.nbytes / 1e9
    for share, storage in ((2.0, "float32"), (0.8, "bfloat16"), (0.5, "int8")):
        settings = IndexSettings(target=IndexTargetSettings(recall=0.9, memory_gb=share * raw))
        build_index(embeddings, tmp_path / storage, index=settings, queries=vectors_of(100, seed=2))
        shard = open_artifact(tmp_path / storage, "index").json("settings.json")["shards"][0]
        assert shard["parameters"]["storage"] == storage
        assert recall(tmp_path / storage, vectors) > 0.88
        files = sum(path.stat().st_size for path in (tmp_path / storage / "shard-00000/index").iterdir())
        assert files < share * vectors.nbytes
    with pytest.raises(ConfigError, match=r"index\.target\.memory_gb: 101,000 vectors of width 16 need at least"):
        settings = IndexSettings(target=IndexTargetSettings(memory_gb=0.1 * raw))
        build_index(embeddings, tmp_path / "none", index=settings, queries=vectors_of(10, seed=2))
    assert not (tmp_path / "none").exists()


def test_a_target_that_cannot_be_kept_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(3000, seed=1))
    settings = IndexSettings(target=IndexTargetSettings(p99_ms=1e-6))
    with caplog.at_level("WARNING", logger="two_tower"):
        build_index(embeddings, tmp_path / "index", index=settings, queries=vectors_of(50, seed=2))
    (unmet,) = read_manifest(tmp_path / "index", "index").measured["unmet"]
    assert unmet.startswith("p99 ") and unmet.endswith("1e-06 ms asked for")
    assert unmet in caplog.text


def test_exact_search_alone_has_a_recall_of_one(tmp_path: Path) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(500, seed=1))
    build_index(embeddings, tmp_path / "index", index=IndexSettings(), queries=vectors_of(50, seed=2))
    measured = read_manifest(tmp_path / "index", "index").measured
    assert measured["chosen"]["recall"] == 1 and measured["chosen"]["effort"] is None


@pytest.mark.parametrize("items", [0, 1, 10])
def test_tuning_on_next_to_nothing(items: int, tmp_path: Path) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(items, seed=1))
    for queries in (None, np.zeros((0, DIM), np.float32), vectors_of(3, seed=2)):
        for kind in ("auto", "scann"):
            build_index(embeddings, tmp_path / "index", index=IndexSettings(kind=kind, shards=3), queries=queries)
            rows, _ = load_index(tmp_path / "index").search(vectors_of(2, seed=3), 5)
            assert (rows >= 0).sum(axis=1).tolist() == [min(items, 5)] * 2


def test_what_is_measured_is_no_content(tmp_path: Path) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(500, seed=1))
    for name in ("a", "b"):
        build_index(embeddings, tmp_path / name, index=IndexSettings(), queries=vectors_of(50, seed=2))
    first, second = (read_manifest(tmp_path / name, "index") for name in ("a", "b"))
    assert first.measured != second.measured
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_shards_give_what_one_index_gives(kind: str, tmp_path: Path) -> None:
    vectors = vectors_of(5000, seed=1)
    vectors[100:110] = vectors[4900]  # ties across shards
    embeddings = write_embeddings(tmp_path / "embeddings", vectors)
    asked = np.vstack([vectors[4900:4901], vectors_of(40, seed=2)])
    found = {}
    for shards in (1, 4):
        build_index(embeddings, tmp_path / str(shards), index=IndexSettings(kind=kind, shards=shards))
        found[shards] = load_index(tmp_path / str(shards)).search(asked, 100)
    if kind == "exact":
        np.testing.assert_array_equal(found[4][0], found[1][0])
        np.testing.assert_array_equal(found[4][1], found[1][1])
    same = [len(set(a) & set(b)) / 100 for a, b in zip(found[1][0].tolist(), found[4][0].tolist(), strict=True)]
    assert np.mean(same) > 0.98
    assert found[4][0][0, :11].tolist() == [*range(100, 110), 4900]


def test_a_shard_is_loaded_alone(tmp_path: Path) -> None:
    vectors = vectors_of(3000, seed=1)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors)
    build_index(embeddings, tmp_path / "index", index=IndexSettings(kind="scann", shards=3))
    whole = load_index(tmp_path / "index")
    for number in (0, 2):
        shutil.rmtree(tmp_path / "index" / f"shard-0000{number}")
    alone = load_index(tmp_path / "index", shard=1)
    assert alone.item_ids.to_pylist() == whole.item_ids.to_pylist()[1000:2000]
    rows, _ = alone.search(vectors[1500:1501], 1)
    assert alone.item_ids[int(rows[0, 0])].as_py() == "item-1500"
    with pytest.raises(ArtifactError, match="shard-00000"):
        load_index(tmp_path / "index")
    with pytest.raises(ArtifactError, match="there is no shard 3, the last one is 2"):
        load_index(tmp_path / "index", shard=3)
    file = tmp_path / "index/shard-00001/index/dataset.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match=r"shard-00001/index/dataset\.npy"):
        load_index(tmp_path / "index", shard=1)


def test_the_manifest_holds_the_points_that_were_tried(tmp_path: Path) -> None:
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_of(3000, seed=1))
    build_index(embeddings, tmp_path / "index", index=IndexSettings(kind="scann"), queries=vectors_of(60, seed=2))
    measured = json.loads((tmp_path / "index/manifest.json").read_text())["measured"]
    assert len(measured["points"]) > 3
    for point in [*measured["points"], measured["chosen"]]:
        assert set(point) == {"effort", "recall", "error", "latency_ms"}
        assert set(point["latency_ms"]) == {"p50", "p95", "p99"}
    assert measured["build_seconds"] > 0 and measured["target"]["recall"] == 0.98
