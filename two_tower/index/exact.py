"""Exact search: every candidate is scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from two_tower.contracts import Float32, Int32
from two_tower.index.base import Index

if TYPE_CHECKING:
    import pyarrow as pa

    from two_tower.config import Index as IndexSettings

FILE = "vectors.npy"
BLOCK_BYTES = 64 << 20
"""Size of the block of scores that is held at once."""
ROUNDING = 1e-6
"""A matrix product's error relative to the product of the norms: two candidates closer than that are told apart by
their exact scores, or at the edge of the result by their rows."""


class ExactIndex(Index):
    """The best candidates by their true dot products, always in the order (score descending, row)."""

    kind = "exact"

    def __init__(self, vectors: Float32, item_ids: pa.StringArray) -> None:
        super().__init__(item_ids, vectors.shape[1])
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._largest_norm = float(np.sqrt(np.einsum("nd,nd->n", self.vectors, self.vectors).max(initial=0)))

    def _search(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        size = max(1, BLOCK_BYTES // (4 * len(self)))
        blocks = [self._search_block(queries[start : start + size], k) for start in range(0, len(queries), size)]
        return np.concatenate([rows for rows, _ in blocks]), np.concatenate([scores for _, scores in blocks])

    def _search_block(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        if len(queries) == 1:  # einsum runs on the calling thread alone, and faster than a threaded product here
            scores = np.einsum("nd,d->n", self.vectors, queries[0])[None, :]
        else:
            scores = queries @ self.vectors.T
        margins = ROUNDING * self._largest_norm * np.linalg.norm(queries, axis=1)
        rows = _largest(scores, k, margins)
        # A matrix product adds in an order that depends on where a vector stands; einsum does not, so that equal
        # vectors get equal scores.
        return _ordered(rows, np.einsum("bd,bkd->bk", queries, self.vectors[rows]))

    @classmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, settings: IndexSettings) -> ExactIndex:
        return cls(vectors, item_ids)

    def save(self, folder: Path) -> dict[str, Any]:
        np.save(folder / FILE, self.vectors)
        return {}

    @classmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> ExactIndex:
        return cls(np.load(folder / FILE), item_ids)


def _largest(scores: Float32, k: int, margins: Float32) -> Int32:
    """The columns `[n, k]`, ascending, of each row's `k` largest scores.

    Among those within `margins` `[n]` of the `k`-th the lowest columns win.
    """
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]
    chosen = scores >= (kth - margins)[:, None]
    for row in np.flatnonzero(np.count_nonzero(chosen, axis=1) > k):
        columns = np.flatnonzero(chosen[row])
        surely = scores[row, columns] > kth[row] + margins[row]
        chosen[row, columns[~surely][k - np.count_nonzero(surely) :]] = False
    return np.nonzero(chosen)[1].astype(np.int32).reshape(len(scores), k)


def _ordered(rows: Int32, scores: Float32) -> tuple[Int32, Float32]:
    """Both in the order of falling scores, equal scores in the order given (rows ascending)."""
    order: npt.NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
