"""Softmax over the batch's own positives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from two_tower.contracts import Loss, LossContext

if TYPE_CHECKING:
    import tensorflow as tf


class InBatch(Loss):
    """In-batch softmax: the other queries' positives are the negatives, corrected for their popularity (logQ).

    `tfrs.tasks.Retrieval` computes the scores, subtracts log Q and removes accidental hits (the same item, and the
    other positives of the same query).  The positive itself was not sampled, so its own score is left as it is: the
    negatives estimate the rest of the softmax's sum, exp(s_j) / ((batch - 1) Q_j) each.

    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", 2019; Khrylchenko et
    al., "Correcting the LogQ Correction: Revisiting Sampled Softmax for Large-Scale Retrieval", 2025.
    """

    type: Literal["in_batch"] = "in_batch"

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf
        import tensorflow_recommenders as tfrs

        probability = tf.constant(context.sampling_probability)

        def loss(queries: tf.Tensor, rows: tf.Tensor, positives: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            sampled = tf.clip_by_value(tf.gather(probability, positives), 1e-6, 1.0)  # as TFRS clips it
            others = tf.maximum(tf.cast(tf.shape(positives)[0] - 1, tf.float32), 1.0)

            def cross_entropy(y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
                scores = y_pred + y_true * tf.math.log(sampled) - (1 - y_true) * tf.math.log(others)
                losses = tf.nn.softmax_cross_entropy_with_logits(y_true, scores)
                return tf.reduce_sum(losses * sample_weight) / tf.reduce_sum(sample_weight)

            task = tfrs.tasks.Retrieval(
                loss=cross_entropy, temperature=context.temperature, remove_accidental_hits=True
            )
            same_query = tf.equal(rows[:, None], rows[None, :])
            own = tf.eye(tf.shape(rows)[0], dtype=tf.bool)
            return task(
                tf.gather(queries, rows),
                context.candidates(positives),
                sample_weight=weights,
                candidate_sampling_probability=sampled,
                candidate_ids=positives,
                score_mask=~same_query | own,
                compute_metrics=False,
            )

        return loss
