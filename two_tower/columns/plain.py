"""Columns of any Arrow type as something to work with: as what polars takes, and as what people can read.

No column that nobody asked for may end a run, whatever its type.  What is no plain type becomes the nearest one, or
text, in which different values stay different: duplicates are found by comparing all columns.
"""

from __future__ import annotations

import functools
import io
import json
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as kinds

Convert = Callable[[pa.Array], pa.Array]

_PLAIN = (
    kinds.is_null,
    kinds.is_boolean,
    kinds.is_integer,
    kinds.is_floating,
    kinds.is_string,
    kinds.is_large_string,
    kinds.is_binary,
    kinds.is_large_binary,
    kinds.is_fixed_size_binary,
    kinds.is_date,
    kinds.is_time,
    kinds.is_duration,
    kinds.is_decimal32,
    kinds.is_decimal64,
    kinds.is_decimal128,
)
_LISTS = (
    kinds.is_list,
    kinds.is_large_list,
    kinds.is_fixed_size_list,
    kinds.is_list_view,
    kinds.is_large_list_view,
)
DEEPEST = 32
"""Lists and structs nested deeper than this become text; Arrow hands on no more than 64."""
_CALENDAR = int(np.timedelta64(250_000 * 365, "D") / np.timedelta64(1, "us"))
"""How far from 1970, in microseconds, polars can write a moment as text; beyond it panics."""


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with all its columns of types that polars takes, and valid.

    Decimals of more than 38 digits, UUIDs and what has no like become text; other extension types become what they
    are stored as, fixed-size lists, list views and maps become lists.  Bytes stay bytes, as what a column of them
    means depends on its use; text that is not UTF-8 becomes bytes.

    Raises:
        pyarrow.ArrowInvalid: The batch is damaged.
    """
    columns = [_plain(_valid(column)) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def parquet_batches(source: Any, *, row_group: int, rows: int) -> Iterator[pa.RecordBatch]:
    """The row group of the Parquet file in `source` as plain batches of so many rows."""
    file = pq.ParquetFile(source)
    names = _told_apart(file.schema_arrow.names)
    durations = {place: kind for place, kind in enumerate(file.schema_arrow.types) if kinds.is_duration(kind)}
    if any(_has_fixed_size(field.type) for field in file.schema_arrow):
        file = _without_arrow_schema(source)
    for batch in file.iter_batches(rows, row_groups=[row_group]):
        columns = [batch[n].cast(durations[n]) if n in durations else batch[n] for n in range(batch.num_columns)]
        yield plain(pa.RecordBatch.from_arrays(columns, names=names))


def _told_apart(names: list[str]) -> list[str]:
    """The names, those that stand there before with their places."""
    told: list[str] = []
    for place, name in enumerate(names):
        while names.index(names[place]) < place and name in (*names, *told):
            name = f"{name} {place}"
        told.append(name)
    return told


def _without_arrow_schema(source: Any) -> pq.ParquetFile:
    """The file without the schema that Arrow leaves beside Parquet's own, and so with lists of any size.

    Arrow reads no list of a fixed size that is missing.
    """
    source.seek(-8, 2)
    size = int.from_bytes(source.read(4), "little")
    source.seek(-8 - size, 2)
    before, name, after = source.read(size + 8).rpartition(b"ARROW:schema")
    footer = b"PAR1" + before + name.lower() + after  # a file of nothing else; in lower case the name means nothing
    return pq.ParquetFile(source, metadata=pq.read_metadata(io.BytesIO(footer)))


def _has_fixed_size(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_fixed_size(kind.storage_type)
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return bool(kinds.is_fixed_size_list(kind)) or any(map(_has_fixed_size, inner))


def readable(values: pl.Series) -> pl.Series:
    """The values with a text form for whatever JSON has none for, in lists and structs too.

    Bytes are written in hexadecimal, durations as in ISO 8601; where a moment is outside of the calendar that polars
    knows, all of the column are.
    """
    dtype = values.dtype
    if not (dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary):
        return values
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(values.name, _rebuilt(array, _readable))


def is_missing(column: pl.Series) -> pl.Series:
    """True where a value is null, NaN or blank."""
    if column.dtype.is_float():
        return column.is_null() | column.is_nan().fill_null(False)
    if column.dtype == pl.String:
        return (column.str.strip_chars() == "").fill_null(True)
    return column.is_null()


def _valid(array: pa.Array) -> pa.Array:
    """The array, as bytes or numbers where its values are none of its type."""
    try:
        array.validate(full=True)  # text that is not UTF-8 would be undefined behaviour further on
    except pa.ArrowInvalid:
        stored = _stored(array.type)
        if stored == array.type:
            raise
        array = array.view(stored)
        array.validate(full=True)
    return array


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type that has the same memory layout, and in which every value is valid."""
    if kinds.is_time(kind):
        return pa.int32() if kinds.is_time32(kind) else pa.int64()
    if kinds.is_list(kind):
        return pa.list_(_stored(kind.value_type))
    if kinds.is_struct(kind):
        return pa.struct([field.with_type(_stored(field.type)) for field in kind])
    return {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.date64(): pa.int64()}.get(kind, kind)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether polars takes values of the type, and hashes equal ones to the same number."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if kinds.is_timestamp(kind):
        zone: str | None = kind.tz
        return zone is None or zone in _zones()
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        return _is_plain(kind.value_type) and not kinds.is_dictionary(kind.value_type)
    if kinds.is_struct(kind):
        inner = [field.type for field in kind]
        return _are_distinct(kind) and all(_is_plain(one) and not kinds.is_dictionary(one) for one in inner)
    if kinds.is_dictionary(kind):
        return _is_plain(kind.value_type) and not kinds.is_nested(kind.value_type)
    return _is_one_of(_PLAIN, kind)


def _depth(kind: pa.DataType) -> int:
    return 1 + max((_depth(kind.field(place).type) for place in range(kind.num_fields)), default=0)


def _is_one_of(tests: tuple[Callable[[pa.DataType], bool], ...], kind: pa.DataType) -> bool:
    return any(test(kind) for test in tests)


@functools.cache
def _zones() -> set[str]:
    return zoneinfo.available_timezones()


def _are_distinct(kind: pa.StructType) -> bool:
    return len({field.name for field in kind}) == int(kind.num_fields)


def _plain(array: pa.Array) -> pa.Array:
    """The values as a type for which `_is_plain` holds."""
    kind = array.type
    if _depth(kind) > DEEPEST:
        return _texts(array, _json_text)
    if _is_plain(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return _texts(array, str) if isinstance(kind, pa.UuidType) else _plain(array.storage)
    if kinds.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if kinds.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if kinds.is_string_view(kind) or kinds.is_binary_view(kind):
        return array.cast(pa.large_string() if kinds.is_string_view(kind) else pa.large_binary())
    if kinds.is_timestamp(kind):  # of an offset, or a zone that is not known: the same moments
        return array.cast(pa.timestamp(kind.unit, "UTC"))
    if kinds.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return _plain(array.cast(pa.list_(entry)))
    if kinds.is_struct(kind) or _is_one_of(_LISTS, kind):
        return _rebuilt(array, _plain_inside)
    return _texts(array, _decimal_text if kinds.is_decimal256(kind) else _json_text)


def _plain_inside(array: pa.Array) -> pa.Array:
    """The values of a list or a struct as `_plain` has them, without dictionaries."""
    return _plain(array.dictionary_decode() if kinds.is_dictionary(array.type) else array)


def _rebuilt(array: pa.Array, convert: Convert) -> pa.Array:
    """The array with converted values: those of its lists and structs, if it holds such."""
    kind = array.type
    if kinds.is_struct(kind) and kind.num_fields:
        names = [field.name for field in kind]
        if not _are_distinct(kind):
            names = [f"{name} {place}" for place, name in enumerate(names)]
        fields = [_rebuilt(field, convert) for field in array.flatten()]
        return pa.StructArray.from_arrays(fields, names=names, mask=array.is_null())
    if _is_one_of(_LISTS, kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int64())
        elements = _rebuilt(array.flatten(), convert)
        return pa.LargeListArray.from_arrays(offsets, elements, mask=array.is_null())
    return convert(array)


def _texts(array: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    """The text of each value."""
    return pa.array([None if value is None else text(value) for value in array.to_pylist()], pa.string())


def _decimal_text(value: Decimal) -> str:
    """All the digits, without zeros at the end of the decimals: whole numbers are written as ids are."""
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _json_text(value: Any) -> str:
    return json.dumps(value, default=repr)


def _readable(array: pa.Array) -> pa.Array:
    """Values that are no lists and no structs, as `readable` has them."""
    values, kind = pl.Series(array), array.type
    if kinds.is_duration(kind):
        return values.dt.to_string("iso").to_arrow()
    if values.dtype == pl.Binary:
        return values.bin.encode("hex").to_arrow()
    if (kinds.is_date(kind) or kinds.is_timestamp(kind)) and not _in_calendar(values):
        unit = "D" if kinds.is_date32(kind) else values.dtype.time_unit  # type: ignore[attr-defined]
        moments = values.to_physical().fill_null(0).to_numpy().astype(f"datetime64[{unit}]")
        return pa.array(np.datetime_as_string(moments), pa.string(), mask=values.is_null().to_numpy())
    return array


def _in_calendar(values: pl.Series) -> bool:
    """Whether polars can write all of the dates or timestamps as text."""
    zone = getattr(values.dtype, "time_zone", None)
    micros = values.cast(pl.Datetime("us", zone), strict=False).to_physical()  # null where that overflows
    return micros.null_count() == values.null_count() and not (micros.abs() > _CALENDAR).any()
