"""History encoders: item vectors, oldest first, to one state after each of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import tensorflow as tf
import tf_keras as keras

from two_tower.config import AnyHistory, Gru, MeanPool, Transformer

FAR = -1e9
"""What hides a position from attention."""
LITTLE = 0.02
"""The scale at which an encoder's own part begins, beside item vectors of about 0.3."""


class HistoryEncoder(keras.layers.Layer):  # type: ignore[misc]
    """Turns a history into states; state `i` knows the items up to and including the `i`-th, and none after it.

    So one pass over a user's sequence gives the query of every position in it.  An empty history has a learned state.
    Positions whose mask is 0 (padding at the end, unknown items anywhere) are seen by no state.
    """

    trains_on_sequences = True
    """Whether a user's queries are trained together, from the states of one pass over the sequence."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.empty = self.add_weight(name="empty", shape=(dim,), initializer="zeros")

    @abstractmethod
    def states(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The states float32 `[batch, items, dim]`.

        Args:
            history: float32 `[batch, items, dim]` item vectors, oldest first.
            mask: float32 `[batch, items]`, 1 where there is an item.
            training: Whether dropout is on.
        """

    def last(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The state `[batch, dim]` after the last item, from the same arguments as `states`."""
        positions = tf.range(1, tf.shape(mask)[1] + 1, dtype=tf.float32) * mask
        last = tf.cast(tf.reduce_max(tf.pad(positions, [[0, 0], [1, 0]]), axis=1), tf.int32) - 1
        rows = tf.range(tf.shape(mask)[0])
        return self.at(self.states(history, mask, training=training), tf.stack([rows, last], axis=1))

    def at(self, states: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """The states `[n, dim]` at places int32 `[n, 2]` (row, position); position -1 is the empty history."""
        empty = tf.tile(self.empty[None, None], [tf.shape(states)[0], 1, 1])
        return tf.gather_nd(tf.concat([empty, states], axis=1), places + tf.constant([0, 1]))


class MeanPoolEncoder(HistoryEncoder):
    """The decay-weighted mean of the item vectors so far."""

    trains_on_sequences = False  # every query has its whole history, which is as cheap here and longer

    def __init__(self, settings: MeanPool, *, dim: int) -> None:
        super().__init__(dim=dim)
        self.decay = settings.decay

    def states(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The mean at every position."""
        return decayed_means(history, mask, decay=self.decay)

    def last(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The mean over the whole history, without the states before it."""
        newer = tf.cumsum(mask, axis=1, exclusive=True, reverse=True)  # how many known items follow
        weights = mask * tf.pow(tf.constant(self.decay), newer)
        total = tf.reduce_sum(weights, axis=1, keepdims=True)
        pooled = tf.linalg.matvec(history, weights, transpose_a=True) / tf.maximum(total, 1e-9)
        return tf.where(total > 0, pooled, self.empty)


def decayed_means(history: tf.Tensor, mask: tf.Tensor, *, decay: float) -> tf.Tensor:
    """The decay-weighted mean `[batch, items, dim]` at every position: a triangle of weights `[items, items]` a row."""
    so_far = tf.cumsum(mask, axis=1)
    newer = so_far[:, :, None] - so_far[:, None, :]  # known items after item j, seen from position i
    weights = tf.where(newer >= 0, tf.pow(decay, tf.maximum(newer, 0.0)), 0.0) * mask[:, None, :]
    weights = tf.linalg.band_part(weights, -1, 0)
    total = tf.reduce_sum(weights, axis=2, keepdims=True)
    return tf.matmul(weights, history) / tf.maximum(total, 1e-9)


class GruEncoder(HistoryEncoder):
    """Gated recurrent units, added to the decayed mean; an item that is unknown leaves the state as it was.

    The sum begins as hardly more than the mean, which is in the items' own space: on Amazon Beauty a transformer
    alone needed many epochs to come near it, and stayed below.
    """

    def __init__(self, settings: Gru, *, dim: int) -> None:
        super().__init__(dim=dim)
        self.drop = keras.layers.Dropout(settings.dropout)
        self.units = [keras.layers.GRU(dim, return_sequences=True, reset_after=True) for _ in range(settings.layers)]
        self.out = keras.layers.Dense(dim, kernel_initializer=keras.initializers.RandomNormal(stddev=LITTLE))
        self.decay = settings.decay

    def states(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The last layer's states, mapped to the item vectors' space, and the means."""
        known = tf.pad(mask, [[0, 0], [0, 1]]) > 0  # a layer refuses histories of no length
        values = self.drop(tf.pad(history, [[0, 0], [0, 1], [0, 0]]), training=training)
        for unit in self.units:
            values = unit(values, mask=known)
        means = decayed_means(history, mask, decay=self.decay)
        return self.out(self.drop(values[:, :-1], training=training)) + means


class TransformerEncoder(HistoryEncoder):
    """Causal self-attention blocks, normalised before each part, over item vectors with learned positions.

    As with the GRU, what they give is added to the decayed mean.
    Positions count the known items so far, so that a left-out item does not move the others.
    """

    def __init__(self, settings: Transformer, *, dim: int, history_length: int) -> None:
        super().__init__(dim=dim)
        self.length = history_length
        self.positions = self.add_weight(
            name="positions", shape=(history_length, dim), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        self.drop = keras.layers.Dropout(settings.dropout)
        self.blocks = [Block(dim=dim, heads=settings.heads, dropout=settings.dropout) for _ in range(settings.layers)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, gamma_initializer=keras.initializers.Constant(LITTLE))
        self.decay = settings.decay

    def states(self, history: tf.Tensor, mask: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The last block's states, normalised, and the means."""
        length = tf.shape(history)[1]
        place = tf.clip_by_value(tf.cast(tf.cumsum(mask, axis=1), tf.int32) - 1, 0, self.length - 1)
        values = history + tf.gather(self.positions, place)
        values = self.drop(values, training=training)
        causal = tf.linalg.band_part(tf.ones([length, length]), -1, 0)
        hidden = (1.0 - causal[None] * mask[:, None, :])[:, None] * FAR  # [batch, 1, to, from]
        for block in self.blocks:
            values = block(values, hidden, training=training)
        return self.norm(values) + decayed_means(history, mask, decay=self.decay)


class Block(keras.layers.Layer):  # type: ignore[misc]
    """Self-attention and a feed-forward layer, each added to what goes in."""

    def __init__(self, *, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.width = heads, dim // heads
        self.before_attention = keras.layers.LayerNormalization(epsilon=1e-6)
        self.before_feed = keras.layers.LayerNormalization(epsilon=1e-6)
        self.projections = keras.layers.Dense(3 * dim)
        self.out = keras.layers.Dense(dim)
        self.feed = [keras.layers.Dense(4 * dim, tf.nn.gelu), keras.layers.Dense(dim)]
        self.drop = keras.layers.Dropout(dropout)

    def call(self, values: tf.Tensor, hidden: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """`[batch, items, dim]`; `hidden` `[batch, 1, items, items]` is very low where attention must not look."""
        values += self.drop(self.out(self._attend(self.before_attention(values), hidden, training)), training=training)
        inner = self.drop(self.feed[0](self.before_feed(values)), training=training)
        return values + self.drop(self.feed[1](inner), training=training)

    def _attend(self, values: tf.Tensor, hidden: tf.Tensor, training: bool) -> tf.Tensor:
        batch, length = tf.shape(values)[0], tf.shape(values)[1]
        parts = tf.reshape(self.projections(values), [batch, length, 3, self.heads, self.width])
        query, key, value = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))
        scores = tf.matmul(query, key, transpose_b=True) / self.width**0.5
        attention = self.drop(tf.nn.softmax(scores + hidden), training=training)
        return tf.reshape(tf.transpose(tf.matmul(attention, value), [0, 2, 1, 3]), [batch, length, -1])


def history_encoder(settings: AnyHistory, *, dim: int, history_length: int) -> Any:
    """The encoder of the configuration's `model.history`."""
    if isinstance(settings, Transformer):
        return TransformerEncoder(settings, dim=dim, history_length=history_length)
    return GruEncoder(settings, dim=dim) if isinstance(settings, Gru) else MeanPoolEncoder(settings, dim=dim)
