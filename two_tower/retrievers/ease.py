"""A linear model of each item by all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from two_tower.contracts import DataSizes, Float32, Int32, Int64
from two_tower.errors import DataError
from two_tower.retrievers.collaborative import Scorer, Weighted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS = 1024
"""Rows of the items' matrix that are worked on together."""


class Ease(Weighted):
    """EASE^R: the items' ridge regression on each other, with no item explaining itself.

    Steck, 2019, "Embarrassingly shallow autoencoders for sparse data": P = (X'X + regularization * I)^-1, and the
    weights are B_ij = -P_ij / P_jj with zeros on the diagonal.  Items that nobody took stay out of it.
    """

    type: Literal["ease"] = "ease"
    regularization: float = Field(200.0, gt=0, le=1e9)
    """Added to the diagonal of the items' co-occurrences before they are inverted."""
    max_items: int = Field(
        20_000,
        ge=1,
        le=1_000_000,
        description="Refuse more items with events than this: the memory grows with their square.",
    )

    def refuses(self, sizes: DataSizes) -> str | None:
        if (taken := sizes.items) > self.max_items:
            return (
                f"{taken:,} items were taken, more than max_items: {self.max_items:,}. Their matrix takes "
                f"{4e-9 * taken**2:,.1f} GB ({taken:,} x {taken:,} x 4 bytes, one copy, inverted in place) and some "
                f"{taken**3 / 1e12:,.0f} TFLOP. Raise max_items where that is to be had, cut rare items off with "
                "data.interactions.k_core, or use item_item or ials"
            )
        return super().refuses(sizes)

    def fit(self, matrix: csr_matrix) -> Scorer:
        taken = np.flatnonzero(np.diff(matrix.tocsc().indptr))
        return LinearModel(self._weights(matrix[:, taken]), taken, items=matrix.shape[1])

    def _weights(self, matrix: csr_matrix) -> Float32:
        """B, float32 `[items, items]`."""
        from scipy.linalg import lapack

        weights = _gram(matrix)
        diagonal = np.einsum("ii->i", weights)
        diagonal += self.regularization
        # Fortran's order is the transpose's; lower there is upper here, and neither call makes a copy.
        _, failed = lapack.spotrf(weights.T, lower=True, clean=False, overwrite_a=True)
        if failed:
            raise DataError(
                f"{self.name}: the items' matrix is singular in float32; raise regularization ({self.regularization:g})"
            )
        lapack.spotri(weights.T, lower=True, overwrite_c=True)
        _mirror_upper(weights)
        scale = -diagonal.copy()
        for start in range(0, len(weights), ROWS):
            weights[start : start + ROWS] /= scale
        diagonal[:] = 0
        return weights


class LinearModel:
    """Scores by the weights of a past's items; negative ones are scores too."""

    def __init__(self, weights: Float32, taken: Int64, *, items: int) -> None:
        """`weights` is for the items with the numbers `taken`; there are `items` of them in all."""
        self.weights, self._taken, self._items = weights, taken, items

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        scores = np.full((past.shape[0], self._items), -np.inf, dtype=np.float32)
        scores[:, self._taken] = past[:, self._taken] @ self.weights
        return scores


def _gram(matrix: csr_matrix) -> Float32:
    """X'X as a dense array, filled some rows at a time."""
    columns = matrix.T.tocsr()
    gram = np.empty((matrix.shape[1], matrix.shape[1]), dtype=np.float32)
    for start in range(0, len(gram), ROWS):
        gram[start : start + ROWS] = (columns[start : start + ROWS] @ matrix).toarray()
    return gram


def _mirror_upper(square: Float32) -> None:
    """Copies what is above the diagonal below it."""
    for start in range(0, len(square), ROWS):
        stop = start + ROWS
        square[start:stop, :start] = square[:start, start:stop].T
        corner = np.triu(square[start:stop, start:stop])
        square[start:stop, start:stop] = corner + np.triu(corner, 1).T
