"""From the input files to the `prepared_data` artefact."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import time
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import ArtifactWriter, write_artifact
from two_tower.config import Beam, Data
from two_tower.data import shards, splits
from two_tower.data.arrow import read_arrow, write_arrow
from two_tower.data.prepared import KIND
from two_tower.data.reading import Unit, plan_units, require_columns
from two_tower.data.rows import BAD_ROWS, REASONS, source_columns
from two_tower.data.sources import SourceFile
from two_tower.data.tables import EntityTable, Numbering, load_entities, number
from two_tower.errors import ConfigError, DataError
from two_tower.features import fit_features
from two_tower.progress import human_seconds, log

DAY = shards.DAY
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a full disk, an exhausted quota and a file at its size limit; Beam passes them on as text."""
LONG_TAIL_POINTS = 1000
FILTERED_NAMES = 20
"""So many of the reasons for which rows were filtered are counted apart."""


def prepare(sources: dict[str, list[SourceFile]], out: str | Path, *, data: Data, beam: Beam) -> None:
    """Writes the `prepared_data` artefact of docs/artefacts.md into the folder `out`.

    The same files and settings give the same bytes, on whatever runner and in whatever order its bundles run.

    Args:
        sources: The files as `resolve_sources` lists them.
        out: The artefact's folder; a hidden folder beside it holds the shards meanwhile.
        data: The configuration's `data` section.
        beam: The runner.

    Raises:
        DataError: The files cannot be used: unreadable, a column missing, too many bad rows, nothing left, an
            empty window.
        ConfigError: The settings contradict each other.
    """
    _check_settings(data)
    out = Path(out)
    work = out.parent / f".{out.name}.work"
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    try:
        with write_artifact(out, KIND, config=data.model_dump(mode="json")) as writer:
            work.mkdir(parents=True)
            _Preparation(sources, writer, work, data, beam).run()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_settings(data: Data) -> None:
    """Refuses settings that contradict each other."""
    if data.interactions.columns.user is None and not data.query.context:
        raise ConfigError("data.query.context: without data.interactions.columns.user a query needs a context feature")
    try:
        zoneinfo.ZoneInfo(data.interactions.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"data.interactions.timezone: no time zone {data.interactions.timezone!r}") from error


class _Preparation:
    """One run of `prepare`: its stages in order."""

    def __init__(
        self, sources: dict[str, list[SourceFile]], writer: ArtifactWriter, work: Path, data: Data, beam: Beam
    ) -> None:
        self.sources, self.writer, self.data, self.beam = sources, writer, data, beam
        self.logs = sources["interactions"]
        self.has_users = data.interactions.columns.user is not None
        # The files' own age bounds what their rows can know, and unlike the clock it is the same in a repeated run.
        # The day allows for time zones and for clocks that differ.
        newest = max(file["modified"] for file in self.logs) + DAY
        self.job = shards.Job(data=data, work=str(work), newest=newest)

    def run(self) -> None:
        """All the stages."""
        started = time.monotonic()
        require_columns(self.logs, source_columns(self.data))
        items = load_entities(self.sources["items"], self.data.items, key="data.items")
        users = load_entities(self.sources["users"], self.data.users, key="data.users")
        units = plan_units(self.logs)
        log.info("prepare_data: reading %d files in %d parts", len(self.logs), len(units))
        self._read(units)
        rows = self._check_rows()
        merged = self._reports("merged")
        windows = self._windows(merged)
        log.info("prepare_data: %s of %s rows kept", f"{rows['kept']:,}", f"{rows['read']:,}")
        item_numbers = self._number("items", items)
        user_numbers = self._number("users", users) if self.has_users else number(_no_ids(), pa.array([], pa.string()))
        self._write_users(users, user_numbers)
        self._encode(windows, units)
        encoded = self._reports("encoded")
        events = {name: sum(report["events"][name] for report in encoded) for name in splits.SPLITS}
        splits.require_events(events, windows, first=min(report["first"] for report in merged))
        log.info("prepare_data: writing %s candidates", f"{len(item_numbers.ids):,}")
        counts = self._write_items(items, item_numbers)
        for split in ("validation", "test"):
            self._write_queries(split)
        self._write_set_aside()
        self._write_features(items, users)
        self._write_summary(
            rows, merged, encoded, windows, counts, items=items, users=users, known=(item_numbers, user_numbers)
        )
        log.info("prepare_data: done in %s", human_seconds(time.monotonic() - started))

    def _read(self, units: list[Unit]) -> None:
        """Stage 1: files to shards, shards to merged shards."""
        import apache_beam as beam

        def stages(pipeline: Any) -> None:
            _ = (
                pipeline
                | "Units" >> beam.Create(units)
                | "Read" >> beam.FlatMap(functools.partial(shards.read_unit, job=self.job))
                | "By shard" >> beam.GroupByKey()
                | "Merge" >> beam.Map(functools.partial(shards.merge_shard, job=self.job))
            )

        self._run(stages)

    def _encode(self, windows: splits.Windows, units: list[Unit]) -> None:
        """Stage 2: merged shards to sequences and queries; beside it, the content of the duplicates."""
        import apache_beam as beam

        numbers = [int(path.stem.rpartition("-")[2]) for path in self._files("merged-*.json")]
        duplicates = pa.concat_tables(read_arrow(path) for path in self._files("duplicates-*.arrow"))
        listed = self.job.path("duplicates.arrow")
        write_arrow(duplicates, listed)
        holding = set(pa.compute.unique(duplicates["file"]).to_pylist())
        encode = functools.partial(
            shards.encode_shard,
            job=self.job,
            windows=windows,
            train=str(self.writer.path("train/part").parent),
            users=str(self.writer.path("users.parquet")),
        )
        describe = functools.partial(shards.describe_duplicates, job=self.job, rows=str(listed))

        def stages(pipeline: Any) -> None:
            _ = pipeline | "Shards" >> beam.Create(numbers) | "Encode" >> beam.Map(encode)
            if holding:
                _ = (
                    pipeline
                    | "Units" >> beam.Create([unit for unit in units if unit.file in holding])
                    | "Describe duplicates" >> beam.Map(describe)
                )

        self._run(stages)

    def _run(self, stages: Callable[[Any], None]) -> None:
        """Runs a pipeline; a full disk comes out as the `OSError` that it was."""
        from two_tower.beam import pipeline

        try:
            with pipeline(self.beam) as built:
                stages(built)
        except Exception as error:
            for number in NO_ROOM:
                if os.strerror(number) in str(error):
                    raise OSError(number, os.strerror(number), self.job.work) from error
            raise

    def _files(self, pattern: str) -> list[Path]:
        return sorted(Path(self.job.work).glob(pattern))

    def _reports(self, stage: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in self._files(f"{stage}-*.json")]

    def _check_rows(self) -> dict[str, Any]:
        """The row counts of summary.json, checked."""
        reports, merged = self._reports("read"), self._reports("merged")
        for report in reports:
            if report["error"]:
                raise DataError(report["error"])
        read = sum(report["read"] for report in reports)
        filtered = _sum(report["filtered"] for report in reports)
        set_aside = _sum(report["set_aside"] for report in reports)
        if duplicates := sum(report["duplicates"] for report in merged):
            set_aside["duplicate"] = duplicates
        kept = sum(report["kept"] for report in merged)
        if not read:
            raise DataError(f"data.interactions: the logs have no rows ({self._names()})")
        self._refuse_too_many_bad(set_aside, used=read - sum(filtered.values()), examples=reports)
        if not kept:
            counts = ", ".join(f"{name}: {count:,}" for name, count in list(_largest(filtered).items())[:5])
            raise DataError(
                f"data.interactions: of {read:,} rows none is left after the filters ({counts}); "
                "check data.interactions.filters and event_weights"
            )
        return {
            "read": read,
            "kept": kept,
            "filtered": _largest(filtered),
            "set_aside": {reason: set_aside[reason] for reason in REASONS if set_aside[reason]},
        }

    def _refuse_too_many_bad(self, set_aside: Counter[str], *, used: int, examples: list[dict[str, Any]]) -> None:
        """Raises a DataError when the share of bad rows, of those not filtered out, is above the configured one."""
        share = set_aside.total() / max(used, 1)
        limit = self.data.interactions.max_bad_share
        if share <= limit:
            return
        shown = [example for report in examples for example in report["examples"]]
        lines = []
        for reason in (reason for reason in REASONS if set_aside[reason]):
            lines.append(f"  {reason}: {set_aside[reason]:,} rows")
            rows = [one for one in shown if one["reason"] == reason][: shards.EXAMPLES]
            lines.extend(
                f"    {self.logs[one['file']]['path']} row {one['row']}: {one['content'][:300]}" for one in rows
            )
        if set_aside["future_time"]:
            newest = splits.describe(self.job.newest)
            lines.append(f"  (after {newest}, a day after the newest file changed, is the future)")
        raise DataError(
            f"data.interactions: {set_aside.total():,} of {used:,} rows are bad ({share:.1%}), more than "
            f"max_bad_share allows ({limit:.1%}); mend the logs, filter these rows out (data.interactions.filters) or "
            "raise data.interactions.max_bad_share\n" + "\n".join(lines)
        )

    def _names(self) -> str:
        paths = [file["path"] for file in self.logs]
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")

    def _windows(self, merged: list[dict[str, Any]]) -> splits.Windows:
        end = max(report["last"] for report in merged)
        return splits.Windows.of(self.data.split, end=end, recent=splits.span(self.data.recent))

    def _number(self, name: str, table: EntityTable) -> Numbering:
        """The numbering of the items or users, left in the work folder for the workers."""
        seen = pl.concat(pl.DataFrame(read_arrow(path)) for path in self._files(f"{name}-*.arrow"))
        numbering = number(seen, table.ids)
        write_arrow(pa.table({"id": numbering.ids}), self.job.path(f"{name}.arrow"))
        return numbering

    def _write_users(self, table: EntityTable, numbering: Numbering) -> None:
        self.writer.write_table("users.parquet", pa.table({"user_id": numbering.ids, **table.rows_of(numbering.ids)}))

    def _write_items(self, table: EntityTable, numbering: Numbering) -> pa.Table:
        """Writes the candidate table; its counts are returned."""
        counted = pl.concat(pl.DataFrame(read_arrow(path)) for path in self._files("counts-*.arrow"))
        counted = counted.group_by("item").sum()
        numbers = pl.DataFrame({"item": np.arange(len(numbering.ids), dtype=np.int32)})
        counts = (
            numbers.join(counted, on="item", how="left", maintain_order="left").drop("item").fill_null(0).to_arrow()
        )
        columns = {"item_id": numbering.ids, "first_seen": numbering.first_seen}
        columns |= dict(zip(counts.column_names, counts.columns, strict=True))
        self.writer.write_table("items.parquet", pa.table(columns | table.rows_of(numbering.ids)))
        return counts

    def _write_queries(self, split: str) -> None:
        """Joins the shards' queries into one file, a row group a shard."""
        name, sink, rows = f"{split}.parquet", None, 0
        for path in self._files(f"{split}-*.parquet"):
            table = pq.read_table(path)
            sink = sink or pq.ParquetWriter(self.writer.path(name), table.schema, compression="zstd")
            sink.write_table(table)
            rows += table.num_rows
        assert sink is not None
        sink.close()
        self.writer.manifest.rows[split] = rows

    def _write_set_aside(self) -> None:
        """Joins the bad rows, in the order of the files and rows; a file goes by its path inside the logs' folder."""
        parts = [pq.read_table(path) for path in self._files("bad-*.parquet")]
        table = pa.concat_tables([BAD_ROWS.empty_table(), *parts]).sort_by(
            [("file", "ascending"), ("row", "ascending")]
        )
        folder = os.path.commonpath([str(PurePath(file["path"]).parent) for file in self.logs])
        names = pa.array([os.path.relpath(file["path"], folder) for file in self.logs], pa.string())
        self.writer.write_table(
            "set_aside.parquet", table.set_column(0, "file", names.take(table["file"].combine_chunks()))
        )

    def _write_features(self, items: EntityTable, users: EntityTable) -> None:
        """Fits the statistics: of items and users on their tables, which carry no time, of the context on training."""
        context = self.data.query.context
        names = [f"context.{name}" for name in context]
        trained = pq.read_table(self.writer.path("train/part").parent, columns=names) if names else pa.table({})
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

    def _write_summary(
        self,
        rows: dict[str, Any],
        merged: list[dict[str, Any]],
        encoded: list[dict[str, Any]],
        windows: splits.Windows,
        counts: pa.Table,
        *,
        items: EntityTable,
        users: EntityTable,
        known: tuple[Numbering, Numbering],
    ) -> None:
        """Writes summary.json and sets the manifest's facts."""
        spans = {name: _span(report["span"][name] for report in encoded) for name in splits.SPLITS}
        per_day = sorted(_sum(report["per_day"] for report in merged).items(), key=lambda day: int(day[0]))
        trained = np.sort(counts["train_count"].to_numpy())[::-1]
        trained = trained[trained > 0]
        places = np.unique(np.linspace(0, len(trained) - 1, min(len(trained), LONG_TAIL_POINTS)).astype(np.int64))
        is_cold = counts["train_count"].to_numpy() == 0
        summary = {
            "rows": rows,
            "tables": {
                name: {"rows": table.rows, "without_id": table.without_id, "distinct": len(table.ids)}
                for name, table in (("items", items), ("users", users))
            },
            "users": known[1].seen,
            "items": len(known[0].ids),
            "items_seen": known[0].seen,
            "events": {name: sum(report["events"][name] for report in encoded) for name in splits.SPLITS},
            "windows": spans,
            "per_day": {
                "day": [str(np.datetime64(int(day), "D")) for day, _ in per_day],
                "events": [count for _, count in per_day],
            },
            "item_counts": trained[places].tolist(),
            "cold_items": {
                split: int((is_cold & (counts[f"{split}_count"].to_numpy() > 0)).sum())
                for split in ("validation", "test")
            },
        }
        for key in ("queries", "new_users"):
            summary[key] = {split: sum(report[key][split] for report in encoded) for split in ("validation", "test")}
        self.writer.write_json("summary.json", summary)
        manifest = self.writer.manifest
        manifest.rows["train"] = sum(report["sequences"] for report in encoded)
        manifest.data_seen_until = spans["train"][1]
        manifest.extra = {
            "validation_from": windows.validation_from,
            "test_from": windows.test_from,
            "end": windows.end,
        }


def _no_ids() -> pl.DataFrame:
    return pl.DataFrame(schema={"id": pl.String, "first_seen": pl.Int64})


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The largest counts by name, the others together."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    kept = dict(ordered[:FILTERED_NAMES])
    if rest := sum(count for _, count in ordered[FILTERED_NAMES:]):
        kept["(others)"] = rest
    return kept


def _span(spans: Iterable[list[int] | None]) -> list[int]:
    """The first and the last moment of all."""
    known = [span for span in spans if span]
    return [min(span[0] for span in known), max(span[1] for span in known)]
