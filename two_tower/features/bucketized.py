"""A number as the embedding of its quantile bucket."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from two_tower.contracts import FeatureType, Int32, Statistics
from two_tower.features.base import MISSING, cast_number, raw_number, single_embedding

SMALLEST = float(np.finfo(np.float64).tiny)
"""The least normal float64.

Smaller numbers count as 0: TensorFlow's kernels flush them to 0 (or not, by the thread), and NumPy does not, so that
they would fall on different sides of an edge.
"""


class Bucketized(FeatureType):
    """A number's quantile bucket, for effects that are not monotonous; NaN and infinity count as missing.

    Ids: 0 is missing, 1 + the number of edges that are not above the value otherwise.
    """

    holds = "numbers"

    type: Literal["bucketized"] = "bucketized"
    dim: int = Field(8, ge=1, le=65_536, description="Width of the embedding.")
    buckets: int = Field(
        10,
        ge=2,
        le=1_000_000,
        description="Number of quantile buckets, at most: fewer where frequent values fill several.",
    )

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """float64.

        Raises:
            DataError: It is no number, nor text that reads as one.
        """
        return cast_number(column, kind="bucketized")

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The edges, ascending and distinct, at most `buckets - 1`.

        Each is a value that occurs (the quantile k / buckets without interpolation) and the least of its bucket; the
        least value of all is none, so that no bucket is empty.
        """
        values = self.raw(column)
        values = np.sort(_flushed(values[np.isfinite(values)]))
        if not len(values):
            return {"edges": []}
        edges = np.unique(values[np.arange(1, self.buckets) * len(values) // self.buckets])
        return {"edges": edges[edges > values[0]].tolist()}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Ids `[rows, 1]`."""
        values = self.raw(column)
        place = np.searchsorted(np.array(statistics["edges"], np.float64), _flushed(values), side="right")
        return np.where(np.isfinite(values), place + 1, MISSING).astype(np.int32)[:, None]

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """float64 `[rows]`, null as NaN."""
        return raw_number(column)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """float64 `[batch]`."""
        return "float64", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Ids `[batch, 1]`."""
        import tensorflow as tf

        values = tf.where(tf.abs(raw) < SMALLEST, tf.zeros_like(raw), raw)
        place = tf.searchsorted(tf.constant(statistics["edges"], tf.float64), values, side="right")
        return tf.where(tf.math.is_finite(raw), place + 1, MISSING)[:, None]

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """One embedding a bucket and one for a missing value."""
        return single_embedding(len(statistics["edges"]) + 2, self.dim, name=name)


def _flushed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(np.abs(values) < SMALLEST, 0.0, values)
