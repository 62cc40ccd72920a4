"""Versions with a planted defect are refused, each by the check that should see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_artefacts import Log, item_ids, random_log, write_embeddings, write_prepared, write_query_tower

from two_tower import config
from two_tower.artifacts import open_artifact, write_artifact
from two_tower.evaluation import evaluate
from two_tower.index import build_index, load_embeddings, load_index
from two_tower.metrics_file import Evaluation

USERS, ITEMS = 150, 120
IDS = item_ids(ITEMS)
GATE = [
    {"type": "candidates", "of_champion": 0.95},
    {"type": "index_recall", "at_least": 0.95},
    {"type": "not_worse_than_champion", "metric": "recall@20", "margin": 0.05},
    {"type": "not_worse_than_champion", "metric": "recall@20", "margin": 0.05, "slice": "tail"},
    {"type": "maximum", "metric": "recall@20", "at_most": 0.95},
]


@pytest.fixture(scope="module")
def log() -> Log:
    return random_log(users=USERS, items=ITEMS, events=9000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_prepared(folder / "prepared", log, items=ITEMS)
    write_version(folder / "good", np.eye(ITEMS, dtype=np.float32), IDS)  # the history is found again
    return folder


def write_version(folder: Path, vectors: np.ndarray, ids: list[str], **tower: Any) -> Path:
    embeddings = write_embeddings(folder / "embeddings", vectors, ids, made_from={"candidate_tower": "c0ffee"})
    write_query_tower(folder / "query_tower", vectors, ids, embeddings=embeddings, **tower)
    build_index(embeddings, folder / "index", index=config.IndexSettings())
    return folder


def gate_of(world: Path, version: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """The verdict on a version against the good one: the decision, and the failed checks' names and reasons."""
    section = {"ks": [5, 20], "gate": GATE, "bootstrap_samples": 500, "smallest_slice": 20, **settings}
    measured = evaluate(
        settings.pop("prepared", world / "prepared"),
        version / "query_tower",
        version / "index",
        version / "embeddings",
        out,
        evaluation=config.EvaluationSettings.model_validate({k: v for k, v in section.items() if k != "prepared"}),
        version="challenger",
        champion=world / "good",
    )
    checks = json.loads((out / "metrics.json").read_text())["gate"]["checks"]
    failed = {check["name"]: check["reason"] for check in checks if check["status"] == "failed"}
    return {"decision": measured.gate.decision, "failed": failed}


def test_an_equally_good_version_passes(world: Path, tmp_path: Path) -> None:
    twin = write_version(tmp_path / "twin", np.eye(ITEMS, dtype=np.float32)[::-1].copy(), IDS)
    assert gate_of(world, twin, tmp_path / "out") == {"decision": "promote", "failed": {}}


def test_towers_that_have_learned_nothing(world: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    verdict = gate_of(world, write_version(tmp_path / "blank", vectors, IDS), tmp_path / "out")
    assert verdict["decision"] == "refuse"
    assert "recall@20 not worse than champion by more than 0.05" in verdict["failed"]


def test_a_candidate_table_without_a_fifth_of_the_items(world: Path, tmp_path: Path) -> None:
    kept = [number for number in range(ITEMS) if number % 5]
    items = pq.read_table(world / "prepared/items.parquet")
    prepared, original = tmp_path / "prepared", open_artifact(world / "prepared", "prepared_data")
    facts = {"config": original.manifest.config, "extra": original.manifest.extra}
    with write_artifact(prepared, "prepared_data", **facts) as artifact:
        for name in original.manifest.files:
            if name != "items.parquet":
                artifact.path(name).write_bytes(original.path(name).read_bytes())
        there = items["item_id"].to_pandas().isin([IDS[number] for number in kept])
        artifact.write_table(
            "items.parquet", items.set_column(items.schema.get_field_index("available"), "available", [there.tolist()])
        )
    vectors = np.eye(ITEMS, dtype=np.float32)
    version = write_version(tmp_path / "fewer", vectors[kept], [IDS[number] for number in kept])
    verdict = gate_of(world, version, tmp_path / "out", prepared=prepared)
    assert verdict["decision"] == "refuse"
    assert verdict["failed"]["candidates >= 0.95 of the champion's"].startswith("There are 96 candidates; 0.95 of the")


def test_a_model_ruined_on_the_tail(world: Path, tmp_path: Path) -> None:
    counts = np.array(pq.read_table(world / "prepared/items.parquet")["train_count"].to_pylist())
    tail = np.argsort(-counts, kind="stable")[ITEMS * 2 // 3 :]
    vectors = np.eye(ITEMS, dtype=np.float32)
    vectors[tail] = 0  # nothing in common with any history
    gate = [*GATE[:2], {**GATE[2], "margin": 0.2}, *GATE[3:]]
    verdict = gate_of(world, write_version(tmp_path / "tail", vectors, IDS), tmp_path / "out", gate=gate)
    assert verdict["decision"] == "refuse" and len(verdict["failed"]) == 1
    assert "tail" in next(iter(verdict["failed"]))


def test_a_test_window_that_leaked_into_training(world: Path, tmp_path: Path) -> None:
    """What comes next stands in the history of every query, as where a log's times are wrong."""
    prepared, original = tmp_path / "prepared", open_artifact(world / "prepared", "prepared_data")
    facts = {"config": original.manifest.config, "extra": original.manifest.extra}
    with write_artifact(prepared, "prepared_data", **facts) as artifact:
        for name in original.manifest.files:
            artifact.path(name).write_bytes(original.path(name).read_bytes())
        queries = pq.read_table(world / "prepared/test")
        place = queries.schema.get_field_index("history")
        leaked = queries["relevant"].combine_chunks().cast(queries.schema.field("history").type)
        artifact.write_table("test/part-00000.parquet", queries.set_column(place, "history", leaked))
    version = write_version(tmp_path / "leaked", np.eye(ITEMS, dtype=np.float32), IDS)
    verdict = gate_of(world, version, tmp_path / "out", prepared=prepared)
    assert verdict["decision"] == "refuse" and "look for what the model knows" in verdict["failed"]["recall@20 <= 0.95"]


@pytest.mark.slow
def test_an_index_without_half_of_its_partitions(tmp_path: Path) -> None:
    """A tree index over 200,001 items whose file says that the items of every other partition are in the first one."""
    items, dim = 200_001, 16
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, dim)).astype(np.float32)
    vectors = centres[rng.integers(0, 300, size=items)] + 0.3 * rng.normal(size=(items, dim)).astype(np.float32)
    ids = [f"i{number}" for number in range(items)]
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, ids, made_from={"candidate_tower": "c0ffee"})
    queries = vectors[rng.integers(0, items, size=500)] + 0.1
    build_index(
        embeddings, tmp_path / "index", index=config.IndexSettings.model_validate({"kind": "scann"}), queries=queries
    )
    assert recall_of(tmp_path / "index", embeddings, queries) >= 0.95

    whole = open_artifact(tmp_path / "index", "index")
    facts = {"config": whole.manifest.config, "made_from": whole.manifest.made_from}
    with write_artifact(tmp_path / "broken", "index", **facts) as artifact:
        for name in whole.manifest.files:
            artifact.path(name).write_bytes(whole.path(name).read_bytes())
        (tokens,) = (artifact.path(name) for name in whole.manifest.files if name.endswith("datapoint_to_token.npy"))
        partition = np.load(tokens)
        partition[partition % 2 == 1] = 0
        np.save(tokens, partition)
    found = recall_of(tmp_path / "broken", embeddings, queries)
    measured = {"index": {"kind": "scann", "recall@100": found}, "queries": len(queries)}
    check = config.EvaluationSettings.model_validate({"gate": [{"type": "index_recall", "at_least": 0.95}]}).gate[0]
    assert check.check(Evaluation.model_validate(measured)).status == "failed"


def recall_of(index: Path, embeddings: Path, queries: np.ndarray) -> float:
    from two_tower.evaluation.index_quality import index_quality
    from two_tower.index import ExactIndex

    candidates = load_embeddings(embeddings)
    exact = ExactIndex(candidates.vectors, candidates.item_ids)
    return float(index_quality(load_index(index), exact, queries).recall[100])
