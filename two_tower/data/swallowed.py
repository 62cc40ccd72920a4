"""Lines that a stray quote has swallowed, told from values that legally have line breaks.

A quote that opens by mistake (`7,"The Inch,2024-01-17`) makes one value of everything up to the next quote, which may
stand hundreds of lines below.  A parser cannot tell such a value from a review of many lines, but a look at the lines
can: if they read like rows themselves, they are rows, and are reported one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from two_tower.columns import is_missing
from two_tower.contracts import Bool
from two_tower.data.records import Records, Syntax, is_regular
from two_tower.data.values import microseconds, numbers, with_points

SAMPLE, ENOUGH = 200, 5
"""So many records are looked at for what columns hold where nobody has said it, and so few say nothing."""


@dataclass(frozen=True)
class Expected:
    """The columns by which a row can be told from other text, and how their values are written."""

    times: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    timezone: str = "UTC"
    time_format: str = "auto"

    def tells(self, names: list[str]) -> bool:
        """Whether any of the columns is one of these."""
        return not {*self.times, *self.numbers}.isdisjoint(names)

    def read(self, column: pl.Series, *, decimal: str) -> pl.Series | None:
        """A column's texts `[rows]` as times or numbers, null where they are not; None if anything may stand there."""
        if column.name in self.times:
            return microseconds(column, timezone=self.timezone, time_format=self.time_format)
        if column.name in self.numbers:
            return numbers(with_points(column, are_numbers=True) if decimal == "," else column)
        return None


@dataclass(frozen=True)
class Swallowed:
    """A quote that opens in one line and closes lines below."""

    row: int
    """The number of the line that it opens in, counted like a row."""
    lines: list[str]
    """All that are one record for the parser."""


def find_swallowing(records: Records, names: list[str], syntax: Syntax, expected: Expected) -> list[int]:
    """The numbers of the records whose lines are rows that a stray quote has joined."""
    several = records.lines > 1
    found = {len(records) - 1} if records.is_open else set()
    if not several.any():
        return sorted(found)
    may_hold = _may_hold_rows(records, len(names), syntax)
    several &= may_hold if records.is_regular else True
    if several.any() and not expected.tells(names):
        expected = _expected_of(records, names, syntax)
    for number in np.flatnonzero(several).tolist():
        if number in found:
            continue
        record = records.bytes_of(number)
        regular = records.is_regular or is_regular(record, syntax)
        if (may_hold[number] or not regular) and _is_swallowing(record, names, syntax, expected, regular=regular):
            found.add(number)
    return sorted(found)


def swallows_header(records: Records, number: int, syntax: Syntax) -> bool:
    """Whether a quote that opens in the names of the columns, which record `number` holds, joins them with rows.

    A name may have a line break, but then its lines have fewer fields each than they have together.
    """
    if records.is_open and number == len(records) - 1:
        return True
    record = records.bytes_of(number)
    first, *others = lines_of(record)
    together = len(syntax.fields(record.decode()))
    for columns in {len(fields) for fields in _without_a_quote(first, syntax)} - {1}:
        alike = all(len(_fields(line, columns, syntax)) == columns for line in others)
        if alike and (len(others) > 1 or (others and columns == together)):
            return True
    return False


def _expected_of(records: Records, names: list[str], syntax: Syntax) -> Expected:
    """The columns that hold nothing but times or numbers in records of one line, for want of better knowledge."""
    single = np.flatnonzero(records.counted & (records.lines == 1))[:SAMPLE].tolist()
    fields = [syntax.fields(records.bytes_of(number).decode()) for number in single]
    columns = list(zip(*(each for each in fields if len(each) == len(names)), strict=True))
    kinds: dict[str, list[str]] = {"times": [], "numbers": []}
    for name, values in zip(names, columns, strict=False):
        column = pl.Series(name, values, dtype=pl.String)
        readings = {"numbers": numbers(column), "times": microseconds(column, timezone="UTC")}
        for kind, read in readings.items():
            if len(column) >= ENOUGH and read.is_not_null().all():
                kinds[kind].append(name)
                break
    return Expected(tuple(kinds["times"]), tuple(kinds["numbers"]))


def lines_of(record: bytes) -> list[str]:
    """The lines of a record, empty ones left out."""
    return [line for line in re.split("\r\n|\r|\n", record.decode()) if line]


def rows_alike(lines: list[str], names: list[str], syntax: Syntax, expected: Expected) -> Bool:
    """Which of the lines read like rows: as many fields, times and numbers in their columns."""
    return _alike([_fields(line, len(names), syntax) for line in lines], names, syntax, expected)


def _alike(fields: list[list[str]], names: list[str], syntax: Syntax, expected: Expected) -> Bool:
    """Which of several lists of fields may be a row: none of a blank time, or without any number."""
    alike = np.array([len(each) == len(names) for each in fields], dtype=bool)
    places = np.flatnonzero(alike)
    says_something = np.zeros(len(places), dtype=bool)
    for place, name in enumerate(names):
        values = pl.Series(name, [fields[row][place] for row in places], dtype=pl.String)
        if (read := expected.read(values, decimal=syntax.settings.decimal)) is not None:
            is_read = read.is_not_null().to_numpy()
            alike[places] &= is_read if name in expected.times else is_read | is_missing(values).to_numpy()
            says_something |= is_read
    if expected.tells(names):
        alike[places] &= says_something
    return alike


def _is_swallowing(record: bytes, names: list[str], syntax: Syntax, expected: Expected, *, regular: bool) -> bool:
    """Whether a record over several lines is better read as a row a line.

    Where its quotes are `regular`, only if *every* line reads like a row, the first and the last without their quotes:
    a review may hold a table.  Where they are not, as when text follows a closing quote, one such line is enough, or
    that the record is no row.
    """
    first, *others = lines_of(record)
    alike, fields = rows_alike(others, names, syntax, expected), syntax.fields(record.decode())
    if not regular:
        return bool(alike.any() or not _alike([fields], names, syntax, expected).all())
    if len(fields) == len(names) and not expected.tells(names):
        return False

    def is_row(line: str) -> bool:
        return bool(_alike(_without_a_quote(line, syntax), names, syntax, expected).any())

    return bool(alike[:-1].all()) and (not others or bool(alike[-1]) or is_row(others[-1])) and is_row(first)


def _without_a_quote(line: str, syntax: Syntax) -> list[list[str]]:
    """The fields of a line without each of its quotes in turn."""
    places = [place for place, character in enumerate(line) if character == syntax.quote]
    return [syntax.fields(line[:place] + line[place + 1 :]) for place in places]


def _may_hold_rows(records: Records, columns: int, syntax: Syntax) -> Bool:
    """Which records `[records]` have enough delimiters for a row in their first and in their last line.

    None of the others is swallowing if its quotes are regular, and this is found out for all at once.
    """
    delimiters = records.count_by_line(syntax.delimiter)
    behind = np.cumsum(records.lines)
    enough: Bool = (delimiters[behind - records.lines] >= columns - 1) & (delimiters[behind - 1] >= columns - 1)
    return enough


def _fields(line: str, columns: int, syntax: Syntax) -> list[str]:
    """The fields of a line by itself, in which quotes may be ordinary characters."""
    plain = line.split(syntax.delimiter)
    return plain if len(plain) == columns else syntax.fields(line)
