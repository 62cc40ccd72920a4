"""The history encoders: what a state sees, what it does not, and the empty history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from two_tower.config import AnyHistory, Gru, MeanPool, Transformer
from two_tower.contracts import Float32
from two_tower.model.encoders import history_encoder

DIM, LENGTH = 4, 6
KINDS: list[AnyHistory] = [
    MeanPool(),
    MeanPool(decay=0.7),
    Gru(layers=2, dropout=0.5),
    Transformer(layers=2, heads=2, dropout=0.5),
]


@pytest.fixture(params=KINDS, ids=["mean", "decay", "gru", "transformer"])
def encoder(request: pytest.FixtureRequest) -> Any:
    return built(request.param)


def built(settings: AnyHistory) -> Any:
    """An encoder whose weights are random, those too that start at zero or one."""
    encoder = history_encoder(settings, dim=DIM, history_length=LENGTH)
    encoder.last(tf.zeros([1, 1, DIM]), tf.zeros([1, 1]))
    rng = np.random.default_rng(0)
    for variable in encoder.variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return encoder


def items(*shape: int, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(size=(*shape, DIM)).astype(np.float32)


def last(encoder: Any, history: Float32, mask: Any = None) -> Float32:
    mask = np.ones(history.shape[:2]) if mask is None else mask
    return encoder.last(tf.constant(history), tf.constant(mask, tf.float32)).numpy()


def test_no_state_knows_a_later_item(encoder: Any) -> None:
    history, mask = items(2, LENGTH), tf.ones([2, LENGTH])
    before = encoder.states(tf.constant(history), mask).numpy()
    for changed in range(LENGTH):
        other = history.copy()
        other[:, changed] += [3.0, 0, 0, -3]
        after = encoder.states(tf.constant(other), mask).numpy()
        np.testing.assert_array_equal(after[:, :changed], before[:, :changed])
        assert (np.abs(after[:, changed:] - before[:, changed:]).max(axis=2) > 1e-4).all()


def test_a_state_is_what_a_history_that_ends_there_gives(encoder: Any) -> None:
    history = items(2, LENGTH)
    states = encoder.states(tf.constant(history), tf.ones([2, LENGTH])).numpy()
    for end in range(LENGTH):
        np.testing.assert_allclose(states[:, end], last(encoder, history[:, : end + 1]), atol=1e-5)


@pytest.mark.parametrize("mask", [[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 0]])
def test_what_is_masked_is_as_if_it_were_not_there(encoder: Any, mask: list[int]) -> None:
    history, known = items(1, 5), np.array(mask, dtype=bool)
    rubbish = np.where(known[None, :, None], history, 50.0).astype(np.float32)
    np.testing.assert_allclose(last(encoder, rubbish, [mask]), last(encoder, history[:, known]), atol=1e-5)
    states = encoder.states(tf.constant(rubbish), tf.constant([mask], tf.float32)).numpy()
    alone = encoder.states(tf.constant(history[:, known]), tf.ones([1, known.sum()])).numpy()
    np.testing.assert_allclose(states[:, known], alone, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_an_empty_history_has_a_learned_state(encoder: Any, length: int) -> None:
    found = encoder.last(tf.ones([2, length, DIM]), tf.zeros([2, length])).numpy()
    np.testing.assert_array_equal(found, [encoder.empty.numpy()] * 2)
    states = encoder.states(tf.ones([2, length, DIM]), tf.zeros([2, length]))
    np.testing.assert_array_equal(encoder.at(states, tf.constant([[1, -1]])).numpy(), [encoder.empty.numpy()])


def test_places_point_into_the_states(encoder: Any) -> None:
    states = tf.constant(items(2, 3))
    found = encoder.at(states, tf.constant([[1, 2], [0, -1], [1, 0], [0, 0]])).numpy()
    np.testing.assert_array_equal(found, [states[1, 2], encoder.empty, states[1, 0], states[0, 0]])


@pytest.mark.parametrize("mask", [[[0.0, 0, 0], [0, 1, 0]], [[0.0, 0, 0], [0, 0, 0]]])
def test_gradients_are_finite_where_all_is_masked(encoder: Any, mask: list[list[float]]) -> None:
    history = tf.constant(items(2, 3))
    with tf.GradientTape() as tape:
        tape.watch(history)
        loss = tf.reduce_sum(encoder.last(history, tf.constant(mask), training=True) ** 2)
        loss += tf.reduce_sum(encoder.states(history, tf.constant(mask), training=True) ** 2)
    wanted = [history, *encoder.trainable_variables]
    gradients = tape.gradient(loss, wanted, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_the_order_counts_unless_it_is_a_mean(encoder: Any) -> None:
    history = items(1, 3)
    moved = np.abs(last(encoder, history) - last(encoder, history[:, ::-1])).max()
    assert moved < 1e-6 if getattr(encoder, "decay", 0.0) == 1 else moved > 1e-3


def test_dropout_is_for_training_alone() -> None:
    for settings in (Gru(dropout=0.5), Transformer(dropout=0.5)):
        encoder, history, mask = built(settings), tf.constant(items(1, 3)), tf.ones([1, 3])
        np.testing.assert_array_equal(encoder.last(history, mask), encoder.last(history, mask))
        first, second = (encoder.last(history, mask, training=True).numpy() for _ in range(2))
        assert np.abs(first - second).max() > 1e-4


def test_a_longer_history_than_in_training_has_an_embedding() -> None:
    assert np.isfinite(last(built(Transformer()), items(1, 3 * LENGTH))).all()


def test_the_mean_is_of_what_is_not_masked() -> None:
    history = np.array([[[1.0, 0, 0, 0], [9, 9, 9, 9], [3, 2, 0, 0]]], dtype=np.float32)
    np.testing.assert_allclose(last(built(MeanPool()), history, [[1, 0, 1]]), [[2, 1, 0, 0]], rtol=1e-6)


def test_decay_weighs_the_newest_most_and_skips_masked_places() -> None:
    history = np.array([[[8.0, 0, 0, 0], [9, 9, 9, 9], [0, 4, 0, 0], [9, 9, 9, 9]]], dtype=np.float32)
    found = last(built(MeanPool(decay=0.5)), history, [[1, 0, 1, 0]])  # weights 1/2 and 1
    np.testing.assert_allclose(found, [[8 / 3, 8 / 3, 0, 0]], rtol=1e-6)


def test_weights_that_vanish_leave_the_newest() -> None:
    history = items(1, 300)
    np.testing.assert_allclose(last(built(MeanPool(decay=0.001)), history), history[:, -1], atol=0.01)
