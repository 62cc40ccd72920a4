"""The two towers, over encoded inputs.

The two-tower rule holds by construction: the history encoder is given the vectors of *past* items, never the candidate
that is scored, and the last interaction is a dot product outside of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from two_tower.config import ModelSettings, TowerSettings
from two_tower.contracts import Float32
from two_tower.features import FIRST, OOV, FittedFeature
from two_tower.model.encoders import history_encoder

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


class ItemEncoder(Layers):
    """Items to item vectors: the id's embedding plus a linear map of all features side by side."""

    def __init__(self, model: ModelSettings, features: Mapping[str, FittedFeature], *, vocabulary_size: int) -> None:
        super().__init__()
        self.settings, self.features = model.candidate, features
        self.layers = feature_layers(features, dim=model.dim)
        if self.settings.use_id:
            self.layers["id"] = id_embedding(vocabulary_size, dim=model.dim)

    def __call__(self, ids: tf.Tensor, features: Tensors, *, training: bool = False) -> tf.Tensor:
        """The item vectors `[n, dim]` of encoded ids int32 `[n]` and encoded features `[n, width]`.

        In training, `id_dropout` of the rows see the id of an unknown item, so that features carry new items
        (Volkovs et al., "DropoutNet: Addressing Cold Start in Recommender Systems", 2017).
        """
        vectors = combine_features(self.layers, self.features, features)
        if self.settings.use_id:
            ids = hide_ids(ids, share=self.settings.id_dropout) if training else ids
            vectors = self.layers["id"](ids) + vectors
        return vectors


class CandidateTowerLayers(Layers):
    """Item vectors to embeddings: cross and hidden layers, a linear map, L2 normalisation.

    Without features and layers an item's vector is its id's embedding, and a query tower of user ids alone makes the
    model a matrix factorisation.
    """

    def __init__(self, model: ModelSettings) -> None:
        super().__init__()
        self.settings, self.model = model.candidate, model
        self.layers = output_layers(self.settings, dim=model.dim)

    def embed(self, vectors: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The embeddings `[n, dim]` of item vectors `[n, dim]`."""
        vectors = apply_output(self.layers, self.settings, vectors, training=training)
        return embedding(vectors, self.model, bias=vectors[:, :1], training=training)


class QueryTowerLayers(Layers):
    """Queries to embeddings: the history's state, user and context features and the user id, and so on.

    A user or context feature is known here as `user.NAME` or `context.NAME`.
    """

    def __init__(
        self, model: ModelSettings, features: Mapping[str, FittedFeature], *, vocabulary_size: int, history_length: int
    ) -> None:
        super().__init__()
        self.settings, self.model, self.features = model.query, model, features
        self.layers = feature_layers(features, dim=model.dim)
        if history_length and model.history:
            self.layers["history"] = history_encoder(model.history, dim=model.dim, history_length=history_length)
        if self.settings.use_id:
            self.layers["id"] = id_embedding(vocabulary_size, dim=model.dim)
        self.layers.update(output_layers(self.settings, dim=model.dim))

    @property
    def encoder(self) -> Any:
        """The `HistoryEncoder`, None where the tower reads no history."""
        return self.layers.get("history")

    def embed(
        self, state: tf.Tensor | None, ids: tf.Tensor | None, features: Tensors, *, training: bool = False
    ) -> tf.Tensor:
        """The embeddings `[batch, dim]`.

        Args:
            state: float32 `[batch, dim]`, the encoder's state of the history; None without an encoder.
            ids: int32 `[batch]` encoded user ids; None where the tower does not use them.
            features: Encoded `[batch, width]` by `user.NAME` and `context.NAME`.
            training: Whether dropout is on.
        """
        vector = combine_features(self.layers, self.features, features)
        if self.encoder is not None:
            vector += state
        if self.settings.use_id:
            ids = hide_ids(ids, share=self.settings.id_dropout) if training else ids
            vector += self.layers["id"](ids)
        vector = apply_output(self.layers, self.settings, vector, training=training)
        return embedding(vector, self.model, bias=tf.ones_like(vector[:, :1]), training=training)


def feature_layers(features: Mapping[str, FittedFeature], *, dim: int) -> dict[str, Any]:
    """A layer for each feature (`feature.NAME`), and `project`: all of them side by side to `dim`."""
    layers = {f"feature.{name}": feature.layer() for name, feature in features.items()}
    if features:
        layers["project"] = keras.layers.Dense(dim, kernel_initializer=keras.initializers.RandomNormal(stddev=0.005))
    return layers


def combine_features(layers: Mapping[str, Any], features: Iterable[str], encoded: Tensors) -> tf.Tensor:
    """The features together as `[batch, dim]`; a zero where there are none."""
    parts = [tf.cast(layers[f"feature.{name}"](encoded[name]), tf.float32) for name in features]
    return layers["project"](tf.concat(parts, axis=-1)) if parts else tf.constant(0.0)


def id_embedding(vocabulary_size: int, *, dim: int) -> Any:
    """An embedding a known id, one for unknown ids and one for none."""
    initializer = keras.initializers.RandomNormal(stddev=0.025)
    return keras.layers.Embedding(vocabulary_size + FIRST, dim, embeddings_initializer=initializer)


def output_layers(tower: TowerSettings, *, dim: int) -> dict[str, Any]:
    """The layers from a tower's input vector to its output: cross and relu layers back to `dim`, and a linear map.

    All start as if they were not there: what cross and relu layers add is zero, the linear map is the identity.
    """
    layers = {f"cross.{number}": keras.layers.Dense(dim, kernel_initializer="zeros") for number in range(tower.cross)}
    layers |= {f"hidden.{number}": keras.layers.Dense(width, "relu") for number, width in enumerate(tower.hidden)}
    if tower.hidden:
        layers["residual"] = keras.layers.Dense(dim, kernel_initializer="zeros")
    if tower.linear:
        layers["output"] = keras.layers.Dense(dim, use_bias=False, kernel_initializer="identity")
    return layers


def apply_output(layers: Mapping[str, Any], tower: TowerSettings, vectors: tf.Tensor, *, training: bool) -> tf.Tensor:
    """`[n, dim]`: the linear map of `vectors`, crossed with themselves, plus what the relu layers make of them.

    A linear map of its own for each tower changes nothing that could be learned without it, but much in how fast:
    a direction that all items share is scaled by one weight, not by each item's own.  A cross layer adds
    x0 * (W x + b) to its input x (Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for
    Web-scale Learning to Rank Systems", 2021).
    """

    def drop(values: tf.Tensor) -> tf.Tensor:
        return tf.nn.dropout(values, tower.dropout) if training and tower.dropout else values

    if not tower.hidden:
        vectors = drop(vectors)
    base = vectors
    for number in range(tower.cross):
        vectors += base * layers[f"cross.{number}"](vectors)
    if tower.hidden:
        values = vectors
        for number in range(len(tower.hidden)):
            values = drop(layers[f"hidden.{number}"](values))
        vectors += layers["residual"](values)
    return layers["output"](vectors) if tower.linear else vectors


def embedding(vectors: tf.Tensor, model: ModelSettings, *, bias: tf.Tensor, training: bool) -> tf.Tensor:
    """The embeddings `[n, dim]` of a tower's output `[n, dim]`: normalised, if the model says so.

    With `item_bias` the first coordinate is `bias` `[n, 1]` and the others are normalised.  The dot product is then
    that of the others plus the candidate's bias (Koren et al., "Matrix Factorization Techniques for Recommender
    Systems", 2009), which a cosine alone has to express as a direction.  Outside of training, which sees dot products
    alone, the bias is spread over all coordinates.
    """
    direction = vectors[:, 1:] if model.item_bias else vectors
    if model.normalize:
        direction = tf.math.l2_normalize(direction, axis=-1)
    if not model.item_bias:
        return direction
    whole = tf.concat([bias, direction], axis=1)
    return whole if training else spread(whole)


def spread(vectors: tf.Tensor) -> tf.Tensor:
    """The vectors `[n, dim]` reflected so that the first axis becomes the diagonal.

    A reflection keeps dot products.  An index quantises a few coordinates at a time, each as finely as the others, and
    one coordinate far longer than they are costs it recall.
    """
    dim = int(vectors.shape[-1])
    mirror = tf.one_hot(0, dim) - dim**-0.5
    mirror = tf.math.l2_normalize(mirror)[:, None]
    return vectors - 2 * tf.matmul(tf.matmul(vectors, mirror), mirror, transpose_b=True)


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
