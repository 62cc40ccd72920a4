"""Columns as the exported towers take them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def as_input(column: Any, kind: pa.DataType) -> Any:
    """A castable column in the type of a tower's input; moments become seconds since 1970 UTC."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64(), safe=False), 1e6).cast(kind)
    return column.cast(kind, safe=False)
