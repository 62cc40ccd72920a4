"""ScaNN: asymmetric hashing with rescoring, over a tree where the corpus is large."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Bool, Float32, Int32
from two_tower.errors import ArtifactError
from two_tower.extras import naming_extras
from two_tower.index.base import Effort, IndexKind, Layout, ordered
from two_tower.index.exact import search_among

if TYPE_CHECKING:
    import pyarrow as pa

TREE_FROM = 100_000
"""Corpus size from which a tree is put above the hashing, as ScaNN's documentation advises."""
DIMENSIONS_PER_BLOCK = 2
ANISOTROPIC_THRESHOLD = 0.2
"""How much more an error along the vector counts than one across it, in the form that ScaNN's documentation uses."""
TRAINING_SAMPLE = 250_000
SOAR_LAMBDA = 1.5
"""The value of ScaNN's documentation."""
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Of a stored coordinate."""
PICKLED = "scann_docids.pkl"
"""What ScaNN's loader unpickles if it is there, which runs whatever code is in it; no index of ours has ids there."""
ROWS_A_STEP = 4
"""A filtered search reads the allowed vectors one by one if they are fewer than this many times the candidates that
ScaNN would have to go through."""


class ScannIndex(IndexKind):
    """Approximately the best candidates, by anisotropic vector quantisation (Guo et al. 2020, arXiv:1908.10396).

    The quantised scores choose `reorder` candidates, whose dot products with the stored vectors then rank them.  With
    a tree only `leaves_to_search` of its leaves are looked at; with `soar` each candidate stands in two leaves (Sun et
    al. 2023, arXiv:2404.00774).
    """

    kind = "scann"

    def __init__(
        self,
        searcher: Any,
        item_ids: pa.StringArray,
        *,
        dim: int,
        parameters: dict[str, Any],
        vectors_of: Callable[[Int32], Float32],
    ) -> None:
        super().__init__(item_ids, dim)
        self._searcher = searcher
        self._vectors_of = vectors_of
        self.parameters = parameters
        """`storage`, and what `set_effort` sets; with a tree `leaves` and `soar`."""

    @property
    def approximate(self) -> bool:
        return True

    @property
    def has_tree(self) -> bool:
        return "leaves" in self.parameters

    def set_effort(self, effort: Effort) -> None:
        self.parameters |= dataclasses.asdict(effort)

    def _search(self, queries: Float32, k: int, allowed: Bool | None) -> tuple[Int32, Float32]:
        if allowed is None:
            return self._first(queries, k)
        few = np.flatnonzero(allowed).astype(np.int32)
        rows = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        short = np.arange(len(queries))
        depth = k * len(self) // len(few) + k
        while len(short) and depth * ROWS_A_STEP < len(few):
            found, values = self._first(queries[short], depth)
            values[~allowed[found]] = -np.inf
            found, values = ordered(np.where(np.isinf(values), -1, found), values, k)
            rows[short], scores[short] = found, values
            short, depth = short[found[:, -1] < 0], depth * 4
        if len(short):
            among, values = search_among(self._vectors_of(few), queries[short], k)
            rows[short], scores[short] = few[among], values
        return rows, scores

    def _first(self, queries: Float32, k: int) -> tuple[Int32, Float32]:
        """The first `k` of all candidates."""
        deeper = max(1.0, k / self.parameters["k"])
        effort = {"pre_reorder_num_neighbors": min(len(self), max(k, round(deeper * self.parameters["reorder"])))}
        if leaves := self.parameters.get("leaves"):
            visited = math.ceil(deeper * self.parameters["leaves_to_search"] * leaves)
            effort["leaves_to_search"] = min(leaves, visited)
        rows, scores = self._ask(queries, k, **effort)
        short = (rows < 0).any(axis=1)  # the leaves visited held fewer than k
        if short.any():
            everything = {"pre_reorder_num_neighbors": len(self), "leaves_to_search": self.parameters["leaves"]}
            rows[short], scores[short] = self._ask(queries[short], k, **everything)
        return rows, scores

    def _ask(self, queries: Float32, k: int, **effort: int) -> tuple[Int32, Float32]:
        search = self._searcher.search_batched if len(queries) == 1 else self._searcher.search_batched_parallel
        rows, scores = search(queries, final_num_neighbors=k, **effort)
        missing = np.isnan(scores)
        if missing.any():
            rows, scores = np.where(missing, -1, rows), np.where(missing, np.float32(-np.inf), scores)
        return ordered(rows.astype(np.int32), scores, k)

    @classmethod
    def memory_bytes(cls, items: int, dim: int, layout: Layout) -> int:
        codes = math.ceil(dim / DIMENSIONS_PER_BLOCK) / 2 + 4  # half a byte a block, and the number of the leaf
        return round(items * (dim * BYTES[layout.storage] + codes * (2 if layout.soar else 1)))

    @classmethod
    def build(cls, vectors: Float32, item_ids: pa.StringArray, *, layout: Layout, effort: Effort) -> ScannIndex:
        items, dim = vectors.shape
        parameters: dict[str, Any] = {"storage": layout.storage, **dataclasses.asdict(effort)}
        builder = _scann().builder(vectors, 10, "dot_product")
        if items > TREE_FROM:
            parameters |= {"leaves": round(2 * math.sqrt(items)), "soar": layout.soar}
            builder = builder.tree(
                parameters["leaves"],
                math.ceil(parameters["leaves"] * effort.leaves_to_search),
                training_sample_size=TRAINING_SAMPLE,
                soar_lambda=SOAR_LAMBDA if layout.soar else None,
            )
        builder = builder.score_ah(DIMENSIONS_PER_BLOCK, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD)
        builder = builder.reorder(effort.reorder, quantize=_reorder_type(layout.storage))
        # Training on several threads gives other partitions each time; equal vectors shall give equal files.
        searcher = builder.set_n_training_threads(1).build()
        return cls(searcher, item_ids, dim=dim, parameters=parameters, vectors_of=vectors.__getitem__)

    def save(self, folder: Path) -> dict[str, Any]:
        self._searcher.serialize(str(folder), relative_path=True)  # absolute paths would break a copy elsewhere
        return self.parameters

    @classmethod
    def load(cls, folder: Path, item_ids: pa.StringArray, *, dim: int, parameters: dict[str, Any]) -> ScannIndex:
        if os.path.lexists(folder / PICKLED):
            raise ArtifactError(
                f"{folder / PICKLED}: not loaded, since ScaNN would run what is in it, and no index has such a file of "
                "its own; find out who put it there, and build the index again"
            )
        searcher = _scann().load_searcher(str(folder))
        stored = functools.partial(stored_vectors, folder, parameters["storage"])
        return cls(searcher, item_ids, dim=dim, parameters=parameters, vectors_of=stored)


def stored_vectors(folder: Path, storage: str, rows: Int32) -> Float32:
    """The vectors `[rows, dim]` that a saved index ranks by, read from its files.

    Args:
        folder: The index's files.
        storage: `float32`, `bfloat16` or `int8`.
        rows: Which of them.
    """
    name = "dataset.npy" if storage == "float32" else f"{storage}_dataset.npy"
    values = np.load(folder / name, mmap_mode="r")[rows]
    if storage == "bfloat16":
        values = (values.astype(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif storage == "int8":
        values = values / np.load(folder / "int8_multipliers.npy")
    return np.ascontiguousarray(values, dtype=np.float32)


def _reorder_type(name: str) -> Any:
    from scann.scann_ops.py.scann_builder import ReorderType

    return ReorderType[name.upper()]


def _scann() -> Any:
    """ScaNN's module, whose import also imports TensorFlow."""
    with naming_extras("an index of the kind scann", "serve"):
        from scann.scann_ops.py import scann_ops_pybind

    return scann_ops_pybind
