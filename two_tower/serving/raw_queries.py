"""Raw queries, and how a query tower takes them.

The columns are `history` and `seen` (item ids, oldest first), `user_id`, `user.NAME` and `context.NAME`; None, or a
column that is left out, is a missing value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from two_tower.errors import DataError

Query = Mapping[str, Any]
"""One query: a value by column."""
Columns = Mapping[str, Sequence[Any]]
"""Several queries: their values by column."""
Inputs = Mapping[str, Mapping[str, Any]]
"""What a query tower takes: `dtype`, `shape` and `column` of each input, by its name."""

IDS = pa.list_(pa.string())


def query_schema(inputs: Inputs, *, exclude_seen: bool) -> pa.Schema:
    """The columns of a table of queries.

    Args:
        inputs: What the query tower takes.
        exclude_seen: Whether there is a column `seen`.
    """
    fields = {"query": pa.int64(), "user_id": pa.string(), "history": IDS} | ({"seen": IDS} if exclude_seen else {})
    columns = {spec["column"]: spec for spec in inputs.values()}
    return pa.schema(fields | {name: _arrow_type(spec) for name, spec in sorted(columns.items()) if "." in name})


def refuse_unknown_context(names: Iterable[str], columns: Collection[str]) -> None:
    """Checks that the context features among `names` are among the columns that a query tower takes.

    Raises:
        DataError: They are not; the message names those that are.
    """
    wrong = sorted(
        name.removeprefix("context.") for name in names if name.startswith("context.") and name not in columns
    )
    if wrong:
        known = sorted(name.removeprefix("context.") for name in columns if name.startswith("context."))
        raise DataError(f"this version takes no context {', '.join(wrong)}; it takes: {', '.join(known) or 'none'}")


def as_batch(values: Sequence[Any], spec: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The values as a batch in the shape of a tower's input; None as that type's missing value."""
    text = spec["dtype"] == "string"
    missing = "" if text else np.nan
    dtype = object if text else spec["dtype"]
    if len(spec["shape"]) == 2:
        width = spec["shape"][1] or max(1, *(len(value or []) for value in values))
        lists = [[missing if entry is None else entry for entry in value or []][:width] for value in values]
        return np.array([entries + [missing] * (width - len(entries)) for entries in lists], dtype=dtype)
    if text:
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    return np.array([np.nan if value is None else _number(value, spec["column"]) for value in values], dtype=dtype)


def _number(value: Any, column: str) -> float:
    """A number, a text that reads as one, or a moment as seconds since 1970 UTC."""
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{column}: expected a number, got {value!r}") from error


def _arrow_type(spec: Mapping[str, Any]) -> pa.DataType:
    """The Arrow type of a column for a tower's input."""
    value = pa.string() if spec["dtype"] == "string" else pa.from_numpy_dtype(spec["dtype"])
    return pa.list_(value) if len(spec["shape"]) == 2 else value
