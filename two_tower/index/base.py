"""What every kind of index can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from two_tower.contracts import Float32, Int32

if TYPE_CHECKING:
    import pyarrow as pa

    from two_tower.config import Index as IndexSettings


class Index(ABC):
    """The candidates, searchable by the dot product with a query."""

    kind: ClassVar[str]

    def __init__(self, item_ids: pa.StringArray, dim: int) -> None:
        self.item_ids = item_ids
        """The candidates' ids; row `i` of a search's result is `item_ids[i]`."""
        self.dim = dim
        self.made_from: dict[str, str] = {}
        """The content hashes, by kind, of the artefacts that the index was made from."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def search(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        """The rows int32 `[n, k]` and scores float32 `[n, k]` of each query's `k` best candidates, best first.

        Where there are fewer than `k` candidates the rest is -1 and -inf.  Equal scores come in the order of their
        rows.  A single query is searched on one thread.

        Args:
            queries: `[n, dim]`.
            k: How many candidates.

        Raises:
            ValueError: The queries have another width, or one is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"expected queries of shape [n, {self.dim}], got {list(queries.shape)}")
        if not np.isfinite(queries).all():
            raise ValueError(f"query {int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])} is not finite")
        rows = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found = min(k, len(self))
        if found and len(queries):
            rows[:, :found], scores[:, :found] = self._search(queries, found)
        return rows, scores

    @abstractmethod
    def _search(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        """As `search`, for at least one finite query and `1 <= k <= len(self)`."""

    @classmethod
    @abstractmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, settings: IndexSettings) -> Index:
        """The index of the finite vectors `[items, dim]`."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """The JSON-able parameters that `load` needs, once the index's files stand in the empty folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> Index:
        """The index that `save` wrote, wherever its folder stands now."""
