"""From the input files to the `prepared_data` artefact."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from two_tower.artifacts import ArtifactWriter, Place, write_artifact
from two_tower.config import BeamSettings, DataSettings, canonical_json, parse_section
from two_tower.data import notes, oddities, splits
from two_tower.data.conditions import refuse_unfit
from two_tower.data.frames import Frame, with_frames
from two_tower.data.incremental import STATE, EarlierRun, find_earlier, state_of
from two_tower.data.log_profile import LogProfile
from two_tower.data.outputs import Outputs
from two_tower.data.prepared import KIND, PROFILE, PROFILE_KIND, Prepared
from two_tower.data.reading import require_columns
from two_tower.data.refusals import NothingKept, refuse_too_many_bad
from two_tower.data.row_counts import count_rows
from two_tower.data.rows import source_columns
from two_tower.data.sources import SourceFile
from two_tower.data.stages import Stages
from two_tower.data.summary import Findings, events_by_split, events_per_day, summary_of
from two_tower.data.tables import EntityTable, Numbering, load_entities, number
from two_tower.data.work import Work, work_of
from two_tower.errors import DataError
from two_tower.progress import human_seconds, log

Reports = list[dict[str, Any]]
"""What the pieces of a stage have counted."""


def prepare(
    sources: dict[str, list[SourceFile]] | None = None,
    *,
    out: Place,
    data: DataSettings | Mapping[str, Any],
    interactions: Frame | None = None,
    items: Frame | None = None,
    users: Frame | None = None,
    beam: BeamSettings | None = None,
    profile: Place | None = None,
    previous: Place | None = None,
) -> Prepared:
    """The `prepared_data` artefact of docs/artefacts.md, written into the folder `out`; its `notes` say what is odd.

    The same files and settings give the same bytes, on whatever runner, in whatever order its bundles run, and
    whether everything is read or, with `previous`, only what is new.

    Args:
        sources: The files as `resolve_sources` lists them; not with tables in memory.
        out: The artefact's folder; a hidden folder beside it holds the shards meanwhile, unless `beam.work` says where.
        data: The configuration's `data` section; with tables in memory also as a mapping, without their paths.
        interactions: The log as an Arrow table or a data frame, instead of `sources`.
        items: The items likewise.
        users: The users likewise.
        beam: The runner; this process if not given.
        profile: Where the `data_profile` artefact goes, if it is wanted.
        previous: Earlier prepared data, from which the files that have not changed need not be read again; with
            `data.incremental`, and as long as the settings are the same.

    Raises:
        DataError: The files or tables cannot be used: unreadable, a column missing, too many bad rows, nothing left,
            an empty window.
        ConfigError: A mapping for `data` does not validate.
    """
    with contextlib.ExitStack() as stack:
        frames = {"interactions": interactions, "items": items, "users": users}
        if sources is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="two-tower-tables-"))
            data, sources = with_frames(data, frames, Path(folder))
        elif given := [name for name, frame in frames.items() if frame is not None]:
            raise DataError(f"prepare: both files and a table of {given[0]} are given; give either")
        elif not isinstance(data, DataSettings):
            data = parse_section(DataSettings, canonical_json(dict(data)))
        _prepare(sources, Path(out), data, beam or BeamSettings(), profile=profile, previous=previous)
    return Prepared.made(out)


def _prepare(
    sources: dict[str, list[SourceFile]],
    out: Path,
    data: DataSettings,
    beam: BeamSettings,
    *,
    profile: Place | None,
    previous: Place | None,
) -> None:
    """Writes the artefacts."""
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
        _Preparation(sources, writer, about, work, data, beam, earlier).run()


def _refuse_unreachable(logs: list[SourceFile], beam: BeamSettings) -> None:
    """Checks that other machines, where there are some, can read the logs."""
    from two_tower.beam import is_remote

    local = [file["path"] for file in logs if "://" not in file["path"]]
    if local and is_remote(beam):
        raise DataError(
            f"data.interactions.path: {local[0]} lies on this machine, where the workers of {beam.runner} cannot read "
            "it; put the logs on a bucket and give gs://…"
        )


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
        self.data, self.earlier = data, earlier
        self.logs = sources["interactions"]
        self.columns = data.interactions.columns
        self.stages = Stages(self.logs, work, data, beam, earlier)
        self.outputs = Outputs(writer, work, data)
        self.profile = LogProfile(work, self.columns, earlier)

    def run(self) -> None:
        """All the stages."""
        started = time.monotonic()
        require_columns(self.logs, source_columns(self.data), self.data.interactions.csv)
        items, users = self._load_tables()
        units = self.stages.read()
        read, merged = self.work.reports("read"), self.work.reports("merged")
        noted = self._noted(read)
        rows, by_filter = count_rows(self.logs, read, merged, self.earlier)
        said = notes.summed([noted, items.noted, users.noted, self._odd_rows(rows, merged, items, users)])
        self._refuse_unusable(rows, said, read, items, users, used=rows["read"] - by_filter.total())
        windows = splits.Windows.of(self.data, end=max(report["last"] for report in merged))
        log.info("prepare_data: %s of %s rows kept", f"{rows['kept']:,}", f"{rows['read']:,}")
        item_numbers, odd_items = self._number("item", self.columns.item, items)
        user_numbers, odd_users = self._number("user", self.columns.user, users)
        self.outputs.write_users(users, user_numbers)
        self.stages.shrink_to_core(windows, items=len(item_numbers.ids))
        self.stages.encode(windows, units)
        encoded = self.work.reports("encoded")
        self._refuse_without_events(rows, said, merged, encoded, windows)
        log.info("prepare_data: writing %s candidates", f"{len(item_numbers.ids):,}")
        counts = self._write_tables(items, users, item_numbers)
        said = notes.summed([said, odd_items, odd_users])
        per_day = events_per_day(self.work, merged, items=len(item_numbers.ids))
        self._write_profile(items, users, per_day)
        if self.data.incremental:
            state = state_of(self.sources, read=rows["read"], filtered=by_filter, noted=noted)
            self.writer.write_json(STATE, state)
        self._write_summary(
            Findings(rows, said, per_day, merged, encoded, counts, items, users, item_numbers, user_numbers), windows
        )
        log.info("prepare_data: done in %s", human_seconds(time.monotonic() - started))

    def _load_tables(self) -> tuple[EntityTable, EntityTable]:
        """The item and the user table, their ids left in the work folder for the workers."""
        timezone = self.data.interactions.timezone
        items = load_entities(self.sources["items"], self.data.items, key="data.items", timezone=timezone)
        users = load_entities(self.sources["users"], self.data.users, key="data.users", timezone=timezone)
        self.work.write("known-item.arrow", pa.table({"id": items.ids}))
        self.work.write("known-user.arrow", pa.table({"id": users.ids}))
        return items, users

    def _noted(self, read: Reports) -> notes.Noted:
        """What is odd about the rows as they were read, now and earlier.

        Raises:
            DataError: A file could not be read, or a condition compares what cannot be compared.
        """
        earlier = [self.earlier.noted] if self.earlier else []
        noted = notes.summed([*earlier, *(report["noted"] for report in read)])
        for report in read:
            if report["error"]:
                raise DataError(report["error"])
        refuse_unfit(noted)
        return noted

    def _refuse_unusable(
        self,
        rows: dict[str, Any],
        noted: notes.Noted,
        reports: Reports,
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
            raise NothingKept(rows, examples, noted, self.profile.described(items, users))

    def _refuse_without_events(
        self, rows: dict[str, Any], said: notes.Noted, merged: Reports, encoded: Reports, windows: splits.Windows
    ) -> None:
        """Counts the rows outside of the core; raises a DataError when a split has no event."""
        events = events_by_split(encoded)
        if self.data.interactions.k_core is not None:
            rows["outside_core"] = sum(report["outside_core"] for report in encoded)
        if rows.get("outside_core") and not events["train"]:
            raise DataError("data.interactions.k_core leaves no training event; ask for fewer events")
        try:
            splits.require_events(events, windows, first=min(report["first"] for report in merged))
        except DataError as error:
            raise DataError("\n".join([str(error), *(f"note: {one}" for one in notes.in_sentences(said))])) from error

    def _odd_rows(self, rows: dict[str, Any], merged: Reports, items: EntityTable, users: EntityTable) -> notes.Noted:
        """What is odd about the times, and about the ids that the tables lack."""
        first = min((report["first"] for report in merged), default=0)
        last = max((report["last"] for report in merged), default=-1)
        noted = oddities.odd_times(
            self.data.interactions,
            self.profile.sampled_times(),
            rows["set_aside"],
            span=(first, last),
            newest=self.stages.job.newest,
        )
        return noted + oddities.unknown_ids(rows["set_aside"], {"item": items, "user": users})

    def _number(self, role: str, column: str | None, table: EntityTable) -> tuple[Numbering, notes.Noted]:
        """The numbering of the items or users, left in the work folder for the workers, and what is odd about them."""
        if column is None:
            return number(_no_ids(), _NO_TEXTS), notes.Noted()
        seen = pl.DataFrame(pa.concat_tables(self.work.tables(f"{role}s-*.arrow")))
        numbering = number(seen, table.ids)
        self.work.write(f"{role}s.arrow", pa.table({"id": numbering.ids}))
        settings = self.data.items if role == "item" else self.data.users
        odd = [
            oddities.odd_ids(seen, role, column),
            oddities.unmatched_ids(numbering.ids.slice(0, numbering.seen), table, role),
            oddities.cut_values(table, settings.features if settings else {}, f"{role}s"),
        ]
        return numbering, notes.summed(odd)

    def _write_tables(self, items: EntityTable, users: EntityTable, numbering: Numbering) -> pa.Table:
        """Writes the candidates, the events and queries, the bad rows and the features; the candidates' counts."""
        counts = self.outputs.write_items(items, numbering)
        for name in ("train", "pairs", "validation", "test", "events"):
            self.outputs.take_parts(name)
        self.outputs.write_set_aside(self.logs, self.earlier)
        self.outputs.write_features(items, users)
        return counts

    def _write_profile(self, items: EntityTable, users: EntityTable, per_day: dict[str, list[Any]]) -> None:
        """Writes the profile of the logs and tables, and the sketch that the next preparation goes on from."""
        if self.data.incremental:
            self.profile.sketch.write(self.writer.path("sketch.parquet"))
        if self.about is not None:
            tables = self.profile.described(items, users)
            self.about.write_json(
                PROFILE, {"tables": tables, "per_day": per_day, "not_compared": self.profile.moving()}
            )

    def _write_summary(self, found: Findings, windows: splits.Windows) -> None:
        """Writes summary.json and sets the manifest's facts."""
        self.writer.write_json("summary.json", summary_of(found, self.columns))
        manifest = self.writer.manifest
        manifest.data_seen_until = found.spans["train"][1] if self.columns.time else None
        manifest.extra = {
            "validation_from": windows.validation_from,
            "test_from": windows.test_from,
            "end": windows.end if self.columns.time else None,
            "order": "time" if self.columns.time else "order" if self.columns.order else "none",
        }
        if self.about is not None:
            self.about.manifest.data_seen_until = manifest.data_seen_until


_NO_TEXTS = pa.array([], pa.string())


def _no_ids() -> pl.DataFrame:
    return pl.DataFrame(schema={"id": pl.String, "first_seen": pl.Int64})
