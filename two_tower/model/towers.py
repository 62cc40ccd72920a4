"""The two towers, over encoded inputs.

The two-tower rule holds by construction: `QueryTower` is given the vectors of *past* items, never the candidate that
is scored, and the last interaction is a dot product outside of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from two_tower.config import Model, Tower
from two_tower.contracts import Float32
from two_tower.features import FittedFeature

MISSING, OOV, FIRST = 0, 1, 2
"""Encoded ids: none, unknown, and the first of the vocabulary, as in the features."""

Tensors = Mapping[str, tf.Tensor]


class Layers(tf.Module):  # type: ignore[misc]
    """A group of Keras layers whose weights have names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[str, Any] = {}

    def named_weights(self) -> dict[str, tf.Variable]:
        """The variables by `LAYER/NUMBER`."""
        return {
            f"{name}/{number}": variable
            for name, layer in sorted(self.layers.items())
            for number, variable in enumerate(layer.variables)
        }


class CandidateTower(Layers):
    """Items to embeddings: an item vector from id and features, residual hidden layers, L2 normalisation.

    The item vector (`vectors`) is what the query tower's history reads.  Without features and hidden layers it is the
    id's embedding alone, and the model is a matrix factorisation.
    """

    def __init__(self, model: Model, features: Mapping[str, FittedFeature], *, vocabulary_size: int) -> None:
        super().__init__()
        self.settings, self.model, self.features = model.candidate, model, features
        self.layers = feature_layers(features, dim=model.dim)
        if self.settings.use_id:
            self.layers["id"] = id_embedding(vocabulary_size, dim=model.dim)
        self.layers.update(hidden_layers(self.settings, dim=model.dim))

    def vectors(self, ids: tf.Tensor, features: Tensors, *, training: bool = False) -> tf.Tensor:
        """The item vectors `[n, dim]` of encoded ids int32 `[n]` and encoded features `[n, width]`.

        In training, `id_dropout` of the rows see the id of an unknown item, so that features carry new items
        (Volkovs et al., "DropoutNet: Addressing Cold Start in Recommender Systems", 2017).
        """
        vectors = combine_features(self.layers, self.features, features)
        if self.settings.use_id:
            ids = hide_ids(ids, share=self.settings.id_dropout) if training else ids
            vectors = self.layers["id"](ids) + vectors
        return vectors

    def embed(self, vectors: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The embeddings `[n, dim]` of item vectors `[n, dim]`."""
        vectors = apply_hidden(self.layers, self.settings, vectors, training=training)
        return tf.math.l2_normalize(vectors, axis=-1) if self.model.normalize else vectors


class QueryTower(Layers):
    """Queries to embeddings: the pooled history, user and context features and the user id, hidden layers, L2.

    A user or context feature is known here as `user.NAME` or `context.NAME`.
    """

    def __init__(
        self, model: Model, features: Mapping[str, FittedFeature], *, vocabulary_size: int, has_history: bool
    ) -> None:
        super().__init__()
        self.settings, self.model, self.features, self.has_history = model.query, model, features, has_history
        self.layers = feature_layers(features, dim=model.dim)
        if has_history:
            self.layers["history"] = Pool(model)
        if self.settings.use_id:
            self.layers["id"] = id_embedding(vocabulary_size, dim=model.dim)
        self.layers.update(hidden_layers(self.settings, dim=model.dim))

    def embed(
        self,
        history: tf.Tensor | None,
        mask: tf.Tensor | None,
        ids: tf.Tensor | None,
        features: Tensors,
        *,
        training: bool = False,
    ) -> tf.Tensor:
        """The embeddings `[batch, dim]`.

        Args:
            history: float32 `[batch, items, dim]` item vectors, oldest first; None without a history.
            mask: float32 `[batch, items]`, 1 where there is an item; None without a history.
            ids: int32 `[batch]` encoded user ids; None where the tower does not use them.
            features: Encoded `[batch, width]` by `user.NAME` and `context.NAME`.
            training: Whether dropout is on.
        """
        vector = combine_features(self.layers, self.features, features)
        if self.has_history:
            vector += self.layers["history"](history, mask)
        if self.settings.use_id:
            ids = hide_ids(ids, share=self.settings.id_dropout) if training else ids
            vector += self.layers["id"](ids)
        vector = apply_hidden(self.layers, self.settings, vector, training=training)
        return tf.math.l2_normalize(vector, axis=-1) if self.model.normalize else vector


class Pool(keras.layers.Layer):  # type: ignore[misc]
    """The decay-weighted mean of the history's item vectors through a linear map; an empty history is learned."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.decay = model.history_decay
        self.empty = self.add_weight(name="empty", shape=(model.dim,), initializer="zeros")
        self.kernel = self.add_weight(name="kernel", shape=(model.dim, model.dim), initializer="identity")

    def call(self, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """`[batch, dim]` from vectors `[batch, items, dim]`, oldest first, and a mask `[batch, items]`."""
        newer = tf.cumsum(mask, axis=1, exclusive=True, reverse=True)  # how many known items follow
        weights = mask * tf.pow(tf.constant(self.decay), newer)
        total = tf.reduce_sum(weights, axis=1, keepdims=True)
        pooled = tf.linalg.matvec(history, weights, transpose_a=True) / tf.maximum(total, 1e-9)
        return tf.where(total > 0, tf.matmul(pooled, self.kernel), self.empty)


def feature_layers(features: Mapping[str, FittedFeature], *, dim: int) -> dict[str, Any]:
    """A layer for each feature (`feature.NAME`), and `project`: all of them side by side to `dim`."""
    layers = {f"feature.{name}": feature.layer() for name, feature in features.items()}
    if features:
        layers["project"] = keras.layers.Dense(dim, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02))
    return layers


def combine_features(layers: Mapping[str, Any], features: Iterable[str], encoded: Tensors) -> tf.Tensor:
    """The features together as `[batch, dim]`; a zero where there are none."""
    parts = [tf.cast(layers[f"feature.{name}"](encoded[name]), tf.float32) for name in features]
    return layers["project"](tf.concat(parts, axis=-1)) if parts else tf.constant(0.0)


def id_embedding(vocabulary_size: int, *, dim: int) -> Any:
    """An embedding a known id, one for unknown ids and one for none."""
    initializer = keras.initializers.RandomNormal(stddev=0.025)
    return keras.layers.Embedding(vocabulary_size + FIRST, dim, embeddings_initializer=initializer)


def hidden_layers(tower: Tower, *, dim: int) -> dict[str, Any]:
    """The layers of a tower's hidden part: relu layers and one back to `dim`; none where `hidden` is empty."""
    if not tower.hidden:
        return {}
    layers = {f"hidden.{number}": keras.layers.Dense(width, "relu") for number, width in enumerate(tower.hidden)}
    return {**layers, "output": keras.layers.Dense(dim, kernel_initializer="zeros")}


def apply_hidden(layers: Mapping[str, Any], tower: Tower, vectors: tf.Tensor, *, training: bool) -> tf.Tensor:
    """`vectors` plus what the hidden layers make of them (a residual, so that training starts from the id's vector)."""
    if not tower.hidden:
        return vectors
    values = vectors
    for number in range(len(tower.hidden)):
        values = layers[f"hidden.{number}"](values)
        if training and tower.dropout:
            values = tf.nn.dropout(values, tower.dropout)
    return vectors + layers["output"](values)


def hide_ids(ids: tf.Tensor, *, share: float) -> tf.Tensor:
    """The ids with a random `share` of them replaced by the unknown id."""
    if not share:
        return ids
    return tf.where(tf.random.uniform(tf.shape(ids)) < share, OOV, ids)


def assign(weights: Mapping[str, tf.Variable], values: Mapping[str, Float32]) -> None:
    """Sets variables to values by name."""
    for name, variable in weights.items():
        variable.assign(values[name])


def read(weights: Mapping[str, tf.Variable]) -> dict[str, Float32]:
    """The variables' values by name."""
    return {name: np.array(variable.numpy()) for name, variable in weights.items()}
