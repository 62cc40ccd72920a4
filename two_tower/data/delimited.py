"""Delimited text as Arrow tables: the records that Python's `csv` module reads, at the speed of Arrow's parser."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv

from two_tower.contracts import Bool, Int64
from two_tower.data.records import STAND_IN, Records, Syntax, find_records
from two_tower.data.swallowed import Expected, Swallowed, find_swallowing, lines_of, rows_alike, swallows_header
from two_tower.data.values import booleans, integers, numbers, with_points
from two_tower.errors import DataError

PIECE_BYTES = 32 << 20
HEAD_BYTES = 64 << 10
"""So much is read at first for a header, which is hardly ever longer, and for a hint at what is wrong with it."""
LONGEST_VALUE = 64 << 20
"""Bytes after which a quote that is still open is taken for a mistake."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
QUOTING_HINT = "where quotes are characters like others, say so: csv: {quoting: none}"


@dataclass(frozen=True)
class Parsed:
    """The rows of one block of a file."""

    table: pa.Table
    rows: Int64
    """`[rows]`: each row's number in its file, from 0; the header, comments and empty lines are not counted."""
    malformed: list[tuple[int, str]]
    """Row numbers and the text of rows that do not parse."""
    swallowed: list[Swallowed]
    extra_lines: int
    """How many more lines than rows there are, because values have line breaks."""


def parse_text(source: Any, names: list[str], syntax: Syntax, expected: Expected) -> Iterator[Parsed]:
    """The file's rows, block by block; columns are strings, the empty one null, unless the settings give them types.

    Raises:
        DataError: A quoted value does not end.
    """
    row, has_header = 0, syntax.settings.header
    for records in _whole_records(source, names, syntax, expected):
        if has_header and records.counted.any():
            records, has_header = records.since(int(records.counted.argmax()) + 1), False
        parsed = _parsed(records, names, syntax, expected, first_row=row)
        yield parsed
        row += len(parsed.rows) + len(parsed.malformed)


def read_header(source: Any, syntax: Syntax) -> list[str] | None:
    """The names of the columns, or None where the file is empty.

    They are the settings' or the first line's; a column with a blank name is called `unnamed_` and its place.

    Raises:
        DataError: The first line is empty, a quote in it swallows what follows, or the settings name another number of
            columns than it has.
    """
    if (records := _first_records(source, syntax)) is None:
        return None
    if syntax.settings.header and records.block[:1] in (b"\n", b"\r"):
        raise DataError("the first line is empty; it must name the columns")
    if not records.counted.any():
        return None
    first = int(records.counted.argmax())
    if syntax.settings.header and swallows_header(records, first, syntax):
        raise DataError(f"a quote opens in the line of the column names and does not close in it; {QUOTING_HINT}")
    given, fields = syntax.settings.names, syntax.fields(records.bytes_of(first).decode())
    if given and len(given) != len(fields):
        raise DataError(
            f"csv.names has {len(given)} names, the first line {len(fields)} fields ({', '.join(fields)[:200]}); "
            "name every column of the file"
        )
    return [*given] or [name if name.strip() else f"unnamed_{place}" for place, name in enumerate(fields, 1)]


def _first_records(source: Any, syntax: Syntax) -> Records | None:
    """The records of the file's beginning, of which one that counts is whole if there is any; None without text."""
    start, records = b"", None
    for block in _blocks(pieces_of(source, first=HEAD_BYTES), syntax):
        start += block
        records = find_records(start, syntax)
        whole = records.counted[:-1] if records.is_open else records.counted
        if whole.any() or len(start) > LONGEST_VALUE:
            break
    return records


def line_blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces cut anew into blocks of whole lines, without a byte order mark."""
    rest, is_start = b"", True
    for piece in pieces:
        rest += piece
        if is_start:
            rest, is_start = rest.removeprefix(codecs.BOM_UTF8), False
        cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1  # lines may end with returns alone
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest.strip():
        yield rest


def pieces_of(source: Any, *, first: int | None = None) -> Iterator[bytes]:
    """The bytes of a file, `PIECE_BYTES` at a time, or from `first` on in pieces that double up to so many."""
    size = min(first or PIECE_BYTES, PIECE_BYTES)
    while piece := source.read(size):
        yield piece
        size = min(2 * size, PIECE_BYTES)


def _whole_records(source: Any, names: list[str], syntax: Syntax, expected: Expected) -> Iterator[Records]:
    """The records of the file in blocks; one that a block's end cuts comes with the next block.

    One that is too long for a value ends with its block if its lines look like rows, and is open then.
    """
    rest, number = b"", 0
    for block in _blocks(pieces_of(source), syntax):
        records = find_records(rest + block, syntax)
        rest = b""
        if records.is_open:
            cut = records.bytes_of(len(records) - 1)
            if len(cut) <= LONGEST_VALUE:
                rest, records = cut, records.without_last()
            elif not rows_alike(lines_of(cut)[1:], names, syntax, expected).any():
                row = number + int(records.counted[:-1].sum()) - syntax.settings.header
                raise DataError(f"row {row}: a quote opens here and does not close; {QUOTING_HINT}")
        number += int(records.counted.sum())
        yield records
    if rest:
        yield find_records(rest, syntax)


def _blocks(pieces: Iterator[bytes], syntax: Syntax) -> Iterator[bytes]:
    """The pieces of a file as UTF-8 in blocks of whole lines, its delimiters single characters."""
    skip = syntax.settings.skip_lines
    for block in line_blocks(_utf8(pieces, syntax.settings.encoding)):
        while skip and block:
            block = b"".join(_LINE_END.split(block, maxsplit=1)[1:])
            skip -= 1
        if syntax.delimiter != syntax.written:
            if STAND_IN.encode() in block:
                raise DataError(f"holds the control character {STAND_IN!r}, which must not be in such a file")
            block = block.replace(syntax.written.encode(), STAND_IN.encode())
        if syntax.settings.skip_initial_space:
            block = _without_initial_space(block, syntax)
        if syntax.settings.escape:
            block = _without_nulls(block, syntax.settings.escape, syntax.delimiter)
        if block:
            yield block


def _utf8(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The text of the pieces as UTF-8."""
    if codecs.lookup(encoding).name == "utf-8":
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    for piece in pieces:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def _without_initial_space(block: bytes, syntax: Syntax) -> bytes:
    """The block without the blanks that follow delimiters outside of quotes."""
    delimiter, quote = re.escape(syntax.delimiter.encode()), re.escape((syntax.quote or "").encode())
    quoted = rb"%b(?:[^%b]|%b%b)*%b" % ((quote,) * 5) if quote else b"(?!)"
    spaced = re.compile(rb"(?m)(%b)|(%b|^) +" % (quoted, delimiter))
    return spaced.sub(lambda match: match[1] or match[2], block)


def _without_nulls(block: bytes, escape: str, delimiter: str) -> bytes:
    r"""The block with nothing in fields of \N, which is how databases that escape write a missing value."""
    null, edge = re.escape(f"{escape}N".encode()), re.escape(delimiter.encode())
    return re.sub(rb"(?m)(^|%b)%b(?=%b|\r|$)" % (edge, null, edge), rb"\1", block)


def _parsed(records: Records, names: list[str], syntax: Syntax, expected: Expected, *, first_row: int) -> Parsed:
    """The rows of a block."""
    swallowing = find_swallowing(records, names, syntax, expected)
    texts = {number: lines_of(records.bytes_of(number)) for number in swallowing}
    size = records.counted.astype(np.int64)
    size[swallowing] = [len(texts[number]) for number in swallowing]
    first = np.cumsum(size) - size + first_row
    swallowed = [Swallowed(int(first[number]), lines) for number, lines in texts.items()]
    whole = records.counted.copy()
    whole[swallowing] = False
    places = first[whole]
    table, bad = _arrow_table(records, whole, names, syntax)
    if len(table) + len(bad) != len(places):
        raise DataError(f"{len(places)} rows were found, {len(table) + len(bad)} parsed; {QUOTING_HINT}")
    malformed = [(one.row + place, line) for one in swallowed for place, line in enumerate(one.lines)]
    malformed += [(int(places[number]), text) for number, text in bad]
    rows = np.delete(places, [number for number, _ in bad])
    table, rows, mistyped = _typed(table, rows, syntax)
    several = records.lines[whole]
    return Parsed(table, rows, sorted(malformed + mistyped), swallowed, int((several[several > 1] - 1).sum()))


def _arrow_table(
    records: Records, chosen: Bool, names: list[str], syntax: Syntax
) -> tuple[pa.Table, list[tuple[int, str]]]:
    """The chosen records as columns of strings, and the numbers and texts of those with another number of fields."""
    bad: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        bad.append((row.number - 1, row.text.replace(STAND_IN, syntax.written)))
        return "skip"

    if not records.counted[chosen].any():
        return pa.table({name: pa.array([], pa.string()) for name in names}), []
    text = records.joined(chosen)
    table = pa.csv.read_csv(
        pa.BufferReader(text),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
        parse_options=pa.csv.ParseOptions(invalid_row_handler=skip, **syntax.arrow),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, null_values=[""], strings_can_be_null=True
        ),
    )
    may_hold = STAND_IN.encode() in text and (syntax.quote or syntax.settings.escape)
    return _with_delimiters(table, syntax) if may_hold else table, bad


def _with_delimiters(table: pa.Table, syntax: Syntax) -> pa.Table:
    """The table with the replaced delimiters that stood within quotes or were escaped."""
    columns = [pa.compute.replace_substring(column, STAND_IN, syntax.written) for column in table.columns]
    return pa.table(columns, names=table.column_names)


_READ = {"integer": integers, "number": numbers, "boolean": booleans}


def _typed(table: pa.Table, rows: Int64, syntax: Syntax) -> tuple[pa.Table, Int64, list[tuple[int, str]]]:
    """The table with the types of the settings, and the rows with a value that its column's type does not have."""
    settings, wrong = syntax.settings, np.zeros(len(table), dtype=bool)
    typed = table
    for place, name in enumerate(table.column_names):
        kind = settings.types.get(name)
        if kind is None and settings.decimal == ".":
            continue
        text = pl.Series(name, table[name])
        column = with_points(text, are_numbers=kind in ("integer", "number")) if settings.decimal == "," else text
        if kind in _READ:
            column = _READ[kind](column.str.strip_chars())
            wrong |= (column.is_null() & text.is_not_null()).to_numpy()
        typed = typed.set_column(place, name, column.to_arrow(compat_level=pl.CompatLevel.oldest()))
    if not wrong.any():
        return typed, rows, []
    texts = [json.dumps(row, ensure_ascii=False) for row in table.filter(pa.array(wrong)).to_pylist()]
    malformed = list(zip(rows[wrong].tolist(), texts, strict=True))
    return typed.filter(pa.array(~wrong)), rows[~wrong], malformed
