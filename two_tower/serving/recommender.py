"""A stored version, asked raw queries as a server would: towers and index alone, no prepared data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from two_tower.contracts import Bool, Float32, Int32
from two_tower.errors import ArtifactError, DataError
from two_tower.index import Allowed, Rows, SearchIndex, load_index
from two_tower.registry import Version
from two_tower.retrievers import refuse_mix
from two_tower.serving.raw_queries import Columns, Query, refuse_unknown_context
from two_tower.serving.raw_query_tower import Embedded, RawQueryTower
from two_tower.serving.results import Recommended, RecommendedBatch, some_of
from two_tower.serving.sources import KnownUsers

if TYPE_CHECKING:
    from two_tower.config import Range

    Conditions = Allowed | Mapping[str, Sequence[str] | Range]

BATCH = 1024
"""Queries that are embedded together."""
BLOCK = 256
"""Queries that are searched together; those with equally many exclusions stand in one block."""


class _Found(NamedTuple):
    """What the index gives for some queries, by number."""

    rows: Int32
    """`[queries, k]` rows of the index, -1 where there are no more."""
    scores: Float32
    """`[queries, k]`, -inf where there are no more."""
    embedded: Embedded


class Recommender:
    """The query tower and the index of a version: raw queries in, items out."""

    def __init__(
        self, version: str, tower: RawQueryTower, index: SearchIndex, *, users: KnownUsers | None = None
    ) -> None:
        """The recommender of the version with this id; `open` makes it of one that is stored.

        Raises:
            ArtifactError: Tower and index were not made together.
        """
        refuse_mix(tower.manifest.made_from, index.made_from)
        self.version, self.index, self._tower, self._users = version, index, tower, users

    @classmethod
    def open(cls, version: Version | str | Path, *, users: KnownUsers | None = None) -> Recommender:
        """The recommender of a stored version.

        Args:
            version: A version of a registry, or the place of one: a local folder or a gs:// URI.
            users: What is known of users, such as `two_tower.data.EveryUser`; without it a query brings its history.

        Raises:
            ArtifactError: A part is missing or damaged, or the two do not belong together.
        """
        found = version if isinstance(version, Version) else Version.open(version)
        folder = found.folder_with("query_tower", "index")
        return cls(found.id, RawQueryTower.open(folder / "query_tower"), load_index(folder / "index"), users=users)

    def __repr__(self) -> str:
        until = self.seen_until
        known = f"{datetime.fromtimestamp(until / 1e6, UTC):%Y-%m-%d %H:%M} UTC" if until is not None else "unknown"
        return f"Recommender(version {self.version}, {len(self):,} items, seen until {known})"

    def __len__(self) -> int:
        return len(self.index)

    @property
    def seen_until(self) -> int | None:
        """The newest event that the query tower was trained on, microseconds since 1970 UTC; None if not known."""
        return self._tower.manifest.data_seen_until

    @overload
    def recommend(
        self, queries: Query, k: int = ..., *, exclude_seen: bool = ..., allowed: Conditions | None = ...,
        exclude: Collection[str] | None = ...,
    ) -> Recommended: ...  # fmt: skip

    @overload
    def recommend(
        self, queries: Sequence[Query] | pa.Table, k: int = ..., *, exclude_seen: bool = ...,
        allowed: Conditions | None = ..., exclude: Sequence[Collection[str]] | None = ...,
    ) -> RecommendedBatch: ...  # fmt: skip

    def recommend(
        self,
        queries: Query | Sequence[Query] | pa.Table,
        k: int = 10,
        *,
        exclude_seen: bool = False,
        allowed: Conditions | None = None,
        exclude: Collection[str] | Sequence[Collection[str]] | None = None,
    ) -> Recommended | RecommendedBatch:
        """The `k` best items for a raw query, or for each of several.

        Args:
            queries: One query such as `{"history": ["i7", "i3"], "context.search": "mug"}`, several of them, or a table
                with their columns.  What is left out, or None, is taken from what is known of the query's `user_id`,
                and counts as missing where nothing is; a history of its own replaces the user's.
            k: How many items, at most.
            exclude_seen: Whether the items of `history` and `seen` are left out.
            allowed: Which items may be returned: conditions on attributes and on `item_id`, or an `Allowed`, which
                remembers what meets them.
            exclude: The ids of items that a query must not get, of several queries a collection each.

        Raises:
            DataError: A query has a column that this version does not take, its user is not known, or `allowed` does
                not fit the attributes.  A single query: it has nothing that the version knows.
            ArtifactError: The query tower gives a vector that is not finite for a single query.
        """
        chosen = None if allowed is None else (allowed if isinstance(allowed, Allowed) else Allowed(allowed))
        mask = None if chosen is None else chosen.of(self._candidates, len(self))
        if isinstance(queries, Mapping):
            return self._recommend_one(self._completed(queries), k, exclude_seen, mask, [*(exclude or [])])
        given = [
            self._completed(query) for query in (queries.to_pylist() if isinstance(queries, pa.Table) else queries)
        ]
        left_out = [[*items] for items in exclude] if exclude is not None else [[] for _ in given]
        if len(left_out) != len(given):
            raise DataError(f"expected the excluded items of {len(given)} queries, got those of {len(left_out)}")
        names = dict.fromkeys(["history", *(name for query in given for name in query)])
        refuse_unknown_context(names, self._tower.columns)
        blocks = (slice(start, start + BATCH) for start in range(0, len(given), BATCH))
        return RecommendedBatch.joined(
            [
                self.recommend_columns(
                    {name: [query.get(name) for query in given[block]] for name in names},
                    k,
                    exclude_seen=exclude_seen,
                    allowed=mask,
                    exclude=left_out[block],
                )
                for block in blocks
            ]
        )

    def recommend_columns(
        self,
        queries: Columns,
        k: int,
        *,
        exclude_seen: bool = False,
        allowed: Bool | None = None,
        exclude: Sequence[list[str]] | None = None,
    ) -> RecommendedBatch:
        """As `recommend`, for queries that are complete, given column by column, and embedded together.

        Args:
            queries: At least one column; all of them have the same length.
            k: How many items, at most.
            exclude_seen: Whether the items of `history` and `seen` are left out.
            allowed: `[items]`, which items of the index may be returned.
            exclude: The ids that each query must not get.

        Raises:
            DataError: A value is no number where the query tower takes one.
        """
        found = self._found(queries, k, exclude_seen, allowed, exclude)
        missing: list[Any] = [None] * len(found.rows)
        histories = queries.get("history", missing)
        reasons = _reasons(queries.get("user_id", missing), histories, found)
        rows = np.where(np.array([reason is None for reason in reasons])[:, None], found.rows, np.int32(-1))
        held = rows >= 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(held.sum(axis=1))]), pa.int32())
        return RecommendedBatch(
            pa.ListArray.from_arrays(offsets, self.index.item_ids.take(pa.array(rows[held]))),
            pa.ListArray.from_arrays(offsets, pa.array(found.scores[held])),
            reasons,
            self._unknown(histories, found.embedded.unknown_history),
        )

    def _recommend_one(
        self, query: Query, k: int, exclude_seen: bool, allowed: Bool | None, exclude: list[str]
    ) -> Recommended:
        """As `recommend` for one query, which fails where it has no answer."""
        refuse_unknown_context(query, self._tower.columns)
        history = query.get("history") or []
        if history and "history" not in self._tower.columns and not query.get("user_id"):
            raise DataError("this version's query tower reads no history (model.history is null); ask for a user")
        columns = {name: [value] for name, value in query.items()} | {"history": [history]}
        found = self._found(columns, k, exclude_seen, allowed, [exclude])
        (unknown,) = self._unknown([history], found.embedded.unknown_history)
        if history and found.embedded.unknown_history[0] == len(history):
            raise DataError(
                f"none of the history's {len(history)} items is known to this version ({some_of(history)}); check the "
                "item ids"
            )
        if not found.embedded.finite[0]:
            raise ArtifactError("the query tower gives a vector that is not finite for this query")
        rows = found.rows[0][found.rows[0] >= 0]
        return Recommended(self.index.item_ids.take(pa.array(rows)).to_pylist(), found.scores[0, : len(rows)], unknown)

    def _completed(self, query: Query) -> dict[str, Any]:
        """The query without what is missing, and with what is known of its user where it leaves something out.

        Raises:
            DataError: Its user is not known, and it has nothing else to go by.
        """
        given = {name: value for name, value in query.items() if value is not None}
        given |= {name: [str(item) for item in given[name]] for name in ("history", "seen") if name in given}
        if self._users is None or "user_id" not in given:
            return given
        known = self._users.one(str(given["user_id"]))
        if known is None and not any(name == "history" or name.startswith("context.") for name in given):
            raise DataError(f"the logs hold no user {given['user_id']!r}; a query with a history asks for somebody new")
        past = ("history", "seen") if "history" in given else ()
        return {name: value for name, value in (known or {}).items() if name not in past} | given

    def _found(
        self,
        queries: Columns,
        k: int,
        exclude_seen: bool,
        allowed: Bool | None,
        exclude: Sequence[list[str]] | None,
    ) -> _Found:
        """The best rows of the index for each query; none where its vector is not finite."""
        embedded = self._tower.embed(queries)
        missing: list[Any] = [None] * len(embedded.vectors)
        left_out = [list(items) for items in exclude] if exclude is not None else [[] for _ in missing]
        if exclude_seen:
            pasts = zip(queries.get("history", missing), queries.get("seen", missing), strict=True)
            left_out = [
                [*items, *(past or []), *(seen or [])] for items, (past, seen) in zip(left_out, pasts, strict=True)
            ]
        if exclude_seen or any(left_out):
            rows, scores = self._search(embedded.vectors, k, left_out, allowed)
        else:
            rows, scores = self.index.search(embedded.vectors, k, allowed=allowed)
        rows[~embedded.finite], scores[~embedded.finite] = -1, -np.inf
        return _Found(rows, scores, embedded)

    def _search(
        self, vectors: Float32, k: int, exclude: list[list[str]], allowed: Bool | None
    ) -> tuple[Int32, Float32]:
        """As the index's search, less each query's excluded items; those with equally many are searched together."""
        numbers = [sorted({self._rows[item] for item in items if item in self._rows}) for items in exclude]
        rows = np.empty((len(vectors), k), dtype=np.int32)
        scores = np.empty((len(vectors), k), dtype=np.float32)
        for block in _blocks(np.array([len(each) for each in numbers])):
            width = len(numbers[block[-1]])
            out = np.array([numbers[row] + [-1] * (width - len(numbers[row])) for row in block], dtype=np.int32)
            out = out.reshape(len(block), width)
            rows[block], scores[block] = self.index.search(vectors[block], k, allowed=allowed, exclude=out)
        return rows, scores

    def _unknown(self, histories: Sequence[Sequence[str] | None], counts: Int32) -> list[list[str]]:
        """The items of each history that the query tower does not know; `counts` says in which there are any."""
        doubtful = {item for row in np.flatnonzero(counts).tolist() for item in histories[row] or []}
        unknown = self._tower.unknown_items(doubtful) if doubtful else set()
        return [[item for item in dict.fromkeys(history or []) if item in unknown] for history in histories]

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The candidates' rows by their ids."""
        return {item: row for row, item in enumerate(self.index.item_ids.to_pylist())}

    @cached_property
    def _candidates(self) -> Rows:
        """Ids and attributes, for conditions."""
        assert self.index.attributes is not None
        return Rows(self.index.attributes.add_column(0, "item_id", self.index.item_ids))


def _blocks(sizes: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """The places of `sizes` `[n]`, smallest first, at most `BLOCK` at a time."""
    order = np.argsort(sizes, kind="stable")
    yield from (order[start : start + BLOCK] for start in range(0, len(order), BLOCK))


def _reasons(users: Sequence[str | None], histories: Sequence[Sequence[str] | None], found: _Found) -> list[str | None]:
    """Why each query gets no items; None where it does.

    Somebody whose history is wholly unknown is a new user; without a user there is nothing to go by.
    """
    empty = (found.rows[:, 0] < 0).tolist()
    facts = zip(users, histories, found.embedded.unknown_history, found.embedded.finite, empty, strict=True)
    return [
        "unknown_history"
        if history and not user and unknown == len(history)
        else "not_finite"
        if not finite
        else "nothing_left"
        if nothing
        else None
        for user, history, unknown, finite, nothing in facts
    ]
