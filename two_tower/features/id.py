"""An id with an embedding for each of its values."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from two_tower.contracts import FeatureType, Int32, Statistics
from two_tower.features.base import FIRST, cast_text, fit_vocabulary, lookup, lookup_tensor, raw_text, single_embedding


class Id(FeatureType):
    """An exact vocabulary: every value that occurs has its own embedding."""

    type: Literal["id"] = "id"
    dim: int = Field(32, ge=1, description="Width of the embedding.")

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Strings; the empty string is missing."""
        return cast_text(column, kind="id")

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The vocabulary."""
        return {"vocabulary": fit_vocabulary(column)}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Ids `[rows, 1]`."""
        return lookup(column, statistics["vocabulary"])[:, None]

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """Strings `[rows]`."""
        return raw_text(column)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """Strings `[batch]`."""
        return "string", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Ids `[batch, 1]`."""
        return lookup_tensor(raw, statistics["vocabulary"])[:, None]

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """One embedding a value, one for unknown values and one for a missing value."""
        return single_embedding(len(statistics["vocabulary"]) + FIRST, self.dim, name=name)
