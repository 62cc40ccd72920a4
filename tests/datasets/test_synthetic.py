import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.datasets import make_dataset, synthetic
from pipelines.datasets.synthetic import World, draw_world

SIZES = {
    "users": 200,
    "items": 1_000,
    "per_user": 10,
    "dim": 10,
    "sharpness": 4.0,
    "noise": 0.5,
    "pool": 300,
    "seed": 1,
}


def oracle_recall(world: World, k: int) -> float:
    affinity = world.interests @ world.attributes.T
    best = np.argsort(-affinity, axis=1)[:, :k]
    return float(np.mean([np.isin(taken, top).mean() for taken, top in zip(world.chosen, best, strict=True)]))


def test_nobody_takes_an_item_twice() -> None:
    world = draw_world(**SIZES)
    assert world.chosen.shape == (200, 10)
    assert all(len(set(row)) == 10 for row in world.chosen.tolist())
    assert world.chosen.min() >= 0 and world.chosen.max() < 1_000


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "BLOCK_PAIRS", 20_000)  # many blocks
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    many = draw_world(**SIZES).chosen
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert (draw_world(**SIZES).chosen == many).all()


def test_one_draw_follows_the_softmax() -> None:
    rng = np.random.default_rng(3)
    attributes = np.array([[0.0], [1.0], [2.0]], np.float32)
    interests = np.ones((200_000, 1), np.float32)
    first = synthetic._gumbel_top_k(interests, attributes, 1, noise=0.0, rng=rng)[:, 0]
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(np.bincount(first) / len(first), expected, atol=0.004)


def test_two_draws_are_without_replacement() -> None:
    rng = np.random.default_rng(3)
    weights = np.exp([0.0, 1.0, 2.0])
    share = weights / weights.sum()
    pairs = synthetic._gumbel_top_k(
        np.ones((200_000, 1), np.float32), np.array([[0.0], [1.0], [2.0]], np.float32), 2, noise=0.0, rng=rng
    )
    left_out = 3 - pairs.sum(axis=1)
    a, b, c = share
    expected = [b * c / (1 - b) + c * b / (1 - c), a * c / (1 - a) + c * a / (1 - c), a * b / (1 - a) + b * a / (1 - b)]
    np.testing.assert_allclose(np.bincount(left_out) / len(left_out), expected, atol=0.004)


def test_an_oracle_finds_what_was_taken() -> None:
    sharp, blunt = draw_world(**SIZES), draw_world(**{**SIZES, "sharpness": 0.1})
    assert oracle_recall(sharp, 100) > 0.8
    assert oracle_recall(blunt, 100) < 0.2


def test_pools_keep_what_the_whole_catalogue_would_have_given(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {**SIZES, "users": 2_000, "items": 5_000, "pool": 1_000}
    whole = draw_world(**sizes)
    monkeypatch.setattr(synthetic, "MAX_PAIRS", 10_000)
    pooled = draw_world(**sizes)
    assert (pooled.interests == whole.interests).all() and (pooled.attributes == whole.attributes).all()
    assert all(len(set(row)) == 10 for row in pooled.chosen.tolist())
    assert oracle_recall(pooled, 100) == pytest.approx(oracle_recall(whole, 100), abs=0.1)
    assert (draw_world(**sizes).chosen == pooled.chosen).all()


def test_a_pool_smaller_than_what_a_user_takes_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "MAX_PAIRS", 10)
    world = draw_world(**{**SIZES, "items": 30, "pool": 10})
    assert all(len(set(row)) == 10 for row in world.chosen.tolist())


def test_the_files_hold_the_true_affinities(tmp_path: Path) -> None:
    folder = make_dataset("synthetic", tmp_path, users=100, items=500, per_user=8, days=30)
    items, users = pq.read_table(folder / "items.parquet"), pq.read_table(folder / "users.parquet")
    log = pq.read_table(folder / "interactions.parquet")
    assert items.column_names == ["item_id", "category", "attributes"]
    assert users.column_names == ["user_id", "interest"]
    assert log.num_rows == 800
    assert log["time"].to_pylist() == sorted(log["time"].to_pylist())
    assert (pc.max(log["time"]).as_py() - pc.min(log["time"]).as_py()).days in (28, 29)
    attributes = dict(zip(items["item_id"].to_pylist(), items["attributes"].to_pylist(), strict=True))
    interests = dict(zip(users["user_id"].to_pylist(), users["interest"].to_pylist(), strict=True))
    taken = [np.dot(interests[row["user_id"]], attributes[row["item_id"]]) for row in log.to_pylist()]
    chance = np.stack(list(interests.values())) @ np.stack(list(attributes.values())).T
    assert np.mean(taken) > chance.mean() + 2 * chance.std()


def test_tiny_has_every_type_of_feature(tmp_path: Path) -> None:
    folder = make_dataset("tiny", tmp_path)
    schema = pq.read_schema(folder / "items.parquet")
    types = [schema.field(name).type for name in ("title", "category", "tags", "price", "added", "attributes")]
    assert types == [
        pa.string(),
        pa.string(),
        pa.list_(pa.string()),
        pa.float64(),
        pa.timestamp("us", tz="UTC"),
        pa.list_(pa.float32()),
    ]
    log = pq.read_table(folder / "interactions.parquet")
    assert set(log["event"].to_pylist()) == {"purchase", "view"}
    assert len(pc.unique(log["item_id"])) < pq.read_table(folder / "items.parquet").num_rows, "some were never taken"
