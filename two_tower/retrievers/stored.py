"""A stored version, asked one raw query at a time, as a server would: towers and index alone, no prepared data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import open_artifact
from two_tower.contracts import Float32, Int32
from two_tower.errors import DataError
from two_tower.retrievers.query_tower import KIND
from two_tower.retrievers.towers import refuse_mix


@dataclass(frozen=True)
class Recommended:
    """The items recommended for one query, best first."""

    item_ids: list[str]
    rows: Int32
    """Their rows in the version's candidate table."""
    scores: Float32


class StoredVersion:
    """The query tower and the index of a version's folder."""

    def __init__(self, folder: str | Path) -> None:
        """Loads the version.

        Raises:
            ArtifactError: A part is missing or damaged, or the two do not belong together.
        """
        import tensorflow as tf

        from two_tower.index import load_index

        tower = open_artifact(Path(folder) / "query_tower", KIND)
        self._model = tf.saved_model.load(str(tower.path("saved_model")))
        self._inputs: dict[str, dict[str, Any]] = tower.json("signature.json")["inputs"]
        self.index = load_index(Path(folder) / "index")
        refuse_mix(tower.manifest.made_from, self.index.made_from)

    def recommend(self, query: Mapping[str, Any], k: int, *, exclude_seen: bool = False) -> Recommended:
        """The `k` best items for a raw query.

        Args:
            query: Values by column of the prepared queries: `history` (item ids, oldest first), `user_id`,
                `user.NAME`, `context.NAME`.  What is left out counts as missing.
            k: How many items, at most.
            exclude_seen: Whether the items of the history are left out.

        Raises:
            DataError: The query has a column that this version does not take, or nothing that it knows.
        """
        import tensorflow as tf

        columns = {spec["column"] for spec in self._inputs.values()}
        given = {name for name in query if name.startswith("context.")}
        if not given <= columns:
            wrong = ", ".join(sorted(name.removeprefix("context.") for name in given - columns))
            known = sorted(name.removeprefix("context.") for name in columns if name.startswith("context."))
            raise DataError(f"this version takes no context {wrong}; it takes: {', '.join(known) or 'none'}")
        history = [str(item) for item in query.get("history") or []]
        if history and "history" not in columns and not query.get("user_id"):
            raise DataError("this version's query tower reads no history (model.history is null); ask for a user")
        inputs = {
            name: tf.constant(_raw(query.get(spec["column"]), spec), dtype=spec["dtype"])
            for name, spec in self._inputs.items()
        }
        outputs = self._model.signatures["serving_default"](**inputs)
        unknown = int(outputs["unknown_history"].numpy()[0])
        if history and unknown == len(history):
            raise DataError(f"none of the history's {len(history)} items is known to this version; check the item ids")
        excluded = set(history) if exclude_seen else set()
        rows, scores = self.index.search(outputs["embedding"].numpy(), k + len(excluded))
        found = [
            (int(row), float(score))
            for row, score in zip(rows[0], scores[0], strict=True)
            if row >= 0 and self.index.item_ids[int(row)].as_py() not in excluded
        ][:k]
        return Recommended(
            item_ids=[self.index.item_ids[row].as_py() for row, _ in found],
            rows=np.array([row for row, _ in found], dtype=np.int32),
            scores=np.array([score for _, score in found], dtype=np.float32),
        )


def _raw(value: Any, spec: Mapping[str, Any]) -> npt.NDArray[Any]:
    """One value as a batch of one in the shape of a tower's input; None as that type's missing value."""
    text = spec["dtype"] == "string"
    if len(spec["shape"]) == 2:
        width = spec["shape"][1] or max(1, len(value or []))
        missing = "" if text else np.nan
        values = [missing if entry is None else entry for entry in value or []][:width]
        return np.array([values + [missing] * (width - len(values))], dtype=object if text else spec["dtype"])
    if isinstance(value, datetime):
        value = value.timestamp()
    if text:
        return np.array(["" if value is None else str(value)], dtype=object)
    try:
        return np.array([np.nan if value is None else value], dtype=spec["dtype"])
    except ValueError as error:
        raise DataError(f"{spec['column']}: expected a number, got {value!r}") from error
