"""What a Vector Search index can restrict by: columns of attributes as checked tokens, numbers and crowding tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.config import VectorSearchSettings
from two_tower.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Restricts:
    """The attributes by which an index can restrict, one row an item."""

    tokens: dict[str, pa.ListArray]
    """By namespace, lists of text without null or empty elements; an empty list is no restrict."""
    numbers: dict[str, pa.Array]
    """By namespace, finite int64, float32 or float64; null is no restrict."""
    crowding: pa.StringArray | None

    def take(self, indices: pa.Array) -> Restricts:
        """Those of some rows."""
        return Restricts(
            {name: lists.take(indices) for name, lists in self.tokens.items()},
            {name: values.take(indices) for name, values in self.numbers.items()},
            None if self.crowding is None else self.crowding.take(indices),
        )


def restricts_of(ids: pa.StringArray, attributes: pa.Table | None, settings: VectorSearchSettings) -> Restricts:
    """The attributes of the items `ids` as the settings use them.

    Raises:
        ArtifactError: A name is empty, stands twice or names no column; a column is of a type that cannot be used; a
            text is not UTF-8; a number is not finite or does not fit into int64. The message names the item.
    """
    table = {} if attributes is None else dict(zip(attributes.column_names, attributes.columns, strict=True))
    columns = {name: column.combine_chunks() for name, column in table.items()}
    tokens, numeric = _namespaces(settings, columns)
    return Restricts(
        {name: _tokens(name, columns[name]) for name in tokens},
        {name: _numbers(name, columns[name], ids) for name in numeric},
        None if settings.crowding is None else _text(settings.crowding, columns[settings.crowding]),
    )


def without_nan(table: pa.Table) -> pa.Table:
    """The table, null in the place of NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):
            known = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
            table = table.set_column(number, table.field(number), known)
    return table


def _namespaces(settings: VectorSearchSettings, columns: dict[str, pa.Array]) -> tuple[list[str], list[str]]:
    """The names of the token restricts and of the numeric restricts.

    Raises:
        ArtifactError: A name is empty, stands twice, or names no column.
    """
    import pyarrow as pa

    is_number = (pa.types.is_integer, pa.types.is_floating)
    numbers = {name for name, values in columns.items() if any(check(values.type) for check in is_number)}
    tokens, numeric, crowding = settings.restricts, settings.numeric_restricts, settings.crowding
    if tokens is None:
        tokens = [name for name in columns if name not in numbers]
    if numeric is None:
        numeric = [name for name in columns if name in numbers and name not in tokens]
    names = [*tokens, *numeric]
    for name in names if crowding is None else [*names, crowding]:
        if name not in columns:
            there = ", ".join(map(repr, columns)) or "none"
            raise ArtifactError(f"there is no attribute {name!r} to restrict by; there are: {there}")
        if not name or names.count(name) > 1:
            raise ArtifactError(f"the restrict {name!r} has no name or stands twice; a namespace is written once")
    return tokens, numeric


def valid_utf8(values: pa.Array, what: str) -> pa.Array:
    import pyarrow as pa

    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{what} is not UTF-8: {error}") from None
    return values


def _tokens(name: str, values: pa.Array) -> pa.ListArray:
    """A column as lists of text: those of a list column, else of one element, less what is null or empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(values)
    parents: Any = np.arange(rows)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        values = pc.list_flatten(values)
    text = _text(name, values)
    kept = pc.is_valid(text).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents[kept], minlength=rows))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), text.drop_null())


def _text(name: str, values: pa.Array) -> pa.StringArray:
    """Values as text, null where they are empty.

    Raises:
        ArtifactError: The type is none that a token or a crowding tag can be made of, or a text is not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    checks = ("is_string", "is_large_string", "is_string_view", "is_integer", "is_boolean", "is_null")
    if not any(getattr(pa.types, check)(kind) for check in checks):
        raise ArtifactError(
            f"the attribute {name!r} is {values.type}; a restrict or a crowding tag takes text, whole numbers, truth "
            "values or (a restrict) lists of them: name the columns to restrict by in index.vector_search.restricts, "
            "or cast this one"
        )
    text = valid_utf8(values.cast(pa.string()), f"a value of the attribute {name!r}")
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _numbers(name: str, values: pa.Array, ids: pa.StringArray) -> pa.Array:
    """A column as int64, float32 or float64.

    Raises:
        ArtifactError: The column is not numeric, or a number is not finite or above int64; the message names the item.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(values.type):
        if pa.types.is_uint64(values.type):
            above = pc.greater(values, pa.scalar((1 << 63) - 1, pa.uint64()))
            _refuse(name, values, above, ids, "does not fit into 64 bits with a sign")
        return values.cast(pa.int64())
    if not pa.types.is_floating(values.type):
        raise ArtifactError(
            f"the attribute {name!r} is {values.type}; a numeric restrict takes a number: leave it out of "
            "index.vector_search.numeric_restricts, or cast it"
        )
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    _refuse(name, values, pc.invert(pc.is_finite(values)), ids, "is not finite; leave it null for no restrict")
    return values


def _refuse(name: str, values: pa.Array, wrong: pa.BooleanArray, ids: pa.StringArray, why: str) -> None:
    """Raises ArtifactError on the first item whose value is wrong."""
    import pyarrow.compute as pc

    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise ArtifactError(f"item {ids[row].as_py()!r}, attribute {name!r}: {values[row].as_py()!r} {why}")
