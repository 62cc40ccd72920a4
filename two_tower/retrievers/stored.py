"""A stored version, asked raw queries as a server would: towers and index alone, no prepared data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import open_artifact, plain_path
from two_tower.contracts import Float32, Int32
from two_tower.errors import ArtifactError, DataError
from two_tower.extras import naming_extras
from two_tower.retrievers.query_tower import KIND
from two_tower.retrievers.towers import BLOCK, refuse_mix

RawQueries = Mapping[str, Sequence[Any]]
"""The values of some queries by column: `history` and `seen` (item ids, oldest first), `user_id`, `user.NAME`,
`context.NAME`.  None, or a column that is left out, is a missing value."""


@dataclass(frozen=True)
class Recommended:
    """The items recommended for one query, best first."""

    item_ids: list[str]
    rows: Int32
    """Their rows in the version's candidate table."""
    scores: Float32
    unknown_history: list[str]
    """The history's items that the query tower does not know."""


@dataclass(frozen=True)
class RecommendedBatch:
    """The items recommended for some queries, best first."""

    rows: Int32
    """`[queries, k]` rows of the version's candidates, -1 where there are no more."""
    scores: Float32
    """`[queries, k]`, -inf where there are no more."""
    unknown_history: Int32
    """`[queries]`: how many of the history's items the query tower does not know."""
    finite: npt.NDArray[np.bool_]
    """`[queries]`: whether the query tower gives a finite vector; if not there are no items."""


class StoredVersion:
    """The query tower and the index of a version's folder."""

    def __init__(self, folder: str | Path) -> None:
        """Loads the version.

        Raises:
            ArtifactError: A part is missing or damaged, or the two do not belong together.
        """
        with naming_extras("a stored version", "serve"):
            import tensorflow as tf

        from two_tower.index import load_index

        tower = open_artifact(Path(folder) / "query_tower", KIND)
        with plain_path(tower.path("saved_model")) as path:
            self._model = tf.saved_model.load(path)
        self._inputs: dict[str, dict[str, Any]] = tower.json("signature.json")["inputs"]
        self.index = load_index(Path(folder) / "index")
        refuse_mix(tower.manifest.made_from, self.index.made_from)

    def recommend(self, query: Mapping[str, Any], k: int, *, exclude_seen: bool = False) -> Recommended:
        """The `k` best items for a raw query.

        Args:
            query: One value by column of `RawQueries`.  What is left out counts as missing.
            k: How many items, at most.
            exclude_seen: Whether the items of `history` and `seen` are left out.

        Raises:
            DataError: The query has a column that this version does not take, or nothing that it knows.
            ArtifactError: The query tower gives a vector that is not finite.
        """
        columns = {spec["column"] for spec in self._inputs.values()}
        refuse_unknown_context(query, columns)
        history = [str(item) for item in query.get("history") or []]
        if history and "history" not in columns and not query.get("user_id"):
            raise DataError("this version's query tower reads no history (model.history is null); ask for a user")
        queries = {name: [value] for name, value in query.items()} | {"history": [history]}
        found = self.recommend_batch(queries, k, exclude_seen=exclude_seen)
        unknown = self.unknown_items(history) if found.unknown_history[0] else set()
        if history and found.unknown_history[0] == len(history):
            raise DataError(
                f"none of the history's {len(history)} items is known to this version ({some_of(history)}); check the "
                "item ids"
            )
        if not found.finite[0]:
            raise ArtifactError("the query tower gives a vector that is not finite for this query")
        rows = found.rows[0][found.rows[0] >= 0]
        return Recommended(
            [self.index.item_ids[int(row)].as_py() for row in rows],
            rows,
            found.scores[0, : len(rows)],
            [item for item in dict.fromkeys(history) if item in unknown],
        )

    def recommend_batch(self, queries: RawQueries, k: int, *, exclude_seen: bool = False) -> RecommendedBatch:
        """The `k` best items for each of some raw queries, which are embedded together.

        Args:
            queries: At least one column; all of them have the same length.
            k: How many items, at most.
            exclude_seen: Whether the items of `history` and `seen` are left out.

        Raises:
            DataError: A value is no number where the query tower takes one.
        """
        missing = [None] * len(next(iter(queries.values())))
        outputs = self._asked(queries)
        vectors = outputs["embedding"].numpy()
        finite = np.isfinite(vectors).all(axis=1)
        vectors = np.where(finite[:, None], vectors, np.float32(0))
        if exclude_seen:
            pasts = zip(queries.get("history", missing), queries.get("seen", missing), strict=True)
            rows, scores = self._search(vectors, k, [[*(past or []), *(seen or [])] for past, seen in pasts])
        else:
            rows, scores = self.index.search(vectors, k)
        rows[~finite], scores[~finite] = -1, -np.inf
        return RecommendedBatch(rows, scores, outputs["unknown_history"].numpy(), finite)

    def unknown_items(self, items: Collection[str]) -> set[str]:
        """Those of some items that the query tower does not know, and passes over in a history."""
        ids, unknown = sorted(set(items)), set()
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            counts = self._asked({"history": [[item] for item in block]})["unknown_history"].numpy()
            unknown |= {item for item, count in zip(block, counts, strict=True) if count}
        return unknown

    def _asked(self, queries: RawQueries) -> Any:
        """The query tower's outputs, by name."""
        import tensorflow as tf

        missing = [None] * len(next(iter(queries.values())))
        inputs = {
            name: tf.constant(_raw(queries.get(spec["column"], missing), spec), dtype=spec["dtype"])
            for name, spec in self._inputs.items()
        }
        return self._model.signatures["serving_default"](**inputs)

    def _search(self, vectors: Float32, k: int, exclude: list[list[str]]) -> tuple[Int32, Float32]:
        """As the index's search, less each query's excluded items; those with equally many are searched together."""
        numbers = [sorted({self._rows[item] for item in items if item in self._rows}) for items in exclude]
        rows = np.empty((len(vectors), k), dtype=np.int32)
        scores = np.empty((len(vectors), k), dtype=np.float32)
        for block in _blocks(np.array([len(each) for each in numbers])):
            width = len(numbers[block[-1]])
            out = np.array([numbers[row] + [-1] * (width - len(numbers[row])) for row in block], dtype=np.int32)
            rows[block], scores[block] = self.index.search(vectors[block], k, exclude=out.reshape(len(block), width))
        return rows, scores

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The candidates' rows by their ids."""
        return {item: row for row, item in enumerate(self.index.item_ids.to_pylist())}


def some_of(items: Sequence[str], *, most: int = 5) -> str:
    """The first of some items, as a text that says how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"


def tower_columns(version: str | Path) -> dict[str, dict[str, Any]]:
    """What the query tower of a version's folder takes: dtype and shape by column of `RawQueries`.

    Raises:
        ArtifactError: The query tower is missing or damaged.
    """
    inputs = open_artifact(Path(version) / "query_tower", KIND).json("signature.json")["inputs"]
    return {spec["column"]: spec for spec in inputs.values()}


def refuse_unknown_context(names: Iterable[str], columns: Collection[str]) -> None:
    """Checks that the context features among `names` are among the columns that a query tower takes.

    Raises:
        DataError: They are not; the message names those that are.
    """
    wrong = sorted(
        name.removeprefix("context.") for name in names if name.startswith("context.") and name not in columns
    )
    if wrong:
        known = sorted(name.removeprefix("context.") for name in columns if name.startswith("context."))
        raise DataError(f"this version takes no context {', '.join(wrong)}; it takes: {', '.join(known) or 'none'}")


def _blocks(sizes: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """The places of `sizes` `[n]`, smallest first, at most `BLOCK` at a time."""
    order = np.argsort(sizes, kind="stable")
    yield from (order[start : start + BLOCK] for start in range(0, len(order), BLOCK))


def _raw(values: Sequence[Any], spec: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The values as a batch in the shape of a tower's input; None as that type's missing value."""
    text = spec["dtype"] == "string"
    missing = "" if text else np.nan
    dtype = object if text else spec["dtype"]
    if len(spec["shape"]) == 2:
        width = spec["shape"][1] or max(1, *(len(value or []) for value in values))
        lists = [[missing if entry is None else entry for entry in value or []][:width] for value in values]
        return np.array([entries + [missing] * (width - len(entries)) for entries in lists], dtype=dtype)
    if text:
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    return np.array([np.nan if value is None else _number(value, spec["column"]) for value in values], dtype=dtype)


def _number(value: Any, column: str) -> float:
    """A number, a text that reads as one, or a moment as seconds since 1970 UTC."""
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{column}: expected a number, got {value!r}") from error
