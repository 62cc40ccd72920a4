"""The exported candidate tower for Beam's `RunInference`, which takes whole record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from two_tower.artifacts import plain_path
from two_tower.data import Work
from two_tower.features import FittedFeature, load_features, raw_text

PREVIOUS = "previous"
"""The column that says where a candidate's vectors stand already; where it is null, the tower makes them."""
Vectors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class LoadedTower:
    """A SavedModel with its signature, and the features whose columns it takes."""

    module: Any
    serve: Any
    features: dict[str, FittedFeature]
    copy: Any = None
    """The local folder that a model was brought to, which is removed with this object."""


class TowerHandler(ModelHandler):  # type: ignore[misc]
    """Embeds record batches of candidates; an element is a batch already, so Beam makes batches of one element.

    Beam's own TensorFlow handler loads through Keras and stacks single arrays; this one loads the SavedModel as it is
    and feeds it named columns. A worker process holds one model, which its threads share.
    """

    def __init__(
        self, *, model: str, version: str, inputs: dict[str, dict[str, Any]], features: str, batch_size: int
    ) -> None:
        """
        Args:
            model: The SavedModel's folder, a path or a URL.
            version: The candidate tower's content hash, which the results carry as their `model_id`.
            inputs: What `signature.json` says of the inputs: dtype, shape and column.
            features: The path or URL of the prepared data's `features.json`.
            batch_size: The rows of one call of the model.
        """
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._model, self._version, self._inputs = model, version, inputs
        self._features, self._batch_size = features, batch_size

    def load_model(self) -> LoadedTower:
        """The SavedModel, without Keras; one that lies elsewhere is brought here, since TensorFlow reads no URLs."""
        import tensorflow as tf

        folder, copy = self._model, None
        if "://" in folder:
            copy = tempfile.TemporaryDirectory(prefix="two-tower-model-")
            folder = f"{copy.name}/saved_model"
            root, _, name = self._model.rpartition("/")
            Work(root).bring(name, Path(folder))
        with plain_path(folder) as path:
            module = tf.saved_model.load(path)
        root, _, name = self._features.rpartition("/")
        entries = Work(root).read_json(name)["item"]
        return LoadedTower(module, module.signatures["serving_default"], load_features(entries), copy)

    def run_inference(
        self, batch: Sequence[pa.RecordBatch], model: LoadedTower, inference_args: dict[str, Any] | None = None
    ) -> Iterator[Any]:
        """For each record batch its PredictionResult, whose `inference` holds the vectors of the rows to be embedded.

        `embedding` is float32 `[rows, dim]`, `history_vector` float16 `[rows, width]`.
        """
        for example in batch:
            rows = pa.Table.from_batches([example]).filter(pc.is_null(example[PREVIOUS]))
            yield PredictionResult(example, self._embed(rows, model), self._version)

    def get_num_bytes(self, batch: Sequence[pa.RecordBatch]) -> int:
        """The size of the record batches, which Beam's way would pickle to find it."""
        return sum(example.nbytes for example in batch)

    def share_model_across_processes(self) -> bool:
        """No: a call to another process would copy every batch."""
        return False

    def override_metrics(self, metrics_namespace: str = "") -> bool:
        """Yes: counts and latencies of whole shards would mislead."""
        return True

    def _embed(self, rows: pa.Table, model: LoadedTower) -> Vectors:
        outputs = model.serve.structured_outputs
        found: Vectors = {
            "embedding": np.empty((len(rows), outputs["embedding"].shape[1]), np.float32),
            "history_vector": np.empty((len(rows), outputs["history_vector"].shape[1]), np.float16),
        }
        for start in range(0, len(rows), self._batch_size):
            taken = slice(start, start + self._batch_size)
            for name, vectors in self._call(rows.slice(start, self._batch_size), model).items():
                found[name][taken] = vectors
        return found

    def _call(self, rows: pa.Table, model: LoadedTower) -> Vectors:
        """The vectors of up to `batch_size` rows.

        The model always gets full batches, the last row repeated: the kernels that TensorFlow chooses go by the shape,
        and with them the last bits of a vector, which must not depend on the other rows of a shard.
        """
        import tensorflow as tf

        padding = self._batch_size - len(rows)
        arrays = {name: _padded(self._raw(rows, name, model), padding) for name in self._inputs}
        outputs = model.serve(**{name: tf.constant(array, self._dtype(name)) for name, array in arrays.items()})
        history = tf.cast(outputs["history_vector"], tf.float16)
        return {"embedding": outputs["embedding"].numpy()[: len(rows)], "history_vector": history.numpy()[: len(rows)]}

    def _dtype(self, name: str) -> str:
        dtype: str = self._inputs[name]["dtype"]
        return dtype

    def _raw(self, rows: pa.Table, name: str, model: LoadedTower) -> npt.NDArray[Any]:
        column = self._inputs[name]["column"]
        return raw_text(rows[column]) if column == "item_id" else model.features[name].raw(rows[column])


def _padded(array: npt.NDArray[Any], padding: int) -> npt.NDArray[Any]:
    return np.concatenate([array, np.repeat(array[-1:], padding, axis=0)]) if padding else array
