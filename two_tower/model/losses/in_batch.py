"""Softmax over the batch's own positives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from two_tower.contracts import Loss, LossBatch, LossContext
from two_tower.model.losses.sampling import LogQ, embed, hide, known_among, no_mined_negative, weighted_mean

if TYPE_CHECKING:
    import tensorflow as tf


class InBatch(LogQ, Loss):
    """Cross-entropy of the positive against the other queries' positives.

    `tfrs.tasks.Retrieval` computes the scores, subtracts log Q, removes accidental hits (the same item, and all known
    positives of the query) and keeps the hardest negatives.  Q is the item's share of the training positives times the
    number of negatives (`LogQ`).  A memory adds the candidates of earlier batches as they were embedded then; mined
    negatives are added with their own scores.

    Wang et al., "Cross-Batch Memory for Embedding Learning", 2020; Wang et al., "Cross-Batch Negative Sampling for
    Training Two-Tower Recommenders", 2021; and the papers of `LogQ`.
    """

    type: Literal["in_batch"] = "in_batch"
    hard_negatives: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Only so many negatives of the batch, those with the highest scores; all if not given.",
    )
    memory: int = Field(0, ge=0, le=10_000_000, description="How many candidates of earlier batches are negatives too.")

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf
        import tensorflow_recommenders as tfrs

        # TFRS clips Q at 1e-6: shares are given relative to the largest, so that fewer items are affected.
        largest = float(context.sampling_probability.max())
        relative = (context.sampling_probability.astype(np.float64) / largest) ** self.factor
        relative_q = tf.constant(np.clip(relative, 1e-6, 1.0), tf.float32)
        memory = Memory(self.memory, context) if self.memory else None

        def loss(queries: tf.Tensor, batch: LossBatch) -> tf.Tensor:
            vectors, mined = embed(context.candidates, batch.positives, tf.maximum(batch.mined, 0))
            items, empty = batch.positives, tf.zeros_like(batch.positives, tf.bool)
            candidates = vectors
            if memory:
                remembered, old = memory.recall()
                items = tf.concat([items, tf.maximum(remembered, 0)], axis=0)
                empty = tf.concat([empty, remembered < 0], axis=0)
                candidates = tf.concat([vectors, old], axis=0)
            others = tf.maximum(tf.reduce_sum(tf.cast(~empty, tf.float32)) - 1, 1.0)
            shift = self.factor * (tf.math.log(others) + np.log(largest))
            extra = hide(
                tf.einsum("nd,nhd->nh", queries, mined) / context.temperature,
                no_mined_negative(batch, item_count=context.item_count),
            )

            def cross_entropy(y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
                if self.logq == "positive_aware":  # TFRS corrects the positive too: take that back
                    own = tf.math.log(tf.gather(relative_q, batch.positives))[:, None]
                    scores = y_pred + tf.where(y_true > 0, own, -shift)
                else:
                    scores = y_pred - shift
                scores = tf.concat([scores, tf.gather(extra, batch.rows)], axis=1)
                labels = tf.pad(y_true, [[0, 0], [0, tf.shape(extra)[1]]])
                return weighted_mean(tf.nn.softmax_cross_entropy_with_logits(labels, scores), sample_weight)

            task = tfrs.tasks.Retrieval(
                loss=cross_entropy,
                temperature=tf.convert_to_tensor(context.temperature),
                num_hard_negatives=self.hard_negatives,
                remove_accidental_hits=True,
            )
            distinct, places = tf.unique(items)
            known = known_among(distinct, batch, queries=tf.shape(queries)[0], item_count=context.item_count)
            hidden = tf.gather(tf.gather(known, places, axis=1) | empty, batch.rows)
            result = task(
                tf.gather(queries, batch.rows),
                candidates,
                sample_weight=batch.weights,
                candidate_sampling_probability=tf.gather(relative_q, items),
                candidate_ids=items,
                score_mask=~hidden | tf.eye(tf.size(batch.positives), tf.size(items), dtype=tf.bool),
                compute_metrics=False,
            )
            if memory:
                memory.store(batch.positives, vectors)
            return result

        return loss


class Memory:
    """The last candidates of earlier batches, newest first; -1 where there is none yet."""

    def __init__(self, size: int, context: LossContext) -> None:
        import tensorflow as tf

        traced = tf.function(context.candidates).get_concrete_function(tf.TensorSpec([None], tf.int32))
        self.items = tf.Variable(tf.fill([size], -1), trainable=False)
        self.vectors = tf.Variable(tf.zeros([size, traced.structured_outputs.shape[-1]]), trainable=False)

    def recall(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Item numbers int32 `[size]` and embeddings float32 `[size, dim]`, without a gradient."""
        import tensorflow as tf

        return self.items.read_value(), tf.stop_gradient(self.vectors.read_value())

    def store(self, items: tf.Tensor, vectors: tf.Tensor) -> None:
        """Puts a batch's candidates in the place of the oldest."""
        import tensorflow as tf

        size = self.items.shape[0]
        self.items.assign(tf.concat([items, self.items], axis=0)[:size])
        self.vectors.assign(tf.concat([tf.stop_gradient(vectors), self.vectors], axis=0)[:size])
