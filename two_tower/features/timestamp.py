"""A point in time as its hour of the day and its day of the week, each on a circle, and its age."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from two_tower.contracts import FeatureType, Float32, Statistics
from two_tower.errors import DataError
from two_tower.features.base import identity

DAY = 86400.0
EPOCH_WEEKDAY = 3.0  # 1970-01-01 was a Thursday; Monday is 0
READABLE = (
    "timestamps, dates, ISO 8601 text such as 2024-01-31, 2024-01-31T12:00:00 or 2024-01-31T12:00:00+01:00, "
    "or epoch numbers (s, ms, us or ns)"
)


class Timestamp(FeatureType):
    """Sine and cosine of the hour of the day and of the weekday, in UTC, and a missing flag; the age on demand."""

    holds = "times"

    type: Literal["timestamp"] = "timestamp"
    age: bool = Field(
        False,
        description="Whether log(1 + days before the newest time) is added: 0 for the newest time, for later ones "
        "and for missing ones, 1 for the oldest (and for a day, if none is a day old).",
    )

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """timestamp[us, UTC]; a time without a zone is taken as UTC.

        Text may mix forms and zones.  The unit of a number, written as text or not, is told by its size as for the
        times of the logs: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.

        Raises:
            DataError: It is no timestamp, no date, no number and no ISO 8601 text.
        """
        kind = column.type
        try:
            if pa.types.is_dictionary(kind):
                return self.cast(column.cast(kind.value_type))
            if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
                return _from_epoch(column)
            if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
                return _from_text(column.cast(pa.string()))
            finer = pa.types.is_timestamp(kind) and kind.unit == "ns"  # which is cut off; nothing may overflow
            return column.cast(pa.timestamp("us"), safe=not finer).cast(pa.timestamp("us", tz="UTC"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"a column of type {kind} cannot be a timestamp feature, which takes {READABLE}: {error}"
            ) from error

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """With `age` the newest and the oldest time in seconds since 1970 UTC, both 0 if there is none."""
        if not self.age:
            return {}
        seconds = self.raw(column)
        seconds = seconds[np.isfinite(seconds)]
        if not len(seconds):
            return {"newest": 0.0, "oldest": 0.0}
        return {"newest": float(seconds.max()), "oldest": float(seconds.min())}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Float32:
        """sin and cos of the hour, sin and cos of the weekday, missing flag and, with `age`, age: `[rows, 5 or 6]`."""
        seconds = self.raw(column)
        known = np.isfinite(seconds)
        seconds = np.where(known, seconds, 0.0)
        hour = np.mod(seconds, DAY) * (2 * np.pi / DAY)
        weekday = np.mod(np.floor(seconds / DAY) + EPOCH_WEEKDAY, 7.0) * (2 * np.pi / 7)
        parts = np.stack([np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday)], axis=1)
        columns = [parts * known[:, None], ~known[:, None]]
        if self.age:
            days = np.maximum(statistics["newest"] - seconds, 0.0) / DAY
            columns.append((np.log1p(days) / _scale(statistics) * known)[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """float64 `[rows]`: seconds since 1970 UTC, null as NaN."""
        micros = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        missing = np.asarray(pc.is_null(micros), dtype=bool)
        return np.where(missing, np.nan, np.asarray(pc.fill_null(micros, 0), dtype=np.float64) / 1e6)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """float64 `[batch]`: seconds since 1970 UTC."""
        return "float64", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """sin and cos of the hour, sin and cos of the weekday, missing flag and, with `age`, age: `[batch, 5 or 6]`."""
        import tensorflow as tf

        known = tf.math.is_finite(raw)
        seconds = tf.where(known, raw, tf.zeros_like(raw))
        hour = tf.math.floormod(seconds, DAY) * (2 * np.pi / DAY)
        weekday = tf.math.floormod(tf.floor(seconds / DAY) + EPOCH_WEEKDAY, 7.0) * (2 * np.pi / 7)
        parts = tf.stack([tf.sin(hour), tf.cos(hour), tf.sin(weekday), tf.cos(weekday)], axis=1)
        flags = tf.cast(known, parts.dtype)[:, None]
        columns = [parts * flags, 1 - flags]
        if self.age:
            days = tf.maximum(statistics["newest"] - seconds, 0.0) / DAY
            columns.append((tf.math.log1p(days) / _scale(statistics))[:, None] * flags)
        return tf.cast(tf.concat(columns, axis=1), tf.float32)

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The numbers as they are."""
        return identity(name=name)


def _scale(statistics: Statistics) -> float:
    """log(1 + days) of the oldest time, of one day at least, so that the age has the sines' magnitude."""
    return float(np.log1p(max((statistics["newest"] - statistics["oldest"]) / DAY, 1.0)))


def _from_epoch(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Epoch numbers as times, null where there is no finite number or it does not fit 64 bits."""
    whole = pa.types.is_integer(column.type)
    numbers = column.cast(pa.int64() if whole else pa.float64(), safe=whole)
    missing = np.asarray(pc.is_null(numbers, nan_is_null=True), dtype=bool)
    values = np.asarray(pc.fill_null(numbers, 0))
    if not whole:
        missing |= ~(np.abs(values) < 2.0**63)
        values = np.where(missing, 0.0, values)
    below = [(values > -limit) & (values < limit) for limit in (10**11, 10**14, 10**17)]
    if whole:
        micros = np.select(below, [values * 1_000_000, values * 1000, values], values // 1000)
    else:
        micros = np.select(below, [values * 1e6, values * 1e3, values], values / 1e3).round().astype(np.int64)
    return pa.chunked_array([pa.array(micros, mask=missing).cast(pa.timestamp("us", tz="UTC"))])


def _from_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """ISO 8601 text and epoch numbers as times; the blank string is null.

    Raises:
        ArrowInvalid: A text is neither.
    """
    text = pc.utf8_trim_whitespace(column)
    text = pc.replace_substring_regex(text, r"^(\d{4}-\d{2}-\d{2})t", r"\1T")
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")  # Arrow refuses more digits than it stores
    text = pc.replace_substring_regex(text, r"(\d)\s*(?:z|Z|UTC)$", r"\1Z")
    number = pc.match_substring_regex(text, r"^-?\d+(?:\.\d+)?$")
    zoned = pc.match_substring_regex(text, r"[T ]\d{2}.*(?:Z|[+-]\d{2}(?::?\d{2})?)$")
    none = pa.scalar(None, pa.string())
    plain = pc.if_else(pc.or_(pc.or_(number, zoned), pc.equal(text, "")), none, text)
    utc = pa.timestamp("us", tz="UTC")
    return pc.coalesce(
        pc.if_else(zoned, text, none).cast(utc),
        plain.cast(pa.timestamp("us")).cast(utc),
        _from_epoch(pc.if_else(number, text, none).cast(pa.float64())),
    )
