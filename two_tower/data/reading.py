"""Input files as Arrow record batches with the number of each row, whatever the format and the compression."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.columns import parquet_batches, plain
from two_tower.config import CsvSettings
from two_tower.contracts import Int64
from two_tower.data.delimited import HEAD_BYTES, QUOTING_HINT, line_blocks, parse_text, pieces_of, read_header
from two_tower.data.headers import data_hint, header_hint
from two_tower.data.records import Syntax
from two_tower.data.sources import COMPRESSIONS, SourceFile, denied
from two_tower.data.swallowed import Expected, Swallowed
from two_tower.errors import DataError

BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Unit:
    """A part of the input that one worker reads: a Parquet row group, or a whole CSV or JSON Lines file."""

    number: int
    """Its place in the order of all units, which is the order of the rows."""
    file: int
    path: str
    format: str
    name: str = ""
    """The path below the configured folder."""
    folders: tuple[tuple[str, str | None], ...] = ()
    """The columns that folders named KEY=VALUE give."""
    row_group: int | None = None
    first_row: int = 0
    csv: CsvSettings = field(default_factory=CsvSettings)
    expected: Expected = field(default_factory=Expected)


@dataclass(frozen=True)
class LogBatch:
    """Consecutive rows of a file, and what in between did not parse."""

    table: pa.Table
    rows: Int64
    """`[rows]`: each row's number in its file, from 0; a CSV file's header and empty lines are not counted."""
    malformed: list[tuple[int, str]]
    """Row numbers and the text of rows that do not parse."""
    swallowed: list[Swallowed] = field(default_factory=list)
    """Lines that a stray quote has joined; they are among the malformed ones, too."""
    extra_lines: int = 0
    """How many more lines than rows there are, because values have line breaks."""


def plan_units(files: list[SourceFile], csv: CsvSettings | None = None, expected: Expected | None = None) -> list[Unit]:
    """The units of the files, in the order of the files and the rows.

    Args:
        files: The files of one table.
        csv: How delimited ones are written.
        expected: The columns by which a row of a delimited file can be told from other text.

    Raises:
        DataError: A file cannot be read as its format.
    """
    units: list[Unit] = []
    for number, file in enumerate(files):
        facts = {"file": number} | {key: file[key] for key in ("path", "format", "name")}
        folders = tuple(folder_columns(file["path"]).items())
        facts |= {"folders": folders, "csv": csv or CsvSettings(), "expected": expected or Expected()}
        if file["format"] != "parquet":
            units.append(Unit(number=len(units), **facts))
            continue
        with _readable(file["path"], "parquet"), _open(file["path"]) as source:
            metadata = pq.ParquetFile(source).metadata
        first_row = 0
        for group in range(metadata.num_row_groups):
            units.append(Unit(number=len(units), row_group=group, first_row=first_row, **facts))
            first_row += metadata.row_group(group).num_rows
    return units


def require_columns(files: list[SourceFile], columns: dict[str, str], csv: CsvSettings | None = None) -> None:
    """Checks that every file has the columns, given as {column: the config key that names it}.

    Of a JSON Lines file only the first block is looked at: a key may be left out where it has no value.

    Raises:
        DataError: One is missing; the message names the file, the columns that are there and the nearest one.
    """
    csv = csv or CsvSettings()
    section = ".".join(next(iter(columns.values())).split(".")[:2])
    columns = columns | {name: f"{section}.csv.types" for name in csv.types if name not in columns}
    for file in files:
        if csv != CsvSettings() and file["format"] != "csv":
            raise DataError(f"{file['path']}: csv says how delimited text is written, but this is {file['format']}")
        present = _columns_of(file, csv)
        _distinct([name for name in present if name in columns], "schema", file["path"])
        present += [name for name in folder_columns(file["path"]) if present and name not in present]
        missing = [column for column in columns if column not in present]
        if missing and (present or file["format"] == "parquet"):
            close = difflib.get_close_matches(missing[0], present, n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise DataError(
                f"{file['path']}: no column {missing[0]!r}, which {columns[missing[0]]} names{hint} "
                f"(columns that are there: {', '.join(present)}){_header_hint(file, csv, [*columns], key=section)}"
            )


def folder_columns(path: str) -> dict[str, str | None]:
    """The columns that a path's folders give, named KEY=VALUE as Hive and Spark do."""
    found = {}
    for part in PurePath(path).parts[:-1]:
        key, equals, value = part.partition("=")
        if key and equals:
            found[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return found


def read_batches(unit: Unit) -> Iterator[LogBatch]:
    """The unit's rows in order.

    CSV columns come as strings (the empty string as null), so that an id like 007 stays what it is; JSON Lines
    columns have the types of their block.

    Raises:
        DataError: The file is not what its format says, is damaged, or is not UTF-8.
    """
    reader = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_jsonl}[unit.format]
    with _readable(unit.path, unit.format):
        yield from reader(unit)


def read_table(
    files: list[SourceFile], columns: list[str], csv: CsvSettings | None = None, expected: Expected | None = None
) -> tuple[pa.Table, int]:
    """The columns of all the files as one table, for the item and user tables, and their `LogBatch.extra_lines`.

    Raises:
        DataError: A file cannot be read, or a row does not parse: a table, unlike a log, must be whole.
    """
    parts, extra_lines = [], 0
    for unit in plan_units(files, csv, expected):
        for batch in read_batches(unit):
            extra_lines += batch.extra_lines
            _refuse_swallowed(batch, unit)
            if batch.malformed:
                row, text = batch.malformed[0]
                raise DataError(f"{unit.path}: row {row} does not parse: {text[:200]!r}; mend or remove it")
            absent = [name for name in columns if name not in batch.table.column_names]
            table = batch.table
            folders = dict(unit.folders)
            for name in absent:  # a folder's, or a key that is null throughout a JSON Lines block
                table = table.append_column(name, pa.array([folders.get(name)] * table.num_rows, pa.string()))
            parts.append(table.select(columns))
    if not parts:
        return pa.table({name: pa.nulls(0) for name in columns}), 0
    try:
        return pa.concat_tables(parts, promote_options="permissive"), extra_lines
    except pa.ArrowInvalid as error:
        raise DataError(f"{files[0]['path']} and its sisters disagree about a column's type: {error}") from error


def _refuse_swallowed(batch: LogBatch, unit: Unit) -> None:
    """Raises a DataError where a stray quote has joined lines of a table."""
    if batch.swallowed:
        one = batch.swallowed[0]
        raise DataError(
            f"{unit.path}: row {one.row}: a quote opens here, and {len(one.lines)} lines become one value: "
            f"{one.lines[0][:200]!r}; mend it, or {QUOTING_HINT}"
        )


def _columns_of(file: SourceFile, csv: CsvSettings) -> list[str]:
    """The names of the file's columns."""
    with _readable(file["path"], file["format"]):
        if file["format"] == "parquet":
            with _open(file["path"]) as source:
                return list(pq.ParquetFile(source).schema_arrow.names)
        if file["format"] == "csv":
            return _csv_names(file["path"], csv) or []
        batch = next(_read_jsonl(Unit(0, 0, file["path"], "jsonl")), None)
        if batch is not None and batch.malformed and not batch.table.num_rows:
            raise DataError(
                f"{file['path']}: no line is a JSON object, such as line {batch.malformed[0][0] + 1}, "
                f"{batch.malformed[0][1][:60]!r}; JSON Lines has one object in each line (`jq -c .[]` makes them of an "
                "array)"
            )
        return [] if batch is None else batch.table.column_names


@contextlib.contextmanager
def _readable(path: str, format: str) -> Iterator[None]:
    """Turns what the parsers raise into errors that name the file."""
    try:
        yield
    except DataError as error:
        raise error if path in str(error) else DataError(f"{path}: {error}") from error.__cause__
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file is gone; run the step that lists the inputs again") from error
    except (UnicodeError, pa.ArrowException, OSError, EOFError, pl.exceptions.PolarsError) as error:
        text = str(error)
        if "://" in path and (why := denied(error)):
            raise DataError(f"{path}: cannot be read: {why}") from error
        names = {"parquet": "a Parquet file", "csv": "a CSV file", "jsonl": "a JSON Lines file"}
        is_utf16, looks_like = _first_bytes(path)
        if looks_like is not None and looks_like != names[format]:
            raise DataError(
                f"{path}: cannot be read as {names[format]}: it is {looks_like}; let its name end accordingly or "
                "convert it"
            ) from error
        if isinstance(error, UnicodeDecodeError) or "utf-8" in text.lower() or "utf8" in text.lower():
            known = "UTF-16" if is_utf16 else "LATIN1"
            if isinstance(error, UnicodeDecodeError) and error.encoding.replace("-", "").lower() != "utf8":
                raise DataError(f"{path}: not {error.encoding} text ({text}); change csv.encoding") from error
            raise DataError(
                f"{path}: not UTF-8 text ({text}); convert it, such as with `iconv -f {known} -t UTF-8`, or name the "
                "encoding of delimited text in csv.encoding"
            ) from error
        raise DataError(f"{path}: cannot be read as {names[format]}: {text}") from error
    except Exception as error:  # a store's own kind
        if "://" in path and (why := denied(error)):
            raise DataError(f"{path}: cannot be read: {why}") from error
        raise


def _first_bytes(path: str) -> tuple[bool, str | None]:
    """Whether a file that cannot be read begins like UTF-16, and what else it begins like, if it is not packed."""
    start = b""
    with contextlib.suppress(Exception), _open(path) as source:
        start = source.read(4)
    kinds = {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip archive"}
    found = next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)
    return start[:2] in (b"\xff\xfe", b"\xfe\xff"), found


def _open(path: str) -> Any:
    """A binary file object, decompressed by the ending of its name."""
    if "://" in path:
        import fsspec

        source: Any = pa.PythonFile(fsspec.open(path, "rb").open(), mode="r")
    else:
        source = pa.OSFile(path, "rb")
    compression = COMPRESSIONS.get(PurePath(path).suffix.lower())
    return pa.CompressedInputStream(source, compression) if compression else source


def _read_parquet(unit: Unit) -> Iterator[LogBatch]:
    assert unit.row_group is not None
    row = unit.first_row
    with _open(unit.path) as source:
        for batch in parquet_batches(source, row_group=unit.row_group, rows=BATCH_ROWS):
            yield LogBatch(pa.Table.from_batches([batch]), np.arange(row, row + batch.num_rows), [])
            row += batch.num_rows


def _distinct(names: list[str], where: str, path: str) -> list[str]:
    """The names, if each is there once."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: the {where} names the column {twice!r} twice; rename one of them")
    return names


def _csv_names(path: str, csv: CsvSettings) -> list[str] | None:
    """The columns of a delimited file, None where it is empty."""
    with _open(path) as source:
        names = read_header(source, Syntax.of(csv, path))
    try:
        return None if names is None else _distinct(names, "header", path)
    except DataError as error:
        raise DataError(f"{error}{data_hint(names or [])}") from error


def _header_hint(file: SourceFile, csv: CsvSettings, wanted: list[str], *, key: str) -> str:
    """What to set so that a delimited file has the columns that are wanted; empty where nothing helps."""
    if file["format"] != "csv":
        return ""
    with _open(file["path"]) as source:
        return header_hint(source.read(HEAD_BYTES), Syntax.of(csv, file["path"]), wanted, key=key)


def _read_csv(unit: Unit) -> Iterator[LogBatch]:
    if (names := _csv_names(unit.path, unit.csv)) is None:
        return
    with _open(unit.path) as source:
        for parsed in parse_text(source, names, Syntax.of(unit.csv, unit.path), unit.expected):
            yield LogBatch(parsed.table, parsed.rows, parsed.malformed, parsed.swallowed, parsed.extra_lines)


def _read_jsonl(unit: Unit) -> Iterator[LogBatch]:
    row = 0
    with _open(unit.path) as source:
        for block in line_blocks(pieces_of(source)):
            lines = block.count(b"\n") + (not block.endswith(b"\n"))
            yield _parse_lines(block, first_row=row, lines=lines)
            row += lines


def _parse_lines(block: bytes, *, first_row: int, lines: int) -> LogBatch:
    """The rows of a block of lines; where the fast parser objects, line by line."""
    block.decode()  # the fast parser's own message names no byte
    malformed: list[tuple[int, str]] = []
    with contextlib.suppress(pl.exceptions.PolarsError, pa.ArrowException):  # Arrow has no integers of 128 bits
        frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
        if frame.height == lines:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            return LogBatch(table, np.arange(first_row, first_row + lines), malformed)
    records, rows = [], []
    for row, line in enumerate(block.decode().split("\n"), first_row):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:
                json.dumps(record, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
            rows.append(row)
        else:
            malformed.append((row, line.rstrip("\r")))
    names = list(dict.fromkeys(name for record in records for name in record))
    batch = pa.record_batch({name: _column(record.get(name) for record in records) for name in names})
    return LogBatch(pa.Table.from_batches([plain(batch)]), np.array(rows, dtype=np.int64), malformed)


def _column(values: Iterable[Any]) -> pa.Array:
    """JSON values as an Arrow array; values of several kinds as text."""
    listed = list(values)
    try:
        return pa.array(listed)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in listed]
        return pa.array(texts, pa.string())
