"""A number, standardised, beside a flag that says whether it was missing."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from two_tower.contracts import FeatureType, Float32, Statistics
from two_tower.features.base import cast_number, identity, raw_number

LIMIT = 10.0
"""Standardised values are clipped to this many standard deviations, against stray values."""


class Numeric(FeatureType):
    """A number; NaN and infinity count as missing."""

    holds = "numbers"

    type: Literal["numeric"] = "numeric"
    log: bool = Field(False, description="Whether sign(x) log(1 + |x|) is taken first, for long-tailed values.")

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """float64.

        Raises:
            DataError: It is no number, nor text that reads as one.
        """
        return cast_number(column, kind="numeric")

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """Mean and standard deviation of the finite values, after the logarithm if there is one."""
        values = self.raw(column)
        values = values[np.isfinite(values)]
        if self.log:
            values = np.sign(values) * np.log1p(np.abs(values))
        if not len(values):
            return {"mean": 0.0, "deviation": 1.0}
        largest = float(np.abs(values).max())  # scaled first, so that squares cannot overflow
        if largest < 1e-100:  # so small that nothing can be divided by it
            return {"mean": 0.0, "deviation": 1.0}
        mean, deviation = float((values / largest).mean()), float((values / largest).std())
        if deviation < 1e-9:  # a constant column carries nothing, and rounding must not be blown up
            deviation = 1.0
        return {"mean": mean * largest, "deviation": deviation * largest}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Float32:
        """Standardised value (0 where missing) and missing flag, `[rows, 2]`."""
        values = self.raw(column)
        known = np.isfinite(values)
        values = np.where(known, values, 0.0)
        if self.log:
            values = np.sign(values) * np.log1p(np.abs(values))
        with np.errstate(over="ignore"):  # an infinity is clipped
            values = values / statistics["deviation"] - statistics["mean"] / statistics["deviation"]
        values = np.where(known, np.clip(values, -LIMIT, LIMIT), 0.0)
        return np.stack([values, ~known], axis=1).astype(np.float32)

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """float64 `[rows]`, null as NaN."""
        return raw_number(column)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """float64 `[batch]`."""
        return "float64", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Standardised value and missing flag, `[batch, 2]`."""
        import tensorflow as tf

        known = tf.math.is_finite(raw)
        values = tf.where(known, raw, tf.zeros_like(raw))
        if self.log:
            values = tf.sign(values) * tf.math.log1p(tf.abs(values))
        values = values / statistics["deviation"] - statistics["mean"] / statistics["deviation"]
        values = tf.where(known, tf.clip_by_value(values, -LIMIT, LIMIT), tf.zeros_like(values))
        return tf.stack([tf.cast(values, tf.float32), tf.cast(~known, tf.float32)], axis=1)

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The two numbers as they are."""
        return identity(name=name)
