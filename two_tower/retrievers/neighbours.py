"""Sparse similarities cut down to the nearest neighbours."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from two_tower.contracts import Float32
from two_tower.retrievers.ranking import best

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def lengths(matrix: csr_matrix) -> Float32:
    """The Euclidean lengths of the rows, 1 in place of 0, float32 `[rows]`."""
    squares = np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float64).ravel()
    return np.sqrt(np.where(squares > 0, squares, 1)).astype(np.float32)


def nearest(similarity: csr_matrix, count: int) -> csr_matrix:
    """The `count` largest values of each row, the other ones taken out; equal ones by column."""
    from scipy.sparse import csr_matrix

    similarity.sort_indices()
    bounds, kept = similarity.indptr, []
    for start, stop in pairwise(bounds):
        kept.append(np.sort(best(similarity.data[start:stop], count)) + start)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
    chosen = np.concatenate([*kept, np.zeros(0, dtype=np.int64)])
    return csr_matrix((similarity.data[chosen], similarity.indices[chosen], starts), shape=similarity.shape)


def evidence(scores: csr_matrix) -> Float32:
    """Sums of similarities as dense scores, -inf where there is nothing to sum."""
    dense: Float32 = scores.toarray()
    dense[dense == 0] = -np.inf
    return dense
