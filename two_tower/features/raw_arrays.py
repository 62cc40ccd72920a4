"""Raw values that a person types or a table holds, as the arrays that an exported tower takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from two_tower.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class ColumnsByName(Protocol):
    """What a data frame and a dictionary of lists are."""

    def __getitem__(self, name: str, /) -> Any:
        """The column of that name."""

    def __iter__(self) -> Iterator[str]:
        """The names."""


RawColumns: TypeAlias = "ColumnsByName | pa.Table"
"""A column of raw values for every input, by the input's name."""


def raw_arrays(columns: RawColumns, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """The array of each of a tower's inputs; see `raw_array`.

    Args:
        columns: The columns by input name; further ones are left alone.
        inputs: As the tower's signature.json has them: dtype, shape and column of every input.

    Raises:
        DataError: A column is missing, the columns differ in length, or a value does not fit.
    """
    names = list(getattr(columns, "column_names", columns))
    if lacking := [name for name in inputs if name not in names]:
        raise DataError(f"the tower takes {', '.join(map(repr, inputs))}; {lacking[0]!r} is not among {names}")
    values = {name: _listed(columns[name]) for name in inputs}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns differ in length: {lengths}")
    for name, spec in inputs.items():
        if len(spec["shape"]) == 2:
            if texts := [value for value in values[name] if isinstance(value, str)]:
                raise DataError(f"the tower's input {name!r} takes a list a row, not a text such as {texts[0]!r}")
            values[name] = [_listed(row) for row in values[name]]
    return {name: raw_array(values[name], spec) for name, spec in inputs.items()}


def raw_array(values: Sequence[Any], spec: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The values of one input as `[rows]`, or as `[rows, most values]` where a row is a list.

    None becomes the type's missing value, the empty string or NaN, and so does what a shorter list is filled up with.

    Raises:
        DataError: A value is no number where the tower takes one.
    """
    text = spec["dtype"] == "string"
    missing = "" if text else np.nan
    dtype = object if text else spec["dtype"]
    if len(spec["shape"]) == 2:
        width = spec["shape"][1] or max([1, *(len(value or []) for value in values)])
        lists = [[missing if entry is None else entry for entry in value or []][:width] for value in values]
        return np.array([entries + [missing] * (width - len(entries)) for entries in lists], dtype=dtype)
    if text:
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    return np.array([np.nan if value is None else _number(value, spec["column"]) for value in values], dtype=dtype)


def _listed(values: Any) -> list[Any]:
    """A column, or the list in a row, as a Python list with None for what is missing; empty where the row is."""
    if values is None:
        return []
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    return [None if isinstance(value, float) and np.isnan(value) else value for value in values]


def _number(value: Any, column: str) -> float:
    """A number, a text that reads as one, or a moment as seconds since 1970 UTC."""
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{column}: expected a number, got {value!r}") from error
