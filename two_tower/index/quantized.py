"""ScaNN: asymmetric hashing with exact rescoring, over a tree where the corpus is large."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Float32, Int32
from two_tower.index.base import Index

if TYPE_CHECKING:
    import pyarrow as pa

    from two_tower.config import Index as IndexSettings

TREE_FROM = 100_000
"""Corpus size from which a tree is put above the hashing, as ScaNN's documentation advises."""
DIMENSIONS_PER_BLOCK = 2
ANISOTROPIC_THRESHOLD = 0.2
"""How much more an error along the vector counts than one across it, in the form that ScaNN's documentation uses."""
TRAINING_SAMPLE = 250_000


class ScannIndex(Index):
    """Approximately the best candidates, by anisotropic vector quantisation (Guo et al. 2020, arXiv:1908.10396).

    The quantised scores choose `reorder` candidates (at least twice `k`), whose true dot products then rank them.
    """

    kind = "scann"

    def __init__(self, searcher: Any, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> None:
        super().__init__(item_ids, dim)
        self._searcher = searcher
        self.parameters = parameters
        """`reorder`, and with a tree `leaves` and `leaves_to_search`."""

    def _search(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        reorder = min(len(self), max(self.parameters["reorder"], 2 * k))
        rows, scores = self._ask(queries, k, pre_reorder_num_neighbors=reorder)
        short = (rows < 0).any(axis=1)  # the leaves visited held fewer than k
        if short.any():
            rows[short], scores[short] = self._ask(
                queries[short], k, pre_reorder_num_neighbors=len(self), leaves_to_search=self.parameters["leaves"]
            )
        return rows, scores

    def _ask(self, queries: Float32, k: int, **options: int) -> tuple[Int32, Float32]:
        search = self._searcher.search_batched if len(queries) == 1 else self._searcher.search_batched_parallel
        rows, scores = search(queries, final_num_neighbors=k, **options)
        missing = np.isnan(scores)
        rows, scores = np.where(missing, -1, rows).astype(np.int32), np.where(missing, -np.inf, scores)
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)

    @classmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, settings: IndexSettings) -> ScannIndex:
        items, dim = vectors.shape
        parameters: dict[str, Any] = {"reorder": settings.reorder}
        builder = _scann().builder(vectors, 10, "dot_product")
        if items > TREE_FROM:
            leaves = round(math.sqrt(items))
            visited = math.ceil(leaves * settings.leaves_to_search)
            parameters |= {"leaves": leaves, "leaves_to_search": visited}
            builder = builder.tree(leaves, visited, training_sample_size=TRAINING_SAMPLE)
        builder = builder.score_ah(
            DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD
        ).reorder(settings.reorder)
        # Training on several threads gives other partitions each time; equal vectors shall give equal files.
        return cls(builder.set_n_training_threads(1).build(), item_ids, dim=dim, parameters=parameters)

    def save(self, folder: Path) -> dict[str, Any]:
        self._searcher.serialize(str(folder), relative_path=True)  # absolute paths would break a copy elsewhere
        return self.parameters

    @classmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> ScannIndex:
        return cls(_scann().load_searcher(str(folder)), item_ids, dim=dim, parameters=parameters)


def _scann() -> Any:
    """ScaNN's module, whose import also imports TensorFlow."""
    from scann.scann_ops.py import scann_ops_pybind

    return scann_ops_pybind
