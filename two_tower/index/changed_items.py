"""The items that somebody adds to a live index, checked against what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from two_tower.contracts import Float32
from two_tower.errors import DataError


def checked(
    item_ids: Sequence[str] | pa.StringArray,
    vectors: Float32,
    attributes: pa.Table | None,
    *,
    schema: pa.Schema,
    dim: int,
    folder: Path,
) -> tuple[pa.Table, Float32]:
    """The last row of each id: ids and attributes in a table, and the vectors.

    Args:
        item_ids: The ids.
        vectors: `[items, dim]`.
        attributes: One row an item.
        schema: `item_id` and the attributes, as the live index holds them.
        dim: The width of its vectors.
        folder: Where it is, for the messages.

    Raises:
        DataError: An id is empty or no string, a vector has another width or is not finite, or an attribute is
            unknown or of another type.
    """
    ids = listed(item_ids)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.shape != (len(ids), dim):
        raise DataError(f"expected vectors of shape [{len(ids)}, {dim}], got {list(vectors.shape)}")
    for row, item_id in enumerate(ids):
        if not isinstance(item_id, str) or not item_id:
            raise DataError(f"row {row}: an item's id has to be a string that is not empty, got {item_id!r}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} vector(s) are not finite, the first is that of item {ids[int(bad[0])]!r}")
    table = _table(ids, attributes, schema=schema, folder=folder)
    last = sorted({item_id: row for row, item_id in enumerate(ids)}.values())
    return (table, vectors) if len(last) == len(ids) else (table.take(last), vectors[last])


def _table(ids: list[str], attributes: pa.Table | None, *, schema: pa.Schema, folder: Path) -> pa.Table:
    """`item_id` and every attribute, in the types and the order of the schema."""
    given = {} if attributes is None else dict(zip(attributes.column_names, attributes.columns, strict=True))
    known = [name for name in schema.names if name != "item_id"]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        there = ", ".join(known) or "none"
        raise DataError(f"there is no attribute {unknown[0]!r} in {folder}; its attributes are: {there}")
    if attributes is not None and len(attributes) != len(ids):
        raise DataError(f"expected the attributes of {len(ids)} items, got {len(attributes)} rows")
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        try:
            if name == "item_id":
                columns.append(pa.chunked_array([pa.array(ids, kind)]))
            else:
                columns.append(given[name].cast(kind) if name in given else pa.nulls(len(ids), kind))
        except (pa.ArrowException, UnicodeError) as error:
            raise DataError(f"{name}: not the {kind} that it is in {folder}: {error}") from error
    return pa.table(columns, schema=schema)


def attributes_of(table: pa.Table) -> list[dict[str, Any]] | None:
    """The attributes of the items in a table, a row an item; None where there are none."""
    attributes = table.drop_columns(["item_id"])
    rows: list[dict[str, Any]] = attributes.to_pylist()
    return rows if attributes.column_names else None


def listed(item_ids: Sequence[str] | pa.StringArray) -> list[str]:
    """The ids in a list.

    Raises:
        DataError: It is one id.
    """
    if isinstance(item_ids, str):
        raise DataError(f"expected several item ids, got the string {item_ids!r}")
    return item_ids.to_pylist() if isinstance(item_ids, pa.Array | pa.ChunkedArray) else list(item_ids)
