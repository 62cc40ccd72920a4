"""Embedding the candidates: every one of them, in order, whatever the batches, the shards and the runner."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from plain_settings import plain_model, plain_training
from tiny_towers import ITEMS, write_tiny

from two_tower import embedding as room
from two_tower.artifacts import content_hash, open_artifact, write_artifact
from two_tower.beam import pipeline
from two_tower.config import BeamSettings, EmbeddingSettings
from two_tower.embedding import candidates
from two_tower.embedding.model_handler import TowerHandler
from two_tower.errors import ArtifactError, ConfigError
from two_tower.model import export_candidate_tower, train

VECTORS = ("embedding", "history_vector")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedding")
    write_tiny(folder / "prepared")
    export(folder / "prepared", folder / "tower")
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "ROWS_PER_SHARD", 25)


def export(prepared: Path, tower: Path, *, seed: int = 42) -> None:
    trained = tower.with_name(f"{tower.name}-trained")
    training = plain_training(loss={"type": "in_batch"}, epochs=1, batch_size=64, seed=seed)
    train(str(prepared), str(trained), model=plain_model(dim=4), training=training)
    export_candidate_tower(str(trained), str(tower))


def embed(
    made: Path,
    out: Path,
    *,
    batch_size: int = 64,
    prepared: Path | None = None,
    tower: Path | None = None,
    previous: Path | None = None,
    beam: BeamSettings | None = None,
) -> list[pa.Table]:
    """The parts that embedding gives."""
    embedding = EmbeddingSettings(batch_size=batch_size, previous=str(previous) if previous else None)
    towers, data = str(tower or made / "tower"), str(prepared or made / "prepared")
    room.embed_candidates(towers, data, str(out), embedding=embedding, beam=beam or BeamSettings())
    reader = open_artifact(out, "candidate_embeddings")
    return [reader.table(name) for name in sorted(reader.manifest.files)]


def items_of(made: Path) -> pa.Table:
    return pq.read_table(made / "prepared" / "items.parquet")


def prepare(made: Path, folder: Path, items: pa.Table, *, row_group_rows: int = 16) -> Path:
    """Prepared data with other candidates."""
    with write_artifact(folder, "prepared_data") as artifact:
        artifact.write_table("items.parquet", items, row_group_rows=row_group_rows)
        artifact.write_json("features.json", json.loads((made / "prepared" / "features.json").read_text()))
    return folder


def replaced(table: pa.Table, name: str, change: Callable[[int, Any], Any]) -> pa.Table:
    """The table with other values, by row number and value, in one column."""
    values = [change(row, value) for row, value in enumerate(table[name].to_pylist())]
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def matrix(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist(), dtype=np.float32)


def test_every_candidate_is_embedded_in_order(made: Path, tmp_path: Path) -> None:
    (table,) = embed(made, tmp_path / "out")
    assert table.schema == pa.schema(
        {
            "item": pa.int32(),
            "item_id": pa.string(),
            "available": pa.bool_(),
            "version": pa.string(),
            "fingerprint": pa.binary(16),
            "embedding": pa.list_(pa.float32(), 4),
            "history_vector": pa.list_(pa.float16(), 4),
        }
    )
    assert table["item"].to_pylist() == list(range(ITEMS))
    assert table["item_id"].to_pylist() == [f"item {number}" for number in range(ITEMS)]
    assert table["version"].to_pylist() == [content_hash(made / "tower")] * ITEMS
    assert pc.count_distinct(table["fingerprint"]).as_py() == ITEMS
    np.testing.assert_allclose(np.linalg.norm(matrix(table, "embedding"), axis=1), 1, rtol=1e-5)
    manifest = open_artifact(tmp_path / "out", "candidate_embeddings").manifest
    assert manifest.rows == {"candidates": ITEMS, "reused": 0}
    assert manifest.made_from["candidate_tower"] == content_hash(made / "tower")
    assert "previous" not in manifest.config


def test_the_vectors_are_those_of_the_saved_model(made: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    from two_tower.features import load_features

    (table,) = embed(made, tmp_path / "out", batch_size=7)
    items, reader = items_of(made), open_artifact(made / "prepared", "prepared_data")
    features = load_features(reader.json("features.json")["item"])
    raw = {name: tf.constant(feature.raw(items[f"feature.{name}"])) for name, feature in features.items()}
    model = tf.saved_model.load(str(made / "tower" / "saved_model"))
    outputs = model.signatures["serving_default"](item_id=tf.constant(items["item_id"].to_pylist()), **raw)
    np.testing.assert_allclose(matrix(table, "embedding"), outputs["embedding"], atol=1e-5)
    np.testing.assert_allclose(matrix(table, "history_vector"), outputs["history_vector"], atol=2e-3)


def test_shards_and_row_groups_change_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = embed(made, tmp_path / "whole")
    monkeypatch.setattr(candidates, "ROWS_PER_SHARD", 25)
    prepared = prepare(made, tmp_path / "prepared", items_of(made), row_group_rows=7)
    parts = embed(made, tmp_path / "parts", prepared=prepared)
    assert [part.num_rows for part in parts] == [25, 25, 10]
    names = sorted(path.name for path in (tmp_path / "parts").glob("*.parquet"))
    assert names == ["part-0000000000.parquet", "part-0000000025.parquet", "part-0000000050.parquet"]
    assert pa.concat_tables(parts).combine_chunks().equals(whole)


@pytest.mark.usefixtures("small_shards")
def test_batches_change_no_more_than_the_last_bits(made: Path, tmp_path: Path) -> None:
    one, other = (pa.concat_tables(embed(made, tmp_path / f"{size}", batch_size=size)) for size in (64, 7))
    assert one.drop_columns(VECTORS).equals(other.drop_columns(VECTORS))
    for name in VECTORS:
        np.testing.assert_allclose(matrix(one, name), matrix(other, name), atol=2e-3)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    "beam",
    [
        BeamSettings(workers=1),
        BeamSettings(workers=3),
        pytest.param(BeamSettings(runner="multi_process", workers=2), marks=pytest.mark.slow),
    ],
    ids=["one", "three", "processes"],
)
def test_every_runner_gives_the_same_bytes(made: Path, tmp_path: Path, beam: BeamSettings) -> None:
    embed(made, tmp_path / "out")
    embed(made, tmp_path / "other", beam=beam)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "other")


@pytest.mark.usefixtures("small_shards")
def test_threads_share_one_model(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], TowerHandler.load_model
    monkeypatch.setattr(TowerHandler, "load_model", lambda handler: loaded.append(load(handler)) or loaded[-1])
    embed(made, tmp_path / "out", beam=BeamSettings(workers=3))
    assert len(loaded) == 1


def test_a_shard_reads_no_more_than_its_row_groups(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = pq.ParquetFile.read_row_groups, []
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, groups, **rest: asked.append(groups) or read(self, groups, **rest),
    )
    monkeypatch.setattr(candidates, "ROWS_PER_SHARD", 25)
    embed(made, tmp_path / "out", prepared=prepare(made, tmp_path / "prepared", items_of(made), row_group_rows=10))
    assert sorted(asked) == [[0, 1, 2], [2, 3, 4], [5]]


def test_a_table_without_candidates_gives_one_empty_file(made: Path, tmp_path: Path) -> None:
    (full,) = embed(made, tmp_path / "full")
    nothing = prepare(made, tmp_path / "prepared", items_of(made).slice(0, 0))
    (table,) = embed(made, tmp_path / "out", prepared=nothing)
    assert table.schema == full.schema and not len(table)
    (again,) = embed(made, tmp_path / "again", prepared=nothing, previous=tmp_path / "out")
    assert not len(again)


def test_missing_values_are_embedded(made: Path, tmp_path: Path) -> None:
    items = replaced(items_of(made), "feature.price", lambda row, value: [float("nan"), None, value][row % 3])
    items = replaced(items, "feature.look", lambda row, value: [float("nan")] * len(value) if row % 5 else None)
    (table,) = embed(made, tmp_path / "out", prepared=prepare(made, tmp_path / "prepared", items))
    assert np.isfinite(matrix(table, "embedding")).all() and np.isfinite(matrix(table, "history_vector")).all()


@pytest.mark.usefixtures("small_shards")
def test_attributes_are_carried_along(made: Path, tmp_path: Path) -> None:
    columns = {
        "attribute.colour": pa.array([None if n % 4 == 0 else f"colour {n % 4}" for n in range(ITEMS)]),
        "attribute.sizes": pa.array([[f"s{n}", "m"][: n % 3] for n in range(ITEMS)], pa.list_(pa.string())),
        "attribute.stock": pa.array(range(ITEMS), pa.int16()),
        "attribute.weight": pa.array([n / 7 for n in range(ITEMS)], pa.float32()),
    }
    items = items_of(made)
    for name, column in columns.items():
        items = items.append_column(name, column)
    table = pa.concat_tables(embed(made, tmp_path / "out", prepared=prepare(made, tmp_path / "prepared", items)))
    for name, column in columns.items():
        assert table[name].combine_chunks().equals(column), name
    plain = pa.concat_tables(embed(made, tmp_path / "plain"))
    assert table["fingerprint"].equals(plain["fingerprint"])  # no attribute enters the tower


@pytest.mark.usefixtures("small_shards")
def test_only_what_changed_is_embedded_anew(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(made, tmp_path / "previous")
    kept = items_of(made).filter(pa.array([row not in (3, 30) for row in range(ITEMS)]))
    changed = replaced(kept, "feature.price", lambda row, value: 7.0 if row in (5, 40) else value)
    new = replaced(items_of(made).slice(0, 2), "item_id", lambda row, value: f"new {row}")
    prepared = prepare(made, tmp_path / "prepared", pa.concat_tables([new, changed]))
    embed(made, tmp_path / "anew", prepared=prepared)
    embedded, run = [], TowerHandler._embed
    monkeypatch.setattr(
        TowerHandler,
        "_embed",
        lambda self, rows, model: embedded.extend(rows["item_id"].to_pylist()) or run(self, rows, model),
    )
    embed(made, tmp_path / "out", prepared=prepared, previous=tmp_path / "previous")
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")
    assert sorted(embedded) == sorted(["new 0", "new 1", *changed["item_id"].take([5, 40]).to_pylist()])
    manifest = open_artifact(tmp_path / "out", "candidate_embeddings").manifest
    assert manifest.rows == {"candidates": ITEMS, "reused": ITEMS - 4}


@pytest.mark.usefixtures("small_shards")
def test_a_changed_order_or_attribute_embeds_nothing(made: Path, tmp_path: Path) -> None:
    embed(made, tmp_path / "previous")
    items = items_of(made).take(np.random.default_rng(0).permutation(ITEMS))
    items = replaced(items, "available", lambda row, value: row % 2 == 0).append_column(
        "attribute.row", pa.array(range(ITEMS))
    )
    prepared = prepare(made, tmp_path / "prepared", items)
    beam = BeamSettings(runner="multi_process", workers=2)
    embed(made, tmp_path / "out", prepared=prepared, previous=tmp_path / "previous", beam=beam)
    embed(made, tmp_path / "anew", prepared=prepared)
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")
    assert open_artifact(tmp_path / "out", "candidate_embeddings").manifest.rows["reused"] == ITEMS


def test_another_tower_embeds_everything(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embed(made, tmp_path / "previous")
    export(made / "prepared", tmp_path / "tower", seed=1)
    with caplog.at_level(logging.INFO, "two_tower"):
        embed(made, tmp_path / "out", tower=tmp_path / "tower", previous=tmp_path / "previous")
    embed(made, tmp_path / "anew", tower=tmp_path / "tower")
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")
    assert open_artifact(tmp_path / "out", "candidate_embeddings").manifest.rows["reused"] == 0
    hashes = content_hash(made / "tower"), content_hash(tmp_path / "tower")
    assert any("every candidate is embedded" in line and all(one in line for one in hashes) for line in caplog.messages)


def test_embeddings_without_fingerprints_are_of_no_use(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with write_artifact(
        tmp_path / "previous", "candidate_embeddings", made_from={"candidate_tower": content_hash(made / "tower")}
    ):
        pass
    with caplog.at_level(logging.INFO, "two_tower"):
        embed(made, tmp_path / "out", previous=tmp_path / "previous")
    assert "another release" in caplog.text


def test_damaged_earlier_embeddings_are_refused(made: Path, tmp_path: Path) -> None:
    embed(made, tmp_path / "previous")
    path = tmp_path / "previous" / "part-0000000000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"previous/part-0000000000\.parquet: differs"):
        embed(made, tmp_path / "out", previous=tmp_path / "previous")
    with pytest.raises(ArtifactError, match=r"nowhere: no manifest\.json"):
        embed(made, tmp_path / "out", previous=tmp_path / "nowhere")


def test_earlier_embeddings_are_not_written_over(made: Path, tmp_path: Path) -> None:
    embed(made, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"embedding\.previous: .*name an earlier one"):
        embed(made, tmp_path / "out", previous=tmp_path / "out")
    open_artifact(tmp_path / "out", "candidate_embeddings")


def test_a_column_that_the_tower_takes_must_be_there(made: Path, tmp_path: Path) -> None:
    prepared = prepare(made, tmp_path / "prepared", items_of(made).drop_columns(["feature.price"]))
    with pytest.raises(ArtifactError, match=r"items\.parquet: no column 'feature\.price'"):
        embed(made, tmp_path / "out", prepared=prepared)


def test_a_tower_is_no_prepared_data(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a prepared_data"):
        embed(made, tmp_path / "out", prepared=made / "tower")


def test_an_unknown_runner_is_named() -> None:
    with pytest.raises(ConfigError, match=r"beam\.runner: no runner 'Sparkle'"):
        pipeline(BeamSettings(runner="Sparkle"))
