"""The losses against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from two_tower.config import TrainingSettings
from two_tower.contracts import LossBatch, LossContext
from two_tower.model.losses import full_softmax
from two_tower.model.losses.auto import Auto
from two_tower.model.losses.bpr import BprLoss
from two_tower.model.losses.cosine_contrastive import CosineContrastive
from two_tower.model.losses.full_softmax import FullSoftmax
from two_tower.model.losses.in_batch import InBatch
from two_tower.model.losses.sampled_softmax import SampledSoftmax

VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]], dtype=np.float32)
QUERIES = np.array([[0.6, 0.2], [-0.3, 0.9]], dtype=np.float32)
SHARES = np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32)
TEMPERATURE = 0.5
SCORES = QUERIES @ VECTORS.T / TEMPERATURE
"""`[queries, items]`"""
ALL_DRAWN = 2000
"""Draws after which each of the four items is there, with a chance of 1."""

EVERY = [
    FullSoftmax(),
    InBatch(),
    InBatch(hard_negatives=1, memory=3, logq="standard"),
    SampledSoftmax(negatives=50),
    SampledSoftmax(negatives=50, logq="standard"),
    BprLoss(negatives=50),
    CosineContrastive(negatives=50, margin=0),
]


def context(shares: np.ndarray = SHARES, vectors: Any = VECTORS, temperature: Any = TEMPERATURE) -> LossContext:
    table = vectors if isinstance(vectors, tf.Variable) else tf.constant(vectors)
    return LossContext(
        candidates=lambda numbers: tf.gather(table, numbers),
        item_count=len(shares),
        sampling_probability=shares,
        temperature=temperature,
        seed=1,
    )


def batch(rows, positives, weights=None, *, known=(), mined=None, queries=2) -> LossBatch:
    """A batch whose positives are known, and further `known` pairs (query, item)."""
    pairs = [*zip(rows, positives, strict=True), *known]
    return LossBatch(
        rows=tf.constant(rows, tf.int32),
        positives=tf.constant(positives, tf.int32),
        weights=tf.constant(np.ones(len(rows)) if weights is None else weights, tf.float32),
        known_rows=tf.constant([row for row, _ in pairs], tf.int32),
        known=tf.constant([item for _, item in pairs], tf.int32),
        mined=tf.constant(mined if mined is not None else np.zeros((queries, 0)), tf.int32),
    )


def value(loss, *arguments, given=None, **named) -> float:
    return float(loss.build(given or context())(tf.constant(QUERIES), batch(*arguments, **named)))


def cross_entropy(positive: float, negatives: list[float]) -> float:
    return float(np.log(np.exp([positive, *negatives]).sum()) - positive)


def softplus(value: Any) -> Any:
    return np.log1p(np.exp(value))


def test_the_configuration_finds_the_losses_by_type() -> None:
    for kind in (FullSoftmax, InBatch, SampledSoftmax, BprLoss, CosineContrastive):
        assert isinstance(TrainingSettings(loss={"type": kind.model_fields["type"].default}).loss, kind)


def test_a_factor_of_no_correction_is_refused() -> None:
    with pytest.raises(ValidationError, match="logq_exponent multiplies a correction"):
        InBatch(logq="none", logq_exponent=0.5)


# Of every loss


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.type)
def test_a_loss_is_a_mean_not_a_sum(loss) -> None:
    if not isinstance(loss, InBatch):  # whose negatives are the batch
        twice = value(loss, [0, 1, 0, 1], [0, 1, 0, 1])
        assert twice == pytest.approx(value(loss, [0, 1], [0, 1]), abs=1e-5)
    assert value(loss, [0, 1], [0, 1], [5, 5]) == pytest.approx(value(loss, [0, 1], [0, 1]), abs=1e-5)
    single = [value(loss, [0, 1], [0, 1], weights) for weights in ([1, 0], [0, 1])]
    weighted = value(loss, [0, 1], [0, 1], [3, 1])
    assert weighted == pytest.approx((3 * single[0] + single[1]) / 4, abs=1e-4)


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.type)
def test_gradients_pull_the_positive_near_and_push_the_others_away(loss) -> None:
    table = tf.Variable(VECTORS)
    run = loss.build(context(vectors=table))
    with tf.GradientTape() as tape:
        result = run(tf.constant(QUERIES), batch([0, 1], [0, 3]))
    gradient = tf.convert_to_tensor(tape.gradient(result, table)).numpy()
    assert gradient[0] @ QUERIES[0] < 0
    assert gradient[3] @ QUERIES[1] < 0


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.type)
def test_one_graph_takes_batches_of_any_size_and_a_temperature_that_moves(loss) -> None:
    temperature, table = tf.Variable(TEMPERATURE), tf.Variable(VECTORS)
    run = tf.function(loss.build(context(vectors=table, temperature=temperature)), reduce_retracing=True)
    batches = (([0, 1], [0, 1], 2, [[1, -1]] * 2), ([0, 0, 1, 2], [0, 3, 1, 1], 3, [[0]] * 3), ([0], [2], 1, None))
    for rows, positives, queries, mined in batches:
        with tf.GradientTape() as tape:
            vectors = tf.constant(np.resize(QUERIES, (queries, 2)))
            result = run(vectors, batch(rows, positives, queries=queries, mined=mined))
        moves = tape.gradient(result, temperature)
        assert np.isfinite(result)
        assert (moves is None) == isinstance(loss, CosineContrastive)
    assert moves is None or np.isfinite(moves)
    assert run.experimental_get_tracing_count() <= 3


@pytest.mark.parametrize("loss", EVERY[1:], ids=lambda loss: loss.type)
def test_the_loss_and_its_gradient_are_finite_without_any_negative(loss) -> None:
    queries = tf.Variable(QUERIES)
    known = [(row, item) for row in range(2) for item in range(4)]
    with tf.GradientTape() as tape:
        result = tf.function(loss.build(context()))(queries, batch([0, 1], [2, 2], known=known, mined=[[1], [-1]]))
    positive = 1 - np.array([0.9487 + 0.3162, -0.3162 + 0.9487]) / np.sqrt(2)  # queries and item 2, normalised
    expected = positive.mean() if isinstance(loss, CosineContrastive) else 0
    assert float(result) == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(tape.gradient(result, queries)).all()


# Full softmax


def test_the_size_of_the_catalogue_chooses_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    assert value(Auto(), [0, 1], [0, 1]) == pytest.approx(value(FullSoftmax(), [0, 1], [0, 1]))
    monkeypatch.setattr("two_tower.model.losses.auto.MOST_ITEMS", 3)
    assert value(Auto(), [0, 1], [0, 1]) == pytest.approx(value(SampledSoftmax(), [0, 1], [0, 1]), abs=1e-3)


def test_full_softmax_is_the_textbook_cross_entropy() -> None:
    expected = [cross_entropy(SCORES[0, 0], SCORES[0, 1:]), cross_entropy(SCORES[1, 1], SCORES[1, [0, 2, 3]])]
    assert value(FullSoftmax(), [0, 1], [0, 1]) == pytest.approx(np.mean(expected), abs=1e-5)
    assert value(FullSoftmax(), [0, 1], [0, 1], [3, 1]) == pytest.approx((3 * expected[0] + expected[1]) / 4, abs=1e-5)


@pytest.mark.parametrize("precision,tolerance", [("float32", 1e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("graph", [True, False])
def test_full_softmax_has_the_gradients_of_the_plain_formula(precision, tolerance, graph, monkeypatch) -> None:
    monkeypatch.setattr(full_softmax, "BLOCK_SCORES", 200)
    monkeypatch.setattr(full_softmax, "SMALLEST_BLOCK", 3)  # blocks of 5, 5 and 1 queries
    rng = np.random.default_rng(0)
    queries, table = (tf.Variable(rng.normal(size=(n, 6)), dtype=tf.float32) for n in (11, 40))
    temperature = tf.Variable(0.7)
    rows = np.append(rng.integers(0, 10, 30), 10)  # several positives a query
    items = batch(rows, rng.integers(0, 40, 31), rng.uniform(0.1, 2, 31), queries=11)
    variables = [queries, table, temperature]

    def plain(queries: tf.Tensor, items: LossBatch) -> tf.Tensor:
        logits = tf.matmul(tf.gather(queries, items.rows), table, transpose_b=True) / temperature
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(items.positives, logits)
        return tf.reduce_sum(losses * items.weights) / tf.reduce_sum(items.weights)

    def result(loss: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            value = 3 * (tf.function(loss) if graph else loss)(queries, items)
        return [value.numpy(), *(tf.convert_to_tensor(part).numpy() for part in tape.gradient(value, variables))]

    given = context(np.full(40, 1 / 40, np.float32), table, temperature)
    for ours, theirs in zip(result(FullSoftmax(precision=precision).build(given)), result(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


# In batch


def test_in_batch_subtracts_log_q_from_the_negatives_only() -> None:
    negatives = SCORES - np.log(2 * SHARES)  # three positives in the batch: two others
    expected = [
        cross_entropy(SCORES[0, 0], [negatives[0, 1], negatives[0, 3]]),
        cross_entropy(SCORES[1, 1], [negatives[1, 0]]),
        cross_entropy(SCORES[1, 3], [negatives[1, 0]]),
    ]  # the second query's positives are no negatives of each other
    assert value(InBatch(), [0, 1, 1], [0, 1, 3]) == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_in_batch_lowers_by_the_factor_and_lowers_the_positive_too_if_told_so(factor) -> None:
    lower = SCORES - factor * np.log(1 * SHARES)
    aware = [cross_entropy(SCORES[0, 0], [lower[0, 3]]), cross_entropy(SCORES[1, 3], [lower[1, 0]])]
    standard = [cross_entropy(lower[0, 0], [lower[0, 3]]), cross_entropy(lower[1, 3], [lower[1, 0]])]
    given = {"logq_exponent": factor}
    assert value(InBatch(**given), [0, 1], [0, 3]) == pytest.approx(np.mean(aware), abs=1e-5)
    assert value(InBatch(logq="standard", **given), [0, 1], [0, 3]) == pytest.approx(np.mean(standard), abs=1e-5)


def test_in_batch_without_correction_is_the_plain_softmax_of_the_batch() -> None:
    expected = [cross_entropy(SCORES[0, 0], [SCORES[0, 3]]), cross_entropy(SCORES[1, 3], [SCORES[1, 0]])]
    assert value(InBatch(logq="none"), [0, 1], [0, 3]) == pytest.approx(np.mean(expected), abs=1e-5)


def test_in_batch_drops_the_same_item_and_the_users_other_items_as_negatives() -> None:
    assert value(InBatch(), [0, 1], [2, 2]) == pytest.approx(0, abs=1e-5)
    expected = [0, cross_entropy(SCORES[1, 3], [SCORES[1, 0]])]
    assert value(InBatch(logq="none"), [0, 1], [0, 3], known=[(0, 3)]) == pytest.approx(np.mean(expected), abs=1e-5)


def test_in_batch_keeps_the_hardest_after_the_correction() -> None:
    lower = SCORES[0] - np.log(2 * SHARES)
    single = value(InBatch(hard_negatives=1), [0, 1, 1], [0, 1, 3], [1, 0, 0])
    assert single == pytest.approx(cross_entropy(SCORES[0, 0], [max(lower[1], lower[3])]), abs=1e-5)
    more = value(InBatch(hard_negatives=9), [0, 1, 1], [0, 1, 3])
    assert more == pytest.approx(value(InBatch(), [0, 1, 1], [0, 1, 3]), abs=1e-5)


def test_in_batch_takes_mined_negatives_as_they_are() -> None:
    lower = SCORES - np.log(SHARES)
    expected = [
        cross_entropy(SCORES[0, 0], [lower[0, 3], SCORES[0, 2]]),
        cross_entropy(SCORES[1, 3], [lower[1, 0]]),  # item 3 is its own
    ]
    result = value(InBatch(), [0, 1], [0, 3], mined=[[2, -1], [3, -1]])
    assert result == pytest.approx(np.mean(expected), abs=1e-5)


def test_in_batch_remembers_the_last_candidates_first_in_first_out() -> None:
    table = tf.Variable(VECTORS)
    run = tf.function(InBatch(memory=3).build(context(vectors=table)), reduce_retracing=True)
    first = float(run(QUERIES, batch([0, 1], [0, 1])))
    assert first == pytest.approx(value(InBatch(), [0, 1], [0, 1]), abs=1e-5)  # nothing is remembered yet
    table.assign(10 * VECTORS)
    run(QUERIES, batch([0, 1], [2, 3]))
    table.assign(VECTORS)
    # Remembered: 2 and 3 as they were ten times as long, and 0; item 1 has made room.
    with tf.GradientTape() as tape:
        third = run(QUERIES, batch([0], [1], known=[(0, 3)]))
    expected = cross_entropy(SCORES[0, 1], [10 * SCORES[0, 2] - np.log(3 * SHARES[2]), SCORES[0, 0] - np.log(1.5)])
    assert float(third) == pytest.approx(expected, abs=1e-4)
    gradient = tf.convert_to_tensor(tape.gradient(third, table)).numpy()
    assert gradient[1].any() and not gradient[[0, 2, 3]].any()


# Sampled softmax


def test_sampled_softmax_with_every_item_drawn_is_full_but_for_the_known_positives() -> None:
    loss = SampledSoftmax(negatives=ALL_DRAWN)
    expected = [
        cross_entropy(SCORES[0, 0], SCORES[0, [1, 2]]),
        cross_entropy(SCORES[1, 1], SCORES[1, [0, 2]]),
        cross_entropy(SCORES[1, 3], SCORES[1, [0, 2]]),
    ]
    assert value(loss, [0, 1, 1], [0, 1, 3], known=[(0, 3)]) == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_draw_mixes_popular_and_uniform() -> None:
    loss = SampledSoftmax(negatives=3, popular_share=0.5)
    mixture = loss.mixture(context())
    np.testing.assert_allclose(mixture, 0.5 * SHARES + 0.125, rtol=1e-6)
    np.testing.assert_allclose(loss.log_chance(mixture), np.log(1 - (1 - mixture) ** 3), rtol=1e-5)
    np.testing.assert_allclose(SampledSoftmax(popular_share=0).mixture(context()), 0.25)
    powers = SHARES.astype(float) ** 0.75
    flat = SampledSoftmax(popular_share=1, popularity_exponent=0.75)
    np.testing.assert_allclose(flat.mixture(context()), powers / powers.sum(), rtol=1e-6)


def test_items_are_drawn_as_often_as_their_chance_says() -> None:
    loss = SampledSoftmax(negatives=3, popular_share=0.8)
    draw = tf.function(loss.sampler(context()))
    counts = sum(np.bincount(draw().numpy(), minlength=4) for _ in range(2000))
    np.testing.assert_allclose(counts / 2000, np.exp(loss.log_chance(loss.mixture(context()))), atol=0.04)


@pytest.mark.parametrize("popular_share", [0.0, 0.5, 1.0])
def test_sampled_negatives_estimate_the_whole_sum(popular_share) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 2)).astype(np.float32)
    shares = rng.dirichlet(np.full(200, 2.0)).astype(np.float32)
    scores = QUERIES[0] @ vectors.T / TEMPERATURE
    rest = np.exp(np.delete(scores, 7)).sum()
    tf.random.set_seed(0)
    loss = SampledSoftmax(negatives=60, popular_share=popular_share)
    run = tf.function(loss.build(context(shares, vectors)))
    one = batch([0], [7], queries=1)
    losses = [float(run(QUERIES[:1], one)) for _ in range(400)]
    sums = np.expm1(losses) * np.exp(scores[7])  # loss = log(1 + sum / exp(positive))
    assert sums.mean() == pytest.approx(rest, rel=0.05)


def test_sampled_softmax_corrects_the_positive_only_if_told_so() -> None:
    loss = SampledSoftmax(negatives=1, popular_share=1, logq="standard", logq_exponent=0.5)
    only = np.array([0.999999, 1e-6, 0, 0], np.float32)  # so item 0 is drawn
    log_q = 0.5 * np.log(only.astype(np.float64) + 1e-30)
    expected = cross_entropy(SCORES[1, 1] - log_q[1], [SCORES[1, 0] - log_q[0]])
    assert value(loss, [1], [1], given=context(only)) == pytest.approx(expected, abs=1e-3)
    plain = SampledSoftmax(negatives=1, popular_share=1, logq="none")
    aware = cross_entropy(SCORES[1, 1], [SCORES[1, 0]])
    assert value(plain, [1], [1], given=context(only)) == pytest.approx(aware, abs=1e-3)


def test_sampled_softmax_adds_mined_negatives_without_correction() -> None:
    loss = SampledSoftmax(negatives=1, popular_share=1)
    only = np.array([1, 0, 0, 0], np.float32)
    expected = [
        cross_entropy(SCORES[0, 1], [SCORES[0, 0], SCORES[0, 2]]),
        cross_entropy(SCORES[1, 3], [SCORES[1, 0]]),  # its mined item 2 is known
    ]
    result = value(loss, [0, 1], [1, 3], known=[(1, 2)], mined=[[-1, 2], [2, 3]], given=context(only))
    assert result == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("kind", ["in_batch", "sampled_softmax"])
def test_a_factor_of_log_q_below_1_favours_less_popular_items(kind) -> None:
    shares = np.array([0.6, 0.3, 0.1], np.float32)
    positives = np.repeat([0, 1, 2], [6, 3, 1])
    one_each = batch(range(10), positives, queries=10)

    def learned(factor: float) -> np.ndarray:
        """The items' scores for a query about which nothing is known but the popularity."""
        table = tf.Variable(np.zeros((3, 1), np.float32))
        loss = (
            InBatch(logq_exponent=factor)
            if kind == "in_batch"
            else SampledSoftmax(logq_exponent=factor, popular_share=1, negatives=2)
        ).build(replace(context(shares, table), temperature=1.0))
        start = tf.ones([10, 1])

        @tf.function
        def step() -> None:
            with tf.GradientTape() as tape:
                result = loss(start, one_each)
            table.assign_sub(0.3 * tf.convert_to_tensor(tape.gradient(result, table)))

        for _ in range(400):
            step()
        return table.numpy()[:, 0]

    scores = {factor: learned(factor) for factor in (0.25, 1.0, 1.5)}
    ahead = {factor: vector[0] - vector[2] for factor, vector in scores.items()}
    assert ahead[0.25] + 0.4 < ahead[1.0] < ahead[1.5] - 0.2
    if kind == "in_batch":  # nothing is drawn, so the optimum is met, but for 10 of an item where 9 are expected
        assert ahead[1.0] == pytest.approx(np.log(6), abs=0.1)


# BPR and the cosine contrastive loss


def test_bpr_is_the_mean_over_the_negatives() -> None:
    gaps = (SCORES[0, [1, 2]] - SCORES[0, 0], SCORES[1, [0, 2, 3]] - SCORES[1, 1])
    expected = [softplus(gap).mean() for gap in gaps]
    loss = BprLoss(negatives=ALL_DRAWN)
    assert value(loss, [0, 1], [0, 1], [3, 1], known=[(0, 3)]) == pytest.approx(
        (3 * expected[0] + expected[1]) / 4, abs=1e-5
    )
    mined = [softplus(SCORES[0, [1, 2, 2]] - SCORES[0, 0]).mean(), expected[1]]
    result = value(loss, [0, 1], [0, 1], known=[(0, 3)], mined=[[2, 3], [-1, 1]])
    assert result == pytest.approx(np.mean(mined), abs=1e-5)


def test_cosine_contrastive_leaves_negatives_below_the_margin_alone() -> None:
    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    cosines = unit(QUERIES) @ unit(VECTORS).T
    above = np.maximum(cosines - 0.3, 0)
    expected = [
        1 - cosines[0, 0] + 5 * above[0, [1, 2, 3]].mean(),
        1 - cosines[1, 1] + 5 * above[1, [0, 2]].mean(),  # item 3 is known
    ]
    loss = CosineContrastive(negatives=ALL_DRAWN, margin=0.3, negative_weight=5)
    result = value(loss, [0, 1], [0, 1], known=[(1, 3)])
    assert result == pytest.approx(np.mean(expected), abs=1e-5)
    assert result == pytest.approx(value(loss, [0, 1], [0, 1], known=[(1, 3)], given=context(temperature=9.0)))
    mined = [1 - cosines[0, 0] + 5 * above[0, [1, 2, 3, 2]].mean(), expected[1]]
    result = value(loss, [0, 1], [0, 1], known=[(1, 3)], mined=[[2], [3]])
    assert result == pytest.approx(np.mean(mined), abs=1e-5)
