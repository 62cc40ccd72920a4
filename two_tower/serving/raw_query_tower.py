"""The exported query tower, fed with raw queries as a server would."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from two_tower.contracts import Float32, Int32
from two_tower.features import raw_array
from two_tower.serving.raw_queries import Columns
from two_tower.towers import QueryTower

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
    """A query tower that is given the columns of raw queries; what a query lacks is missing to it."""

    def __init__(self, tower: QueryTower) -> None:
        self._tower, self.manifest = tower, tower.manifest
        self.columns = {spec["column"] for spec in tower.inputs.values()}
        """The columns of raw queries that the tower takes."""

    @classmethod
    def open(cls, folder: Path) -> RawQueryTower:
        """The query tower of the artefact in `folder`, ready to answer.

        Raises:
            ArtifactError: It is missing or damaged.
        """
        return cls(QueryTower.open(folder).loaded())

    def embed(self, queries: Columns) -> Embedded:
        """The embeddings of some queries, at least one column of them.

        Raises:
            DataError: A value is no number where the tower takes one.
        """
        outputs = self._outputs(queries)
        vectors = outputs["embedding"]
        finite = np.isfinite(vectors).all(axis=1)
        return Embedded(np.where(finite[:, None], vectors, np.float32(0)), finite, outputs["unknown_history"])

    def unknown_items(self, items: Collection[str]) -> set[str]:
        """Those of some items that the tower does not know, and passes over in a history."""
        ids, unknown = sorted(set(items)), set()
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            counts = self._outputs({"history": [[item] for item in block]})["unknown_history"]
            unknown |= {item for item, count in zip(block, counts, strict=True) if count}
        return unknown

    def _outputs(self, queries: Columns) -> dict[str, Any]:
        missing = [None] * len(next(iter(queries.values())))
        inputs = self._tower.inputs
        return self._tower.call(
            {name: raw_array(queries.get(spec["column"], missing), spec) for name, spec in inputs.items()}
        )
