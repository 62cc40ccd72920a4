"""Bayesian personalised ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from two_tower.contracts import LossBatch, LossContext
from two_tower.model.losses.sampling import Negatives, PopularShare, SampledLoss, mean_over, score, weighted_mean

if TYPE_CHECKING:
    import tensorflow as tf


class BprLoss(SampledLoss):
    """-log sigmoid(positive - negative), averaged over the sampled and the mined negatives of the query.

    Scores are divided by the temperature.  Known positives of a query are no negatives for it.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", 2009 (with one uniform negative).
    """

    type: Literal["bpr"] = "bpr"
    negatives: Negatives = 512
    popular_share: PopularShare = 0.0

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        draw = self.sampler(context)

        def loss(queries: tf.Tensor, batch: LossBatch) -> tf.Tensor:
            scores = score(queries, batch, draw(), candidates=context.candidates, item_count=context.item_count)
            gaps = (tf.gather(scores.negative, batch.rows) - scores.positive[:, None]) / context.temperature
            losses = mean_over(tf.math.softplus(gaps), tf.gather(scores.hidden, batch.rows))
            return weighted_mean(losses, batch.weights)

        return loss
