"""A point in time as its hour of the day and its day of the week, each on a circle."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.contracts import FeatureType, Float32, Statistics
from two_tower.errors import DataError
from two_tower.features.base import identity

DAY = 86400.0
EPOCH_WEEKDAY = 3.0  # 1970-01-01 was a Thursday; Monday is 0


class Timestamp(FeatureType):
    """Sine and cosine of the hour of the day and of the weekday, in UTC, and a missing flag."""

    type: Literal["timestamp"] = "timestamp"

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """timestamp[us, UTC]; a time without a zone is taken as UTC.

        Raises:
            DataError: It is no timestamp, no date and no ISO 8601 text.
        """
        try:
            return column.cast(pa.timestamp("us"), safe=False).cast(pa.timestamp("us", tz="UTC"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"a column of type {column.type} cannot be a timestamp feature: {error}") from error

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """Nothing."""
        return {}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Float32:
        """sin and cos of the hour, sin and cos of the weekday, missing flag: `[rows, 5]`."""
        seconds = self.raw(column)
        known = np.isfinite(seconds)
        seconds = np.where(known, seconds, 0.0)
        hour = np.mod(seconds, DAY) * (2 * np.pi / DAY)
        weekday = np.mod(np.floor(seconds / DAY) + EPOCH_WEEKDAY, 7.0) * (2 * np.pi / 7)
        parts = np.stack([np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday)], axis=1)
        return np.concatenate([parts * known[:, None], ~known[:, None]], axis=1).astype(np.float32)

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """float64 `[rows]`: seconds since 1970 UTC, null as NaN."""
        micros = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        missing = np.asarray(pc.is_null(micros), dtype=bool)
        return np.where(missing, np.nan, np.asarray(pc.fill_null(micros, 0), dtype=np.float64) / 1e6)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """float64 `[batch]`: seconds since 1970 UTC."""
        return "float64", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """sin and cos of the hour, sin and cos of the weekday, missing flag: `[batch, 5]`."""
        import tensorflow as tf

        known = tf.math.is_finite(raw)
        seconds = tf.where(known, raw, tf.zeros_like(raw))
        hour = tf.math.floormod(seconds, DAY) * (2 * np.pi / DAY)
        weekday = tf.math.floormod(tf.floor(seconds / DAY) + EPOCH_WEEKDAY, 7.0) * (2 * np.pi / 7)
        parts = tf.stack([tf.sin(hour), tf.cos(hour), tf.sin(weekday), tf.cos(weekday)], axis=1)
        flags = tf.cast(known, parts.dtype)[:, None]
        return tf.cast(tf.concat([parts * flags, 1 - flags], axis=1), tf.float32)

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The five numbers as they are."""
        return identity(name=name)
