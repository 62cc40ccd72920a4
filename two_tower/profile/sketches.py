"""A sketch of a table: what its columns hold, in bounded memory, of batches in any order.

The sketches of the parts of a table merge into the sketch of the table: `write` gives equal bytes for every way to
cut the table into batches and for every order of merging, as long as the rows keep their keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from two_tower.columns import UInt64, column_hashes, is_missing
from two_tower.profile.kinds import KINDS, Kind, as_times, converted, elements_of

DISTINCT = 1024
"""Hashes that a column keeps.  The estimate's relative standard error is about 1 / sqrt(DISTINCT - 2): 3 %."""
SAMPLE = 20_000
"""Rows that a sketch keeps."""
_KEY = "key"
_PIECES = 64


@dataclass(frozen=True)
class Typed:
    """The values of one column that came with one type."""

    rows: int
    missing: int
    low: float | int | None
    """The smallest finite number or the first time in microseconds, None where there is none."""
    high: float | int | None

    def __add__(self, other: Typed) -> Typed:
        lows = [value for value in (self.low, other.low) if value is not None]
        highs = [value for value in (self.high, other.high) if value is not None]
        return Typed(
            self.rows + other.rows,
            self.missing + other.missing,
            min(lows, default=None),
            max(highs, default=None),
        )


@dataclass(frozen=True)
class Column:
    """One column.  Its types differ where the files do; where a file has no such column, it has no rows either."""

    types: Mapping[str, Typed]
    """By the name of the polars type."""
    hashes: UInt64
    """The DISTINCT smallest hashes of its values, of lists their elements, ascending: all where there are fewer."""

    @property
    def distinct_exact(self) -> bool:
        """Whether every distinct value has its hash here."""
        return len(self.hashes) < DISTINCT

    @property
    def distinct(self) -> int:
        """The number of distinct values, of lists distinct elements, that are not missing.

        From the k-th smallest of evenly spread hashes, as a share u of the largest one possible: (k - 1) / u, without
        bias (Beyer et al., "On Synopses for Distinct-Value Estimation Under Multiset Operations", 2007, on the
        k minimum values of Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002).
        """
        if self.distinct_exact:
            return len(self.hashes)
        estimate = ((DISTINCT - 1) << 64) // max(int(self.hashes[-1]), 1)
        if any(map(_is_list, self.types)):  # whose elements may be more than the rows
            return estimate
        return min(estimate, sum(typed.rows - typed.missing for typed in self.types.values()))


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is kept of a table."""

    rows: int
    columns: Mapping[str, Column]
    sample: pl.DataFrame
    """The SAMPLE rows with the smallest keys, by key: a uniform sample without replacement.

    `key` is the key, `KIND:NAME` the column's values of that kind, null where they are missing or of another kind.
    """

    def write(self, path: str | Path | IO[bytes]) -> None:
        """Writes the sketch as one Parquet file.

        Parquet stores no values beneath nulls, which an Arrow file would: equal sketches are equal files.
        """
        about = {
            "rows": self.rows,
            "columns": {
                name: {
                    "types": {type_: asdict(typed) for type_, typed in column.types.items()},
                    "hashes": base64.b64encode(column.hashes.astype("<u8").tobytes()).decode(),
                }
                for name, column in self.columns.items()
            },
        }
        table = self.sample.to_arrow().combine_chunks()
        table = table.replace_schema_metadata({"sketch": json.dumps(about, sort_keys=True)})
        pq.write_table(table, path, compression="zstd")

    @staticmethod
    def read(path: str | Path | IO[bytes]) -> Sketch:
        """The sketch that `write` wrote."""
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"sketch"])
        columns = {
            name: Column(
                {type_: Typed(**typed) for type_, typed in column["types"].items()},
                np.frombuffer(base64.b64decode(column["hashes"]), dtype="<u8").astype(np.uint64),
            )
            for name, column in about["columns"].items()
        }
        return Sketch(about["rows"], columns, pl.DataFrame(table.replace_schema_metadata(None)))

    def values(self, name: str) -> dict[Kind, pl.Series]:
        """The sampled values of a column by kind, without the missing ones."""
        found = {kind: f"{kind}:{name}" for kind in KINDS}
        return {kind: self.sample[of].drop_nulls() for kind, of in found.items() if of in self.sample.columns}


class Sketcher:
    """Sketches a table that comes in batches."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: dict[str, Column] = {}
        self._pieces: list[pl.DataFrame] = []
        self._last_key: int | None = None  # of a full sample: larger keys cannot enter it

    def add(self, frame: pl.DataFrame, *, hashes: Mapping[str, UInt64], keys: UInt64) -> None:
        """Adds a batch.

        Args:
            frame: The rows.
            hashes: Of each column `[rows]`, evenly spread over 64 bits; those of missing values do not count, nor
                those of lists, whose elements are hashed here.
            keys: A random 64-bit key of each row `[rows]`, the same whenever the row is read, no two equal.
        """
        for column in frame.get_columns():
            self._add_column(column, hashes[column.name])
        self._rows += frame.height
        self._add_rows(_sampled(frame, self._entering(keys), keys))

    def add_sketch(self, sketch: Sketch) -> None:
        """Adds the rows of a sketch."""
        for name, column in sketch.columns.items():
            self._columns[name] = _joined(self._columns[name], column) if name in self._columns else column
        self._rows += sketch.rows
        self._add_rows(sketch.sample)

    def sketch(self) -> Sketch:
        """The sketch of the rows so far."""
        self._compact()
        columns = {name: self._columns[name] for name in sorted(self._columns)}
        columns = {
            name: replace(column, types={type_: column.types[type_] for type_ in sorted(column.types)})
            for name, column in columns.items()
        }
        sample = self._pieces[0] if self._pieces else pl.DataFrame(schema={_KEY: pl.UInt64})
        return Sketch(self._rows, columns, sample.select(_KEY, *sorted(set(sample.columns) - {_KEY})))

    def _add_column(self, values: pl.Series, hashes: UInt64) -> None:
        missing = _missing(values)
        count = int(missing.sum())
        low, high = _range(values)
        kind, typed = _type_name(values.dtype), Typed(len(values), count, low, high)
        before = self._columns.get(values.name, Column({}, np.empty(0, np.uint64)))
        if isinstance(values.dtype, (pl.List, pl.Array)):
            values = elements_of(values)
            hashes, missing = column_hashes(values.to_frame())[values.name], is_missing(values)
        # Few hashes are below the largest of a full column: only these are looked at.
        candidate = np.ones(len(hashes), np.bool_) if before.distinct_exact else hashes < before.hashes[-1]
        if missing.any():
            candidate &= ~missing.to_numpy()
        found = _smallest(hashes if candidate.all() else hashes[candidate])
        self._columns[values.name] = _joined(before, Column({kind: typed}, found))

    def _entering(self, keys: UInt64) -> npt.NDArray[np.intp]:
        """The rows with the SAMPLE smallest keys, of those that can enter the sample."""
        rows = np.arange(len(keys)) if self._last_key is None else np.flatnonzero(keys < np.uint64(self._last_key))
        return rows[np.argpartition(keys[rows], SAMPLE)[:SAMPLE]] if len(rows) > SAMPLE else rows

    def _add_rows(self, piece: pl.DataFrame) -> None:
        self._pieces.append(piece)
        if sum(one.height for one in self._pieces) > SAMPLE or len(self._pieces) > _PIECES:
            self._compact()

    def _compact(self) -> None:
        if not self._pieces:
            return
        rows = pl.concat(self._pieces, how="diagonal").sort(_KEY).head(SAMPLE)
        self._pieces = [_copied(rows)]
        self._last_key = int(rows[_KEY][-1]) if rows.height == SAMPLE else None


def sketch(frame: pl.DataFrame, *, hashes: Mapping[str, UInt64], keys: UInt64) -> Sketch:
    """The sketch of one batch; see `Sketcher.add`."""
    sketcher = Sketcher()
    sketcher.add(frame, hashes=hashes, keys=keys)
    return sketcher.sketch()


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """The sketch of all their rows."""
    sketcher = Sketcher()
    for one in sketches:
        sketcher.add_sketch(one)
    return sketcher.sketch()


def _missing(values: pl.Series) -> pl.Series:
    """`is_missing`, faster for text."""
    if values.dtype != pl.String:
        return is_missing(values)
    # Only a text that begins with a character up to the space or one beyond ASCII can be blank.
    maybe = ((values < "!") | (values >= "\x80")).fill_null(True)
    return maybe.clone().scatter(maybe.arg_true(), is_missing(values.filter(maybe))) if maybe.any() else maybe


def _range(values: pl.Series) -> tuple[float | int | None, float | int | None]:
    """The smallest and the largest finite number, or the first and the last time in microseconds."""
    dtype = values.dtype
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        physical = values.to_physical()  # what Python has no datetime for counts too
        ends = pl.Series([physical.min(), physical.max()], dtype=physical.dtype)
        low, high = as_times(ends.cast(dtype)).to_list()
        return low, high
    if not dtype.is_numeric():
        return None, None
    convert: Callable[[Any], float | int] = int if dtype.is_integer() else float
    found: list[Any] = [values.min(), values.max()]
    if dtype.is_float() and not all(one is not None and np.isfinite(one) for one in found):
        finite = values.filter(values.is_finite())
        found = [finite.min(), finite.max()]
    # Plus 0, since of -0.0 and 0.0 either may come out as the smallest.
    low, high = (None if one is None else convert(one) + 0 for one in found)
    return low, high


def _type_name(dtype: pl.DataType) -> str:
    """The type's name, of an enumeration without its values."""
    return str(dtype.base_type()) if isinstance(dtype, (pl.Categorical, pl.Enum)) else str(dtype)


def _is_list(type_name: str) -> bool:
    return type_name.startswith(("List(", "Array("))


def _joined(left: Column, right: Column) -> Column:
    types = dict(left.types)
    for type_, typed in right.types.items():
        types[type_] = types[type_] + typed if type_ in types else typed
    hashes = _smallest(np.concatenate([left.hashes, right.hashes])) if len(right.hashes) else left.hashes
    return Column(types, hashes)


def _smallest(hashes: UInt64) -> UInt64:
    """The DISTINCT smallest of the distinct hashes, ascending."""
    if len(hashes) > 16 * DISTINCT:  # where most are distinct, these are surely among so many times fewer
        few = hashes[hashes < np.uint64(2**64 // len(hashes) * 4 * DISTINCT)]
        if len(few) < len(hashes) / 2 and len(smallest := _smallest(few)) == DISTINCT:
            return smallest
    distinct = pl.Series(hashes).unique().to_numpy()
    if len(distinct) > DISTINCT:
        distinct = np.partition(distinct, DISTINCT - 1)[:DISTINCT]
    return np.sort(distinct)


def _sampled(frame: pl.DataFrame, rows: npt.NDArray[np.intp], keys: UInt64) -> pl.DataFrame:
    """The rows as `Sketch.sample` has them."""
    taken = frame[rows] if frame.width else frame
    sampled = {_KEY: pl.Series(keys[rows], dtype=pl.UInt64)}
    for column in taken.get_columns():
        kind, values = converted(column)
        sampled[f"{kind}:{column.name}"] = values
    return _copied(pl.DataFrame(sampled))


def _copied(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in memory of its own: polars' strings would keep the whole batches that they point into."""
    return pl.DataFrame(frame.to_arrow())
