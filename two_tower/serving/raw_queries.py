"""Raw queries, and how a query tower takes them.

The columns are `history` and `seen` (item ids, oldest first), `user_id`, `user.NAME` and `context.NAME`; None, or a
column that is left out, is a missing value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

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


def _arrow_type(spec: Mapping[str, Any]) -> pa.DataType:
    """The Arrow type of a column for a tower's input."""
    value = pa.string() if spec["dtype"] == "string" else pa.from_numpy_dtype(spec["dtype"])
    return pa.list_(value) if len(spec["shape"]) == 2 else value
