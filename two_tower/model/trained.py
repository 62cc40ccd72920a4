"""The trained towers as an object."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from two_tower.artifacts import Artifact
from two_tower.config import ModelSettings, TrainingSettings

if TYPE_CHECKING:
    import pyarrow as pa


class TrainedTowers(Artifact):
    """The weights of a `trained_towers` artefact, and how they came to be; the exports are made from them."""

    kind = "trained_towers"

    @property
    def model(self) -> ModelSettings:
        """The settings of the towers, with what `auto` stood for."""
        return ModelSettings.model_validate(self.manifest.config["model"])

    @property
    def training(self) -> TrainingSettings:
        """The settings of the training, with what `auto` stood for."""
        return TrainingSettings.model_validate(self.manifest.config["training"])

    @property
    def epochs(self) -> pa.Table:
        """One row an epoch of the first training: `epoch`, `loss`, `validation_recall`, `temperature`, `seconds`."""
        import pyarrow as pa

        columns = ("epoch", "loss", "validation_recall", "temperature", "seconds")
        return pa.table({name: self._history[name] for name in columns})

    @property
    def best_epoch(self) -> int:
        """The number, from 1, of the epoch with the best validation recall."""
        best: int = self._history["best_epoch"]
        return best

    @property
    def chosen(self) -> dict[str, Any] | None:
        """What `auto` was settled by: the facts of the data and the settings; None where nothing was `auto`."""
        found: dict[str, Any] | None = self._history["chosen"]
        return found

    def _in_words(self) -> str:
        recalls = [recall for recall in self._history["validation_recall"] if recall is not None]
        best = f", validation {self._history['monitor']} {max(recalls):.4f}" if recalls else ""
        return f"epoch {self.best_epoch} of {len(self._history['epoch'])}{best}"

    @cached_property
    def _history(self) -> dict[str, Any]:
        content: dict[str, Any] = self._reader.json("history.json")
        return content
