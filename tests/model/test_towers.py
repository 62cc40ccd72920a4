"""The towers' parts: pooling, masks, hidden ids, the two-tower rule."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_towers import HISTORY, write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import Model, Training
from two_tower.contracts import Float32, Int32
from two_tower.errors import TrainingError
from two_tower.model.towers import OOV, CandidateTower, Pool, QueryTower, hide_ids
from two_tower.model.training import Trainer, TrainingData


def pooled(decay: float, history: list[list[list[float]]], mask: list[list[float]]) -> np.ndarray:
    return Pool(Model(dim=2, history_decay=decay))(tf.constant(history), tf.constant(mask, tf.float32)).numpy()


def test_the_pool_is_the_mean_of_what_is_not_masked() -> None:
    history = [[[1.0, 0.0], [9.0, 9.0], [3.0, 2.0]], [[4.0, 4.0], [9.0, 9.0], [9.0, 9.0]]]
    np.testing.assert_allclose(pooled(1.0, history, [[1, 0, 1], [1, 0, 0]]), [[2, 1], [4, 4]], rtol=1e-6)


def test_decay_weighs_the_newest_most_and_skips_masked_places() -> None:
    history = [[[8.0, 0.0], [9.0, 9.0], [0.0, 4.0], [9.0, 9.0]]]
    np.testing.assert_allclose(pooled(0.5, history, [[1, 0, 1, 0]]), [[8 / 3, 8 / 3]], rtol=1e-6)


def test_an_empty_history_has_a_vector_of_its_own() -> None:
    pool = Pool(Model(dim=2))
    pool.empty.assign([5.0, 6.0])
    history = tf.ones([2, 3, 2])
    np.testing.assert_allclose(pool(history, tf.constant([[0.0, 0, 0], [1, 1, 1]])), [[5, 6], [1, 1]])
    np.testing.assert_allclose(pool(tf.zeros([1, 0, 2]), tf.zeros([1, 0])), [[5, 6]])


def test_a_share_of_the_ids_is_hidden() -> None:
    tf.random.set_seed(0)
    ids = tf.range(2, 20_002)
    hidden = hide_ids(ids, share=0.25).numpy()
    assert (hidden == OOV).mean() == pytest.approx(0.25, abs=0.02)
    assert (hidden[hidden != OOV] == ids.numpy()[hidden != OOV]).all()
    assert (hide_ids(ids, share=0.0).numpy() == ids.numpy()).all()


def test_ids_alone_without_layers_are_a_matrix_factorisation() -> None:
    tower = CandidateTower(Model(dim=3, normalize=False), {}, vocabulary_size=4)
    vectors = tower.vectors(tf.constant([2, 5]), {})
    np.testing.assert_array_equal(tower.embed(vectors), tf.gather(tower.layers["id"].embeddings, [2, 5]))
    np.testing.assert_array_equal(tower.layers["output"].kernel, np.eye(3))


def test_normalised_means_a_length_of_one() -> None:
    tower = CandidateTower(Model(dim=3), {}, vocabulary_size=4)
    lengths = np.linalg.norm(tower.embed(tower.vectors(tf.constant([2, 3, 4]), {})), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_the_query_tower_takes_nothing_of_the_scored_candidate() -> None:
    assert list(inspect.signature(QueryTower.embed).parameters) == [
        "self", "history", "mask", "ids", "features", "training",
    ]  # fmt: skip


def test_items_of_the_same_basket_and_later_ones_do_not_change_a_query(tmp_path: Path) -> None:
    reader = open_artifact(write_tiny(tmp_path), "prepared_data")
    training = Training(loss={"type": "in_batch"})
    trainer = Trainer(TrainingData.load(reader, model=Model(dim=4), training=training), training)
    examples = trainer.data.examples

    def embedding(items: Int32) -> Float32:
        batch = replace(examples, items=items, shown=items).batch(np.array([3]))  # the first user's fourth basket
        return trainer._embed_queries(*trainer._inputs(batch)[:3]).numpy()

    first, last = int(examples.seen_from[3]), int(examples.first[3])
    assert last - first == 6 <= HISTORY
    changed_after, changed_before = examples.items.copy(), examples.items.copy()
    changed_after[last:] = (changed_after[last:] + 1) % 50
    changed_before[first] += 1
    np.testing.assert_array_equal(embedding(changed_after), embedding(examples.items))
    assert np.abs(embedding(changed_before) - embedding(examples.items)).max() > 1e-6


def test_a_tower_without_any_input_is_refused(tmp_path: Path) -> None:
    reader = open_artifact(write_tiny(tmp_path, features=False), "prepared_data")
    training = Training(loss={"type": "in_batch"})
    with pytest.raises(TrainingError, match=r"model\.candidate"):
        TrainingData.load(reader, model=Model(candidate={"use_id": False}), training=training)
