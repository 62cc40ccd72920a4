"""Conditions on columns: the text of a filter or range is read as the column's values are, and compared with them.

A typed column says by its type how. In a column of text, as all of a CSV file's are, each value is read by itself:
what becomes of a row must not depend on the rows that happen to come with it. So whether a column can hold at all what
it is compared with is counted, and judged when all rows are read.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

import polars as pl

from two_tower.columns import is_missing
from two_tower.config import FilterSettings, Range
from two_tower.data.notes import Noted, key as note, parts_of
from two_tower.data.values import SPELLED, id_text, microseconds
from two_tower.errors import DataError

Reading = Literal["number", "time", "boolean", "text"]

OPPOSITES = {"!=": "==", "not_in": "in", "not_starts_with": "starts_with"}
EARLIEST_EPOCH = 10**8
"""A number from this one up, in 1973, is an epoch beside a value that is a time, although nothing else says so."""

_FRACTION = r"(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_NUMBER = rf"[+-]?(?:[0-9]+{_FRACTION}"
_CANONICAL = rf"-?(?:(?:0|[1-9][0-9]*){_FRACTION}"
"""A number such as 4, 4.0 or 1e6, but not 007 or +49, which only look like one."""
_INFINITY = r"[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?"
_DAY = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_MONTH = r"[0-9]{4}-[0-9]{2}"
_EPOCH = r"-?[0-9]{9,}(?:\.[0-9]+)?"


def meets(
    column: pl.Series, condition: FilterSettings, *, key: str, timezone: str, is_time: bool = False
) -> tuple[pl.Series, Noted]:
    """True where the value meets the condition, and what there is to note of it.

    `!=`, `not_in` and `not_starts_with` are the opposites of `==`, `in` and `starts_with`; a missing value meets
    none of the others.

    Args:
        column: The values.
        condition: What is asked of them.
        key: Where in the configuration the condition stands.
        timezone: That of times without a zone.
        is_time: Whether the column's role is the event's time.

    Raises:
        DataError: Nothing can be compared with values of the column's type.
    """
    if condition.op == "not_null":
        return ~is_missing(column), Noted()
    place = f"{key}: {condition.column}"
    cells = _Cells(column, place=place, timezone=timezone, is_time=is_time)
    op = OPPOSITES.get(condition.op, condition.op)
    met, noted = pl.Series([False]).new_from_index(0, len(column)), Noted()
    for value in condition.values:
        found, counts = _asked(cells, op, value, said=f"{place} {condition.op} {_shown(value)}")
        met |= found
        noted.update(counts)
    return (met if op == condition.op else ~met), noted


def within(
    column: pl.Series, bounds: Range, *, key: str, timezone: str, is_time: bool = False
) -> tuple[pl.Series, Noted]:
    """True where the value is missing or lies within the bounds, which belong to the range; otherwise as `meets`.

    An event's time that cannot be read is no matter of its range.
    """
    place = f"{key}: {column.name}"
    cells = _Cells(column, place=place, timezone=timezone, is_time=is_time)
    inside, noted = pl.Series([True]).new_from_index(0, len(column)), Noted()
    for op, bound in ((">=", bounds.min), ("<=", bounds.max)):
        if bound is not None:
            said = f"{place} {op} {_shown(bound)}"
            found, counts = _asked(cells, op, bound, said=said)
            inside &= found
            noted.update(counts)
            if is_time:
                del noted[note("no_time", said)]
    return inside | (cells.moments.is_null() if is_time else is_missing(column)), noted


def refuse_unfit(noted: Noted) -> None:
    """Checks, by the notes of all rows, that each condition's value was compared with something.

    Raises:
        DataError: The column holds values, but none that the condition's value can be compared with.
    """
    for one, count in noted.items():
        kind, said = parts_of(one)
        if count and kind in UNFIT and not noted.get(note("fit", said)):
            raise DataError(f"{said}: {UNFIT[kind]}")


def in_words(condition: FilterSettings) -> str:
    """The condition as it is written."""
    if condition.op == "not_null":
        return f"{condition.column} not_null"
    shown = ", ".join(map(_shown, condition.values))
    return f"{condition.column} {condition.op} " + (f"[{shown}]" if isinstance(condition.value, list) else shown)


def _shown(value: str) -> str:
    """The value as it is written: a text in quotes."""
    is_bare = _number(value) is not None or value.lower() in ("true", "false")
    return value if is_bare else json.dumps(value, ensure_ascii=False)


def _asked(cells: _Cells, op: str, value: str, *, said: str) -> tuple[pl.Series, Noted]:
    """Which cells meet the condition with this one value, and what there is to note of it."""
    if op == "starts_with":
        met = cells.readable.str.starts_with(value).fill_null(False)
        return met, Noted({note("begins", said): int(met.sum())})
    is_equality, present = op in ("==", "in"), cells.column.is_not_null()
    value = cells.as_truth(value) if is_equality else value
    order = cells.order(value)
    if order is None:
        unfit = note(f"takes_{cells.reading(value)}", said)
        return pl.Series([False]).new_from_index(0, len(present)), Noted({unfit: int(present.sum())})
    if is_equality:
        met = cells.equal(value, order)
        return met, Noted({note("equals", said): int(met.sum()), note("fit", said): int(present.sum())})
    met = {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[op].fill_null(False)
    fit, unfit = cells.fit(value, order), note(f"no_{cells.reading(value)}", said)
    return met, Noted({note("fit", said): int(fit.sum()), unfit: int((present & ~fit).sum())})


class _Cells:
    """A column's values beside those of a condition; each form of them is read once."""

    def __init__(self, column: pl.Series, *, place: str, timezone: str, is_time: bool) -> None:
        dtype = column.dtype
        if dtype.is_nested() or dtype in (pl.Duration, pl.Time, pl.Object):
            raise DataError(f"{place}: nothing can be compared with values of type {dtype}; only not_null is possible")
        self.is_text = dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
        self.column = id_text(column) if self.is_text else column.fill_nan(None) if dtype.is_float() else column
        self.timezone, self.is_time = timezone, is_time or dtype.is_temporal()

    def reading(self, value: str) -> Reading:
        """What the value is read as beside this column."""
        dtype = self.column.dtype
        if self.is_time:
            return "time"
        if dtype == pl.Boolean:
            return "boolean"
        if _is_day(value, self.timezone) and not dtype.is_decimal():
            return "time"
        return "text" if self.is_text and _number(value) is None else "number"

    def as_truth(self, value: str) -> str:
        """The value, or what stands for true and false in a column of numbers."""
        truth = _truth(value)
        return value if truth is None or self.is_time or not self.column.dtype.is_numeric() else str(int(truth))

    def order(self, value: str) -> pl.Series | None:
        """-1, 0 or 1 where a cell is below, at or above the value, null where the two cannot be compared.

        None if the value is nothing that the column takes.
        """
        reading = self.reading(value)
        if reading == "time":
            return self._order_of_times(value)
        if reading == "boolean":
            return self._order_of_booleans(value)
        if reading == "text":
            return _order(self.column, value)
        return self._order_of_numbers(value)

    def equal(self, value: str, order: pl.Series) -> pl.Series:
        """True where a cell is the value, given their order: as number, time or truth value, or the same text."""
        if not self.is_text or self.is_time:
            return (order == 0).fill_null(False)
        found, reading = self.column == value, self.reading(value)
        if reading == "time":
            found |= order == 0
        elif reading == "number" and re.fullmatch(_CANONICAL, _plain(value)):
            found |= self.are_canonical & (order == 0)
        elif (truth := _truth(value)) is not None:
            found |= self.texts.str.contains(SPELLED[truth])
        return found.fill_null(False)

    def fit(self, value: str, order: pl.Series) -> pl.Series:
        """True where a cell can be ordered beside the value; a text could be beside everything that is written."""
        if self.reading(value) != "text":
            return order.is_not_null()
        return order.is_not_null() & self.floats.is_null() & self.moments.is_null()

    @cached_property
    def texts(self) -> pl.Series:
        """The cells of a column of text, without blanks around them."""
        return self.column.str.strip_chars()

    @cached_property
    def readable(self) -> pl.Series:
        """The cells as people read them."""
        return self.column.cast(pl.String) if self.column.dtype.is_temporal() else id_text(self.column)

    @cached_property
    def floats(self) -> pl.Series:
        """The numbers of a column of text, rounded; null where there is none."""
        return _only(self.texts, self.texts.str.contains(rf"^(?:{_NUMBER}|{_INFINITY})$")).cast(pl.Float64)

    @cached_property
    def are_canonical(self) -> pl.Series:
        return self.texts.str.contains(rf"^(?:{_CANONICAL})$")

    @cached_property
    def moments(self) -> pl.Series:
        """The cells as microseconds; where neither role nor type says that they are times, of those that look it."""
        if self.is_time:
            return _moments(self.column, self.timezone)
        if not self.is_text:
            return _moments(_only(self.column, self.column.abs() >= EARLIEST_EPOCH), self.timezone)
        days = self.texts.str.replace(f"^({_MONTH})$", "$1-01")
        return _moments(_only(days, days.str.contains(f"^(?:{_DAY}|{_EPOCH}$)")), self.timezone)

    def _order_of_times(self, value: str) -> pl.Series | None:
        """Beside numbers, a number is an epoch; beside other times, 2024 is a year and 20240201 a day."""
        number = _number(value)
        epoch = _moment(value if number is None else f"{Decimal(_plain(value)):f}", self.timezone)
        moment = _moment(_calendar(value), self.timezone)
        if (epoch if moment is None else moment) is None:
            return None
        order = _order(self.moments, epoch if moment is None else moment)
        if number is None or moment is None or self.column.dtype.is_temporal():
            return order
        of_epochs = _order(self.moments, epoch)
        return of_epochs.zip_with(self.floats.is_not_null(), order) if self.is_text else of_epochs

    def _order_of_booleans(self, value: str) -> pl.Series | None:
        truth = next((truth for truth, spelled in SPELLED.items() if re.match(spelled, value)), None)
        return None if truth is None else _order(self.column.cast(pl.Int8), int(truth))

    def _order_of_numbers(self, value: str) -> pl.Series | None:
        if (number := _number(value)) is None:
            return None
        if self.is_text:
            return self._order_of_written_numbers(number, float(value))
        if self.column.dtype.is_float():
            return _order(self.column, pl.Series([float(value)]).cast(self.column.dtype)[0])
        return self._order_of_whole_numbers(number)

    def _order_of_whole_numbers(self, number: Fraction) -> pl.Series:
        """Integers, and decimals as multiples of their last digit, which no float would hold."""
        dtype = self.column.dtype
        bound = number * 10**dtype.scale if isinstance(dtype, pl.Decimal) else number
        floor, largest = bound.numerator // bound.denominator, 2**127 - 1
        cells = self.column.to_physical().cast(pl.Int128)
        order = _order(cells, max(-largest, min(floor, largest)))
        return order if bound.denominator == 1 else order.replace({0: -1})

    def _order_of_written_numbers(self, number: Fraction, rounded: float) -> pl.Series:
        """Rounding never turns the order of two numbers round, but makes some equal that are not."""
        order = _order(self.floats, rounded)
        tied = self.texts.filter(order == 0).unique().to_list()
        apart = {text: sign for text in tied if (sign := _sign(text, number))}
        return self.texts.replace_strict(apart, default=order, return_dtype=pl.Int8) if apart else order


def _order(left: pl.Series, right: int | float | str | None) -> pl.Series:
    value = pl.Series([right], dtype=left.dtype)
    return (left > value).cast(pl.Int8) - (left < value).cast(pl.Int8)


def _only(column: pl.Series, wanted: pl.Series) -> pl.Series:
    """The column with nulls wherever it is not wanted."""
    return column.zip_with(wanted.fill_null(False), column.clear(len(column)))


def _moments(column: pl.Series, timezone: str) -> pl.Series:
    return microseconds(column, timezone=timezone)


@lru_cache(1024)
def _moment(value: str, timezone: str) -> int | None:
    moment: int | None = _moments(pl.Series([value]), timezone)[0]
    return moment


def _is_day(value: str, timezone: str) -> bool:
    """Whether a text writes a time, or the month or day of one."""
    return bool(re.match(rf"{_DAY}|{_MONTH}$", value)) and _moment(_calendar(value), timezone) is not None


def _calendar(value: str) -> str:
    """The first day of a year or month; other values as they are."""
    if re.fullmatch("[0-9]{8}", value):
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    if re.fullmatch("[0-9]{4}", value):
        return f"{value}-01-01"
    return f"{value}-01" if re.fullmatch(_MONTH, value) else value


def _plain(value: str) -> str:
    """The value without what YAML allows between digits, as in 1_000."""
    return re.sub("(?<=[0-9])_(?=[0-9])", "", value)


def _number(value: str) -> Fraction | None:
    """The number that a text writes, exactly, if it is one."""
    plain = _plain(value)
    return Fraction(Decimal(plain)) if re.fullmatch(_NUMBER, plain) else None


def _truth(value: str) -> bool | None:
    return {"true": True, "false": False}.get(value.lower())


def _sign(text: str, number: Fraction) -> int:
    """The order of a cell, which may be infinite, beside a number."""
    exact = _number(text)
    cell = float(text) if exact is None else exact
    return (cell > number) - (cell < number)


UNFIT = {
    "takes_number": "the column takes numbers, such as 10, 2.5 or 1e6",
    "takes_time": "the column takes times, such as 2024-02-01, 2024-02-01T08:00:00Z or epoch seconds",
    "takes_boolean": "the column takes true and false (also yes and no, y and n, t and f, on and off, 1 and 0)",
    "no_number": "the column holds no number; it takes text",
    "no_time": "the column holds no time (how the event's time is written says data.interactions.time_format)",
    "no_text": "the column holds nothing but numbers and times; it takes a number such as 10, or a time as 2024-02-01",
}
"""By kind of note: what is wrong where the column holds nothing that the condition's value could be compared with."""
