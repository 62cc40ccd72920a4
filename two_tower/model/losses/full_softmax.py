"""Softmax over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from two_tower.contracts import Loss, LossBatch, LossContext

if TYPE_CHECKING:
    import tensorflow as tf

BLOCK_SCORES = 2**23
"""About how many scores are in memory at a time (32 MB)."""
SMALLEST_BLOCK = 64
"""Queries: with fewer, adding up the candidates' gradients would take longer than the matrix products."""


class FullSoftmax(Loss):
    """Cross-entropy of the positive among all candidates: nothing is sampled, so nothing has to be corrected.

    Covington et al., "Deep Neural Networks for YouTube Recommendations", 2016, without the sampling.  A step costs
    time in proportion to queries x items, and memory in proportion to items: below about 50,000 items it is the best
    choice.
    """

    type: Literal["full_softmax"] = "full_softmax"
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the matrix products: bfloat16 is faster where the processor has instructions for it (AMX, "
        "AVX512-BF16), and rounds scores to 8 significant bits.",
    )

    def build(self, context: LossContext) -> Any:
        """The loss: a mean over the batch, weighted."""
        import tensorflow as tf

        def loss(queries: tf.Tensor, batch: LossBatch) -> tf.Tensor:
            candidates = context.candidates(tf.range(context.item_count))
            return cross_entropy(
                queries / context.temperature,
                candidates,
                batch,
                item_count=context.item_count,
                dtype=tf.as_dtype(self.precision),
            )

        return loss


def cross_entropy(
    queries: tf.Tensor, candidates: tf.Tensor, batch: LossBatch, *, item_count: int, dtype: tf.DType
) -> tf.Tensor:
    """Weighted mean cross-entropy of the positives among all candidates, a scalar.

    The gradients are computed on the way forward, one block of queries at a time, so that no `[n, items]` matrix is
    kept: of a block's probabilities P they are P C and P^T Q, and the upstream gradient of a scalar only scales them.
    """
    import tensorflow as tf

    rows, positives = batch.rows, batch.positives
    share = batch.weights / tf.reduce_sum(batch.weights)
    size = max(BLOCK_SCORES // item_count, SMALLEST_BLOCK)

    def loss(queries: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, Any]:
        n = tf.shape(queries)[0]
        query_share = tf.math.unsorted_segment_sum(share, rows, n)[:, None]  # a query is scored once for all its rows
        table = tf.cast(candidates, dtype)

        def block(start: tf.Tensor, total: tf.Tensor, by_query: Any, by_candidate: tf.Tensor) -> tuple[Any, ...]:
            some, weight = queries[start : start + size], query_share[start : start + size]
            scores = tf.cast(tf.matmul(tf.cast(some, dtype), table, transpose_b=True), tf.float32)
            top = tf.reduce_max(scores, axis=1, keepdims=True)
            powers = tf.exp(scores - top)
            sums = tf.reduce_sum(powers, axis=1, keepdims=True)
            scale, powers = weight / sums, tf.cast(powers, dtype)
            to_queries = tf.cast(tf.matmul(powers, table), tf.float32) * scale
            to_candidates = tf.matmul(powers, tf.cast(some * scale, dtype), transpose_a=True)
            return (
                start + size,
                total + tf.reduce_sum(weight * (top + tf.math.log(sums))),
                by_query.write(start // size, to_queries),
                by_candidate + tf.cast(to_candidates, tf.float32),
            )

        blocks = tf.TensorArray(tf.float32, -(-n // size), element_shape=[None, queries.shape[1]], infer_shape=False)
        _, total, by_query, by_candidate = tf.while_loop(
            lambda start, *_: start < n,
            block,
            (0, 0.0, blocks, tf.zeros_like(candidates)),
            parallel_iterations=1,
        )
        positive, asker, part = tf.gather(candidates, positives), tf.gather(queries, rows), share[:, None]
        value = total - tf.reduce_sum(part * asker * positive)
        to_queries = by_query.concat() - tf.math.unsorted_segment_sum(part * positive, rows, n)
        to_candidates = tf.tensor_scatter_nd_sub(by_candidate, positives[:, None], part * asker)
        return value, lambda upstream: (upstream * to_queries, upstream * to_candidates)

    result: tf.Tensor = tf.custom_gradient(loss)(queries, candidates)
    return result
