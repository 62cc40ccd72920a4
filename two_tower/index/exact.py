"""Exact search: every candidate is scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Bool, Float32, Int32
from two_tower.index.base import Effort, IndexKind, Layout, ordered

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "vectors.npy"
EXACT_BELOW = 20_000
"""Corpus size below which exact search is as fast as an approximate one, as ScaNN's documentation says."""
BLOCK_BYTES = 64 << 20
"""Size of the block of scores that is held at once."""
GROUPS = 4
"""Groups of candidates, as a multiple of K, whose best scores bound the K-th best of all."""
ROUNDING = 1e-6
"""A matrix product's error relative to the product of the norms: candidates closer than that are told apart by their
true scores."""


class ExactIndex(IndexKind):
    """The best candidates by their true dot products, always in the order (score descending, row)."""

    kind = "exact"

    def __init__(self, vectors: Float32, item_ids: pa.StringArray) -> None:
        super().__init__(item_ids, vectors.shape[1])
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._largest_norm = _largest_norm(self.vectors)

    def _search(self, queries: Float32, k: int, allowed: Bool | None) -> tuple[Int32, Float32]:
        if allowed is None:
            return search_among(self.vectors, queries, k, largest_norm=self._largest_norm)
        few = np.flatnonzero(allowed).astype(np.int32)
        rows, scores = search_among(self.vectors[few], queries, k, largest_norm=self._largest_norm)
        return few[rows], scores

    @classmethod
    def memory_bytes(cls, items: int, dim: int, layout: Layout) -> int:
        return 4 * items * dim

    @classmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, layout: Layout, effort: Effort) -> ExactIndex:
        return cls(vectors, item_ids)

    def save(self, folder: Path) -> dict[str, Any]:
        np.save(folder / FILE, self.vectors)
        return {}

    @classmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> ExactIndex:
        return cls(np.load(folder / FILE), item_ids)


def search_among(
    vectors: Float32, queries: Float32, k: int, *, largest_norm: float | None = None
) -> tuple[Int32, Float32]:
    """The rows and scores `[n, k]` of each query's best among `vectors` `[items, dim]`, in the order (score, row).

    Args:
        vectors: At least `k`.
        queries: `[n, dim]`, finite.
        k: How many, at least one.
        largest_norm: The largest norm of the vectors or more, where it is known.
    """
    if largest_norm is None:
        largest_norm = _largest_norm(vectors)
    size = max(1, BLOCK_BYTES // (4 * len(vectors)))
    blocks = [
        _search_block(vectors, queries[start : start + size], k, largest_norm) for start in range(0, len(queries), size)
    ]
    return np.concatenate([rows for rows, _ in blocks]), np.concatenate([scores for _, scores in blocks])


def _largest_norm(vectors: Float32) -> float:
    return float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0)))


def _search_block(vectors: Float32, queries: Float32, k: int, largest_norm: float) -> tuple[Int32, Float32]:
    # For one query einsum runs on the calling thread alone, and is faster than a threaded product.
    scores = np.einsum("nd,d->n", vectors, queries[0])[None, :] if len(queries) == 1 else queries @ vectors.T
    margins = ROUNDING * largest_norm * np.linalg.norm(queries, axis=1)
    width = len(vectors)
    places = np.flatnonzero(scores >= (_floors(scores, k) - margins)[:, None])
    near_of = np.split(places % width, np.searchsorted(places, width * np.arange(1, len(queries))))
    rows = np.empty((len(queries), k), dtype=np.int32)
    for row, near in enumerate(near_of):
        if len(near) > k:
            kth = np.partition(scores[row, near], -k)[-k]
            near = near[scores[row, near] >= kth - margins[row]]
        if len(near) > k:
            exact = _true_scores(queries[row : row + 1], vectors[near][None])[0]
            near = np.sort(near[np.lexsort((near, -exact))[:k]])
        rows[row] = near
    return ordered(rows, _true_scores(queries, vectors[rows]), k)


def _floors(scores: Float32, k: int) -> Float32:
    """For each row of scores `[n, items]` a bound `[n]` that at least `k` of them reach, and few more.

    At least k of some groups hold a score as high as the k-th best of the groups' maxima, which is cheaper to find than
    the k-th best of all scores.
    """
    groups = GROUPS * k
    size = scores.shape[1] // groups
    if size < 2:
        best: Float32 = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]
        return best
    maxima = scores[:, : groups * size].reshape(len(scores), groups, size).max(axis=2)
    floors: Float32 = np.partition(maxima, groups - k, axis=1)[:, -k]
    return floors


def _true_scores(queries: Float32, vectors: Float32) -> Float32:
    """The dot products `[n, k]` of queries `[n, dim]` with their vectors `[n, k, dim]`.

    A matrix product adds in an order that depends on where a vector stands; einsum does not, so that equal vectors get
    equal scores.
    """
    scores: Float32 = np.einsum("bd,bkd->bk", queries, vectors)
    return scores
