"""Both towers of one prepared data set, with what they need to read it: built to be trained, or from stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from two_tower.artifacts import ArtifactReader, Place, open_artifact
from two_tower.config import MeanPool, ModelSettings
from two_tower.contracts import Float32, Int32, Int64
from two_tower.errors import ArtifactError, TrainingError
from two_tower.features import FIRST, OOV, FittedFeature, load_features
from two_tower.model.towers import CandidateTowerLayers, ItemEncoder, QueryTowerLayers

KIND = "trained_towers"
BEFORE_REFIT = "before_refit"
"""The folder of the weights that the refit started over from, in the artefact of a training that was refitted."""
POPULARITY = 0.3
"""How far the start leans on popularity: about half of a normalised embedding's length."""


@dataclass(frozen=True)
class Network:
    """The candidate and the query tower, their fitted features and their id vocabularies."""

    model: ModelSettings
    item_features: dict[str, FittedFeature]
    query_features: dict[str, FittedFeature]
    """By `user.NAME` and `context.NAME`."""
    item_ids: list[str]
    """The items with an embedding of their own; the first has the encoded id 2."""
    user_ids: list[str]
    """The users with an embedding of their own."""
    history_length: int
    """How many items a query carries; 0 without a history."""
    items: ItemEncoder = field(init=False)
    """What makes the candidates' item vectors."""
    past_items: ItemEncoder = field(init=False)
    """What makes the history's item vectors: the same, or one of its own (`model.shared_items`)."""
    candidate: CandidateTowerLayers = field(init=False)
    query: QueryTowerLayers = field(init=False)

    def __post_init__(self) -> None:
        if not self.model.candidate.use_id and not self.item_features:
            raise TrainingError("model.candidate: without `use_id` the candidate tower needs an item feature")
        if not (self.reads_history or self.query_features or self.model.query.use_id):
            raise TrainingError("model.query: the query tower has no input; give it a history, a feature or `use_id`")
        items = ItemEncoder(self.model, self.item_features, vocabulary_size=len(self.item_ids))
        shared = self.model.shared_items or not self.reads_history
        past = items if shared else ItemEncoder(self.model, self.item_features, vocabulary_size=len(self.item_ids))
        query = QueryTowerLayers(
            self.model,
            self.query_features,
            vocabulary_size=len(self.user_ids),
            history_length=self.history_length,
        )
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "past_items", past)
        object.__setattr__(self, "candidate", CandidateTowerLayers(self.model))
        object.__setattr__(self, "query", query)
        self._build()

    @property
    def reads_history(self) -> bool:
        """Whether queries have a history and the query tower reads it."""
        return bool(self.history_length) and self.model.history is not None

    def _build(self) -> None:
        """Makes the variables, by passing one missing item and one empty query through the towers."""
        nothing = {name: null_row(feature) for name, feature in self.item_features.items()}
        vectors = tf.reshape(self.items(tf.zeros([1], tf.int32), nothing), [1, -1])
        self.candidate.embed(vectors)
        state = None
        if self.reads_history:
            past = tf.reshape(self.past_items(tf.zeros([1], tf.int32), nothing), [1, 1, -1])
            state = self.query.encoder.last(past, tf.zeros([1, 1]))
        missing = {name: null_row(feature) for name, feature in self.query_features.items()}
        self.query.embed(state, tf.zeros([1], tf.int32), missing)

    def weights(self) -> dict[str, tf.Variable]:
        """Every variable by name, such as `items/id/0`."""
        towers = {"items": self.items, "candidate": self.candidate, "query": self.query}
        if self.past_items is not self.items:
            towers["past_items"] = self.past_items
        return {
            f"{name}/{key}": value for name, tower in towers.items() for key, value in tower.named_weights().items()
        }

    def features_json(self) -> dict[str, Any]:
        """The content of features.json."""
        parts: dict[str, Any] = {"item": self.item_features, "user": {}, "context": {}}
        for name, feature in self.query_features.items():
            part, _, short = name.partition(".")
            parts[part][short] = feature
        return {part: {name: value.to_json() for name, value in found.items()} for part, found in parts.items()}

    def vocabulary(self) -> pa.Table:
        """The content of vocabulary.parquet: `item_id` and `user_id`, the shorter one padded with nulls."""
        length = max(len(self.item_ids), len(self.user_ids))

        def padded(ids: list[str]) -> pa.Array:
            return pa.array([*ids, *[None] * (length - len(ids))], pa.string())

        return pa.table({"item_id": padded(self.item_ids), "user_id": padded(self.user_ids)})


def start_from_popularity(network: Network, counts: Int64) -> None:
    """Sets the untrained towers so that every query ranks by popularity, roughly.

    Most items are rare: without this, the first epochs go by with pushing each of them down.  Where items have a bias,
    that starts at the log of their count.  Otherwise the first coordinate of an item's id embedding does, and the
    query's at a positive value; a GRU's or a transformer's states cannot be set so, and learn it.

    Args:
        network: The towers.
        counts: int64 `[known items]`, how often each item of the id vocabulary occurs in training.
    """
    model, layers = network.model, network.query.layers
    logs = np.log1p(counts)
    centred = (logs - logs.mean()) * model.temperature
    if model.item_bias:
        _lean_items(network, centred, unknown=centred.min())  # a new item is no more popular than the rarest
        return
    if network.reads_history and not isinstance(model.history, MeanPool):
        return
    _lean_items(network, POPULARITY * (2 * logs / logs.max() - 1) if model.normalize else centred, unknown=0.0)
    first = tf.one_hot(0, model.dim)
    if model.normalize and model.query.linear:
        layers["output"].kernel.assign(tf.linalg.diag(1 - (1 - POPULARITY) * first))  # a history leans on it by itself
    if network.reads_history:
        layers["history"].empty.assign(first)
    elif model.query.use_id:
        _lean(layers["id"], 1.0)
    elif "project" in layers:
        layers["project"].bias.assign(first)


def _lean_items(network: Network, known: np.ndarray[Any, np.dtype[np.float64]], *, unknown: float) -> None:
    """Sets the first coordinate of the items' id embeddings, where they have some."""
    if network.model.candidate.use_id:
        for items in (network.items, network.past_items):
            _lean(items.layers["id"], np.concatenate([np.full(FIRST, unknown), known]))


def _lean(embedding: Any, values: Any) -> None:
    """Sets the first coordinate of an embedding's rows."""
    (table,) = embedding.variables
    rows = table.numpy()
    rows[:, 0] = values
    table.assign(rows)


def query_features(content: Mapping[str, Any]) -> dict[str, FittedFeature]:
    """The user and the context features of features.json, by `user.NAME` and `context.NAME`."""
    return {
        f"{part}.{name}": FittedFeature(name=f"{part}_{name}", settings=feature.settings, statistics=feature.statistics)
        for part in ("user", "context")
        for name, feature in load_features(content[part]).items()
    }


def encoded_ids(trained: np.ndarray[Any, np.dtype[np.bool_]]) -> Int32:
    """Encoded ids: 2 and up for the items or users that training saw, in their order, unknown (1) for the others."""
    return np.where(trained, np.cumsum(trained) - 1 + FIRST, OOV).astype(np.int32)


def null_row(feature: FittedFeature) -> Int32 | Float32:
    """A missing value, encoded `[1, width]`."""
    dtype, shape = feature.raw_spec()
    kind = pa.null() if len(shape) == 1 else pa.list_(pa.string() if dtype == "string" else pa.float32())
    return feature.encode(feature.settings.cast(pa.chunked_array([pa.nulls(1, kind)])))


def load_network(trained: Place, *, before_refit: bool = False) -> tuple[Network, ArtifactReader]:
    """The network with the weights of the `trained_towers` artefact at a path, and the artefact.

    Args:
        trained: The artefact's folder.
        before_refit: Whether the weights are those of the epoch that validation chose, which the artefact of a
            training with `refit` holds as well.

    Raises:
        ArtifactError: It is no complete artefact, or its weights do not fit its settings.
    """
    reader = open_artifact(trained, KIND)
    folder = f"{BEFORE_REFIT}/" if before_refit else ""
    content, vocabulary = reader.json("features.json"), reader.table(f"{folder}vocabulary.parquet")
    network = Network(
        model=ModelSettings.model_validate(reader.manifest.config["model"]),
        item_features=load_features(content["item"]),
        query_features=query_features(content),
        item_ids=vocabulary["item_id"].drop_null().to_pylist(),
        user_ids=vocabulary["user_id"].drop_null().to_pylist(),
        history_length=reader.manifest.extra["history_length"],
    )
    variables = network.weights()
    with np.load(reader.path(f"{folder}towers.npz")) as stored:
        if set(stored.files) != set(variables):
            names = ", ".join(sorted(set(stored.files) ^ set(variables)))
            raise ArtifactError(
                f"{reader.folder / folder / 'towers.npz'}: the weights do not fit the settings: {names}"
            )
        for name, variable in variables.items():
            variable.assign(stored[name])
    return network, reader
