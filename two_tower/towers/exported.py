"""What both exported towers are: a SavedModel with a signature that says what it takes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from two_tower.artifacts import Artifact, plain_path
from two_tower.contracts import Float32
from two_tower.extras import naming_extras
from two_tower.features import raw_arrays

if TYPE_CHECKING:
    from two_tower.features import RawColumns

SERVING = "serving_default"


class ExportedTower(Artifact):
    """A SavedModel from raw features to embeddings; it is loaded when it is first asked."""

    @cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """What the tower takes, by name: `dtype`, `shape`, and the `column` of the prepared data that it is."""
        found: dict[str, dict[str, Any]] = self._reader.json("signature.json")["inputs"]
        return found

    def embed(self, rows: RawColumns) -> Float32:
        """The embeddings float32 `[rows, dim]` of raw features.

        Args:
            rows: A column for each of `inputs`, in an Arrow table, a data frame, or as lists by name: such as
                `{"item_id": ["a"], "genres": [["comedy", "war"]]}`, or `{"history": [["a", "b"]]}`, oldest first.

        Raises:
            DataError: A column is missing, or the columns differ in length.
        """
        found: Float32 = self.call(raw_arrays(rows, self.inputs))["embedding"]
        return found

    def loaded(self) -> Self:
        """The tower with its SavedModel in memory, so that the first answer does not wait for it."""
        _ = self._model
        return self

    def call(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The tower's outputs as arrays, for an array for each of `inputs`."""
        import tensorflow as tf

        given = {name: tf.constant(array, dtype=self.inputs[name]["dtype"]) for name, array in arrays.items()}
        return {name: output.numpy() for name, output in self._model.signatures[SERVING](**given).items()}

    @cached_property
    def _model(self) -> Any:
        with naming_extras(f"a {self.kind.replace('_', ' ')}", "serve"):
            import tensorflow as tf

        with plain_path(self._reader.path("saved_model")) as path:
            return tf.saved_model.load(path)
