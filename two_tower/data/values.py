"""Raw columns as ids, times, weights, numbers and truth values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from two_tower.columns import readable
from two_tower.contracts import Float32
from two_tower.data.time_formats import as_times
from two_tower.errors import DataError

YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""The years 1 to 9999 in microseconds; what lies outside stands for "for ever", and is no moment."""
SPELLED = {
    True: r"(?i)^(?:true|t|yes|y|on|1(?:\.0*)?)$",
    False: r"(?i)^(?:false|f|no|n|off|0(?:\.0*)?)$",
}
"""What true and false are written as."""

_SPACED = r"^(\d{4}-\d{1,2}-\d{1,2})[Tt]"
_ZONE = r"(?:[+-]\d{2}(?::?\d{2})?)$"


def id_text(column: pl.Series, *, untyped: bool = False) -> pl.Series:
    """The ids as strings, null where there is none.

    Whole numbers have no decimals (17850.0 is "17850"), since a column of integers becomes one of floats as soon as
    a value is missing.  In an `untyped` (CSV) column, the text 17850.0 is such a number too.

    Raises:
        DataError: The column's type cannot be an id.
    """
    dtype = column.dtype
    if dtype.is_float():
        whole = (column.round() == column) & (column.abs() < 2**53)
        texts = (
            column.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(False), column.cast(pl.String))
        )
        return texts.zip_with(column.is_finite().fill_null(False), pl.Series([None], dtype=pl.String))
    if dtype.is_nested() or dtype == pl.Object:
        raise DataError(f"the column {column.name!r} of type {dtype} cannot hold ids")
    try:
        texts = (readable(column) if dtype.is_temporal() else column).cast(pl.String, strict=False)
    except pl.exceptions.ComputeError as error:  # of bytes
        raise DataError(f"the column {column.name!r} holds bytes that are not UTF-8 text") from error
    if untyped or dtype.is_decimal():
        texts = texts.str.replace(r"^(-?\d+)\.0+$", "$1")
    blank = texts.str.strip_chars() == ""
    return texts.zip_with(~blank.fill_null(False), pl.Series([None], dtype=pl.String)) if blank.any() else texts


def microseconds(column: pl.Series, *, timezone: str, time_format: str = "auto") -> pl.Series:
    """The times as int64 microseconds since 1970 UTC, null where there is none or it cannot be read.

    Takes timestamps and dates (without a zone they are in `timezone`; of an hour that occurs twice the first is
    meant, an hour that is skipped is unreadable), ISO 8601 text, and epoch numbers whose unit their size tells:
    below 10^11 seconds (up to the year 5138), below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.
    With a `time_format` other than auto, text and numbers are of that form.

    Raises:
        DataError: The column's type cannot be a time.
    """
    if column.dtype == pl.Categorical:
        column = column.cast(pl.String)
    column = column if time_format == "auto" else as_times(column, time_format)
    dtype = column.dtype
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
        moments = column.cast(pl.Datetime("us", zone), strict=False)
        known = moments.to_physical().is_between(*YEARS).fill_null(False)
        moments = moments.zip_with(known, pl.Series([None], dtype=moments.dtype))
        return moments.to_physical() if zone else _in_zone(moments, timezone)
    if dtype.is_integer():
        return _epoch_integers(column.cast(pl.Int64, strict=False))
    if dtype.is_float() or dtype.is_decimal():
        return _epoch_floats(column.cast(pl.Float64))
    if dtype == pl.String:
        return _from_text(column, timezone=timezone)
    raise DataError(f"the column {column.name!r} of type {dtype} cannot hold times")


def _in_zone(local: pl.Series, timezone: str) -> pl.Series:
    if timezone == "UTC":
        return local.to_physical()
    return local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null").to_physical()


def _epoch_integers(numbers: pl.Series) -> pl.Series:
    value, size = pl.col("t"), pl.col("t").abs()
    micros = (
        pl.when(size < 0).then(None)  # the smallest integer has no opposite
        .when(size < 10**11).then(value * 1_000_000)
        .when(size < 10**14).then(value * 1000)
        .when(size < 10**17).then(value)
        .otherwise(value // 1000)
    )  # fmt: skip
    return pl.DataFrame({"t": numbers}).select(micros).to_series()


def _epoch_floats(numbers: pl.Series) -> pl.Series:
    value, size = pl.col("t"), pl.col("t").abs()
    micros = (
        pl.when(size < 1e11).then(value * 1e6)
        .when(size < 1e14).then(value * 1e3)
        .when(size < 1e17).then(value)
        .otherwise(value / 1e3)
    )  # fmt: skip
    return pl.DataFrame({"t": numbers}).select(micros.round().cast(pl.Int64, strict=False)).to_series()


def _from_text(column: pl.Series, *, timezone: str) -> pl.Series:
    """Times from text: each form is tried on what the forms before it could not read."""
    text = column.str.strip_chars().str.replace(_SPACED, "$1 ").str.replace(r"\s*(?:[zZ]|UTC)$", "+0000")
    numeric = text.str.contains(r"^-?\d+(?:\.\d+)?$")
    times = _in_zone(text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False), timezone)
    forms: dict[str, Callable[[], pl.Series]] = {
        "integers": lambda: _epoch_integers(text.cast(pl.Int64, strict=False)),
        "floats": lambda: _epoch_floats(text.zip_with(numeric, text.clear(len(text))).cast(pl.Float64, strict=False)),
        "zoned": lambda: _zoned(text, "%Y-%m-%d %H:%M:%S%.f%#z"),
        "zoned minutes": lambda: _zoned(text, "%Y-%m-%d %H:%M%#z"),
        "minutes": lambda: _in_zone(text.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False), timezone),
        "days": lambda: _in_zone(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")), timezone),
    }
    for read in forms.values():
        if (times.is_null() & text.is_not_null()).any():
            times = times.zip_with(times.is_not_null(), read())
    return times


def _zoned(text: pl.Series, form: str) -> pl.Series:
    with_zone = text.str.contains(r":\d{2}.*" + _ZONE).fill_null(False)
    return (
        text.zip_with(with_zone, text.clear(len(text)))
        .str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
        .to_physical()
    )


def numbers(column: pl.Series) -> pl.Series:
    """The values as float64, null where there is no number.

    Raises:
        DataError: The column's type cannot be a number.
    """
    if column.dtype == pl.Categorical:
        column = column.cast(pl.String)
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype == pl.Binary:
        raise DataError(f"the column {column.name!r} of type {column.dtype} cannot hold numbers")
    return column.cast(pl.Float64, strict=False).fill_nan(None)


def with_points(texts: pl.Series, *, are_numbers: bool = False) -> pl.Series:
    """The texts, of which numbers with a decimal comma (19,90 and 1.234,50) have a point instead.

    Where all `are_numbers`, 1.234 is one without decimals; else it stays, since it may be something else.
    """
    decimals = r"(?:,\d+)?" if are_numbers else r",\d+"
    is_number = texts.str.contains(rf"^\s*[+-]?(?:\d+|\d{{1,3}}(?:\.\d{{3}})+){decimals}\s*$").fill_null(False)
    return texts.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True).zip_with(is_number, texts)


def integers(texts: pl.Series) -> pl.Series:
    """The texts as int64, null where there is no whole number that fits; 12.0 is one."""
    return texts.cast(pl.Int64, strict=False).fill_null(whole_numbers(texts))


def booleans(texts: pl.Series) -> pl.Series:
    """The texts as true and false in their usual spellings, null where there is neither."""
    is_true, is_false = (texts.str.contains(SPELLED[truth]) for truth in (True, False))
    return is_true.set(~(is_true | is_false), None)


def whole_numbers(column: pl.Series) -> pl.Series:
    """The values as int64, null where there is no whole number.

    Raises:
        DataError: The column's type cannot be a number.
    """
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    values = numbers(column)
    whole = ((values.round() == values) & (values.abs() < 2**53)).fill_null(False)
    return values.zip_with(whole, pl.Series([None], dtype=pl.Float64)).cast(pl.Int64)


def weights_of(column: pl.Series) -> Float32:
    """Weights float32 `[rows]`, NaN where there is no number from 0 up."""
    with np.errstate(over="ignore"):
        values = numbers(column).fill_null(np.nan).to_numpy().astype(np.float32)
    return np.where(np.isfinite(values) & (values >= 0), values, np.float32(np.nan))
