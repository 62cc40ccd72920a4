"""Times in the forms that do not tell themselves, as `data.interactions.time_format` names them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

FORMS = (
    "timestamps, dates, ISO 8601 text such as 2024-01-31, 2024-01-31 12:00:00 or 2024-01-31T12:00:00+01:00, "
    "and seconds, milli-, micro- or nanoseconds since 1970"
)
"""What is read without a format."""
PLAUSIBLE = (315_532_800_000_000, 4_102_444_800_000_000)
"""1980 to 2100 in microseconds: where the times of logs lie, and what is read in a wrong form mostly does not."""
NEARLY_ALL = 0.95
"""Share of the sampled times that a format has to read to be suggested."""

_CLOCK = (
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:\.\d+)?))?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?(?P<zone>\s*(?:[zZ]|UTC|[+-]\d{2}(?::?\d{2})?))?)?$"
)
_DATES = {
    "day_first": r"^(?P<day>\d{1,2})[/. -](?P<month>\d{1,2}|[A-Za-z]{3,9})[/., -]+(?P<year>\d{4}|\d{2})" + _CLOCK,
    "month_first": r"^(?P<month>\d{1,2}|[A-Za-z]{3,9})[/. -](?P<day>\d{1,2})[/., -]+(?P<year>\d{4}|\d{2})" + _CLOCK,
    "yyyymmdd": (
        r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
        r"(?:[T _-]?(?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2}(?:\.\d+)?))?)?"
        r"(?P<half>[AaPp])?(?P<zone>[zZ])?$"
    ),
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Microseconds of each."""
_EXCEL_DAYS = 25_569
"""The day that spreadsheets give to 1970-01-01."""
_LAST_EXCEL_DAY = 2_958_466
_EXCEL_STEPS = 86_400_000
"""Milliseconds of a day: finer than what a spreadsheet stores."""


def as_times(column: pl.Series, time_format: str) -> pl.Series:
    """The text or numbers as timestamps (without a zone: local ones) or as ISO 8601 text, null where neither fits.

    A column of another type, such as one of timestamps, is returned as it is.
    """
    dtype = column.dtype
    if not (dtype == pl.String or dtype.is_numeric()):
        return column
    if time_format in _UNITS:
        return _epoch(column, time_format)
    if time_format == "excel_days":
        return _excel_days(column)
    text = _as_text(column)
    return _iso(text, _DATES[time_format]) if time_format in _DATES else _by_pattern(text, time_format)


def suggested(values: Iterable[pl.Series], read: Callable[[pl.Series, str], pl.Series]) -> list[str]:
    """The formats that read the most of the sampled values as plausible times, where that is nearly all of them.

    Args:
        values: Values of the column of times, one series for each type.
        read: `microseconds` of a series in a format.
    """
    sampled = [series for series in values if len(series)]

    def plausible(time_format: str) -> int:
        times = [read(series, time_format) for series in sampled]
        return sum(int(one.is_between(*PLAUSIBLE).sum()) for one in times)

    counts = {name: plausible(name) for name in ("auto", *_DATES, "excel_days")}
    best = max(counts.values())
    enough = best and best >= NEARLY_ALL * sum(len(series) for series in sampled)
    return [name for name, count in counts.items() if enough and count == best]


def _as_text(column: pl.Series) -> pl.Series:
    """The values without blanks around them; of numbers only whole ones have a text."""
    if column.dtype == pl.String:
        return column.str.strip_chars().str.replace(r"^(\d+)\.0+$", "$1")
    whole = column.cast(pl.Int64, strict=False)
    return whole.set(whole != column, None).cast(pl.String)


def _epoch(column: pl.Series, unit: str) -> pl.Series:
    """Numbers since 1970 as timestamps in UTC, null where they do not fit."""
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        whole = _epoch(text.cast(pl.Int64, strict=False), unit)
        return whole.zip_with(whole.is_not_null(), _epoch(text.cast(pl.Float64, strict=False), unit))
    if not column.dtype.is_integer():
        micros = (column.cast(pl.Float64) * _UNITS[unit]).round()
    else:
        whole = column.cast(pl.Int64, strict=False)
        limit = (2**63 - 1) // int(max(_UNITS[unit], 1))
        fits = whole.is_between(-limit, limit).fill_null(False)
        whole = whole.set(~fits, None)
        micros = whole // 1000 if unit == "ns" else whole * int(_UNITS[unit])
    return micros.cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"))


def _excel_days(column: pl.Series) -> pl.Series:
    """Days as spreadsheets count them, with the time of the day as a fraction."""
    days = (column.str.strip_chars() if column.dtype == pl.String else column).cast(pl.Float64, strict=False)
    days = days.set(~days.is_between(1, _LAST_EXCEL_DAY, closed="left").fill_null(False), None)
    steps = ((days - _EXCEL_DAYS) * _EXCEL_STEPS).round().cast(pl.Int64)
    return (steps * 1000).cast(pl.Datetime("us"))


def _iso(text: pl.Series, form: str) -> pl.Series:
    """The dates of the form as ISO 8601 text; what is ISO 8601 text already stays."""
    parts = pl.DataFrame({"text": text}).select(pl.col("text"), pl.col("text").str.extract_groups(form).alias("found"))
    parts = parts.unnest("found")
    year, hour = pl.col("year"), pl.col("hour").cast(pl.Int64)
    century = pl.when(year.str.len_chars() == 4).then(pl.lit("")).when(year < "70").then(pl.lit("20"))
    afternoon = pl.col("half").str.to_lowercase() == "p"
    clock = pl.when(pl.col("half").is_null()).then(hour).when(hour.is_between(1, 12)).then(hour % 12 + 12 * afternoon)
    iso = pl.format(
        "{}{}-{}-{} {}:{}:{}{}",
        century.otherwise(pl.lit("19")),
        year,
        _month(pl.col("month")),
        pl.col("day").str.zfill(2),
        pl.when(hour.is_null()).then(pl.lit("00")).otherwise(clock.cast(pl.String).str.zfill(2)),
        pl.col("minute").fill_null("00"),
        pl.col("second").fill_null("00"),
        pl.col("zone").fill_null("").str.strip_chars(),
    )
    already = pl.when(pl.col("text").str.contains(r"^\d{4}-")).then("text")
    return parts.select(pl.coalesce(iso, already)).to_series()


def _month(month: pl.Expr) -> pl.Expr:
    """Two digits for a number or an English name, null for another word."""
    numbers = {name: f"{number:02}" for number, name in enumerate(_MONTHS, 1)}
    named = month.str.to_lowercase().str.head(3).replace_strict(numbers, default=None)
    return pl.when(month.str.contains(r"^\d")).then(month.str.zfill(2)).otherwise(named)


def _by_pattern(text: pl.Series, pattern: str) -> pl.Series:
    """Timestamps by a pattern in Python's notation, in UTC if it has a zone."""
    if ",%f" in pattern:
        text = text.str.replace(r"(:\d{2}),(\d)", "$1.$2")
    pattern = re.sub(r"[.,]%f", "%.f", pattern).replace("%z", "%#z")
    zone: Any = {"time_zone": "UTC"} if "%#z" in pattern else {}
    times = text.str.to_datetime(pattern, time_unit="us", strict=False, **zone)
    return times.set(~times.dt.year().is_between(1000, 9999).fill_null(False), None)  # 24 is no year of four digits
