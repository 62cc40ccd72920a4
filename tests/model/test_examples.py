"""Training examples: baskets, histories and batches, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from two_tower.artifacts import ArtifactReader, open_artifact, write_artifact
from two_tower.errors import TrainingError
from two_tower.features import FittedFeature
from two_tower.features.categorical import Categorical
from two_tower.model.examples import Batch, Examples, load_examples, padded_lists

SHOP = {"shop": FittedFeature("shop", Categorical(), {"vocabulary": ["a", "b"]})}

SEQUENCES: dict[str, list[Any]] = {
    "user": [0, 2],
    "items": [[5, 6, 7, 5, 8, 9], [1, 2]],
    "weights": [[1.0, 1.0, 2.0, 1.0, 1.0, 1.0], [1.0, 3.0]],
    "roles": [[0, 0, 0, 0, 0, 0], [0, 0]],
    "visible": [[0, 0, 2, 2, 4, 4], [0, 1]],
    "targets": [[True] * 6, [True] * 2],
    "context.shop": [["a", "a", "a", "a", "b", "a"], ["b", None]],
}


def sequences(folder: Path, rows: dict[str, list[Any]]) -> ArtifactReader:
    kinds = {
        "user": pa.int32(),
        "items": pa.int32(),
        "weights": pa.float32(),
        "roles": pa.int8(),
        "visible": pa.int32(),
        "targets": pa.bool_(),
        "context.shop": pa.string(),
    }
    columns = {
        name: pa.array(values, kinds[name] if name == "user" else pa.list_(kinds[name]))
        for name, values in rows.items()
    }
    with write_artifact(folder, "prepared_data", config={"query": {"history_roles": ["positive"]}}) as artifact:
        pq.write_table(pa.table(columns), artifact.path("train/part-00000.parquet"))
    return open_artifact(folder, "prepared_data")


def load(folder: Path, *, history_length: int = 3, context: bool = False, **changes: list[Any]) -> Examples:
    reader = sequences(folder, SEQUENCES | changes)
    return load_examples(reader, SHOP if context else {}, shape="sequences", history_length=history_length)


def everything(examples: Examples) -> Batch:
    return examples.batch(np.arange(len(examples.first)))


def test_a_basket_is_one_query_and_sees_only_what_came_before_it(tmp_path: Path) -> None:
    batch = everything(load(tmp_path))
    assert batch.history.tolist() == [[-1, -1, -1], [5, 6, -1], [6, 7, 5], [-1, -1, -1], [1, -1, -1]]
    assert batch.rows.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    assert batch.positives.tolist() == [5, 6, 7, 5, 8, 9, 1, 2]
    assert batch.weights.tolist() == [1, 1, 2, 1, 1, 1, 1, 3]
    assert batch.user.tolist() == [0, 0, 0, 2, 2]


def test_another_context_is_another_query(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, context=True))
    assert batch.rows.tolist() == [0, 0, 1, 1, 2, 3, 4, 5]
    assert batch.context["shop"].tolist() == [[2], [2], [3], [2], [3], [0]]
    assert batch.history[2].tolist() == batch.history[3].tolist() == [6, 7, 5]


def test_without_a_history_none_is_read(tmp_path: Path) -> None:
    assert everything(load(tmp_path, history_length=0)).history.shape == (5, 0)


def test_only_targets_are_positives_and_the_others_stay_in_the_history(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, targets=[[False] * 3 + [True] * 3, [True] * 2]))
    assert batch.positives.tolist() == [5, 8, 9, 1, 2]
    assert batch.rows.tolist() == [0, 1, 1, 2, 3]
    assert batch.history[0].tolist() == [5, 6, -1]


def test_events_of_other_roles_are_neither_positives_nor_in_the_history(tmp_path: Path) -> None:
    roles = {"roles": [[0, 2, 0, 0, 0, 1], [2, 0]], "targets": [[True, False, True, True, True, False], [False, True]]}
    batch = everything(load(tmp_path, **roles))
    assert batch.positives.tolist() == [5, 7, 5, 8, 2]
    assert batch.rows.tolist() == [0, 1, 1, 2, 3]
    assert batch.history.tolist() == [[-1, -1, -1], [5, -1, -1], [5, 7, 5], [-1, -1, -1]]


def test_an_unordered_history_is_all_the_rest_without_the_target(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, history_length=10, visible=[[-1] * 6, [-1] * 2]))
    assert batch.positives.tolist() == [5, 6, 7, 5, 8, 9, 1, 2]
    assert batch.history[0].tolist() == [6, 7, 8, 9, -1, -1]
    assert batch.history[-1].tolist() == [1, -1, -1, -1, -1, -1]


def test_an_epoch_holds_every_positive_once_in_a_seeded_order(tmp_path: Path) -> None:
    examples = load(tmp_path)

    def epoch(seed: int) -> list[list[int]]:
        return [batch.positives.tolist() for batch in examples.batches(3, rng=np.random.default_rng(seed))]

    assert epoch(1) == epoch(1)
    assert any(epoch(1) != epoch(seed) for seed in range(2, 6))
    assert sorted(item for batch in epoch(1) for item in batch) == [1, 2, 5, 5, 6, 7, 8, 9]
    assert all(len(batch) >= 3 for batch in epoch(1)[:-1])


def test_pairs_bring_their_history_along(tmp_path: Path) -> None:
    lists = pa.list_(pa.int32())
    columns = {
        "user": pa.array([0, 0, 4], pa.int32()),
        "item": pa.array([7, 8, 2], pa.int32()),
        "weight": pa.array([1.0, 2.0, 1.0], pa.float32()),
        "history": pa.array([[], [5, 7], [1]], lists),
        "context.shop": ["a", "b", None],
    }
    with write_artifact(tmp_path, "prepared_data") as artifact:
        pq.write_table(pa.table(columns), artifact.path("pairs/part-00000.parquet"))
    reader = open_artifact(tmp_path, "prepared_data")
    batch = everything(load_examples(reader, SHOP, shape="pairs", history_length=2))
    assert batch.positives.tolist() == [7, 8, 2] and batch.rows.tolist() == [0, 1, 2]
    assert batch.history.tolist() == [[-1, -1], [5, 7], [1, -1]]
    assert batch.context["shop"].tolist() == [[2], [3], [0]]
    assert batch.weights.tolist() == [1, 2, 1] and batch.user.tolist() == [0, 0, 4]


@pytest.mark.parametrize("items", [[], [[]]])
def test_nothing_to_train_on(tmp_path: Path, items: list[Any]) -> None:
    lists = dict.fromkeys(("items", "weights", "roles", "visible", "targets"), items)
    empty = {"user": [0] * len(items), **lists}
    with pytest.raises(TrainingError, match="nothing to train on"):
        load_examples(sequences(tmp_path, empty), {}, shape="sequences", history_length=3)


def test_padded_lists_keep_the_latest() -> None:
    column = pa.chunked_array([pa.array([[1, 2, 3], [], None, [4]], pa.list_(pa.int32()))])
    assert padded_lists(column, length=2).tolist() == [[2, 3], [-1, -1], [-1, -1], [4, -1]]
