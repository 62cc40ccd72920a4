"""The queries in a file, for batch scoring."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.artifacts import crc32c_of
from two_tower.columns import as_input
from two_tower.errors import DataError
from two_tower.progress import log
from two_tower.serving.raw_queries import IDS, refuse_unknown_context
from two_tower.serving.sources import KnownUsers

ROWS = 16384
"""Queries that are read together, at most."""


class QueryFile:
    """The queries of a Parquet or JSON Lines file.

    Its columns are `user_id`, `history`, `seen`, `user.NAME` and `context.NAME`; rows are counted from 0, blank lines
    of JSON Lines are passed over and not counted.  Without a column `history` the users' known histories are taken, and
    without a column `user.NAME` what is known of them.
    """

    def __init__(self, path: str | Path, users: KnownUsers | None = None) -> None:
        """The queries of the file `path`; `users` are those that are known, if any.

        Raises:
            DataError: There is no such file, or it is of another kind.
        """
        self._path, self._users = Path(path), users
        if not self._path.is_file():
            raise DataError(f"{path}: there is no such file of queries")
        if self._path.suffix not in (".parquet", ".jsonl"):
            raise DataError(f"{path}: a file of queries ends with .parquet or .jsonl")

    def identity(self) -> dict[str, str]:
        return {"query_file": crc32c_of(self._path)} | (self._users.identity() if self._users else {})

    def seen_until(self) -> int | None:
        return self._users.seen_until() if self._users else None

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        names = self._names()
        self._check_columns(names, schema)
        start = 0
        for batch in self._batches(names):
            given = {name: self._cast(name, batch[name], schema, start) for name in names}
            self._check_values(given, start)
            yield self._filled(given, len(batch[names[0]]), start, schema)
            start += len(batch[names[0]])

    def _names(self) -> list[str]:
        """The file's columns."""
        if self._path.suffix == ".parquet":
            try:
                return list(pq.read_schema(self._path).names)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{self._path}: not a readable Parquet file: {error}") from error
        return list(dict.fromkeys(name for row in self._rows() for name in row))

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The rows of a JSON Lines file."""
        with self._path.open("rb") as lines:
            for number, line in enumerate(line for line in lines if line.strip()):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self._path} row {number}: not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise DataError(f'{self._path} row {number}: expected a JSON object such as {{"user_id": "7"}}')
                yield row

    def _batches(self, names: list[str]) -> Iterator[Mapping[str, Any]]:
        """The columns, some rows at a time: Arrow arrays, or lists of JSON's values."""
        if self._path.suffix == ".parquet":
            yield from pq.ParquetFile(self._path).iter_batches(ROWS)
            return
        rows = self._rows()
        while some := list(islice(rows, ROWS)):
            yield {name: [row.get(name) for row in some] for name in names}

    def _check_columns(self, names: list[str], schema: pa.Schema) -> None:
        takes = [*(name for name in schema.names if name not in ("query", "seen")), "seen"]
        if not {"user_id", "history"} & set(names) and not any(name.startswith("context.") for name in names):
            raise DataError(
                f"{self._path}: needs a column user_id, history or context.NAME; it has: {', '.join(names) or 'none'}"
            )
        try:
            refuse_unknown_context(names, takes)
        except DataError as error:
            raise DataError(f"{self._path}: {error}") from error
        if wrong := [name for name in names if name not in takes]:
            raise DataError(
                f"{self._path}: {', '.join(wrong)}: no column of queries; those for this version: {', '.join(takes)}"
            )
        if "history" not in names and "user_id" in names and self._users is None:
            raise DataError(
                f"{self._path}: has no column history, and no run here made this version, so users' histories are not "
                "at hand; add the column"
            )
        unknown = [name for name in takes if name.startswith("user.") and name not in names]
        if unknown and self._users is None:
            log.info("%s: %s missing for all queries", self._path, ", ".join(unknown))

    def _cast(self, name: str, values: Any, schema: pa.Schema, start: int) -> pa.Array:
        """A column in the type of the schema; the first row's number is `start`."""
        kind = IDS if name == "seen" else schema.field(name).type
        if isinstance(values, pa.Array):
            if not _castable(values.type, kind):
                raise DataError(f"{self._path}: {name}: expected {_in_words(kind)}, got a column of {values.type}")
            return as_input(values, kind)
        bad = bisect_left(range(len(values)), True, key=lambda row: _from_json(values[: row + 1], kind) is None)
        if bad < len(values):
            got = json.dumps(values[bad], ensure_ascii=False)[:100]
            raise DataError(f"{self._path} row {start + bad}: {name}: expected {_in_words(kind)}, got {got}")
        return _from_json(values, kind)

    def _check_values(self, given: Mapping[str, pa.Array], start: int) -> None:
        """Refuses histories that are null or hold a null, and queries that say nothing."""
        for name in ("history", "seen"):
            if name not in given:
                continue
            lists = given[name]
            if name == "history" and lists.null_count:
                self._refuse(lists.is_null(), start, "history is null; write [] for a user without one")
            holes = pc.list_parent_indices(lists).filter(pc.is_null(pc.list_flatten(lists)))
            if len(holes):
                raise DataError(f"{self._path} row {start + holes[0].as_py()}: {name} holds a null; leave it out")
        alone = "history" not in given and not any(name.startswith("context.") for name in given)
        if alone and given["user_id"].null_count:
            self._refuse(given["user_id"].is_null(), start, "user_id is null, and there is nothing else to go by")

    def _filled(self, given: dict[str, pa.Array], count: int, start: int, schema: pa.Schema) -> pa.Table:
        """The queries with what the file leaves out of their users."""
        columns: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in schema}
        if "user_id" in given and self._users is not None:
            known = self._users.of(given["user_id"], schema)
            columns |= {name: known[name] for name in schema.names if name.startswith("user.")}
            if "history" not in given:
                unknown = pc.and_(known["history"].is_null(), given["user_id"].is_valid())
                self._refuse(unknown, start, "the logs hold no such user", of=given["user_id"])
                columns |= {name: known[name] for name in ("history", "seen") if name in schema.names}
        columns |= {name: values for name, values in given.items() if name in schema.names}
        columns["query"] = pa.array(np.arange(start, start + count))
        return pa.table(columns, schema=schema)

    def _refuse(self, wrong: Any, start: int, problem: str, *, of: pa.Array | None = None) -> None:
        """Raises a DataError that names the first of the rows for which `wrong` is true."""
        row = pc.index(wrong, True).as_py()
        if row >= 0:
            named = f": {of[row].as_py()!r}" if of is not None else ""
            raise DataError(f"{self._path} row {start + row}: {problem}{named}")


def _from_json(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    """JSON's values as a tower's input, or None if they do not fit."""
    try:
        if pa.types.is_string(kind):
            return pa.array([_json_text(value) for value in values], kind)
        if kind == IDS:
            return pa.array([_json_texts(value) for value in values], kind)
        column = pa.array(values)
    except (TypeError, ValueError, OverflowError):  # texts among numbers, too large a number, half of a surrogate pair
        return None
    return as_input(column, kind) if _castable(column.type, kind) else None


def _json_texts(values: Any) -> list[str | None] | None:
    if values is not None and not isinstance(values, list):
        raise TypeError
    return None if values is None else [_json_text(value) for value in values]


def _json_text(value: Any) -> str | None:
    """A text of JSON, or a number or truth value as text; whole numbers have no decimals, as in logs.

    Raises:
        TypeError: It is something else.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    raise TypeError


def _castable(found: pa.DataType, kind: pa.DataType) -> bool:
    """Whether values of a type mean the same in another: a float is no id, a text no number."""
    if pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return _castable(found.value_type, kind)
    if pa.types.is_list(kind):
        lists = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return lists and _castable(found.value_type, kind.value_type)
    if pa.types.is_string(kind):
        texts = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
        return bool(texts or pa.types.is_integer(found) or pa.types.is_boolean(found))
    moment = pa.types.is_timestamp(found) or pa.types.is_date(found)
    return bool(moment or pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found))


def _in_words(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "a list of texts" if pa.types.is_string(kind.value_type) else "a list of numbers"
    return "a text" if pa.types.is_string(kind) else "a number"
