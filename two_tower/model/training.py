"""The training loop: prepared data in, trained towers out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tf_keras as keras

from two_tower.artifacts import ArtifactReader, content_hash, open_artifact, write_artifact
from two_tower.config import Model, Training
from two_tower.contracts import Float32, Int32, LossContext
from two_tower.errors import TrainingError
from two_tower.features import MISSING, load_features
from two_tower.model.examples import Batch, Encoded, Examples, load_examples, padded_lists
from two_tower.model.network import (
    KIND,
    Network,
    encoded_ids,
    null_row,
    query_features,
    start_from_popularity,
)
from two_tower.model.recall import exact_recall
from two_tower.model.towers import assign, read
from two_tower.progress import Progress, human_seconds

log = logging.getLogger("two_tower")

QUERY_BLOCK = 512
ITEM_BLOCK = 65536


def train(prepared: str, out: str, *, model: Model, training: Training) -> None:
    """Trains the towers on the prepared data at `prepared` and writes the `trained_towers` artefact to `out`.

    The weights are those of the epoch with the best validation Recall@`monitor_k`.

    Raises:
        TrainingError: There is nothing to train on, or the loss is not finite.
        ArtifactError: `prepared` is no complete prepared data.
    """
    reader = open_artifact(prepared, "prepared_data")
    keras.utils.set_random_seed(training.seed)
    data = TrainingData.load(reader, model=model, training=training)
    trainer = Trainer(data, training)
    trainer.fit()
    with write_artifact(
        out,
        KIND,
        config={"model": model.model_dump(mode="json"), "training": training.model_dump(mode="json")},
        data_seen_until=reader.manifest.data_seen_until,
        made_from={"prepared_data": content_hash(prepared)},
        extra={"history_length": data.network.history_length},
    ) as writer:
        np.savez(writer.path("towers.npz"), allow_pickle=False, **trainer.best)
        writer.write_json("features.json", data.network.features_json())
        writer.write_table("vocabulary.parquet", data.network.vocabulary())
        writer.write_json("history.json", trainer.history.to_json(monitor=f"recall@{training.monitor_k}"))


@dataclass(frozen=True)
class Queries:
    """Encoded queries, for validation."""

    history: Int32
    """`[queries, items]` item numbers, oldest first, padded with -1 at the end."""
    ids: Int32
    """`[queries]` encoded user ids."""
    features: Encoded
    """`[queries, width]` by `user.NAME` and `context.NAME`."""
    relevant: list[Int32]
    """The relevant item numbers of each query."""


@dataclass(frozen=True)
class TrainingData:
    """Everything that training reads, encoded once."""

    network: Network
    examples: Examples
    item_ids: Int32
    """`[items]` encoded ids; unknown for an item that training never sees, as for one that comes later."""
    item_features: Encoded
    user_ids: Int32
    """`[users + 1]` encoded ids; the last is the missing user."""
    user_features: Encoded
    """`[users + 1, width]` by `user.NAME`; the last row is the missing user."""
    validation: Queries
    sampling_probability: Float32
    """`[items]`: share of the training positives."""

    @classmethod
    def load(cls, reader: ArtifactReader, *, model: Model, training: Training) -> TrainingData:
        """The training data of the prepared data."""
        content = reader.json("features.json")
        features = query_features(content)
        context = {
            name.removeprefix("context."): value for name, value in features.items() if name.startswith("context.")
        }
        user = {name: value for name, value in features.items() if name.startswith("user.")}
        history_length = int(reader.manifest.config["query"]["history_length"])
        items, users = reader.table("items.parquet"), reader.table("users.parquet")
        examples = load_examples(
            reader,
            context,
            shape=reader.manifest.config["examples"]["shape"],
            history_length=history_length,
        )
        _, events = examples.positives()
        counts = np.bincount(examples.items[events], minlength=items.num_rows)
        seen_items = (counts > 0) | (np.bincount(examples.shown, minlength=items.num_rows) > 0)
        seen_users = np.bincount(examples.user[examples.user >= 0], minlength=users.num_rows) > 0
        positives = np.bincount(examples.items[events], weights=examples.weights[events], minlength=items.num_rows)
        item_features = load_features(content["item"])
        network = Network(
            model=model,
            item_features=item_features,
            query_features=features,
            item_ids=items["item_id"].filter(pa.array(seen_items)).to_pylist(),
            user_ids=users["user_id"].filter(pa.array(seen_users)).to_pylist() if model.query.use_id else [],
            history_length=history_length if users.num_rows else 0,
        )
        start_from_popularity(network, counts[seen_items])
        return cls(
            network=network,
            examples=examples,
            item_ids=encoded_ids(seen_items),
            item_features={name: value.encode(items[f"feature.{name}"]) for name, value in item_features.items()},
            user_ids=np.append(encoded_ids(seen_users), np.int32(MISSING)),
            user_features={
                name: np.concatenate([value.encode(users[name.replace("user.", "feature.", 1)]), null_row(value)])
                for name, value in user.items()
            },
            validation=load_queries(reader, network, encoded_ids(seen_users)),
            sampling_probability=(positives / positives.sum()).astype(np.float32),
        )


def load_queries(reader: ArtifactReader, network: Network, user_ids: Int32) -> Queries:
    """The validation queries, encoded; `user_ids` are the encoded ids by user number."""
    table = reader.table("validation")
    users = np.asarray(table["user"], dtype=np.int64)
    relevant = table["relevant"].combine_chunks()
    return Queries(
        history=padded_lists(table["history"], length=network.history_length),
        ids=np.append(user_ids, np.int32(MISSING))[users],
        features={name: feature.encode(table[name]) for name, feature in network.query_features.items()},
        relevant=np.split(relevant.flatten().to_numpy(), np.cumsum(relevant.value_lengths().to_numpy())[:-1]),
    )


@dataclass
class History:
    """What history.json says of the training."""

    epoch: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_recall: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0

    def to_json(self, *, monitor: str) -> dict[str, Any]:
        """The content of history.json."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            "validation_recall": self.validation_recall,
            "seconds": self.seconds,
            "monitor": monitor,
            "best_epoch": self.best_epoch,
            "steps": {"step": self.step, "loss": self.step_loss},
        }


class Trainer:
    """Trains a network epoch by epoch and keeps the weights of the best."""

    def __init__(self, data: TrainingData, training: Training) -> None:
        self.data, self.training, self.network = data, training, data.network
        self.history = History()
        self.best: dict[str, Float32] = {}
        self._item_ids = tf.constant(data.item_ids)
        self._item_features = {name: tf.constant(values) for name, values in data.item_features.items()}
        self._rng = np.random.default_rng(training.seed)
        steps = training.epochs * data.examples.batch_count(training.batch_size)
        falling = keras.optimizers.schedules.CosineDecay(training.learning_rate, steps, alpha=0.01)
        self._optimizer = keras.optimizers.Adam(falling)
        self._variables = list(self.network.weights().values())
        self._optimizer.build(self._variables)
        self._loss = training.loss.build(
            LossContext(
                candidates=lambda numbers: self._candidates(numbers, training=True),
                item_count=len(data.item_ids),
                sampling_probability=data.sampling_probability,
                temperature=self.network.model.temperature,
                seed=training.seed,
            )
        )
        self._step = tf.function(self._update, reduce_retracing=True)
        self._vectors = tf.function(self._item_vectors)
        self._embed_items = tf.function(lambda vectors: self.network.candidate.embed(vectors))
        self._embed_queries = tf.function(self._query_embeddings, reduce_retracing=True)

    def fit(self) -> None:
        """Trains until `epochs` are done or `patience` epochs have brought nothing better.

        Raises:
            TrainingError: The loss is not finite.
        """
        best, without_gain = -1.0, 0
        for epoch in range(1, self.training.epochs + 1):
            started = time.monotonic()
            loss = self._epoch(epoch)
            recall = self.validate()
            self.history.epoch.append(epoch)
            self.history.loss.append(loss)
            self.history.validation_recall.append(recall)
            self.history.seconds.append(round(time.monotonic() - started, 2))
            log.info(
                "train: epoch %d of %d, loss %.4f, validation recall@%d %s, %s",
                epoch, self.training.epochs, loss, self.training.monitor_k,
                "-" if recall is None else f"{recall:.4f}", human_seconds(time.monotonic() - started),
            )  # fmt: skip
            if recall is None or recall > best:  # without validation queries the last epoch is kept
                best, without_gain = recall or 0.0, 0
                self.history.best_epoch = epoch
                self.best = read(self.network.weights())
            else:
                without_gain += 1
            if without_gain >= self.training.patience:
                log.info("train: no better recall in %d epochs, stopping", without_gain)
                break
        assign(self.network.weights(), self.best)

    def validate(self) -> float | None:
        """Mean Recall@`monitor_k` of the validation queries by exact search; None where there are none."""
        queries = self.data.validation
        if not queries.relevant:
            return None
        blocks = [
            self._embed_queries(*self._tensors(queries.history[i:j], queries.ids[i:j], _rows(queries.features, i, j)))
            for i, j in _blocks(len(queries.relevant), QUERY_BLOCK)
        ]
        return exact_recall(
            np.concatenate(blocks), self.candidate_embeddings(), queries.relevant, k=self.training.monitor_k
        )

    def candidate_embeddings(self) -> Float32:
        """The embeddings `[items, dim]` of all candidates."""
        blocks = [
            self._embed_items(self._vectors(tf.range(i, j))).numpy()
            for i, j in _blocks(len(self.data.item_ids), ITEM_BLOCK)
        ]
        return np.concatenate(blocks)

    def _epoch(self, epoch: int) -> float:
        size = self.training.batch_size
        progress = Progress(f"train: epoch {epoch}", total=self.data.examples.batch_count(size), unit="steps")
        losses = []
        for batch in self.data.examples.batches(size, rng=self._rng):
            loss = float(self._step(*self._inputs(batch)))
            step = int(self._optimizer.iterations.numpy())
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in step {step} (epoch {epoch}) at the learning rate "
                    f"{self.training.learning_rate:g}; lower training.learning_rate, or raise model.temperature"
                )
            losses.append(loss)
            if step % 10 == 1:
                self.history.step.append(step)
                self.history.step_loss.append(round(loss, 6))
            progress.advance(1, note=f"loss {loss:.4f}")
        return float(np.mean(losses))

    def _inputs(self, batch: Batch) -> tuple[Any, ...]:
        features = {name: values[batch.user] for name, values in self.data.user_features.items()}
        features.update({f"context.{name}": values for name, values in batch.context.items()})
        query = self._tensors(batch.history, self.data.user_ids[batch.user], features)
        return *query, tf.constant(batch.rows), tf.constant(batch.positives), tf.constant(batch.weights)

    def _tensors(self, history: Int32, ids: Int32, features: Encoded) -> tuple[Any, ...]:
        return tf.constant(history), tf.constant(ids), {name: tf.constant(value) for name, value in features.items()}

    def _update(
        self,
        history: tf.Tensor,
        ids: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        rows: tf.Tensor,
        positives: tf.Tensor,
        weights: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            queries = self._query_embeddings(history, ids, features, training=True)
            loss = self._loss(queries, rows, positives, weights)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]  # Adam moves every row in any case
        self._optimizer.apply_gradients(zip(dense, self._variables, strict=True))
        return loss

    def _item_vectors(self, numbers: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        features = {name: tf.gather(values, numbers) for name, values in self._item_features.items()}
        return self.network.candidate.vectors(tf.gather(self._item_ids, numbers), features, training=training)

    def _candidates(self, numbers: tf.Tensor, *, training: bool) -> tf.Tensor:
        return self.network.candidate.embed(self._item_vectors(numbers, training=training), training=training)

    def _query_embeddings(
        self, history: tf.Tensor, ids: tf.Tensor, features: Mapping[str, tf.Tensor], *, training: bool = False
    ) -> tf.Tensor:
        if not self.network.history_length:
            return self.network.query.embed(None, None, ids, features, training=training)
        known = tf.cast(history >= 0, tf.float32)
        distinct, places = tf.unique(tf.reshape(tf.maximum(history, 0), [-1]))  # an item's vector is made once
        vectors = tf.gather(self._item_vectors(distinct, training=training), tf.reshape(places, tf.shape(history)))
        return self.network.query.embed(vectors, known, ids, features, training=training)


def _blocks(total: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _rows(features: Encoded, start: int, stop: int) -> Encoded:
    return {name: values[start:stop] for name, values in features.items()}
