"""A category of an unbounded vocabulary, hashed."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from two_tower.contracts import Int32, Statistics
from two_tower.features.base import SingleValue, hash_ids, hash_ids_tensor, single_embedding


class Hashed(SingleValue):
    """One value, hashed: 0 is missing, 1 to `buckets` the hash; there is no vocabulary and so no unknown value.

    Values that fall into one bucket share its embedding: Weinberger et al., "Feature Hashing for Large Scale
    Multitask Learning", 2009.  Numbers and booleans are taken by their text.
    """

    type: Literal["hashed"] = "hashed"
    dim: int = Field(16, ge=1, le=65_536, description="Width of the embedding.")
    buckets: int = Field(
        10_000, ge=1, le=1_000_000_000, description="Number of embeddings that the values are hashed into."
    )

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """Nothing: the hash needs no vocabulary."""
        return {}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Ids `[rows, 1]`."""
        return hash_ids(column, self.buckets)[:, None]

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Ids `[batch, 1]`."""
        return hash_ids_tensor(raw, self.buckets)[:, None]

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """One embedding a bucket and one for a missing value."""
        return single_embedding(self.buckets + 1, self.dim, name=name)
