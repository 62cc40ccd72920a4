"""What goes together with what the user took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from two_tower.contracts import Float32, Int32
from two_tower.retrievers.collaborative import CELLS, Scorer, Weighted
from two_tower.retrievers.neighbours import evidence, lengths, nearest
from two_tower.settings import MANY

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class ItemItem(Weighted):
    """Item-item nearest neighbours: an item's score is the sum of its similarities to the items of the user's past.

    Sarwar et al., 2001, "Item-based collaborative filtering recommendation algorithms"; the cosine of the items'
    columns, or the product of the columns weighted by BM25 (an item as the document, a user as the term).  An item is
    its own neighbour, so what was taken before counts as well, where it may be retrieved.
    """

    type: Literal["item_item"] = "item_item"
    similarity: Literal["cosine", "bm25"] = "cosine"
    """How near two items are to each other."""
    neighbours: int = Field(100, ge=1, le=MANY, description="How many other items each item is near to.")
    shrink: float = Field(
        10.0,
        ge=0,
        le=1e9,
        description="Added to the cosine's denominator, against likeness from few users; cosine only.",
    )
    k1: float = Field(1.2, gt=0, le=1e9, description="How soon a weight saturates; bm25 only.")
    b: float = Field(0.25, ge=0, le=1, description="How much an item's popularity is held against it; bm25 only.")

    @property
    def name(self) -> str:
        return super().name.replace(self.type, f"{self.type}_bm25") if self.similarity == "bm25" else super().name

    def fit(self, matrix: csr_matrix) -> Scorer:
        return ItemSimilarity(self._similarities(matrix))

    def _similarities(self, matrix: csr_matrix) -> csr_matrix:
        """Row `i` holds the similarities of item `i` to its nearest items and to itself, `[items, items]`."""
        from scipy.sparse import vstack

        columns = matrix.T.tocsr()
        if self.similarity == "bm25":
            from implicit.nearest_neighbours import bm25_weight

            columns = bm25_weight(columns, K1=self.k1, B=self.b).tocsr().astype(np.float32)
        others, scale = columns.T.tocsr(), lengths(columns)
        block, parts = max(1, CELLS // len(scale)), []
        for start in range(0, len(scale), block):
            part = (columns[start : start + block] @ others).tocsr()
            if self.similarity == "cosine":
                rows = np.repeat(scale[start : start + block], np.diff(part.indptr))
                part.data /= rows * scale[part.indices] + np.float32(self.shrink)
            parts.append(self._kept(part, start))
        return vstack(parts, format="csr")

    def _kept(self, similarity: csr_matrix, first: int) -> csr_matrix:
        """The neighbours of the items from number `first` on, and themselves."""
        from scipy.sparse import csr_matrix

        rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
        own = similarity.indices == rows + first
        itself = csr_matrix(
            (similarity.data[own], (rows[own], similarity.indices[own])), shape=similarity.shape, dtype=np.float32
        )
        similarity.data[own] = 0
        similarity.eliminate_zeros()
        return nearest(similarity, self.neighbours) + itself


class ItemSimilarity:
    """Sums the similarities of a past's items."""

    def __init__(self, similarities: csr_matrix) -> None:
        self.similarities = similarities

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        return evidence(past @ self.similarities)
