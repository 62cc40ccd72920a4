"""Softmax over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from two_tower.contracts import Loss, LossContext

if TYPE_CHECKING:
    import tensorflow as tf


class FullSoftmax(Loss):
    """Cross-entropy of the positive among all candidates: nothing is sampled, so nothing has to be corrected.

    Covington et al., "Deep Neural Networks for YouTube Recommendations", 2016, without the sampling.  A step costs
    time and memory in proportion to queries x items: below about 50,000 items it is the best choice.
    """

    type: Literal["full_softmax"] = "full_softmax"

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        def loss(queries: tf.Tensor, rows: tf.Tensor, positives: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            candidates = context.candidates(tf.range(context.item_count))
            every = tf.reduce_logsumexp(tf.matmul(queries, candidates, transpose_b=True) / context.temperature, axis=1)
            positive = tf.gather(candidates, positives)
            scores = tf.reduce_sum(tf.gather(queries, rows) * positive, axis=1) / context.temperature
            return tf.reduce_sum((tf.gather(every, rows) - scores) * weights) / tf.reduce_sum(weights)

        return loss
