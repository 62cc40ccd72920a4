"""Softmax over sampled candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from two_tower.contracts import LossBatch, LossContext
from two_tower.model.losses.sampling import LogQ, SampledLoss, hide, score, weighted_mean

if TYPE_CHECKING:
    import tensorflow as tf


class SampledSoftmax(LogQ, SampledLoss):
    """Cross-entropy of the positive against sampled negatives that the whole batch shares.

    Q is an item's chance to be drawn at all (`SampledLoss`, `LogQ`).  Mined negatives stand beside the sample with
    their own scores: they were chosen, not drawn.  Known positives of a query are no negatives for it.

    Bengio and Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
    Model", 2008, and the papers of `SampledLoss` and `LogQ`.
    """

    type: Literal["sampled_softmax"] = "sampled_softmax"

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        draw = self.sampler(context)
        log_q = tf.constant(self.factor * self.log_chance(self.mixture(context)), tf.float32)

        def loss(queries: tf.Tensor, batch: LossBatch) -> tf.Tensor:
            negatives = draw()
            scores = score(queries, batch, negatives, candidates=context.candidates, item_count=context.item_count)
            correction = tf.pad(tf.gather(log_q, negatives), [[0, tf.shape(batch.mined)[1]]])
            negative = hide(scores.negative / context.temperature - correction, scores.hidden)
            rest = tf.gather(tf.reduce_logsumexp(negative, axis=1), batch.rows)
            positive = scores.positive / context.temperature
            if self.logq == "standard":
                positive -= tf.gather(log_q, batch.positives)
            # softplus(rest - positive) = log(exp(positive) + exp(rest)) - positive
            return weighted_mean(tf.math.softplus(rest - positive), batch.weights)

        return loss
