"""Embedding the candidates: every one of them, in order, whatever the batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_towers import ITEMS, write_tiny

from two_tower import embedding as room
from two_tower.artifacts import content_hash, open_artifact
from two_tower.beam import pipeline
from two_tower.config import Beam, Embedding, Model, Training
from two_tower.errors import ArtifactError, ConfigError
from two_tower.model import export_candidate_tower, train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedding")
    write_tiny(folder / "prepared")
    training = Training(loss={"type": "in_batch"}, epochs=1, batch_size=64)
    train(str(folder / "prepared"), str(folder / "trained"), model=Model(dim=4), training=training)
    export_candidate_tower(str(folder / "trained"), str(folder / "tower"))
    return folder


def embed(made: Path, out: Path, *, batch_size: int = 4096) -> list[pa.Table]:
    room.embed(
        str(made / "tower"), str(made / "prepared"), str(out), embedding=Embedding(batch_size=batch_size), beam=Beam()
    )
    reader = open_artifact(out, "candidate_embeddings")
    return [reader.table(name) for name in sorted(reader.manifest.files)]


def test_every_candidate_is_embedded_in_order(made: Path, tmp_path: Path) -> None:
    (table,) = embed(made, tmp_path / "out")
    assert table.schema == pa.schema(
        {
            "item": pa.int32(),
            "item_id": pa.string(),
            "available": pa.bool_(),
            "embedding": pa.list_(pa.float32(), 4),
            "history_vector": pa.list_(pa.float16(), 4),
        }
    )
    assert table["item"].to_pylist() == list(range(ITEMS))
    assert table["item_id"].to_pylist() == [f"item {number}" for number in range(ITEMS)]
    vectors = np.array(table["embedding"].to_pylist())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    manifest = open_artifact(tmp_path / "out", "candidate_embeddings").manifest
    assert manifest.rows == {"candidates": ITEMS}
    assert manifest.made_from["candidate_tower"] == content_hash(made / "tower")


def test_batches_and_shards_change_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = embed(made, tmp_path / "whole")
    monkeypatch.setattr("two_tower.embedding.candidates.ROWS_PER_SHARD", 25)
    parts = embed(made, tmp_path / "parts", batch_size=7)
    assert [part.num_rows for part in parts] == [25, 25, 10]
    joined = pa.concat_tables(parts)
    assert joined["item"].to_pylist() == whole["item"].to_pylist()
    for name in ("embedding", "history_vector"):
        np.testing.assert_allclose(np.array(joined[name].to_pylist()), np.array(whole[name].to_pylist()), atol=2e-3)
    again = embed(made, tmp_path / "again", batch_size=7)
    assert [part.equals(other) for part, other in zip(parts, again, strict=True)] == [True] * 3


def test_a_tower_is_no_prepared_data(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a prepared_data"):
        room.embed(
            str(made / "tower"), str(made / "trained"), str(tmp_path / "out"), embedding=Embedding(), beam=Beam()
        )


def test_an_unknown_runner_is_named() -> None:
    with pytest.raises(ConfigError, match=r"beam\.runner: no runner 'Sparkle'"):
        pipeline(Beam(runner="Sparkle"))
