"""The losses against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from two_tower.config import Training
from two_tower.contracts import LossContext
from two_tower.model.losses.full_softmax import FullSoftmax
from two_tower.model.losses.in_batch import InBatch
from two_tower.model.losses.sampled_softmax import SampledSoftmax

VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]], dtype=np.float32)
QUERIES = np.array([[0.6, 0.2], [-0.3, 0.9]], dtype=np.float32)
SHARES = np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32)
TEMPERATURE = 0.5
SCORES = QUERIES @ VECTORS.T / TEMPERATURE
"""`[queries, items]`"""


def context(shares: np.ndarray = SHARES, vectors: np.ndarray = VECTORS) -> LossContext:
    table = tf.constant(vectors)
    return LossContext(
        candidates=lambda numbers: tf.gather(table, numbers),
        item_count=len(vectors),
        sampling_probability=shares,
        temperature=TEMPERATURE,
        seed=1,
    )


def value(loss, rows, positives, weights=None, given=None) -> float:
    weights = np.ones(len(rows)) if weights is None else weights
    run = tf.function(loss.build(given or context()))
    return float(
        run(
            tf.constant(QUERIES),
            tf.constant(rows, tf.int32),
            tf.constant(positives, tf.int32),
            tf.constant(weights, tf.float32),
        )
    )


def cross_entropy(positive: float, negatives: list[float]) -> float:
    return float(np.log(np.exp([positive, *negatives]).sum()) - positive)


def test_the_configuration_finds_the_losses_by_type() -> None:
    assert isinstance(Training(loss={"type": "in_batch"}).loss, InBatch)
    assert isinstance(Training(loss={"type": "full_softmax"}).loss, FullSoftmax)
    assert isinstance(Training(loss={"type": "sampled_softmax", "negatives": 5}).loss, SampledSoftmax)


def test_full_softmax_is_the_textbook_cross_entropy() -> None:
    expected = [cross_entropy(SCORES[0, 0], SCORES[0, 1:]), cross_entropy(SCORES[1, 1], SCORES[1, [0, 2, 3]])]
    assert value(FullSoftmax(), [0, 1], [0, 1]) == pytest.approx(np.mean(expected), abs=1e-5)
    assert value(FullSoftmax(), [0, 1], [0, 1], [3, 1]) == pytest.approx((3 * expected[0] + expected[1]) / 4, abs=1e-5)


def test_in_batch_subtracts_log_q_from_the_negatives_only() -> None:
    negatives = SCORES - np.log(2 * SHARES)  # three positives in the batch: two others
    expected = [
        cross_entropy(SCORES[0, 0], [negatives[0, 1], negatives[0, 3]]),
        cross_entropy(SCORES[1, 1], [negatives[1, 0]]),
        cross_entropy(SCORES[1, 3], [negatives[1, 0]]),
    ]  # the second query's positives are no negatives of each other
    assert value(InBatch(), [0, 1, 1], [0, 1, 3]) == pytest.approx(np.mean(expected), abs=1e-5)


def test_in_batch_drops_the_same_item_as_a_negative() -> None:
    assert value(InBatch(), [0, 1], [2, 2]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", [InBatch(), FullSoftmax()])
def test_a_loss_is_a_mean_not_a_sum(loss) -> None:
    if isinstance(loss, FullSoftmax):
        assert value(loss, [0, 1, 0, 1], [0, 1, 0, 1]) == pytest.approx(value(loss, [0, 1], [0, 1]), abs=1e-5)
    assert value(loss, [0, 1], [0, 1], [5, 5]) == pytest.approx(value(loss, [0, 1], [0, 1]), abs=1e-5)


def test_sampled_softmax_with_every_item_drawn_is_full_but_for_the_other_positives() -> None:
    loss = SampledSoftmax(negatives=2000, popular_share=0.5)  # all four items are drawn, with a chance of 1
    expected = [
        cross_entropy(SCORES[0, 0], SCORES[0, 1:]),
        cross_entropy(SCORES[1, 1], SCORES[1, [0, 2]]),
        cross_entropy(SCORES[1, 3], SCORES[1, [0, 2]]),
    ]
    assert value(loss, [0, 1, 1], [0, 1, 3]) == pytest.approx(np.mean(expected), abs=1e-4)


def test_sampled_softmax_lowers_scores_by_the_log_of_the_chance_to_be_drawn() -> None:
    loss = SampledSoftmax(negatives=3, popular_share=0.5)
    mixture = loss.mixture(context())
    np.testing.assert_allclose(mixture, 0.5 * SHARES + 0.125, rtol=1e-6)
    np.testing.assert_allclose(loss.log_chance(mixture), np.log(1 - (1 - mixture) ** 3), rtol=1e-5)


def test_sampled_negatives_estimate_the_whole_sum() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 2)).astype(np.float32)
    shares = rng.dirichlet(np.full(200, 0.5)).astype(np.float32)
    given = context(shares, vectors)
    scores = QUERIES[0] @ vectors.T / TEMPERATURE
    rest = np.exp(np.delete(scores, 7)).sum()
    tf.random.set_seed(0)
    run = tf.function(SampledSoftmax(negatives=60).build(given))
    losses = [float(run(QUERIES[:1], tf.constant([0]), tf.constant([7]), tf.constant([1.0]))) for _ in range(400)]
    sums = np.expm1(losses) * np.exp(scores[7])  # loss = log(1 + sum / exp(positive))
    assert sums.mean() == pytest.approx(rest, rel=0.05)


@pytest.mark.parametrize("loss", [InBatch(), FullSoftmax(), SampledSoftmax(negatives=50)])
def test_gradients_pull_the_positive_near_and_push_the_others_away(loss) -> None:
    table = tf.Variable(VECTORS)
    given = LossContext(
        candidates=lambda numbers: tf.gather(table, numbers),
        item_count=4,
        sampling_probability=SHARES,
        temperature=TEMPERATURE,
        seed=1,
    )
    run = loss.build(given)
    with tf.GradientTape() as tape:
        result = run(tf.constant(QUERIES), tf.constant([0, 1]), tf.constant([0, 3]), tf.constant([1.0, 1.0]))
    gradient = tf.convert_to_tensor(tape.gradient(result, table)).numpy()
    assert gradient[0] @ QUERIES[0] < 0
    assert gradient[3] @ QUERIES[1] < 0
