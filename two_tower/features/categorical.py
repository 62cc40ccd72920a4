"""A category; rare ones share the embedding of unknown values."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from two_tower.contracts import Statistics
from two_tower.features.base import SingleValue, fit_vocabulary
from two_tower.settings import MANY


class Categorical(SingleValue):
    """One value of a vocabulary; numbers and booleans are taken by their text."""

    type: Literal["categorical"] = "categorical"
    dim: int = Field(16, ge=1, le=65_536, description="Width of the embedding.")
    min_count: int = Field(1, ge=1, le=MANY, description="Values that occur in fewer rows than this count as unknown.")
    max_size: int | None = Field(
        None, ge=1, le=MANY, description="Only this many of the most frequent values are known."
    )

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The vocabulary."""
        return {"vocabulary": fit_vocabulary(column, min_count=self.min_count, max_size=self.max_size)}
