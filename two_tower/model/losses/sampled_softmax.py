"""Softmax over sampled candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from two_tower.contracts import Float32, Loss, LossContext

if TYPE_CHECKING:
    import tensorflow as tf

Float64 = npt.NDArray[np.float64]

MASKED = -1e9


class SampledSoftmax(Loss):
    """Cross-entropy of the positive against sampled negatives that the whole batch shares (mixed negatives).

    A share of the negatives is drawn like the training positives, the rest uniformly from all candidates, so that
    items without events are pushed away too.  The draw keeps each item once; a negative's score is lowered by the
    log of its chance to be drawn at all, so that the negatives estimate the whole softmax's sum.  The positive was
    not drawn and is not corrected.  The query's own positives are no negatives for it (accidental hits).

    Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations", 2020; Bengio and
    Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model", 2008.
    """

    type: Literal["sampled_softmax"] = "sampled_softmax"
    negatives: int = Field(8192, ge=1, description="How many negatives are drawn for a batch, repeats included.")
    popular_share: float = Field(
        0.5, ge=0, le=1, description="Share of the negatives drawn like the training positives, not uniformly."
    )

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        mixture = self.mixture(context)
        cumulative = tf.constant(np.cumsum(mixture))
        log_chance = tf.constant(self.log_chance(mixture))

        def draw() -> tf.Tensor:
            points = tf.random.uniform([self.negatives], dtype=tf.float64) * cumulative[-1]
            drawn = tf.searchsorted(cumulative, points, side="right", out_type=tf.int32)
            return tf.unique(tf.minimum(drawn, context.item_count - 1)).y

        def loss(queries: tf.Tensor, rows: tf.Tensor, positives: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            negatives = draw()
            candidates = context.candidates(tf.concat([positives, negatives], axis=0))
            positive, negative = candidates[: tf.size(positives)], candidates[tf.size(positives) :]
            scores = tf.matmul(queries, negative, transpose_b=True) / context.temperature
            scores -= tf.gather(log_chance, negatives)
            scores = hide_positives(scores, rows, positives, negatives, item_count=context.item_count)
            rest = tf.gather(tf.reduce_logsumexp(scores, axis=1), rows)
            own = tf.reduce_sum(tf.gather(queries, rows) * positive, axis=1) / context.temperature
            losses = tf.math.softplus(rest - own)  # = log(exp(own) + exp(rest)) - own
            return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)

        return loss

    def mixture(self, context: LossContext) -> Float64:
        """Each item's share of the draws, float64 `[items]`."""
        popular = context.sampling_probability.astype(np.float64)
        mixture: Float64 = self.popular_share * popular / popular.sum() + (1 - self.popular_share) / context.item_count
        return mixture

    def log_chance(self, mixture: Float64) -> Float32:
        """Log of each item's chance to be among the draws, float32 `[items]`."""
        chance = -np.expm1(self.negatives * np.log1p(-np.minimum(mixture, 1 - 1e-12)))
        logarithm: Float32 = np.log(np.maximum(chance, 1e-30)).astype(np.float32)
        return logarithm


def hide_positives(
    scores: tf.Tensor, rows: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor, *, item_count: int
) -> tf.Tensor:
    """The scores `[queries, negatives]`, very low where a negative is a positive of the query."""
    import tensorflow as tf

    columns = tf.tensor_scatter_nd_update(tf.fill([item_count], -1), negatives[:, None], tf.range(tf.size(negatives)))
    column = tf.gather(columns, positives)
    hits = tf.boolean_mask(tf.stack([rows, column], axis=1), column >= 0)
    return tf.tensor_scatter_nd_add(scores, hits, tf.fill([tf.shape(hits)[0]], MASKED))
