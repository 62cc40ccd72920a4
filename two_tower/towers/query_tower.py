"""The exported query tower, fed with raw or with prepared queries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from two_tower.contracts import Float32, Int32
from two_tower.errors import ArtifactError
from two_tower.features import FittedFeature, load_features
from two_tower.padding import padded
from two_tower.towers.exported import ExportedTower

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("two_tower")

BATCH = 1024


class QueryTower(ExportedTower):
    """The SavedModel of a `query_tower` artefact: a raw query to its embedding."""

    kind = "query_tower"

    def embed_prepared(
        self, queries: pa.Table, *, items: pa.StringArray, features: Mapping[str, FittedFeature]
    ) -> Float32:
        """The embeddings float32 `[queries, dim]` of prepared queries.

        Args:
            queries: Rows of the prepared queries.
            items: The ids of the candidate table that the queries' item numbers belong to, by number.
            features: The prepared data's features by column, such as `user.age` and `context.search`.

        Raises:
            ArtifactError: The tower wants a column that the queries lack, or gives a vector that is not finite.
        """
        embeddings, unknown = [], 0
        for start in range(0, max(len(queries), 1), BATCH):  # an empty batch tells the width
            batch = queries.slice(start, BATCH)
            outputs = self.call(
                {
                    name: self._values(batch, spec["column"], items=items, features=features)
                    for name, spec in self.inputs.items()
                }
            )
            embeddings.append(outputs["embedding"])
            unknown += int(outputs["unknown_history"].sum())
        if unknown:
            log.info("%s items of the queries' histories are unknown to the query tower and left out", f"{unknown:,}")
        vectors = np.concatenate(embeddings)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ArtifactError(
                f"the query tower gives a vector that is not finite for {len(bad)} queries (row {bad[0]})"
            )
        return vectors

    def _values(
        self, queries: pa.Table, column: str, *, items: pa.StringArray, features: Mapping[str, FittedFeature]
    ) -> npt.NDArray[Any]:
        """What the tower's input takes from a column of the queries."""
        if column == "history":
            return _ids(padded(queries["history"], at_least=1), items)
        if column == "user_id":
            return np.array(queries["user_id"].fill_null("").to_pylist(), dtype=object)
        if column not in features:
            raise ArtifactError(
                f"the query tower takes the column {column!r}, which these queries lack; they hold: "
                f"{', '.join(['history', 'user_id', *features])}"
            )
        return features[column].raw(queries[column])


def _ids(numbers: Int32, items: pa.StringArray) -> npt.NDArray[Any]:
    """The ids of item numbers of any shape, the empty string for -1."""
    distinct, place = np.unique(numbers, return_inverse=True)
    known = distinct >= 0
    names = np.full(len(distinct), "", dtype=object)
    names[known] = items.take(distinct[known]).to_pylist()
    return names[place.reshape(numbers.shape)]


def query_features(features: Mapping[str, Any]) -> dict[str, FittedFeature]:
    """The user and context features of the prepared data's features.json, by column of the queries."""
    return {
        f"{part}.{name}": feature
        for part in ("user", "context")
        for name, feature in load_features(features.get(part, {})).items()
    }
