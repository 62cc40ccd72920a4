"""What a search of a live index sees: the main index, the rows of it that are dead, and the delta beside it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from two_tower.config import Range
from two_tower.contracts import Bool, Float32, Int32
from two_tower.index.base import SearchIndex, ordered
from two_tower.index.exact import ROUNDING, search_among
from two_tower.index.filters import allowed_rows

if TYPE_CHECKING:
    import pyarrow as pa

Ids = npt.NDArray[np.object_]
Search = Callable[[Float32, int], tuple[Int32, Float32]]
"""From queries and a depth to rows and scores, as `SearchIndex.search`."""

SMALLEST = 64
"""Rows that a delta has room for at the start, and dead ones that it keeps whatever the living."""
ONE_THREAD = 9000
"""Size of a matrix that OpenBLAS multiplies with a vector without waking other threads (`interface/gemv.c`: below
9216); blocks of it take half the time that einsum takes."""


class Found(NamedTuple):
    """The best items of each query, best first; the rest is None and -inf where there are fewer."""

    item_ids: Ids
    """`[n, k]`, strings."""
    scores: Float32
    """`[n, k]`."""


class Allowed:
    """The items whose attributes, or ids, meet conditions, such as `{"category": ["dairy"], "item_id": ["7", "8"]}`.

    Each row of an index is looked at once: keep the object, and search with it again.
    """

    def __init__(self, where: Mapping[str, Sequence[str] | Range]) -> None:
        """The items that meet all of `where`, as `allowed_rows` takes it; `item_id` stands for the id."""
        self.where = dict(where)
        self._masks: WeakKeyDictionary[Rows, Bool] = WeakKeyDictionary()

    def of(self, rows: Rows, count: int) -> Bool:
        """Which of the first `count` rows meet the conditions, bool `[count]`.

        Raises:
            DataError: There is no such attribute, or the condition does not fit its type.
        """
        known = self._masks.get(rows, np.zeros(0, dtype=np.bool_))
        if len(known) < count:
            known = np.concatenate([known, allowed_rows(rows.table.slice(len(known)), self.where)])
            self._masks[rows] = known
        return known[:count]


class Rows:
    """Items by row number: their ids, and a table of ids and attributes."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        """`item_id` string and the attributes, in the order of the rows."""
        self.ids: Ids = np.array(table["item_id"].to_pylist(), dtype=object)


class GrowingRows(Rows):
    """Rows with vectors, to which others are appended; those that are there never change.

    So a search that knows how many there were goes on undisturbed while more are appended.
    """

    def __init__(self, dim: int, schema: pa.Schema) -> None:
        super().__init__(schema.empty_table())
        self.ids = np.empty(SMALLEST, dtype=object)
        self.vectors: Float32 = np.empty((SMALLEST, dim), dtype=np.float32)
        """`[room, dim]`."""
        self.row_of: dict[str, int] = {}
        """The newest row of each id."""
        self.largest_norm = 0.0

    def append(self, table: pa.Table, vectors: Float32) -> None:
        """Appends distinct items, ids and attributes in `table`."""
        start, stop = len(self.table), len(self.table) + len(table)
        ids = table["item_id"].to_pylist()
        self.ids, self.vectors = _with_room(self.ids, start, stop), _with_room(self.vectors, start, stop)
        self.ids[start:stop], self.vectors[start:stop] = ids, vectors
        self.row_of.update(zip(ids, range(start, stop), strict=True))
        self.largest_norm = max(self.largest_norm, float(np.linalg.norm(vectors, axis=1).max(initial=0)))
        self.table = _joined([self.table, table])

    def search(self, queries: Float32, k: int, *, count: int, chosen: Int32 | None) -> tuple[Int32, Float32]:
        """The best of the first `count` rows, or of the `chosen` ones, at most `k` of them."""
        if chosen is None:
            return search_among(self.vectors[:count], queries, min(k, count), largest_norm=self.largest_norm)
        few = self.vectors[chosen]
        rows, scores = search_among(few, queries, min(k, len(few)), largest_norm=self.largest_norm)
        return chosen[rows], scores

    def near(self, query: Float32, k: int, mask: Bool, *, floor: float) -> Bool:
        """`mask` `[count]` less rows that are not among its `k` best for the query `[dim]`, or score below `floor`.

        Rows that rounding may have put there stay.
        """
        scores = _products(self.vectors[: len(mask)], query)
        margin = ROUNDING * self.largest_norm * math.sqrt(query @ query)
        mask = mask & (scores >= floor - margin)
        if np.count_nonzero(mask) > k:
            mask &= scores >= np.partition(scores[mask], -k)[-k] - margin
        return mask


@dataclass(frozen=True, eq=False)
class View:
    """What one search sees from its start to its end; a change of the index makes another view.

    Rows are numbered through: first those of the main index, then those of the delta.
    """

    main: SearchIndex
    main_rows: Rows
    row_of: dict[str, int]
    """The main index's row of each of its ids."""
    dead: Bool
    """`[main rows]`: removed, or updated and therefore in the delta."""
    delta: GrowingRows
    delta_dead: Bool
    """`[delta rows]`: removed, or updated and therefore in a later row."""
    dead_count: int = 0
    delta_dead_count: int = 0

    @classmethod
    def of(cls, main: SearchIndex, rows: Rows) -> View:
        """The view of the main index alone."""
        row_of = dict(zip(rows.ids.tolist(), range(len(rows.ids)), strict=True))
        delta = GrowingRows(main.dim, rows.table.schema)
        return cls(main, rows, row_of, np.zeros(len(row_of), np.bool_), delta, np.zeros(0, np.bool_))

    def __len__(self) -> int:
        return len(self.dead) - self.dead_count + len(self.delta_dead) - self.delta_dead_count

    def living(self, item_ids: Sequence[str]) -> list[str]:
        """Those of the ids, once each, that the index holds."""
        return [item_id for item_id in dict.fromkeys(item_ids) if self._holds(item_id)]

    def with_items(self, table: pa.Table, vectors: Float32) -> View:
        """The view after distinct items, ids and attributes in `table`, were added or updated."""
        view = self.without(table["item_id"].to_pylist())
        view.delta.append(table, vectors)
        return dataclasses.replace(view, delta_dead=np.append(view.delta_dead, np.zeros(len(table), np.bool_)))

    def without(self, item_ids: Sequence[str]) -> View:
        """The view after the items were removed."""
        main, dead_count = _marked(self.dead, self.row_of, item_ids)
        delta, delta_dead_count = _marked(self.delta_dead, self.delta.row_of, item_ids)
        view = dataclasses.replace(
            self, dead=main, dead_count=dead_count, delta_dead=delta, delta_dead_count=delta_dead_count
        )
        return view._compacted() if delta_dead_count > SMALLEST + len(delta) // 4 else view

    def items(self) -> pa.Table:
        """Ids and attributes of all items, in the order in which a fresh build holds them."""
        import pyarrow as pa

        delta = self.delta.table.slice(0, len(self.delta_dead))
        return _joined([self.main_rows.table.filter(pa.array(~self.dead)), delta.filter(pa.array(~self.delta_dead))])

    def delta_vectors(self) -> Float32:
        """The vectors of the delta's living rows, `[rows, dim]`."""
        return self.delta.vectors[: len(self.delta_dead)][~self.delta_dead]

    def search(
        self, queries: Float32, k: int, *, allowed: Allowed | None, exclude: Sequence[Collection[str]] | None
    ) -> Found:
        """See `LiveIndex.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        excluded = None if exclude is None else _checked_sets(exclude, len(queries))
        rows, scores = self._search_main(queries, k, allowed, excluded)
        if len(queries) and self.delta_dead_count < len(self.delta_dead):
            # Of a single query's k best in the main index the last one tells the delta's rows that cannot come in.
            floor = float(scores[0, -1]) if len(queries) == 1 and 0 < k == scores.shape[1] else -math.inf
            delta_rows, delta_scores = self._search_delta(queries, k, floor, allowed, excluded)
            delta_rows = np.where(delta_rows >= 0, delta_rows + np.int32(len(self.dead)), np.int32(-1))
            rows, scores = ordered(np.hstack([rows, delta_rows]), np.hstack([scores, delta_scores]), k)
        return Found(_padded(self._ids(rows), k, None), _padded(scores, k, -np.inf))

    def _search_main(
        self, queries: Float32, k: int, allowed: Allowed | None, excluded: Sequence[Collection[str]] | None
    ) -> tuple[Int32, Float32]:
        ids = self.main_rows.ids
        if allowed is None:
            return _best(self.main.search, ids, self.dead, self.dead_count, queries, k, excluded)
        mask = allowed.of(self.main_rows, len(self.dead)) & ~self.dead
        found = functools.partial(self.main.search, allowed=mask)
        return _best(found, ids, self.dead, 0, queries, k, excluded)

    def _search_delta(
        self,
        queries: Float32,
        k: int,
        floor: float,
        allowed: Allowed | None,
        excluded: Sequence[Collection[str]] | None,
    ) -> tuple[Int32, Float32]:
        """The delta's best for each query; for a single one only what reaches the score `floor`."""
        delta, dead_count, chosen = self.delta, self.delta_dead_count, None
        count = len(self.delta_dead)
        if allowed is not None or len(queries) == 1:
            mask = ~self.delta_dead if allowed is None else allowed.of(delta, count) & ~self.delta_dead
            if len(queries) == 1:
                mask = delta.near(queries[0], _most(k, excluded), mask, floor=floor)
            chosen, dead_count = np.flatnonzero(mask).astype(np.int32), 0
            if not len(chosen):
                return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        found = functools.partial(delta.search, count=count, chosen=chosen)
        return _best(found, delta.ids, self.delta_dead, dead_count, queries, k, excluded)

    def _ids(self, rows: Int32) -> Ids:
        ids: Ids = np.full(rows.shape, None, dtype=object)
        in_main, in_delta = (rows >= 0) & (rows < len(self.dead)), rows >= len(self.dead)
        ids[in_main] = self.main_rows.ids[rows[in_main]]
        ids[in_delta] = self.delta.ids[rows[in_delta] - len(self.dead)]
        return ids

    def _holds(self, item_id: str) -> bool:
        row = self.row_of.get(item_id)
        if row is not None and not self.dead[row]:
            return True
        row = self.delta.row_of.get(item_id)
        return row is not None and not self.delta_dead[row]

    def _compacted(self) -> View:
        """The same view, the delta without its dead rows."""
        import pyarrow as pa

        delta = GrowingRows(self.main.dim, self.delta.table.schema)
        delta.append(self.delta.table.filter(pa.array(~self.delta_dead)), self.delta_vectors())
        alive = np.zeros(len(delta.table), np.bool_)
        return dataclasses.replace(self, delta=delta, delta_dead=alive, delta_dead_count=0)


def _best(
    search: Search,
    ids: Ids,
    dead: Bool,
    dead_count: int,
    queries: Float32,
    k: int,
    excluded: Sequence[Collection[str]] | None,
) -> tuple[Int32, Float32]:
    """The rows and scores `[n, k]` or narrower of the best that are neither dead nor excluded; -1, -inf at the end.

    Searches for as many more as are likely to be dropped, and deeper where too few are left.
    """
    total = len(dead)
    depth = _most(k, excluded)
    if dead_count:
        depth += 8 + 2 * math.ceil(depth * dead_count / total)
    while True:
        depth = min(depth, total)
        rows, scores = search(queries, depth)
        kept = rows >= 0
        if dead_count:
            kept &= ~dead[rows]
        if excluded is not None:
            kept &= ~_excluded(ids, rows, excluded)
        enough = np.count_nonzero(kept, axis=1) >= k
        if depth == total or rows.shape[1] < depth or (enough | (rows[:, -1] < 0)).all():
            break
        depth *= 4
    if kept.all():
        return rows[:, :k], scores[:, :k]
    if len(rows) == 1:
        first = np.flatnonzero(kept[0])[:k]
        return rows[:, first], scores[:, first]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, axis=1)
    rows = np.where(kept, np.take_along_axis(rows, order, axis=1), np.int32(-1))
    return rows, np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))


def _products(vectors: Float32, query: Float32) -> Float32:
    """The dot products `[n]` of vectors `[n, dim]` and a query `[dim]`, to rounding, on the calling thread alone."""
    height = max(1, ONE_THREAD // len(query))
    whole = len(vectors) - len(vectors) % height
    blocks = vectors[:whole].reshape(-1, height, len(query))
    return np.concatenate([np.matmul(blocks, query).reshape(-1), vectors[whole:] @ query])


def _most(k: int, excluded: Sequence[Collection[str]] | None) -> int:
    """How many living rows hold the `k` best that are not excluded."""
    return max(1, k + max(map(len, excluded or []), default=0))


def _excluded(ids: Ids, rows: Int32, excluded: Sequence[Collection[str]]) -> Bool:
    """Which of the rows `[n, m]` have an id that their query excludes."""
    hit = [[item_id in out for item_id in ids[found]] for found, out in zip(rows, excluded, strict=True)]
    return np.array(hit, dtype=np.bool_).reshape(rows.shape)


def _checked_sets(exclude: Sequence[Collection[str]], queries: int) -> list[frozenset[str]]:
    if len(exclude) != queries:
        raise ValueError(f"expected the excluded ids of {queries} queries, got those of {len(exclude)}")
    if any(isinstance(ids, str) for ids in exclude):
        raise ValueError("expected a collection of ids to exclude for each query, got a string")
    return [frozenset(ids) for ids in exclude]


def _marked(dead: Bool, row_of: dict[str, int], item_ids: Sequence[str]) -> tuple[Bool, int]:
    """`dead` with the rows of the items marked, and how many are dead then."""
    rows = [row_of[item_id] for item_id in item_ids if item_id in row_of]
    if rows:
        dead = dead.copy()
        dead[rows] = True
    return dead, int(np.count_nonzero(dead))


def _with_room(values: Any, used: int, needed: int) -> Any:
    """The array, or one twice as long with its first `used` entries, so that `needed` have room."""
    if needed <= len(values):
        return values
    larger = np.empty((max(needed, 2 * len(values)), *values.shape[1:]), dtype=values.dtype)
    larger[:used] = values[:used]
    return larger


def _joined(tables: list[pa.Table]) -> pa.Table:
    """The tables' rows, in few chunks."""
    import pyarrow as pa

    joined = pa.concat_tables(tables)
    return joined.combine_chunks() if joined.column(0).num_chunks > SMALLEST else joined


def _padded(values: Any, k: int, filler: object) -> Any:
    """`[n, k]`, filled up at the end."""
    if values.shape[1] == k:
        return values
    padded = np.full((len(values), k), filler, dtype=values.dtype)
    padded[:, : values.shape[1]] = values
    return padded
