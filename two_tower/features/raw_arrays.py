"""Raw values that a person types or a table holds, as the arrays that an exported tower takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from two_tower.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RawColumns: TypeAlias = "Mapping[str, Sequence[Any]] | pa.Table | pd.DataFrame"
"""A column of raw values for every input, by the input's name."""


def raw_arrays(columns: RawColumns, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """An array `[rows]`, or `[rows, most values]` where a row has a list, for each of a tower's inputs.

    What is missing is the empty string, or NaN, as in the columns that the tower was trained on; so is what a shorter
    list is filled up with.

    Args:
        columns: The columns by input name; further ones are left alone.
        inputs: As the tower's signature.json has them: dtype and shape of every input.

    Raises:
        DataError: A column is missing, or the columns differ in length.
    """
    names = list(getattr(columns, "column_names", columns))
    if lacking := [name for name in inputs if name not in names]:
        raise DataError(f"the tower takes {', '.join(map(repr, inputs))}; {lacking[0]!r} is not among {names}")
    values = {name: _listed(columns[name]) for name in inputs}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns differ in length: {lengths}")
    return {
        name: _array(values[name], name, dtype=spec["dtype"], rank=len(spec["shape"])) for name, spec in inputs.items()
    }


def _listed(column: Any) -> list[Any]:
    """A column as a Python list."""
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)


def _array(values: list[Any], name: str, *, dtype: str, rank: int) -> npt.NDArray[Any]:
    """One input's array."""
    if rank == 1:
        return np.array([_value(value, dtype) for value in values], dtype=_numpy(dtype))
    if texts := [value for value in values if isinstance(value, str)]:
        raise DataError(f"the tower's input {name!r} takes a list a row, not a text such as {texts[0]!r}")
    lists = [[] if value is None else list(value) for value in values]
    most = max([1, *map(len, lists)])
    rows = [[_value(value, dtype) for value in [*row, *[None] * (most - len(row))]] for row in lists]
    return np.array(rows, dtype=_numpy(dtype)).reshape(len(values), most)


def _value(value: Any, dtype: str) -> Any:
    if dtype == "string":
        return "" if value is None else str(value)
    return np.nan if value is None else value


def _numpy(dtype: str) -> npt.DTypeLike:
    return object if dtype == "string" else np.dtype(dtype)
