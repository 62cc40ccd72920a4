"""Negatives: how they are drawn, corrected for the draw and kept from being a query's own items."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from two_tower.contracts import Float32, Float64, Loss, LossBatch, LossContext
from two_tower.settings import Settings

if TYPE_CHECKING:
    import tensorflow as tf

Candidates = Callable[[Any], Any]
Negatives = Annotated[
    int, Field(ge=1, le=10_000_000, description="How many negatives are drawn for a batch, repeats included.")
]
PopularShare = Annotated[
    float,
    Field(ge=0, le=1, description="Share of the negatives drawn by popularity: 0 is uniform, 1 has no uniform part."),
]

MASKED = -1e9
"""The score of what is no negative: far below any other, and finite, so that a row of nothing else is finite too."""


class SampledLoss(Loss, ABC):
    """A loss against negatives that are drawn for the batch and that all of its queries share.

    A share of the draws is in proportion to the training positives (or to a power of their shares), the rest is
    uniform over all candidates, so that items without events are pushed away too.  The draw keeps each item once.

    Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations", 2020; the power
    is from Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality", 2013.
    """

    negatives: Negatives = 8192
    popular_share: PopularShare = 0.5
    popularity_exponent: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Popular negatives are drawn in proportion to (share of the positives) ** exponent.",
    )

    def mixture(self, context: LossContext) -> Float64:
        """Each item's share of the draws, float64 `[items]`."""
        popular = context.sampling_probability.astype(np.float64) ** self.popularity_exponent
        mixture: Float64 = self.popular_share * popular / popular.sum() + (1 - self.popular_share) / context.item_count
        return mixture

    def log_chance(self, mixture: Float64) -> Float32:
        """Log of each item's chance to be among the draws at all, float32 `[items]`."""
        chance = -np.expm1(self.negatives * np.log1p(-np.minimum(mixture, 1 - 1e-12)))
        logarithm: Float32 = np.log(np.maximum(chance, 1e-30)).astype(np.float32)
        return logarithm

    def sampler(self, context: LossContext) -> Callable[[], Any]:
        """A callable that draws distinct item numbers, int32 `[at most negatives]`, anew in every step."""
        import tensorflow as tf

        cumulative = tf.constant(np.cumsum(self.mixture(context)))

        def draw() -> tf.Tensor:
            points = tf.random.uniform([self.negatives], dtype=tf.float64, seed=context.seed) * cumulative[-1]
            drawn = tf.searchsorted(cumulative, points, side="right", out_type=tf.int32)
            return tf.unique(tf.minimum(drawn, context.item_count - 1)).y

        return draw


class LogQ(Settings):
    """How a softmax over a sample is corrected for the sampling.

    A negative's score is lowered by log Q, Q being how many times it is expected in the sample, so that the sample's
    sum estimates the sum over the catalogue.  The positive is in the sum because it is the positive, with certainty,
    and not because it was drawn: corrected too, as by Yi et al., it counts 1 / Q times, and a rare positive looks
    learned before it is.  So `positive_aware` leaves it as it is.

    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", 2019; Khrylchenko et
    al., "Correcting the LogQ Correction: Revisiting Sampled Softmax for Large-Scale Retrieval", 2025.
    """

    logq: Literal["positive_aware", "standard", "none"] = Field(
        "positive_aware",
        description="Scores lowered by log Q: the negatives', those and the positive's (`standard`), or none.",
    )
    logq_exponent: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Factor of log Q. With negatives drawn by popularity, below 1 favours less popular items (scores "
        "tend to log P(item | query) - (1 - factor) * log popularity), above 1 more popular ones.",
    )

    @model_validator(mode="after")
    def _something_to_multiply(self) -> LogQ:
        if self.logq == "none" and self.logq_exponent != 1:
            raise ValueError("logq_exponent multiplies a correction, and logq is none: leave one of them out")
        return self

    @property
    def factor(self) -> float:
        """What log Q is multiplied by; 0 without a correction."""
        return 0.0 if self.logq == "none" else self.logq_exponent


class Scores(NamedTuple):
    """A batch's dot products."""

    positive: Any
    """float32 `[batch]`."""
    negative: Any
    """float32 `[n, shared + hard]`: each query with the shared negatives, then with its mined ones."""
    hidden: Any
    """bool `[n, shared + hard]`: what is no negative of the query."""


def score(
    queries: tf.Tensor, batch: LossBatch, negatives: tf.Tensor, *, candidates: Candidates, item_count: int
) -> Scores:
    """The scores of the positives, of shared `negatives` (distinct item numbers) and of the mined ones."""
    import tensorflow as tf

    positive, shared, mined = embed(candidates, batch.positives, negatives, tf.maximum(batch.mined, 0))
    own = tf.reduce_sum(tf.gather(queries, batch.rows) * positive, axis=1)
    scores = tf.matmul(queries, shared, transpose_b=True)
    hidden = known_among(negatives, batch, queries=tf.shape(queries)[0], item_count=item_count)
    if batch.mined.shape[1] != 0:  # joining nothing would copy all scores
        scores = tf.concat([scores, tf.einsum("nd,nhd->nh", queries, mined)], axis=1)
        hidden = tf.concat([hidden, no_mined_negative(batch, item_count=item_count)], axis=1)
    return Scores(own, scores, hidden)


def embed(candidates: Candidates, *items: tf.Tensor) -> list[Any]:
    """The embeddings `[..., dim]` of several tensors of item numbers, each distinct item embedded once."""
    import tensorflow as tf

    distinct, places = tf.unique(tf.concat([tf.reshape(numbers, [-1]) for numbers in items], axis=0))
    vectors = candidates(distinct)
    parts = tf.split(places, [tf.size(numbers) for numbers in items], num=len(items))
    return [tf.gather(vectors, tf.reshape(part, tf.shape(numbers))) for part, numbers in zip(parts, items, strict=True)]


def known_among(items: tf.Tensor, batch: LossBatch, *, queries: tf.Tensor, item_count: int) -> tf.Tensor:
    """bool `[queries, items]`: which of some distinct items are known positives of the query."""
    import tensorflow as tf

    columns = tf.tensor_scatter_nd_update(tf.fill([item_count], -1), items[:, None], tf.range(tf.size(items)))
    column = tf.gather(columns, batch.known)
    hits = tf.boolean_mask(tf.stack([batch.known_rows, column], axis=1), column >= 0)
    nowhere = tf.zeros(tf.stack([queries, tf.size(items)]), tf.bool)
    return tf.tensor_scatter_nd_update(nowhere, hits, tf.ones([tf.shape(hits)[0]], tf.bool))


def no_mined_negative(batch: LossBatch, *, item_count: int) -> tf.Tensor:
    """bool `[n, hard]`: where there is no mined item, or one that is a known positive of the query."""
    import tensorflow as tf

    def pairs(rows: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return tf.cast(rows, tf.int64) * item_count + tf.cast(items, tf.int64)

    known = tf.concat([tf.sort(pairs(batch.known_rows, batch.known)), [tf.int64.max]], axis=0)
    mined = pairs(tf.range(tf.shape(batch.mined)[0])[:, None], tf.maximum(batch.mined, 0))
    # tf.searchsorted, without its refusal to look for nothing
    places = tf.raw_ops.LowerBound(sorted_inputs=known[None], values=tf.reshape(mined, [1, -1]))
    found = tf.gather(known, tf.reshape(places, tf.shape(mined)))
    return (batch.mined < 0) | tf.equal(found, mined)


def hide(scores: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """The scores, very low where `hidden`."""
    import tensorflow as tf

    return tf.where(hidden, tf.constant(MASKED, scores.dtype), scores)


def mean_over(values: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """Mean along the last axis of what is not hidden, float32; 0 where all is."""
    import tensorflow as tf

    visible = tf.cast(~hidden, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * visible, axis=-1), tf.reduce_sum(visible, axis=-1))


def weighted_mean(losses: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """A mean, so that the batch size does not change the learning rate."""
    import tensorflow as tf

    return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
