"""The queries of batch scoring: every user of the prepared data, or those of a file, as raw values in tables.

Their columns are those of `RawQueries`, in the types that the version's query tower takes, and `query`: the row in
the user table or in the file.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.artifacts import content_hash, crc32c_of
from two_tower.contracts import ROLES, Int32
from two_tower.data import Prepared
from two_tower.errors import DataError
from two_tower.progress import log
from two_tower.retrievers import refuse_unknown_context

ROWS = 16384
"""Queries that are prepared together, at most."""
IDS = pa.list_(pa.string())
_KNOWN = pl.Schema({"user": pl.Int32(), "history": pl.List(pl.Int32), "seen": pl.List(pl.Int32)})
_SEEN_ROLES = [ROLES.index("positive"), ROLES.index("negative")]


class QuerySource(Protocol):
    """Where queries come from."""

    def identity(self) -> dict[str, str]:
        """What tells these queries from others: checksums by the kind of what they are made from."""

    def seen_until(self) -> int | None:
        """The newest event that they may have seen, microseconds since 1970 UTC, as far as that is known."""

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """All queries in order, some at a time, with the columns of the schema.

        Raises:
            DataError: A query is wrong; the message names its file, column and row.
        """


def query_schema(columns: Mapping[str, Mapping[str, Any]], *, exclude_seen: bool) -> pa.Schema:
    """The columns of the queries of a version.

    Args:
        columns: What its query tower takes (see `tower_columns`).
        exclude_seen: Whether there is a column `seen`.
    """
    fields = {"query": pa.int64(), "user_id": pa.string(), "history": IDS} | ({"seen": IDS} if exclude_seen else {})
    return pa.schema(fields | {name: _arrow_type(spec) for name, spec in sorted(columns.items()) if "." in name})


class EveryUser:
    """The users of prepared data with what is known of them."""

    def __init__(self, prepared: Prepared) -> None:
        """The users of `prepared`.

        Raises:
            DataError: The logs have no users.
        """
        self._prepared = prepared
        self._users = prepared.users()
        if not self._users.num_rows:
            raise DataError(f"{prepared.folder}: the logs have no user column, so there are no users; give --queries")
        self._items = prepared.items(["item_id"])["item_id"].combine_chunks()

    def identity(self) -> dict[str, str]:
        return {"prepared_data": content_hash(self._prepared.folder)}

    def seen_until(self) -> int | None:
        windows = self._prepared.summary["windows"]
        return max((windows[split][1] for split in ("train", "validation") if windows.get(split)), default=None)

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The users part by part, then those without an event."""
        found = np.zeros(self._users.num_rows, dtype=np.bool_)
        for part in self._parts():
            known = self._known(part)
            found[known["user"].to_numpy()] = True
            for start in range(0, known.height, ROWS):
                yield self._table(known[start : start + ROWS], schema)
        others = np.flatnonzero(~found).astype(np.int32)
        for start in range(0, len(others), ROWS):
            yield self._table(_without_past(others[start : start + ROWS]), schema)

    def of(self, user_ids: pa.Array, schema: pa.Schema) -> pa.Table:
        """The users with these ids, in their order; all but `user_id` is null for those that are not known.

        Reads the histories of all users at the first call, and keeps them in memory.
        """
        numbers = pc.index_in(user_ids, value_set=self._users["user_id"].combine_chunks())
        wanted = pl.DataFrame({"user": pl.from_arrow(numbers)}).with_columns(pl.col("user").cast(pl.Int32))
        found = wanted.join(self._all, on="user", how="left", maintain_order="left")
        empty = pl.lit([], dtype=pl.List(pl.Int32))
        missing = pl.col("history").is_null() & pl.col("user").is_not_null()
        found = found.with_columns(
            pl.when(missing).then(empty).otherwise(pl.col(name)).alias(name) for name in ("history", "seen")
        )
        table = self._table(found, schema)
        return table.set_column(table.schema.get_field_index("user_id"), "user_id", user_ids)

    def one(self, user_id: str) -> dict[str, Any] | None:
        """The values of one user by column, or None if the user is not known."""
        number = pc.index(self._users["user_id"], user_id).as_py()
        if number < 0:
            return None
        known = next((rows for part in self._parts() if (rows := self._known(part, number)).height), None)
        features = [name for name in self._users.column_names if name.startswith("feature.")]
        raw = self._users.slice(number, 1).to_pylist()[0]
        row = known if known is not None else _without_past(np.array([number], dtype=np.int32))
        return {
            "user_id": user_id,
            "history": self._ids(row["history"]).to_pylist()[0],
            "seen": self._ids(row["seen"]).to_pylist()[0],
            **{name.replace("feature.", "user.", 1): raw[name] for name in features},
        }

    @cached_property
    def _all(self) -> pl.DataFrame:
        return pl.concat([self._known(part) for part in self._parts()])

    def _parts(self) -> list[str]:
        """The names of the parts, each of which holds all that is known of its users."""
        names = (name for name in self._prepared.manifest.files if name.endswith(".parquet"))
        folders = ("train", "validation", "test")
        return sorted({Path(name).name for name in names if Path(name).parent.as_posix() in folders})

    def _known(self, part: str, user: int | None = None) -> pl.DataFrame:
        """The past of the part's users, or of one of them, by number: `history` and `seen` as item numbers.

        A user's latest query says it, which has seen all that came before its window; in want of one it is the
        training sequence.
        """
        files, folder = self._prepared.manifest.files, self._prepared.folder
        wanted = pl.col("user") >= 0 if user is None else pl.col("user") == user
        found = [pl.DataFrame(schema=_KNOWN)]
        for split in ("test", "validation"):
            if (name := f"{split}/{part}") in files:
                queries = pl.DataFrame(pq.read_table(folder / name, columns=list(_KNOWN)))
                found.append(queries.filter(wanted))
        if (name := f"train/{part}") in files:
            sequences = pl.DataFrame(pq.read_table(folder / name, columns=["user", "items", "roles"]))
            found.append(self._past(sequences.filter(wanted)))
        return pl.concat(found).unique("user", keep="first", maintain_order=True).sort("user")

    def _past(self, sequences: pl.DataFrame) -> pl.DataFrame:
        """What a query after the training sequences would see."""
        settings = self._prepared.manifest.config.get("query", {})
        shown = [ROLES.index(role) for role in settings.get("history_roles", ["positive"])]
        length = settings.get("history_length")
        events = sequences.explode("items", "roles")
        of_user = pl.col("items").filter(pl.col("roles").is_in(shown))
        past = events.group_by("user", maintain_order=True).agg(
            (of_user if length is None else of_user.tail(length)).alias("history"),
            pl.col("items").filter(pl.col("roles").is_in(_SEEN_ROLES)).unique().sort().alias("seen"),
        )
        return past.cast(_KNOWN)

    def _table(self, known: pl.DataFrame, schema: pa.Schema) -> pa.Table:
        """The users of some rows of `_known`, a null number being an unknown user."""
        number = known["user"].to_arrow()
        columns: dict[str, Any] = {
            "query": number.cast(pa.int64()),
            "user_id": self._users["user_id"].take(number),
            **{name: self._ids(known[name]) for name in ("history", "seen") if name in schema.names},
        }
        for field in schema:
            name = field.name.replace("user.", "feature.", 1)
            if field.name not in columns:
                held = field.name.startswith("user.") and name in self._users.column_names
                column = self._users[name].take(number) if held else pa.nulls(known.height)
                columns[field.name] = _as_input(column, field.type)
        return pa.table(columns).select(schema.names).cast(schema)

    def _ids(self, numbers: pl.Series) -> pa.Array:
        """Lists of item numbers as lists of item ids."""
        lists = numbers.to_arrow().cast(pa.list_(pa.int32()))
        missing = np.asarray(lists.is_null())
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), self._items.take(lists.flatten()), mask=pa.array(missing))


class QueryFile:
    """The queries of a Parquet or JSON Lines file.

    Its columns are `user_id`, `history`, `seen`, `user.NAME` and `context.NAME`; rows are counted from 0, blank lines
    of JSON Lines are passed over and not counted.  Without a column `history` the users' known histories are taken, and
    without a column `user.NAME` what is known of them.
    """

    def __init__(self, path: str | Path, users: EveryUser | None = None) -> None:
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
            return _as_input(values, kind)
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


def _without_past(users: Int32) -> pl.DataFrame:
    empty: list[list[int]] = [[]] * len(users)
    return pl.DataFrame({"user": users, "history": empty, "seen": empty}, schema=_KNOWN)


def _arrow_type(spec: Mapping[str, Any]) -> pa.DataType:
    """The Arrow type of a column for a tower's input."""
    value = pa.string() if spec["dtype"] == "string" else pa.from_numpy_dtype(spec["dtype"])
    return pa.list_(value) if len(spec["shape"]) == 2 else value


def _as_input(column: Any, kind: pa.DataType) -> Any:
    """A castable column in the type of a tower's input; moments become seconds since 1970 UTC."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64(), safe=False), 1e6).cast(kind)
    return column.cast(kind, safe=False)


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
    return _as_input(column, kind) if _castable(column.type, kind) else None


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
