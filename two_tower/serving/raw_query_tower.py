"""The exported query tower, fed with raw queries as a server would."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import Manifest, open_artifact, plain_path
from two_tower.contracts import Float32, Int32
from two_tower.serving.raw_queries import Columns, Inputs, as_batch

KIND = "query_tower"
BLOCK = 256
"""Items that are asked about together."""


class Embedded(NamedTuple):
    """What a query tower gives for some queries."""

    vectors: Float32
    """`[queries, dim]`, zero where the tower gives a vector that is not finite."""
    finite: npt.NDArray[np.bool_]
    """`[queries]`."""
    unknown_history: Int32
    """`[queries]`: how many of the history's items the tower does not know."""


class RawQueryTower:
    """The SavedModel of a `query_tower` artefact."""

    def __init__(self, model: Any, inputs: Inputs, manifest: Manifest) -> None:
        """Use `open`."""
        self._model, self._inputs, self.manifest = model, inputs, manifest
        self.columns = {spec["column"] for spec in inputs.values()}
        """The columns of raw queries that the tower takes."""

    @classmethod
    def open(cls, folder: Path) -> RawQueryTower:
        """The query tower of the artefact in `folder`.

        Raises:
            ArtifactError: It is missing or damaged.
        """
        import tensorflow as tf

        tower = open_artifact(folder, KIND)
        with plain_path(tower.path("saved_model")) as path:
            return cls(tf.saved_model.load(path), tower.json("signature.json")["inputs"], tower.manifest)

    def embed(self, queries: Columns) -> Embedded:
        """The embeddings of some queries, at least one column of them.

        Raises:
            DataError: A value is no number where the tower takes one.
        """
        outputs = self._outputs(queries)
        vectors = outputs["embedding"].numpy()
        finite = np.isfinite(vectors).all(axis=1)
        return Embedded(np.where(finite[:, None], vectors, np.float32(0)), finite, outputs["unknown_history"].numpy())

    def unknown_items(self, items: Collection[str]) -> set[str]:
        """Those of some items that the tower does not know, and passes over in a history."""
        ids, unknown = sorted(set(items)), set()
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            counts = self._outputs({"history": [[item] for item in block]})["unknown_history"].numpy()
            unknown |= {item for item, count in zip(block, counts, strict=True) if count}
        return unknown

    def _outputs(self, queries: Columns) -> Any:
        import tensorflow as tf

        missing = [None] * len(next(iter(queries.values())))
        inputs = {
            name: tf.constant(as_batch(queries.get(spec["column"], missing), spec), dtype=spec["dtype"])
            for name, spec in self._inputs.items()
        }
        return self._model.signatures["serving_default"](**inputs)


def tower_inputs(folder: Path) -> Inputs:
    """What the query tower in `folder` takes, without loading it.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    inputs: Inputs = open_artifact(folder, KIND).json("signature.json")["inputs"]
    return inputs
