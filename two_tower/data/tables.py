"""The item and user tables: read, merged to one row an id, and laid out in the order of the numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.columns import is_missing, readable
from two_tower.config import FilterSettings, ItemTableSettings, UserTableSettings
from two_tower.contracts import FeatureType
from two_tower.data.conditions import meets, refuse_unfit
from two_tower.data.notes import Noted, key as note
from two_tower.data.reading import read_table, require_columns
from two_tower.data.sources import SourceFile
from two_tower.data.swallowed import Expected
from two_tower.data.values import id_text
from two_tower.errors import DataError


@dataclass(frozen=True)
class EntityTable:
    """An item or user table with one row an id, in the order of the ids."""

    ids: pa.Array
    columns: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    """`feature.NAME` as `FeatureType.cast` gives it, `display.COLUMN` as strings, `attribute.COLUMN` as
    `attributes` allow it, `raw.COLUMN` as it came."""
    rows: int = 0
    """How many rows the files have."""
    without_id: int = 0
    """How many of them have no id and are left out."""
    noted: Noted = field(default_factory=Counter)
    """What is odd about the table (`two_tower.data.notes`)."""

    def rows_of(self, ids: pa.Array, prefix: str) -> dict[str, pa.ChunkedArray]:
        """The columns whose names begin with `prefix` at `ids`, null where the table does not know an id."""
        places = pc.index_in(ids, value_set=self.ids)
        return {name: column.take(places) for name, column in self.columns.items() if name.startswith(prefix)}


def load_entities(
    files: list[SourceFile], settings: ItemTableSettings | UserTableSettings | None, *, key: str, timezone: str
) -> EntityTable:
    """The merged table of `data.items` or `data.users` (`key`); an empty one without settings.

    Of several rows with one id, each column takes its first value that is not missing.

    Raises:
        DataError: A file cannot be read, or a column is missing, does not fit its feature type or cannot be what a
            condition compares it with.
    """
    if settings is None:
        return EntityTable(pa.array([], pa.string()))
    display = settings.display if isinstance(settings, ItemTableSettings) else []
    wanted = {settings.id: f"{key}.id"}
    for name, feature in settings.features.items():
        wanted.setdefault(feature.column or name, f"{key}.features.{name}")
    for column in display:
        wanted.setdefault(column, f"{key}.display")
    attributes = settings.attributes if isinstance(settings, ItemTableSettings) else []
    for column in attributes:
        wanted.setdefault(column, f"{key}.attributes")
    filters = settings.available if isinstance(settings, ItemTableSettings) else []
    for condition in filters:
        wanted.setdefault(condition.column, f"{key}.available")
    require_columns(files, wanted, settings.csv)
    table, extra_lines = read_table(files, list(wanted), settings.csv, _expected(settings))
    try:
        ids = id_text(pl.Series(settings.id, table[settings.id]), untyped=files[0]["format"] == "csv")
    except DataError as error:
        raise DataError(f"{key}.id: {error}") from error
    columns = {}
    for name, feature in settings.features.items():
        columns[f"feature.{name}"] = _cast(feature, table[feature.column or name], f"{key}.features.{name}")
    for column in display:
        columns[f"display.{column}"] = _readable_text(pl.Series(column, table[column]), f"{key}.display")
    for column in attributes:
        columns[f"attribute.{column}"] = _attribute(table[column], f"{key}.attributes (column {column!r})")
    noted = Noted({note("extra_lines", key): extra_lines} if extra_lines else {})
    for condition in filters:
        columns[f"raw.{condition.column}"] = table[condition.column]
        noted.update(_met(table[condition.column], condition, timezone=timezone)[1])
    refuse_unfit(noted)
    return replace(_merge(ids, columns), noted=noted)


def _expected(settings: ItemTableSettings | UserTableSettings) -> Expected:
    """The table's columns by which a row can be told from other text."""
    columns = [(feature.holds, feature.column or name) for name, feature in settings.features.items()]
    times, numbers = (tuple(name for holds, name in columns if holds == kind) for kind in ("times", "numbers"))
    return Expected(times, numbers)


def available(table: EntityTable, ids: pa.Array, settings: ItemTableSettings | None, *, timezone: str) -> pa.Array:
    """Which of the items `ids` meet the conditions `data.items.available`; what the table lacks counts as missing."""
    kept = pl.Series([True]).new_from_index(0, len(ids))
    raw = table.rows_of(ids, "raw.")
    for condition in settings.available if settings else []:
        kept &= _met(raw[f"raw.{condition.column}"], condition, timezone=timezone)[0]
    return pa.array(kept.to_numpy())


def _met(column: pa.ChunkedArray, condition: FilterSettings, *, timezone: str) -> tuple[pl.Series, Noted]:
    return meets(pl.Series(condition.column, column), condition, key="data.items.available", timezone=timezone)


def _cast(feature: FeatureType, column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    try:
        return feature.cast(column)
    except DataError as error:
        raise DataError(f"{key} (column {feature.column or key.rpartition('.')[2]!r}): {error}") from error


def _readable_text(series: pl.Series, key: str) -> pa.ChunkedArray:
    """The values as people read them; lists with commas.

    Raises:
        DataError: They are of a type that has no readable form.
    """
    kind, where = series.dtype, f"{key} (column {series.name!r})"
    value = kind.inner if isinstance(kind, (pl.List, pl.Array)) else kind
    if value.is_nested():
        raise DataError(
            f"{where}: values of type {kind} cannot be displayed, only text, numbers, times, true and false, and lists "
            "of them; write the part that people read as a column of its own"
        )
    if value.is_temporal():
        series = readable(series)
    try:
        if value is not kind:
            series = series.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
        text = series.cast(pl.String, strict=False) if series.dtype.is_temporal() else id_text(series)
    except (DataError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{where}: cannot be displayed: {error}") from error
    return pa.chunked_array([text.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())])


def _attribute(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """The values as they came: text, lists of text, whole numbers and decimals; true and false as text.

    Raises:
        DataError: They are of another type.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _attribute(column.cast(kind.value_type), key)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    if _is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type):
        return column.cast(pa.list_(pa.string()))
    raise DataError(
        f"{key}: values of type {kind} cannot be attributes, which are text, lists of text, numbers, or true and "
        "false; write the column as one of these"
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _merge(ids: pl.Series, columns: dict[str, pa.ChunkedArray]) -> EntityTable:
    """One row an id, ascending; of each column the first value that is not missing, in want of one NaN or blanks."""
    numbered = pl.DataFrame({"id": ids}).with_row_index("row").drop_nulls("id")
    distinct = numbered["id"].unique().sort()
    merged = {}
    for name, column in columns.items():
        says, there = (pl.Series(mask)[numbered["row"]] for mask in (_says_something(column), pc.is_valid(column)))
        known = numbered.with_columns(says.alias("says")).filter(there)
        first = known.group_by("id").agg(pl.col("row").filter(pl.col("says")).min().fill_null(pl.col("row").min()))
        rows = distinct.to_frame().join(first, on="id", how="left", maintain_order="left")["row"]
        merged[name] = column.take(rows.to_arrow())
    texts = distinct.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    return EntityTable(texts, merged, rows=len(ids), without_id=ids.null_count())


def _says_something(column: pa.ChunkedArray) -> pl.Series:
    """Which values are not missing: neither null nor NaN nor blank."""
    if _is_text(column.type) or pa.types.is_floating(column.type):
        return ~is_missing(pl.Series(column))
    return pl.Series(pc.is_valid(column))


@dataclass(frozen=True)
class Numbering:
    """The ids in the order of their numbers."""

    ids: pa.Array
    first_seen: pa.Array
    """int64 microseconds, null for ids that only the table knows."""
    seen: int
    """How many of them occur in the logs; they come first."""


def number(seen: pl.DataFrame, table_ids: pa.Array) -> Numbering:
    """The numbering of the ids in `seen` (`id`, `first_seen`; an id may stand there several times) and in the table.

    The order is (first seen, id), so that today's numbers survive tomorrow's logs; ids that only the table knows
    come last, by id.
    """
    logged = seen.group_by("id").agg(pl.col("first_seen").min()).sort("first_seen", "id")
    known = pl.Series("id", table_ids, dtype=pl.String)
    others = known.filter(~known.is_in(logged["id"].implode())).sort().to_frame()
    ordered = pl.concat([logged, others.with_columns(pl.lit(None, pl.Int64).alias("first_seen"))])
    ids = ordered["id"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    return Numbering(ids, pa.array(ordered["first_seen"].to_arrow()), logged.height)


def numbers_of(ids: pa.Array, numbering: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The numbers `[rows]` of ids that all stand in `numbering`."""
    return np.asarray(pc.index_in(ids, value_set=numbering), dtype=np.int32)
