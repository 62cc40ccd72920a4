"""Conditions on the candidates' attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from two_tower.config import Range
from two_tower.contracts import Bool
from two_tower.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def allowed_rows(attributes: pa.Table, where: Mapping[str, Sequence[str] | Range]) -> Bool:
    """Which rows meet all the conditions, bool `[rows]`: the `allowed` of `Index.search`.

    A missing value meets no condition.

    Args:
        attributes: `Index.attributes`.
        where: By column the values of which a row has to have one (a list: one of its elements), or the range in which
            its number has to lie, bounds included, compared in the precision of the column.  Whole numbers and truth
            values can be asked for by value too, as `"7"` and `"true"`.

    Raises:
        DataError: There is no such column, or the condition does not fit its type; the message names the column.
    """
    allowed = np.ones(len(attributes), dtype=np.bool_)
    for name, condition in where.items():
        if name not in attributes.column_names:
            there = ", ".join(map(repr, attributes.column_names)) or "none"
            raise DataError(f"there is no attribute {name!r} to filter by; there are: {there}")
        column = attributes[name].combine_chunks()
        allowed &= (
            _within(name, column, condition) if isinstance(condition, Range) else _any_of(name, column, condition)
        )
    return allowed


def _within(name: str, numbers: pa.Array, bounds: Range) -> Bool:
    """Which of the numbers lie between the bounds."""
    import pyarrow as pa

    if not (pa.types.is_integer(numbers.type) or pa.types.is_floating(numbers.type)):
        raise DataError(f"the attribute {name!r} is {numbers.type} and has no range; name the values instead")
    first, last = -np.inf if bounds.min is None else bounds.min, np.inf if bounds.max is None else bounds.max
    try:
        least, most = float(first), float(last)
    except ValueError as error:
        raise DataError(f"the attribute {name!r} is a number; its range goes from {first!r} to {last!r}") from error
    values = numbers.to_numpy(zero_copy_only=False)  # null is NaN, which lies in no range
    with np.errstate(over="ignore"):  # a bound that float32 cannot hold is infinite
        met: Bool = (values >= least) & (values <= most)
    return met


def _any_of(name: str, column: pa.Array, wanted: Sequence[str]) -> Bool:
    """Which of the values, or of the lists by an element, are among the wanted ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(wanted, str) or not all(isinstance(value, str) for value in wanted):
        raise DataError(f"the attribute {name!r}: expected a list of texts or a range, got {wanted!r}")
    is_list = pa.types.is_list(column.type)
    values = pc.list_flatten(column) if is_list else column
    if pa.types.is_floating(values.type):
        raise DataError(f"the attribute {name!r} is {column.type}; give a range of its numbers instead of {wanted!r}")
    found = pc.is_in(values.cast(pa.string()), value_set=pa.array(list(wanted), pa.string()), skip_nulls=True)
    if not is_list:
        return np.asarray(found)
    met = np.zeros(len(column), dtype=np.bool_)
    met[pc.list_parent_indices(column).filter(found).to_numpy()] = True
    return met
