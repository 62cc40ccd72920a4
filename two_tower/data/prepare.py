"""From the input files to the `prepared_data` artefact."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import ArtifactWriter, write_artifact
from two_tower.columns import column_hashes, row_digests, row_keys
from two_tower.config import BeamSettings, DataSettings
from two_tower.data import encode, notes, oddities, shards, splits
from two_tower.data.conditions import refuse_unfit
from two_tower.data.incremental import STATE, EarlierRun, display_names, find_earlier, state_of
from two_tower.data.prepared import KIND, PROFILE, PROFILE_KIND
from two_tower.data.reading import Unit, plan_units, require_columns
from two_tower.data.refusals import NothingKept, refuse_too_many_bad
from two_tower.data.rows import BAD_ROWS, REASONS, expected_of, source_columns
from two_tower.data.sources import SourceFile
from two_tower.data.tables import EntityTable, Numbering, available, load_entities, number
from two_tower.data.work import Work, work_of
from two_tower.errors import DataError
from two_tower.features import fit_features
from two_tower.profile import Sketch, describe, merge, sketch
from two_tower.progress import Progress, human_seconds, log, watched

DAY = shards.DAY
LONG_TAIL_POINTS = 1000
FILTERED_NAMES = 20
"""So many of the reasons for which rows were filtered are counted apart."""
CORE_ROUNDS = 100
ITEMS_PER_GROUP = 65536
"""Rows of a row group of the candidate table, so that whoever needs a part of it reads a part."""


def prepare(
    sources: dict[str, list[SourceFile]],
    out: str | Path,
    *,
    data: DataSettings,
    beam: BeamSettings,
    profile: str | Path | None = None,
    previous: str | Path | None = None,
) -> list[str]:
    """Writes the `prepared_data` artefact of docs/artefacts.md into the folder `out`; says what is odd in sentences.

    The same files and settings give the same bytes, on whatever runner, in whatever order its bundles run, and
    whether everything is read or, with `previous`, only what is new.

    Args:
        sources: The files as `resolve_sources` lists them.
        out: The artefact's folder; a hidden folder beside it holds the shards meanwhile, unless `beam.work` says where.
        data: The configuration's `data` section.
        beam: The runner.
        profile: Where the `data_profile` artefact goes, if it is wanted.
        previous: Earlier prepared data, from which the files that have not changed need not be read again; with
            `data.incremental`, and as long as the settings are the same.

    Raises:
        DataError: The files cannot be used: unreadable, a column missing, too many bad rows, nothing left, an
            empty window.
    """
    out = Path(out)
    work = work_of(beam, out)
    _refuse_unreachable(sources["interactions"], beam)
    earlier = find_earlier(previous, sources, data)
    work.remove()  # what a killed run left
    with contextlib.ExitStack() as stack:
        stack.callback(work.remove)
        config = data.model_dump(mode="json")
        writer = stack.enter_context(write_artifact(out, KIND, config=config))
        about = stack.enter_context(write_artifact(profile, PROFILE_KIND, config=config)) if profile else None
        work.make()
        return _Preparation(sources, writer, about, work, data, beam, earlier).run()


def _refuse_unreachable(logs: list[SourceFile], beam: BeamSettings) -> None:
    """Checks that other machines, where there are some, can read the logs."""
    from two_tower.beam import is_remote

    local = [file["path"] for file in logs if "://" not in file["path"]]
    if local and is_remote(beam):
        raise DataError(
            f"data.interactions.path: {local[0]} lies on this machine, where the workers of {beam.runner} cannot read "
            "it; put the logs on a bucket and give gs://…"
        )


def _shared(earlier: EarlierRun | None, work: Work) -> shards.Earlier | None:
    """The earlier events where the workers can read them."""
    if earlier is None or not work.is_remote:
        return earlier.events if earlier else None
    names = {shard: f"earlier-{shard:05d}.parquet" for shard in earlier.events.shards}
    for shard, name in names.items():
        work.put(Path(earlier.events.shards[shard]), name)
    return shards.Earlier(names, earlier.files)


class _Preparation:
    """One run of `prepare`: its stages in order."""

    def __init__(
        self,
        sources: dict[str, list[SourceFile]],
        writer: ArtifactWriter,
        about: ArtifactWriter | None,
        work: Work,
        data: DataSettings,
        beam: BeamSettings,
        earlier: EarlierRun | None,
    ) -> None:
        self.sources, self.writer, self.about, self.work = sources, writer, about, work
        self.data, self.beam, self.earlier = data, beam, earlier
        self.logs = sources["interactions"]
        self.columns = data.interactions.columns
        # The files' own age bounds what their rows can know, and unlike the clock it is the same in a repeated run.
        # The day allows for time zones and for clocks that differ.
        newest = max(file["modified"] for file in self.logs) + DAY
        self.job = shards.Job(data=data, work=work, newest=newest, earlier=_shared(earlier, work))

    def run(self) -> list[str]:
        """All the stages; what is odd about the logs and tables."""
        started = time.monotonic()
        require_columns(self.logs, source_columns(self.data), self.data.interactions.csv)
        timezone = self.data.interactions.timezone
        items = load_entities(self.sources["items"], self.data.items, key="data.items", timezone=timezone)
        users = load_entities(self.sources["users"], self.data.users, key="data.users", timezone=timezone)
        self.work.write("known-item.arrow", pa.table({"id": items.ids}))
        self.work.write("known-user.arrow", pa.table({"id": users.ids}))
        units = self._read()
        read, merged = self._reports("read"), self._reports("merged")
        noted = notes.summed([*([self.earlier.noted] if self.earlier else []), *(report["noted"] for report in read)])
        rows, all_filtered = self._check_rows(read, merged, noted)
        said = notes.summed([noted, items.noted, users.noted, self._odd_rows(rows, merged, items, users)])
        self._refuse_unusable(rows, said, read, items, users, used=rows["read"] - all_filtered.total())
        end = max(report["last"] for report in merged)
        windows = splits.Windows.of(self.data, end=end)
        log.info("prepare_data: %s of %s rows kept", f"{rows['kept']:,}", f"{rows['read']:,}")
        item_numbers, odd_items = self._number("item", self.columns.item, items)
        user_numbers, odd_users = self._number("user", self.columns.user, users)
        self._write_users(users, user_numbers)
        self._shrink_to_core(windows, items=len(item_numbers.ids))
        self._encode(windows, units)
        encoded = self._reports("encoded")
        events = {name: sum(report["events"][name] for report in encoded) for name in splits.SPLITS}
        if self.data.interactions.k_core is not None:
            rows["outside_core"] = sum(report["outside_core"] for report in encoded)
        if rows.get("outside_core") and not events["train"]:
            raise DataError("data.interactions.k_core leaves no training event; ask for fewer events")
        try:
            splits.require_events(events, windows, first=min(report["first"] for report in merged))
        except DataError as error:
            raise DataError("\n".join([str(error), *(f"note: {one}" for one in notes.in_sentences(said))])) from error
        log.info("prepare_data: writing %s candidates", f"{len(item_numbers.ids):,}")
        counts = self._write_items(items, item_numbers)
        for name in ("train", "pairs", "validation", "test", "events"):
            self._take_parts(name)
        self._write_set_aside()
        self._write_features(items, users)
        said = notes.summed([said, odd_items, odd_users])
        per_day = self._per_day(merged, items=len(item_numbers.ids))
        self._write_profile(items, users, per_day)
        if self.data.incremental:
            state = state_of(self.sources, read=rows["read"], filtered=all_filtered, noted=noted)
            self.writer.write_json(STATE, state)
        self._write_summary(
            rows,
            dict(sorted(said.items())),
            per_day,
            merged,
            encoded,
            windows,
            counts,
            items=items,
            users=users,
            known=(item_numbers, user_numbers),
        )
        log.info("prepare_data: done in %s", human_seconds(time.monotonic() - started))
        return notes.in_sentences(said)

    def _read(self) -> list[Unit]:
        """Stage 1: files to shards, shards to merged shards. Returns all units, also those that were read earlier."""
        import apache_beam as beam

        from two_tower.beam import spread

        units = plan_units(self.logs, self.data.interactions.csv, expected_of(self.data))
        known = set(self.earlier.files) if self.earlier else set()
        new = [unit for unit in units if unit.file not in known]
        log.info("prepare_data: reading %d files in %d parts", len(self.logs) - len(known), len(new))
        read = functools.partial(shards.read_unit, job=self.job)
        merge_shard = functools.partial(shards.merge_shard, job=self.job)
        earlier = [(shard, "") for shard in self.earlier.events.shards] if self.earlier else []

        def stages(pipeline: Any) -> None:
            pieces = spread(pipeline, "Units", new) | "Read" >> beam.FlatMap(read)
            if earlier:
                pieces = (pieces, pipeline | "Earlier shards" >> beam.Create(earlier)) | beam.Flatten()
            _ = pieces | "By shard" >> beam.GroupByKey() | "Merge" >> beam.Map(merge_shard)

        with self._watched("reading", "read-*.json", total=len(new), unit="parts"):
            self._run(stages, part="read")
        return units

    def _encode(self, windows: splits.Windows, units: list[Unit]) -> None:
        """Stage 2: merged shards to sequences and queries; beside it, the content of what the shards set aside."""
        import apache_beam as beam

        from two_tower.beam import spread

        aside = pa.concat_tables(self._tables("aside-*.arrow"))
        if self.earlier:
            known = pl.DataFrame(self.earlier.bad).select("file", "row", "reason")
            aside = pl.DataFrame(aside).join(known, on=["file", "row", "reason"], how="anti").to_arrow()
        self.work.write("aside.arrow", aside)
        holding = set(pa.compute.unique(aside["file"]).to_pylist())
        encode_shard = functools.partial(encode.encode_shard, job=self.job, windows=windows)
        again = functools.partial(shards.describe_aside, job=self.job)
        numbers = self._shards()

        def stages(pipeline: Any) -> None:
            _ = spread(pipeline, "Shards", numbers) | "Encode" >> beam.Map(encode_shard)
            if holding:
                of_these = [unit for unit in units if unit.file in holding]
                _ = spread(pipeline, "Units", of_these) | "Describe what was set aside" >> beam.Map(again)

        with self._watched("encoding", "encoded-*.json", total=len(numbers), unit="shards"):
            self._run(stages, part="encode")

    def _shrink_to_core(self, windows: splits.Windows, *, items: int) -> None:
        """Finds the items of the core: leaves out rare ones, then users, until nothing more falls out."""
        import apache_beam as beam

        from two_tower.beam import spread

        if (settings := self.data.interactions.k_core) is None:
            return
        count = functools.partial(encode.count_core, job=self.job, windows=windows)
        core = np.arange(items, dtype=np.int32)

        def stages(pipeline: Any) -> None:
            _ = spread(pipeline, "Shards", self._shards()) | "Count" >> beam.Map(count)

        for n in range(CORE_ROUNDS):
            self.work.write("core.arrow", pa.table({"item": core}))
            self._run(stages, part=f"core-{n}")
            counts = np.zeros(items, dtype=np.int64)
            for table in self._tables("core-*.arrow"):
                counts[table["item"].to_numpy()] += table["count"].to_numpy()
            smaller = np.flatnonzero(counts >= settings.item).astype(np.int32)
            if len(smaller) == len(core):
                break
            core = smaller
        log.info("prepare_data: the core has %s of %s items", f"{len(core):,}", f"{items:,}")

    def _run(self, stages: Callable[[Any], None], *, part: str) -> None:
        """Runs a pipeline; a full disk comes out as the `OSError` that it was."""
        from two_tower.beam import naming_a_full_disk, pipeline

        with naming_a_full_disk(self.work.root), pipeline(self.beam, part) as built:
            stages(built)

    def _watched(self, what: str, pattern: str, *, total: int, unit: str) -> contextlib.AbstractContextManager[None]:
        """Logs how many of the files that the workers leave are there, on whatever runner they are."""
        return watched(Progress(f"prepare_data: {what}", total=total, unit=unit), lambda: len(self.work.names(pattern)))

    def _shards(self) -> list[int]:
        return [int(name.rpartition("-")[2].removesuffix(".json")) for name in self.work.names("merged-*.json")]

    def _tables(self, pattern: str) -> Iterator[pa.Table]:
        """The tables that the workers have left under such names, in the order of the names."""
        return map(self.work.read, self.work.names(pattern))

    def _reports(self, stage: str) -> list[dict[str, Any]]:
        return [self.work.read_json(name) for name in self.work.names(f"{stage}-*.json")]

    def _check_rows(
        self, reports: list[dict[str, Any]], merged: list[dict[str, Any]], noted: notes.Noted
    ) -> tuple[dict[str, Any], Counter[str]]:
        """The row counts of summary.json, checked, and how many rows each filter took out."""
        for report in reports:
            if report["error"]:
                raise DataError(report["error"])
        refuse_unfit(noted)
        read = sum(report["read"] for report in reports)
        filtered = notes.summed(report["filtered"] for report in reports)
        set_aside = notes.summed(report["set_aside"] for report in reports)
        if self.earlier:
            read += self.earlier.state["read"]
            filtered.update(self.earlier.filtered)  # `+=` would drop what filtered nothing
            earlier = Counter(self.earlier.bad["reason"].to_pylist())
            del earlier["rate_limit"]  # the shards look at all the events again
            set_aside += earlier
        set_aside["duplicate"] += sum(report["duplicates"] for report in merged)
        set_aside["rate_limit"] += sum(report["rate_limit"] for report in merged)
        by_filter = Counter(filtered)
        if repeats := sum(report["repeats"] for report in merged):
            filtered["repeats"] = repeats
        kept = sum(report["kept"] for report in merged)
        if not read:
            raise DataError(f"data.interactions: the logs have no rows ({self._names()})")
        rows = {
            "read": read,
            "kept": kept,
            "filtered": _largest(filtered),
            "set_aside": {reason: set_aside[reason] for reason in REASONS if set_aside[reason]},
        }
        return rows, by_filter

    def _refuse_unusable(
        self,
        rows: dict[str, Any],
        noted: notes.Noted,
        reports: list[dict[str, Any]],
        items: EntityTable,
        users: EntityTable,
        *,
        used: int,
    ) -> None:
        """Raises a DataError when too many of the `used` rows, which the filters leave, are bad, or no row is left."""
        found = [example for report in reports for example in report["examples"]]
        found += [example for report in reports if (example := report["filtered_example"])]
        examples = [example | {"file": self.logs[example["file"]]["path"]} for example in found]
        refuse_too_many_bad(rows, examples, noted, used=used, limit=self.data.interactions.max_bad_share)
        if not rows["kept"]:
            raise NothingKept(rows, examples, noted, self._described(items, users))

    def _odd_rows(
        self, rows: dict[str, Any], merged: list[dict[str, Any]], items: EntityTable, users: EntityTable
    ) -> notes.Noted:
        """What is odd about the times, and about the ids that the tables lack."""
        first = min((report["first"] for report in merged), default=0)
        last = max((report["last"] for report in merged), default=-1)
        noted = oddities.odd_times(
            self.data.interactions, self._sampled_times(), rows["set_aside"], span=(first, last), newest=self.job.newest
        )
        return noted + oddities.unknown_ids(rows["set_aside"], {"item": items, "user": users})

    def _sampled_times(self) -> Iterator[pl.Series]:
        """Some values of the column of times, those of each type together."""
        for kind, values in self._sketch.values(self.columns.time or "").items():
            if kind != "list":
                yield values.cast(pl.Datetime("us", "UTC")) if kind == "time" else values

    def _names(self) -> str:
        paths = [file["path"] for file in self.logs]
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")

    def _number(self, role: str, column: str | None, table: EntityTable) -> tuple[Numbering, notes.Noted]:
        """The numbering of the items or users, left in the work folder for the workers, and what is odd about them."""
        if column is None:
            return number(_no_ids(), _NO_TEXTS), notes.Noted()
        seen = pl.DataFrame(pa.concat_tables(self._tables(f"{role}s-*.arrow")))
        numbering = number(seen, table.ids)
        self.work.write(f"{role}s.arrow", pa.table({"id": numbering.ids}))
        settings = self.data.items if role == "item" else self.data.users
        odd = [
            oddities.odd_ids(seen, role, column),
            oddities.unmatched_ids(numbering.ids.slice(0, numbering.seen), table, role),
            oddities.cut_values(table, settings.features if settings else {}, f"{role}s"),
        ]
        return numbering, notes.summed(odd)

    def _write_users(self, table: EntityTable, numbering: Numbering) -> None:
        users = pa.table({"user_id": numbering.ids, **table.rows_of(numbering.ids, "feature.")})
        self.writer.write_table("users.parquet", users)
        self.work.write("user-table.arrow", users)

    def _write_items(self, table: EntityTable, numbering: Numbering) -> pa.Table:
        """Writes the candidate table; its counts are returned."""
        counted = pl.DataFrame(pa.concat_tables(self._tables("counts-*.arrow")))
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

    def _take_parts(self, name: str) -> None:
        """Moves the shards' Parquet files into a folder of the artefact and counts their rows."""
        rows = 0
        for part in self.work.names(f"{name}-*.parquet"):
            path = self.writer.path(f"{name}/part-{part.rpartition('-')[2]}")
            self.work.take(part, path)
            rows += pq.read_metadata(path).num_rows
        if rows or name in splits.SPLITS:
            self.writer.manifest.rows[name] = rows

    def _write_set_aside(self) -> None:
        """Joins the bad rows, in the order of the files and rows."""
        parts = list(self._tables("bad-*.arrow"))
        if self.earlier:
            limited = pa.concat_tables(self._tables("aside-*.arrow"))
            still = pl.DataFrame(limited).filter(pl.col("reason") == "rate_limit").select("file", "row")
            bad = pl.DataFrame(self.earlier.bad)
            mine = bad.filter(pl.col("reason") != "rate_limit")
            again = bad.filter(pl.col("reason") == "rate_limit").join(still, on=["file", "row"], how="semi")
            parts.append(pl.concat([mine, again]).to_arrow().cast(BAD_ROWS))
        table = pa.concat_tables([BAD_ROWS.empty_table(), *parts]).sort_by(
            [("file", "ascending"), ("row", "ascending")]
        )
        names = pa.array(display_names([file["path"] for file in self.logs]), pa.string())
        self.writer.write_table(
            "set_aside.parquet", table.set_column(0, "file", names.take(table["file"].combine_chunks()))
        )

    def _per_day(self, merged: list[dict[str, Any]], *, items: int) -> dict[str, list[Any]]:
        """The days of the logs with their events, users and items; empty lists where there are no times."""
        counts: dict[int, list[int]] = {}
        for report in merged:
            for day, (events, users) in report["per_day"].items():
                total = counts.setdefault(int(day), [0, 0, 0])
                total[0] += events
                total[1] += users  # a user is in one shard only
        days = sorted(counts)
        place = {day: number for number, day in enumerate(days)}
        seen = np.zeros((len(days), items // 8 + 1), dtype=np.uint8)
        for table in self._tables("days-*.arrow"):
            of_day = pl.Series(table["day"]).replace_strict(place, return_dtype=pl.Int64).to_numpy()
            item = table["item"].to_numpy()
            np.bitwise_or.at(seen, (of_day, item // 8), np.left_shift(1, item % 8).astype(np.uint8))
        for day, bits in zip(days, seen, strict=True):
            counts[day][2] = int(np.bitwise_count(bits).sum())
        return {
            "day": [str(np.datetime64(day, "D")) for day in days],
            **{name: [counts[day][n] for day in days] for n, name in enumerate(("events", "users", "items"))},
        }

    def _write_profile(self, items: EntityTable, users: EntityTable, per_day: dict[str, list[Any]]) -> None:
        """Writes the profile of the logs and tables, and the sketch that the next preparation goes on from."""
        if self.data.incremental:
            self._sketch.write(self.writer.path("sketch.parquet"))
        if self.about is not None:
            tables = self._described(items, users)
            self.about.write_json(PROFILE, {"tables": tables, "per_day": per_day, "not_compared": self._moving()})

    @functools.cached_property
    def _sketch(self) -> Sketch:
        """The sketch of the logs' columns."""
        parts = [self.earlier.sketch] if self.earlier else []
        for name in self.work.names("sketch-*.parquet"):
            with self.work.source(name) as source:
                parts.append(Sketch.read(source))
        return merge(parts)

    def _described(self, items: EntityTable, users: EntityTable) -> dict[str, Any]:
        """What the columns of the logs and tables hold."""
        tables = {"interactions": describe(self._sketch)}
        for key, table in (("items", items), ("users", users)):
            if table.columns:
                tables[key] = describe(_sketch_of(table, key))
        return tables

    def _moving(self) -> dict[str, str]:
        """The columns of the logs whose values differ from one day's logs to the next's whatever happens."""
        moves, ids = "Times move on.", "Ids are not compared."
        reasons = {"time": moves, "order": moves, "user": ids, "item": ids}
        columns = self.columns.model_dump()
        return {f"interactions.{columns[role]}": reason for role, reason in reasons.items() if columns[role]}

    def _write_features(self, items: EntityTable, users: EntityTable) -> None:
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

    def _write_summary(
        self,
        rows: dict[str, Any],
        noted: dict[str, int],
        per_day: dict[str, list[Any]],
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
        trained = np.sort(counts["train_count"].to_numpy())[::-1]
        trained = trained[trained > 0]
        places = np.unique(np.linspace(0, len(trained) - 1, min(len(trained), LONG_TAIL_POINTS)).astype(np.int64))
        is_cold = counts["train_count"].to_numpy() == 0
        summary = {
            "rows": rows,
            "noted": noted,
            "tables": {
                name: {"rows": table.rows, "without_id": table.without_id, "distinct": len(table.ids)}
                for name, table in (("items", items), ("users", users))
            },
            "users": known[1].seen,
            "items": len(known[0].ids),
            "items_seen": known[0].seen,
            "events": {name: sum(report["events"][name] for report in encoded) for name in splits.SPLITS},
            "positives": sum(report["positives"] for report in merged),
            "repeats": sum(report["repeated"] for report in merged) if self.columns.user else None,
            "windows": spans if self.columns.time else {},
            "per_day": per_day,
            "item_counts": trained[places].tolist(),
            "cold_items": {
                split: int((is_cold & (counts[f"{split}_count"].to_numpy() > 0)).sum())
                for split in ("validation", "test")
            },
        }
        for key in ("queries", "new_users", "tied"):
            summary[key] = {split: sum(report[key][split] for report in encoded) for split in ("validation", "test")}
        self.writer.write_json("summary.json", summary)
        manifest = self.writer.manifest
        manifest.data_seen_until = spans["train"][1] if self.columns.time else None
        manifest.extra = {
            "validation_from": windows.validation_from,
            "test_from": windows.test_from,
            "end": windows.end if self.columns.time else None,
            "order": "time" if self.columns.time else "order" if self.columns.order else "none",
        }
        if self.about is not None:
            self.about.manifest.data_seen_until = manifest.data_seen_until


_NO_TEXTS = pa.array([], pa.string())


def _sketch_of(table: EntityTable, key: str) -> Sketch:
    """A sketch of the columns of the item or user table."""
    columns = {name.partition(".")[2]: column for name, column in table.columns.items() if name.startswith("feature.")}
    frame = pl.DataFrame(pa.table(columns))
    hashes = column_hashes(frame)
    return sketch(frame, hashes=hashes, keys=row_keys(key, np.arange(frame.height), row_digests(frame, hashes)))


def _no_ids() -> pl.DataFrame:
    return pl.DataFrame(schema={"id": pl.String, "first_seen": pl.Int64})


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
