"""The queries of a split, block by block, with the sets of items that metrics and slices need."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import Bool, Int32, Int64, Repeats
from two_tower.errors import NoQueries
from two_tower.evaluation.sets import ItemSets
from two_tower.padding import padded

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1024
Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Repeated:
    """How many relevant items the user has had, and how many queries ask for nothing else."""

    counted: Repeats
    queries: int
    of_queries: int
    relevant: int
    of_relevant: int


@dataclass(frozen=True)
class QueryBlock:
    """Some queries and what is right for them."""

    table: pa.Table
    relevant: ItemSets
    seen: ItemSets
    exclude: Int32 | None
    """`[queries, n]` items that must not be returned, padded with -1."""


class Queries:
    """The queries of a split that have a relevant item.

    With `exclude_seen` the items of a query's past are never returned.  Where they are relevant as well (repeats), they
    are missed by whatever system; or with `leave_out` they are not relevant, and queries without any other relevant
    item are left out.
    """

    def __init__(
        self, table: pa.Table, *, items: int, exclude_seen: bool, repeats: Repeats = "miss", split: Split
    ) -> None:
        """The queries of `table`, those of the `split`, over `items` candidates.

        Raises:
            NoQueries: No query is left, or none that asks for anything that may be returned.
        """
        self.items, self.exclude_seen, self.split = items, exclude_seen, split
        self._repeats, self._table = repeats, table
        self.rows: Int64 = np.arange(len(table))
        """The row of each query in the prepared queries."""
        self.repeated: Repeated | None = None
        """What was asked for and is excluded; None without `exclude_seen`."""
        left = len(table)
        if exclude_seen:
            relevant, repeated = self._counts()
            of_old = relevant == repeated
            left -= int(of_old.sum())
            self.repeated = Repeated(
                counted=repeats,
                queries=int(of_old.sum()),
                of_queries=len(table),
                relevant=int(repeated.sum()),
                of_relevant=int(relevant.sum()),
            )
            if repeats == "leave_out":
                self.rows = np.flatnonzero(~of_old)
                self._table = table.take(self.rows)
        if not left:
            unseen = " with a relevant item that is new to the user" if exclude_seen else ""
            raise NoQueries(f"the {split} window holds no query{unseen}: make data.split.{split} longer")

    @classmethod
    def load(
        cls, prepared: ArtifactReader, *, exclude_seen: bool, repeats: Repeats = "miss", split: Split = "test"
    ) -> Queries:
        """The queries of a `prepared_data` artefact."""
        items = len(prepared.table("items.parquet", ["item_id"]))
        return cls(prepared.table(split), items=items, exclude_seen=exclude_seen, repeats=repeats, split=split)

    def discovery(self) -> Queries | None:
        """The same queries with the items of their past excluded, as far as there is something new to find.

        None where that would be the same measurement, as nothing relevant was seen before, and where nothing is new.
        """
        if self.exclude_seen:
            return None
        relevant, repeated = self._counts()
        if not repeated.any() or (repeated == relevant).all():
            return None
        return Queries(self._table, items=self.items, exclude_seen=True, repeats="leave_out", split=self.split)

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[QueryBlock]:
        """All queries in order, some at a time."""
        for start in range(0, len(self), BLOCK):
            yield self._block(self._table.slice(start, BLOCK))

    def take(self, rows: Int64) -> QueryBlock:
        """The queries at these positions among those counted."""
        return self._block(self._table.take(rows))

    def new_users(self) -> Bool:
        """Which queries are of users without any event before the cut-off."""
        flags: Bool = self._table["new_user"].to_numpy()
        return flags

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the queries."""
        names: list[str] = self._table.column_names
        return names

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the queries."""
        return self._table[name]

    def relevant_counts(self) -> Int64:
        """How many relevant items each query has, `[queries]`."""
        return np.concatenate([block.relevant.sizes for block in self.blocks()])

    def findable_counts(self) -> Int64:
        """How many relevant items of each query may be returned, `[queries]`."""
        relevant, repeated = self._counts()
        return relevant - repeated if self.exclude_seen else relevant

    def users(self) -> Int64 | None:
        """The user number of each query, `[queries]`; None where the logs name no users."""
        if self._table["user_id"].null_count == len(self):
            return None
        numbers: Int64 = self._table["user"].to_numpy()
        return numbers

    def history_lengths(self) -> Int64:
        """How many events each query's history holds, `[queries]`."""
        import pyarrow.compute as pc

        lengths: Int64 = pc.fill_null(pc.list_value_length(self._table["history"]), 0).to_numpy().astype(np.int64)
        return lengths

    def spread(self, count: int) -> Int64:
        """The positions of at most `count` of the queries, evenly spread."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))

    def sample(self, positions: Int64) -> Queries:
        """The queries at these positions, as queries of their own."""
        table = self._table.take(positions)
        found = copy(self)
        found._table, found.rows = table, self.rows[positions]
        return found

    def _counts(self) -> tuple[Int64, Int64]:
        """How many items of each query are relevant, and how many of these it has seen: twice `[queries]`."""
        none = np.zeros(0, dtype=np.int64)
        sizes = [(none, none)]
        for start in range(0, len(self), BLOCK):
            relevant, seen = self._sets(self._table.slice(start, BLOCK))
            sizes.append((relevant.sizes, relevant.intersection(seen).sizes))
        counts, repeated = (np.concatenate(parts) for parts in zip(*sizes, strict=True))
        return counts, repeated

    def _sets(self, table: pa.Table) -> tuple[ItemSets, ItemSets]:
        """The items that are relevant and those that were seen."""
        relevant, seen = (ItemSets.from_lists(table[name], items=self.items) for name in ("relevant", "seen"))
        return relevant, seen

    def _block(self, table: pa.Table) -> QueryBlock:
        relevant, seen = self._sets(table)
        if not self.exclude_seen:
            return QueryBlock(table, relevant, seen, None)
        if self._repeats == "leave_out":
            relevant = relevant.difference(seen)
        return QueryBlock(table, relevant, seen, padded(table["seen"]))
