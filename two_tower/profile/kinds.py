"""The kinds of values that a sketch samples, and how values of every type become one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from two_tower.columns import is_missing, readable

Kind = str
"""How a value is sampled: as an integer, a float, a time (int64 microseconds since 1970), a text or a list of texts."""
TEXT = 200
"""Characters that the sample keeps of a text."""
ELEMENTS = 100
"""Elements that the sample keeps of a list."""
KINDS: dict[Kind, pl.DataType] = {
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "time": pl.Int64(),
    "text": pl.String(),
    "list": pl.List(pl.String()),
}


def converted(values: pl.Series) -> tuple[Kind, pl.Series]:
    """The kind of a column's values, and the values as a sample keeps them."""
    kind = _kind(values.dtype)
    return kind, _CONVERT[kind](values).cast(KINDS[kind])


def _kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return "time"
    if dtype.is_float():
        return "float"
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):  # these may not fit into int64
        return "integer"
    return "list" if isinstance(dtype, (pl.List, pl.Array)) else "text"


def as_times(values: pl.Series) -> pl.Series:
    """Dates and timestamps as int64 microseconds since 1970, those without a zone as if in UTC.

    What is too far away for that comes as the first or the last moment.
    """
    zone = values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None
    micros = values.cast(pl.Datetime("us", zone), strict=False).to_physical()
    if micros.null_count() == values.null_count():
        return micros
    ends = values.to_physical().cast(pl.Int64).sign() * (2**63 - 1)
    return micros.zip_with(micros.is_not_null(), ends)


def elements_of(lists: pl.Series) -> pl.Series:
    """The elements of all the lists, one after the other."""
    lists = lists.arr.to_list() if isinstance(lists.dtype, pl.Array) else lists
    return lists.explode(empty_as_null=False, keep_nulls=False)


def _floats(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64).fill_nan(None) + 0.0  # no -0.0


def _text(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    if dtype == pl.Binary:
        texts = readable(values.bin.slice(0, TEXT))
    elif dtype.is_nested():
        texts = _json_texts(readable(values).to_list())
    else:
        texts = readable(values).cast(pl.String)
    return texts.str.head(TEXT).set(is_missing(texts), None)


def _lists(values: pl.Series) -> pl.Series:
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    lists = lists.list.head(ELEMENTS)
    elements = _text(elements_of(lists))
    ends = np.cumsum(lists.list.len().fill_null(0).to_numpy(), dtype=np.int64)
    mask = pa.array(lists.is_null().to_numpy())
    texts = pa.LargeListArray.from_arrays(pa.array(np.append(0, ends)), elements.to_arrow(), mask=mask)
    return pl.Series(lists.name, texts, dtype=KINDS["list"]).list.drop_nulls()


def _json_texts(values: Sequence[Any]) -> pl.Series:
    texts = [None if value is None else json.dumps(value, default=_plain, ensure_ascii=False) for value in values]
    return pl.Series(texts, dtype=pl.String)


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    return value.to_list() if isinstance(value, pl.Series) else str(value)


_CONVERT: dict[Kind, Callable[[pl.Series], pl.Series]] = {
    "integer": lambda values: values,
    "float": _floats,
    "time": as_times,
    "text": _text,
    "list": _lists,
}
