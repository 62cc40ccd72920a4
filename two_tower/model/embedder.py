"""The towers over encoded inputs: what training differentiates, and what is embedded on the way, in blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from two_tower.contracts import Float32, Int32
from two_tower.model.examples import Encoded
from two_tower.model.network import Network

QUERY_BLOCK = 512
ITEM_BLOCK = 65536


class Embedder:
    """A network and the encoded candidate table that its item numbers mean."""

    def __init__(self, network: Network, item_ids: Int32, item_features: Encoded) -> None:
        """The network with `item_ids` `[items]` and `item_features` `[items, width]`, as `TrainingData` has them."""
        self.network = network
        self._item_ids = tf.constant(item_ids)
        self._item_features = {name: tf.constant(values) for name, values in item_features.items()}
        self._some_candidates = tf.function(lambda numbers: self.candidates(numbers, training=False))
        self.embed_batch = tf.function(self.queries, reduce_retracing=True)
        """`queries` as a graph, outside of training."""

    def candidates(self, numbers: tf.Tensor, *, training: bool) -> tf.Tensor:
        """The embeddings float32 `[n, dim]` of candidates by number."""
        vectors = self.network.items(*self._encoded_items(numbers), training=training)
        return self.network.candidate.embed(vectors, training=training)

    def queries(
        self,
        history: tf.Tensor,
        places: tf.Tensor | None,
        ids: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool = False,
    ) -> tf.Tensor:
        """The embeddings float32 `[queries, dim]`; the arguments are those of a `Batch`, the ids encoded."""
        query = self.network.query
        if query.encoder is None:
            return query.embed(None, ids, features, training=training)
        mask = tf.cast(history >= 0, tf.float32)
        distinct, at = tf.unique(tf.reshape(tf.maximum(history, 0), [-1]))  # an item's vector is made once
        made = self.network.past_items(*self._encoded_items(distinct), training=training)
        vectors = tf.gather(made, tf.reshape(at, tf.shape(history)))
        if places is None:
            state = query.encoder.last(vectors, mask, training=training)
        else:
            state = query.encoder.at(query.encoder.states(vectors, mask, training=training), places)
        return query.embed(state, ids, features, training=training)

    def embed_candidates(self) -> Float32:
        """The embeddings `[items, dim]` of all candidates."""
        blocks = _blocks(len(self._item_ids), ITEM_BLOCK)
        return np.concatenate([self._some_candidates(tf.range(i, j)).numpy() for i, j in blocks])

    def embed_queries(self, history: Int32, ids: Int32, features: Encoded) -> Float32:
        """The embeddings `[queries, dim]` of queries that have a history each.

        Args:
            history: `[queries, items]` item numbers, oldest first, padded with -1 at the end.
            ids: `[queries]` encoded user ids.
            features: `[queries, width]` by `user.NAME` and `context.NAME`.
        """
        embedded = []
        for i, j in _blocks(len(ids), QUERY_BLOCK):
            some = {name: tf.constant(values[i:j]) for name, values in features.items()}
            embedded.append(self.embed_batch(tf.constant(history[i:j]), None, tf.constant(ids[i:j]), some).numpy())
        return np.concatenate(embedded)

    def _encoded_items(self, numbers: tf.Tensor) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        features = {name: tf.gather(values, numbers) for name, values in self._item_features.items()}
        return tf.gather(self._item_ids, numbers), features


def _blocks(total: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]
