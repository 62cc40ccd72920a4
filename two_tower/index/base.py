"""What every kind of index can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Bool, Float32, Int32

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Layout:
    """What an approximate index keeps of the vectors; another one takes another build."""

    storage: str = "float32"
    """`float32`, `bfloat16` or `int8`: the vectors that rank the quantised best."""
    soar: bool = False
    """Whether each candidate stands in two leaves of the tree."""


@dataclass(frozen=True)
class Effort:
    """How hard an approximate index searches; it can be changed without building again."""

    k: int = 100
    """The K that the others are meant for; more of both for a larger one."""
    reorder: int = 1000
    """How many of the quantised best are scored again by their stored vectors."""
    leaves_to_search: float = 0.1
    """The share of the tree's leaves that a search looks at, where there is a tree."""


class SearchIndex(ABC):
    """The candidates, searchable by the dot product with a query."""

    kind: str

    def __init__(self, item_ids: pa.StringArray, dim: int) -> None:
        self.item_ids = item_ids
        """The candidates' ids; row `i` of a search's result is `item_ids[i]`."""
        self.dim = dim
        self.made_from: dict[str, str] = {}
        """The content hashes, by kind, of the artefacts that the index was made from."""
        self.attributes: pa.Table | None = None
        """One row a candidate, for `allowed_rows`; None in an index that was not loaded."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, exclude: Int32 | None = None
    ) -> tuple[Int32, Float32]:
        """The rows int32 `[n, k]` and scores float32 `[n, k]` of each query's `k` best candidates, best first.

        Where fewer than `k` candidates may be returned the rest is -1 and -inf.  Equal scores come in the order of
        their rows.  A single query is searched on one thread.

        Args:
            queries: `[n, dim]`.
            k: How many candidates.
            allowed: `[len(self)]`, which candidates may be returned; all of them without it.
            exclude: `[n, m]`, the rows that a query must not get, padded with -1.

        Raises:
            ValueError: The queries or a filter have another shape, a query is not finite, or an excluded row does not
                exist.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._check(queries, allowed, exclude)
        most = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if exclude is None or not exclude.size:
            return self._padded(queries, k, most, allowed)
        # As many more as a query excludes: the rows of the others are dropped, and k are left.
        rows, scores = self._padded(queries, k + exclude.shape[1], most, allowed)
        return _without(rows, scores, exclude, k, items=len(self))

    def _padded(self, queries: Float32, k: int, most: int, allowed: Bool | None) -> tuple[Int32, Float32]:
        """As `search` without exclusions, where `most` candidates are allowed."""
        rows = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found = min(k, most)
        if found and len(queries):
            rows[:, :found], scores[:, :found] = self._search(queries, found, allowed if most < len(self) else None)
        return rows, scores

    def _check(self, queries: Float32, allowed: Bool | None, exclude: Int32 | None) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"expected queries of shape [n, {self.dim}], got {list(queries.shape)}")
        if not np.isfinite(queries).all():
            raise ValueError(f"query {int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])} is not finite")
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise ValueError(f"expected allowed to be bool [{len(self)}], got {allowed.dtype} {list(allowed.shape)}")
        if exclude is not None and (exclude.ndim != 2 or len(exclude) != len(queries)):
            raise ValueError(f"expected exclude of shape [{len(queries)}, m], got {list(exclude.shape)}")
        if exclude is not None and exclude.size and not -1 <= exclude.min() <= exclude.max() < len(self):
            raise ValueError(f"exclude names a row outside of -1 to {len(self) - 1}")

    @abstractmethod
    def _search(self, queries: Float32, k: int, allowed: Bool | None) -> tuple[Int32, Float32]:
        """As `search`, for at least one finite query and as many allowed candidates as `k`, at least one.

        `allowed` is None where all are.
        """

    @property
    def approximate(self) -> bool:
        """Whether an `Effort` makes a difference."""
        return False

    @property
    def has_tree(self) -> bool:
        """Whether `Effort.leaves_to_search` makes one."""
        return False

    def set_effort(self, effort: Effort) -> None:  # noqa: B027
        """Searches with another effort from now on, where the kind knows any."""


class IndexKind(SearchIndex):
    """An index that builds, saves and loads itself."""

    @classmethod
    @abstractmethod
    def memory_bytes(cls, items: int, dim: int, layout: Layout) -> int:
        """About how much memory codes and vectors will take; the ids come on top."""

    @classmethod
    @abstractmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, layout: Layout, effort: Effort) -> IndexKind:
        """The index of the finite vectors `[items, dim]`, at least one."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """The JSON-able parameters that `load` needs, once the index's files stand in the empty folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> IndexKind:
        """The index that `save` wrote, wherever its folder stands now."""


def ordered(rows: Int32, scores: Float32, k: int) -> tuple[Int32, Float32]:
    """The first `k` of both `[n, m]` in the order (score descending, row); missing rows, with -inf, come last."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _without(rows: Int32, scores: Float32, exclude: Int32, k: int, *, items: int) -> tuple[Int32, Float32]:
    """The first `k` of each row of `rows` and `scores` that are not excluded, in their order."""
    kept = np.empty(rows.shape, dtype=np.bool_)
    excluded = np.zeros(items + 1, dtype=np.bool_)  # the last one is that of the padding, -1
    for number, left_out in enumerate(exclude):
        excluded[left_out] = True
        kept[number] = ~excluded[rows[number]]
        excluded[left_out] = False
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, axis=1)
    rows = np.where(kept, np.take_along_axis(rows, order, axis=1), np.int32(-1))
    return rows, np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
