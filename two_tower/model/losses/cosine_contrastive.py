"""The cosine contrastive loss of SimpleX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from two_tower.contracts import LossBatch, LossContext
from two_tower.model.losses.sampling import Negatives, PopularShare, SampledLoss, mean_over, score, weighted_mean

if TYPE_CHECKING:
    import tensorflow as tf


class CosineContrastive(SampledLoss):
    """1 - cosine of the positive + negative_weight x mean over the negatives of max(0, cosine - margin).

    The negatives are the sampled and the mined ones of the query, less its known positives.  Negatives below the
    margin have no gradient.  Embeddings are normalised here whatever the model does, and the temperature is not used.

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", 2021.
    """

    type: Literal["cosine_contrastive"] = "cosine_contrastive"
    negatives: Negatives = 1024
    popular_share: PopularShare = 0.0
    margin: float = Field(0.5, ge=-1, lt=1, description="Negatives with a cosine below it are left alone.")
    negative_weight: float = Field(
        10.0, gt=0, le=1e9, description="Weight of the negatives' mean against the positive."
    )

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        draw = self.sampler(context)

        def directions(items: tf.Tensor) -> tf.Tensor:
            return tf.math.l2_normalize(context.candidates(items), axis=1)

        def loss(queries: tf.Tensor, batch: LossBatch) -> tf.Tensor:
            cosines = score(
                tf.math.l2_normalize(queries, axis=1),
                batch,
                draw(),
                candidates=directions,
                item_count=context.item_count,
            )
            negative = mean_over(tf.nn.relu(cosines.negative - self.margin), cosines.hidden)
            losses = 1 - cosines.positive + self.negative_weight * tf.gather(negative, batch.rows)
            return weighted_mean(losses, batch.weights)

        return loss
