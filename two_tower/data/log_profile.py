"""What the columns of the logs and tables hold: the sketch of a preparation, and its description."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from two_tower.columns import column_hashes, row_digests, row_keys
from two_tower.config import ColumnSettings
from two_tower.data.incremental import EarlierRun
from two_tower.data.tables import EntityTable
from two_tower.data.work import Work
from two_tower.profile import Sketch, describe, merge, sketch


class LogProfile:
    """The columns of the logs, sketched as they were read, and those of the tables."""

    def __init__(self, work: Work, columns: ColumnSettings, earlier: EarlierRun | None) -> None:
        self.work, self.columns, self.earlier = work, columns, earlier

    @functools.cached_property
    def sketch(self) -> Sketch:
        """The sketch of the logs' columns."""
        parts = [self.earlier.sketch] if self.earlier else []
        for name in self.work.names("sketch-*.parquet"):
            with self.work.source(name) as source:
                parts.append(Sketch.read(source))
        return merge(parts)

    def sampled_times(self) -> Iterator[pl.Series]:
        """Some values of the column of times, those of each type together."""
        for kind, values in self.sketch.values(self.columns.time or "").items():
            if kind != "list":
                yield values.cast(pl.Datetime("us", "UTC")) if kind == "time" else values

    def described(self, items: EntityTable, users: EntityTable) -> dict[str, Any]:
        """What the columns of the logs and tables hold."""
        tables = {"interactions": describe(self.sketch)}
        for key, table in (("items", items), ("users", users)):
            if table.columns:
                tables[key] = describe(_sketch_of(table, key))
        return tables

    def moving(self) -> dict[str, str]:
        """The columns of the logs whose values differ from one day's logs to the next's whatever happens."""
        moves, ids = "Times move on.", "Ids are not compared."
        reasons = {"time": moves, "order": moves, "user": ids, "item": ids}
        columns = self.columns.model_dump()
        return {f"interactions.{columns[role]}": reason for role, reason in reasons.items() if columns[role]}


def _sketch_of(table: EntityTable, key: str) -> Sketch:
    """A sketch of the columns of the item or user table."""
    columns = {name.partition(".")[2]: column for name, column in table.columns.items() if name.startswith("feature.")}
    frame = pl.DataFrame(pa.table(columns))
    hashes = column_hashes(frame)
    return sketch(frame, hashes=hashes, keys=row_keys(key, np.arange(frame.height), row_digests(frame, hashes)))
