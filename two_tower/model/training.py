"""The training loop: prepared data in, trained towers out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from two_tower.artifacts import ArtifactWriter, Place, content_hash, open_artifact, write_artifact
from two_tower.config import ModelSettings, TrainingSettings
from two_tower.contracts import Float32, LossBatch, LossContext
from two_tower.errors import TrainingError
from two_tower.index import ExactIndex
from two_tower.model.embedder import Embedder
from two_tower.model.examples import Encoded, TrainingBatch
from two_tower.model.inputs import TrainingData
from two_tower.model.mining import Mined
from two_tower.model.network import BEFORE_REFIT, KIND
from two_tower.model.recipes import settled
from two_tower.model.towers import assign, read
from two_tower.model.trained import TrainedTowers
from two_tower.model.validation_recall import exact_recall
from two_tower.model.warm_start import BEFORE_REFIT_SEEN, find_start
from two_tower.progress import Progress, human_seconds

log = logging.getLogger("two_tower")

LOWEST_TEMPERATURE = 0.01
"""Of a learned temperature: below, the loss sees little but the hardest negative."""
STILL_HIGH = 0.25
"""Share of the highest learning rate above which most of the fall is still to come."""
SMALLER_STEPS = "lower training.learning_rate, set training.clip_norm, or raise model.temperature"
"""What to do about a training that diverges."""

EpochEnd = Callable[[int, float | None], None]
"""Called after each epoch with its number and its validation recall; what it raises ends the training."""


def train(
    prepared: Place,
    out: Place,
    *,
    model: ModelSettings | None = None,
    training: TrainingSettings | None = None,
    champion: Place | None = None,
    epoch_end: EpochEnd | None = None,
) -> TrainedTowers:
    """Trains the towers on the prepared data and writes the `trained_towers` artefact to `out`; the artefact.

    The weights are those of the epoch with the best validation Recall@`monitor_k`; with `refit`, those of a second
    training of as many epochs, on training and validation events together, and the first ones are kept beside them for
    a later warm start.  Where a setting is `auto`, the data decides; history.json says what for.

    Args:
        prepared: The `prepared_data` artefact.
        out: The artefact's folder.
        model: The configuration's `model` section; what `auto` gives for all of it if not given.
        training: Its `training` section, likewise.
        champion: The champion's `trained_towers`, to start from with `warm_start`; None where there is none.
        epoch_end: Told of each epoch of the first training.

    Raises:
        TrainingError: There is nothing to train on, or the loss is not finite.
        ArtifactError: `prepared` is no complete prepared data.
    """
    reader = open_artifact(prepared, "prepared_data")
    choice = settled(prepared, model=model or ModelSettings(), training=training)
    settings = choice.training
    if choice.chosen:
        log.info("train: %s", choice.in_words())
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()

    def trainer(*, refit: bool) -> Trainer:
        keras.utils.set_random_seed(settings.seed)
        data = TrainingData.load(reader, model=choice.model, training=settings, refit=refit)
        start = find_start(champion, reader, refit=refit) if champion and settings.warm_start else None
        return Trainer(start.apply(data) if start else data, settings)

    with write_artifact(out, KIND) as writer:
        chosen = trainer(refit=False)
        curves = writer.folder / "tensorboard"
        chosen.fit(curves / "selection", epoch_end=epoch_end)
        history, extra = chosen.history, {}
        if settings.refit:
            extra = _keep_before_refit(writer, chosen)
            chosen = trainer(refit=True)
            log.info("train: once more, on training and validation events, %d epochs", history.best_epoch)
            history.refit = chosen.refit(curves / "refit", epochs=history.best_epoch)
        used = {"model": choice.model, "training": settings}
        writer.manifest.config = {name: section.model_dump(mode="json") for name, section in used.items()}
        writer.manifest.made_from = {"prepared_data": content_hash(prepared)}
        if champion and settings.warm_start:
            writer.manifest.made_from["champion"] = content_hash(champion)
        _write(writer, chosen, extra)
        content = history.to_json(monitor=f"recall@{settings.monitor_k}")
        writer.write_json("history.json", {**content, "chosen": choice.to_json()})
    return TrainedTowers.made(out)


def _keep_before_refit(writer: ArtifactWriter, trainer: Trainer) -> dict[str, Any]:
    """Keeps the weights that validation chose, for a later warm start; what the manifest says of them."""
    np.savez(writer.path(f"{BEFORE_REFIT}/towers.npz"), allow_pickle=False, **trainer.best)
    writer.write_table(f"{BEFORE_REFIT}/vocabulary.parquet", trainer.network.vocabulary())
    return {BEFORE_REFIT_SEEN: trainer.data.seen_until}


def _write(writer: ArtifactWriter, trainer: Trainer, extra: Mapping[str, Any]) -> None:
    """Writes the chosen weights, and what is needed to use them."""
    network = trainer.network
    writer.manifest.data_seen_until = trainer.data.seen_until
    writer.manifest.extra = {"history_length": network.history_length, **extra}
    np.savez(writer.path("towers.npz"), allow_pickle=False, **trainer.best)
    writer.write_json("features.json", network.features_json())
    writer.write_table("vocabulary.parquet", network.vocabulary())


@dataclass
class History:
    """What history.json says of the training."""

    epoch: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_recall: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    temperature: list[float] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0
    refit: dict[str, Any] | None = None
    stopped_early: str | None = None
    """A sentence, where patience ended the training before the learning rate had fallen."""

    def to_json(self, *, monitor: str) -> dict[str, Any]:
        """The content of history.json."""
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            "validation_recall": self.validation_recall,
            "seconds": self.seconds,
            "temperature": self.temperature,
            "monitor": monitor,
            "best_epoch": self.best_epoch,
            "steps": {"step": self.step, "loss": self.step_loss},
            "refit": self.refit,
            "stopped_early": self.stopped_early,
        }


class Trainer:
    """Trains a network epoch by epoch and keeps the weights of the best."""

    def __init__(self, data: TrainingData, training: TrainingSettings) -> None:
        self.data, self.training, self.network = data, training, data.network
        self.history = History()
        self.best: dict[str, Float32] = {}
        self.embedder = Embedder(data.network, data.item_ids, data.item_features)
        self._rng = np.random.default_rng(training.seed)
        encoder = self.network.query.encoder
        self._sequences = encoder is not None and encoder.trains_on_sequences
        self._temperature = tf.Variable(self.network.model.temperature, trainable=False)
        self._variables = list(self.network.weights().values())
        if self.network.model.learn_temperature:
            self._variables.append(self._temperature)
        self.steps_per_epoch = max(1, round(data.positive_count / training.batch_size))
        """About how many."""
        self._optimizer = _optimizer(training, steps=training.epochs * self.steps_per_epoch)
        flat = [variable for variable in self._variables if variable.shape.rank < 2]
        self._optimizer.exclude_from_weight_decay(var_list=flat)  # biases, scales and the temperature
        self._optimizer.build(self._variables)
        self._mined = None if training.mining is None else Mined(training.mining, keys=data.examples.keys)
        self._loss = training.loss.build(
            LossContext(
                candidates=lambda numbers: self.embedder.candidates(numbers, training=True),
                item_count=len(data.item_ids),
                sampling_probability=data.sampling_probability,
                temperature=self._temperature,
                seed=training.seed,
            )
        )
        self._step = tf.function(self._update, reduce_retracing=True)

    def fit(self, curves: Path, *, epoch_end: EpochEnd | None = None) -> None:
        """Trains until `epochs` are done or `patience` epochs have brought nothing better; TensorBoard in `curves`.

        Raises:
            TrainingError: The loss is not finite.
        """
        best, without_gain = -1.0, 0
        for epoch, seconds, loss in self._epochs("train", self.training.epochs, curves):
            started = time.monotonic()
            recall = self.validate()
            self.history.epoch.append(epoch)
            self.history.loss.append(loss)
            self.history.validation_recall.append(recall)
            self.history.seconds.append(round(seconds + time.monotonic() - started, 2))
            self.history.temperature.append(round(float(self._temperature.numpy()), 6))
            if recall is not None:
                tf.summary.scalar(f"validation_recall@{self.training.monitor_k}", recall, step=epoch)
            log.info(
                "train: epoch %d of %d, loss %.4f, validation recall@%d %s, %s",
                epoch, self.training.epochs, loss, self.training.monitor_k,
                "-" if recall is None else f"{recall:.4f}", human_seconds(self.history.seconds[-1]),
            )  # fmt: skip
            if recall is None or recall > best:  # without validation queries the last epoch is kept
                best, without_gain = recall or 0.0, 0
                self.history.best_epoch = epoch
                self.best = read(self.network.weights())
            else:
                without_gain += 1
            if epoch_end is not None:
                epoch_end(epoch, recall)
            if without_gain >= self.training.patience:
                self._stop_early(epoch, without_gain)
                break
        assign(self.network.weights(), self.best)

    def _stop_early(self, epoch: int, without_gain: int) -> None:
        """Says that training stops, and what to do where the learning rate has not fallen yet, which pays last."""
        log.info("train: no better recall in %d epochs, stopping", without_gain)
        left = float(self._optimizer.learning_rate.numpy()) / self.training.learning_rate
        if epoch < self.training.epochs and left > STILL_HIGH:
            self.history.stopped_early = (
                f"stopped after epoch {epoch} of {self.training.epochs} with the learning rate at {left:.0%} of its "
                f"highest; with training.epochs={self.history.best_epoch + 1} it would fall to the end, and a higher "
                "training.patience would let it"
            )
            log.info("train: %s", self.history.stopped_early)

    def refit(self, curves: Path, *, epochs: int) -> dict[str, Any]:
        """Trains `epochs` epochs without looking at validation; the entry `refit` of history.json."""
        entry: dict[str, Any] = {"epochs": epochs, "loss": [], "seconds": []}
        for epoch, seconds, loss in self._epochs("refit", epochs, curves):
            entry["loss"].append(loss)
            entry["seconds"].append(round(seconds, 2))
            log.info("refit: epoch %d of %d, loss %.4f, %s", epoch, epochs, loss, human_seconds(seconds))
        self.best = read(self.network.weights())
        return entry

    def validate(self) -> float | None:
        """Mean Recall@`monitor_k` of the validation queries by exact search; None where there are none."""
        queries = self.data.validation
        if queries is None:
            return None
        return exact_recall(
            self.embedder.embed_queries(queries.history, queries.ids, queries.features),
            self.embedder.embed_candidates(),
            queries.relevant,
            k=self.training.monitor_k,
            exclude=queries.exclude,
        )

    def _epochs(self, what: str, epochs: int, curves: Path) -> Iterator[tuple[int, float, float]]:
        """Trains epoch after epoch: its number, seconds and mean loss; TensorBoard's writer is open meanwhile."""
        writer = tf.summary.create_file_writer(str(curves))
        with closing(writer), writer.as_default():
            for epoch in range(1, epochs + 1):
                started = time.monotonic()
                mining = self.training.mining
                if mining and self._mined and epoch > mining.after and (epoch - mining.after - 1) % mining.every == 0:
                    self._mine()
                loss = self._epoch(what, epoch)
                yield epoch, time.monotonic() - started, loss

    def _epoch(self, what: str, epoch: int) -> float:
        progress = Progress(f"{what}: epoch {epoch}", total=self.steps_per_epoch, unit="steps")
        losses = []
        for batch in self._batches():
            if not batch.weights.any():  # has no mean
                continue
            loss = float(self._step(*self._query_inputs(batch), self._loss_batch(batch)))
            step = int(self._optimizer.iterations.numpy())
            if not np.isfinite(loss):
                raise TrainingError(self._not_finite(loss, batch, step=step, epoch=epoch))
            if self.network.model.learn_temperature:
                self._temperature.assign(tf.maximum(self._temperature, LOWEST_TEMPERATURE))
            losses.append(loss)
            if step % 10 == 1:
                self.history.step.append(step)
                self.history.step_loss.append(round(loss, 6))
                tf.summary.scalar("loss", loss, step=step)
                tf.summary.scalar("learning_rate", self._optimizer.learning_rate, step=step)
            progress.advance(1, note=f"loss {loss:.4f}")
        return float(np.mean(losses))

    def _not_finite(self, loss: float, batch: TrainingBatch, *, step: int, epoch: int) -> str:
        items = ", ".join(map(str, self.data.item_names.take(np.unique(batch.positives)[:5]).to_pylist()))
        users = ", ".join(map(str, np.unique(batch.user)[:5]))
        return (
            f"the loss became {loss} in step {step} (epoch {epoch}) at the learning rate "
            f"{float(self._optimizer.learning_rate.numpy()):g}, in a batch with the items {items}, ... of the users "
            f"number {users}, ...; {SMALLER_STEPS}"
        )

    def _batches(self) -> Iterator[TrainingBatch]:
        return self.data.examples.batches(
            self.training.batch_size,
            rng=self._rng,
            sequences=self._sequences,
            whole_user=self.training.known_positives == "user",
        )

    def _mine(self) -> None:
        """Looks up, for every training query, what the model of this moment ranks high."""
        assert self._mined is not None
        index = ExactIndex(_finite(self.embedder.embed_candidates()), self.data.item_names.combine_chunks())
        progress = Progress("train: mining", total=self.steps_per_epoch, unit="batches")
        for batch in self._batches():
            queries = self.embedder.embed_batch(*self._query_inputs(batch)).numpy()
            self._mined.look_up(batch.keys, _finite(queries), index)
            progress.advance(1)

    def _query_inputs(self, batch: TrainingBatch) -> tuple[Any, ...]:
        features = {name: values[batch.user] for name, values in self.data.user_features.items()}
        features.update({f"context.{name}": values for name, values in batch.context.items()})
        places = None if batch.places is None else tf.constant(batch.places)
        return tf.constant(batch.history), places, tf.constant(self.data.user_ids[batch.user]), _tensors(features)

    def _loss_batch(self, batch: TrainingBatch) -> LossBatch:
        mined = np.zeros((len(batch.keys), 0), np.int32)
        if self._mined is not None:
            mined = self._mined.draw(batch.keys, rng=self._rng)
        parts = (batch.rows, batch.positives, batch.weights, batch.known_rows, batch.known, mined)
        return LossBatch(*map(tf.constant, parts))

    def _update(
        self,
        history: tf.Tensor,
        places: tf.Tensor | None,
        ids: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        batch: LossBatch,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            if self.network.model.learn_temperature:
                tape.watch(self._temperature)
            queries = self.embedder.queries(history, places, ids, features, training=True)
            loss = self._loss(queries, batch)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]  # Adam moves every row in any case
        self._optimizer.apply_gradients(zip(dense, self._variables, strict=True))
        return loss


def _optimizer(training: TrainingSettings, *, steps: int) -> Any:
    """Adam with decoupled weight decay; the learning rate rises, then falls along a cosine to none."""
    rising = int(training.warmup * steps)
    falling = keras.optimizers.schedules.CosineDecay(
        0.0 if rising else training.learning_rate,
        max(steps - rising, 1),
        alpha=0.01,
        warmup_target=training.learning_rate if rising else None,
        warmup_steps=rising,
    )
    decay = training.weight_decay or None  # 0 would be a pass over all weights for nothing
    return keras.optimizers.Adam(falling, weight_decay=decay, global_clipnorm=training.clip_norm)


def _finite(embeddings: Float32) -> Float32:
    """The embeddings, which mining cannot rank if one is not finite."""
    if not np.isfinite(embeddings).all():
        raise TrainingError(f"an embedding is not finite any more; {SMALLER_STEPS}")
    return embeddings


def _tensors(features: Encoded) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in features.items()}
