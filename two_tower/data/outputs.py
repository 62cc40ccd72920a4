"""The files of the `prepared_data` artefact, written from what the stages have left in the work folder."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import ArtifactWriter
from two_tower.config import DataSettings
from two_tower.data import splits
from two_tower.data.incremental import EarlierRun, display_names
from two_tower.data.rows import BAD_ROWS
from two_tower.data.sources import SourceFile
from two_tower.data.tables import EntityTable, Numbering, available
from two_tower.data.work import Work
from two_tower.features import fit_features

ITEMS_PER_GROUP = 65536
"""Rows of a row group of the candidate table, so that whoever needs a part of it reads a part."""


class Outputs:
    """The files of one artefact."""

    def __init__(self, writer: ArtifactWriter, work: Work, data: DataSettings) -> None:
        self.writer, self.work, self.data = writer, work, data
        self.columns = data.interactions.columns

    def write_users(self, table: EntityTable, numbering: Numbering) -> None:
        """Writes the user table, for the workers too."""
        users = pa.table({"user_id": numbering.ids, **table.rows_of(numbering.ids, "feature.")})
        self.writer.write_table("users.parquet", users)
        self.work.write("user-table.arrow", users)

    def write_items(self, table: EntityTable, numbering: Numbering) -> pa.Table:
        """Writes the candidate table; its counts are returned."""
        counted = pl.DataFrame(pa.concat_tables(self.work.tables("counts-*.arrow")))
        counted = counted.group_by("item").sum()
        numbers = pl.DataFrame({"item": np.arange(len(numbering.ids), dtype=np.int32)})
        counts = (
            numbers.join(counted, on="item", how="left", maintain_order="left").drop("item").fill_null(0).to_arrow()
        )
        first_seen = numbering.first_seen if self.columns.time else pa.nulls(len(numbering.ids), pa.int64())
        columns = {"item_id": numbering.ids, "first_seen": first_seen}
        columns |= dict(zip(counts.column_names, counts.columns, strict=True))
        columns["available"] = available(
            table, numbering.ids, self.data.items, timezone=self.data.interactions.timezone
        )
        for prefix in ("feature.", "display.", "attribute."):
            columns |= table.rows_of(numbering.ids, prefix)
        self.writer.write_table("items.parquet", pa.table(columns), row_group_rows=ITEMS_PER_GROUP)
        return counts

    def take_parts(self, name: str) -> None:
        """Moves the shards' Parquet files into a folder of the artefact and counts their rows."""
        rows = 0
        for part in self.work.names(f"{name}-*.parquet"):
            path = self.writer.path(f"{name}/part-{part.rpartition('-')[2]}")
            self.work.take(part, path)
            rows += pq.read_metadata(path).num_rows
        if rows or name in splits.SPLITS:
            self.writer.manifest.rows[name] = rows

    def write_set_aside(self, logs: list[SourceFile], earlier: EarlierRun | None) -> None:
        """Joins the bad rows, in the order of the files and rows."""
        parts = list(self.work.tables("bad-*.arrow"))
        if earlier:
            limited = pa.concat_tables(self.work.tables("aside-*.arrow"))
            still = pl.DataFrame(limited).filter(pl.col("reason") == "rate_limit").select("file", "row")
            bad = pl.DataFrame(earlier.bad)
            mine = bad.filter(pl.col("reason") != "rate_limit")
            again = bad.filter(pl.col("reason") == "rate_limit").join(still, on=["file", "row"], how="semi")
            parts.append(pl.concat([mine, again]).to_arrow().cast(BAD_ROWS))
        table = pa.concat_tables([BAD_ROWS.empty_table(), *parts]).sort_by(
            [("file", "ascending"), ("row", "ascending")]
        )
        names = pa.array(display_names([file["path"] for file in logs]), pa.string())
        self.writer.write_table(
            "set_aside.parquet", table.set_column(0, "file", names.take(table["file"].combine_chunks()))
        )

    def write_features(self, items: EntityTable, users: EntityTable) -> None:
        """Fits the statistics: of items and users on their tables, which carry no time, of the context on training."""
        context = self.data.query.context
        names = [f"context.{name}" for name in context]
        trained = pq.read_table(self.writer.folder / "train", columns=names) if names else pa.table({})
        flat = pa.table({name: pa.compute.list_flatten(trained[name]) for name in names})
        of_items = self.data.items.features if self.data.items else {}
        of_users = self.data.users.features if self.data.users else {}
        fitted = {
            "item": fit_features(of_items, pa.table(items.columns), prefix="feature"),
            "user": fit_features(of_users, pa.table(users.columns), prefix="feature"),
            "context": fit_features(context, flat, prefix="context"),
        }
        content = {part: {name: one.to_json() for name, one in found.items()} for part, found in fitted.items()}
        self.writer.write_json("features.json", content)
