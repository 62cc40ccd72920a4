"""An id with an embedding for each of its values."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from two_tower.contracts import Statistics
from two_tower.features.base import SingleValue, fit_vocabulary


class Id(SingleValue):
    """An exact vocabulary: every value that occurs has its own embedding."""

    type: Literal["id"] = "id"
    dim: int = Field(32, ge=1, le=65_536, description="Width of the embedding.")

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The vocabulary."""
        return {"vocabulary": fit_vocabulary(column)}
