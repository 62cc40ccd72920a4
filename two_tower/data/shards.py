"""The pieces of work that Beam hands out before anything is encoded: read a unit, merge a shard, look a row up again.

They talk through files in the job's work folder; only the files' names go through a shuffle.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.columns import stable_hash, stable_order
from two_tower.config import DataSettings, InteractionsSettings
from two_tower.contracts import ROLES, Bool, Int32, Int64
from two_tower.data.notes import Noted
from two_tower.data.reading import LogBatch, Unit, read_batches
from two_tower.data.rows import BAD_ROWS, bad_rows, check_rows, examples_of
from two_tower.data.splits import SPLITS, span
from two_tower.data.work import Work
from two_tower.errors import DataError
from two_tower.profile import Sketcher

DAY = 86_400_000_000


@dataclass(frozen=True)
class Earlier:
    """The checked events of an earlier preparation."""

    shards: dict[int, str]
    """The Parquet file of each shard: its path, or its name in the work folder if that is a URL."""
    files: tuple[int, ...]
    """The number that each of the earlier files has now."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    data: DataSettings
    work: Work
    newest: int
    """The latest time, in microseconds, that is not in the future."""
    earlier: Earlier | None = None


def read_unit(unit: Unit, *, job: Job) -> Iterator[tuple[int, str]]:
    """The (shard, file) pairs of the unit's good rows.

    `read-*.json` counts the rest, `bad-*.arrow` holds it, `sketch-*.parquet` says what the columns hold.
    """
    report: dict[str, Any] = {"read": 0, "filtered": {}, "noted": {}, "set_aside": {}, "examples": [], "error": None}
    report["filtered_example"] = None
    filtered: Counter[str] = Counter()
    noted: Noted = Counter()
    bad: list[pa.Table] = []
    pieces: list[tuple[int, str]] = []
    sketcher = Sketcher()
    known = {
        name: job.work.read(f"known-{name}.arrow")["id"].combine_chunks()
        for name, table in (("item", job.data.items), ("user", job.data.users))
        if table is not None and table.unknown == "set_aside"
    }
    try:
        for number, batch in enumerate(read_batches(unit)):
            checked = check_rows(batch, unit, data=job.data, newest=job.newest, known=known)
            report["read"] += checked.read
            filtered.update(checked.filtered)
            noted.update(checked.noted)
            if report["filtered_example"] is None and batch.table.num_rows and not checked.used.height:
                report["filtered_example"] = _first_row(batch, unit)
            bad.append(checked.bad)
            sketcher.add(checked.used, hashes=checked.hashes, keys=checked.keys)
            pieces += _write_pieces(checked.kept, job, f"{unit.number:06d}-{number:06d}")
    except DataError as error:  # an exception would come out of Beam as text
        report["error"] = text if unit.path in (text := str(error)) else f"{unit.path}: {text}"
    aside = pa.concat_tables(bad) if bad else BAD_ROWS.empty_table()
    if aside.num_rows:
        job.work.write(f"bad-{unit.number:06d}.arrow", aside)
    with job.work.sink(f"sketch-{unit.number:06d}.parquet") as sink:
        sketcher.sketch().write(sink)
    report["filtered"], report["noted"] = dict(filtered), dict(noted)
    report["set_aside"] = dict(Counter(aside["reason"].to_pylist()))
    report["examples"] = examples_of(aside)
    job.work.write_json(f"read-{unit.number:06d}.json", report)
    yield from pieces


def merge_shard(shard_and_files: tuple[int, list[str]], *, job: Job) -> None:
    """Joins the pieces of a shard into `merged-*.arrow`, with the ids as codes, sorted by (user, given split, time).

    Duplicates and what goes beyond the rate limit are listed in `aside-*.arrow`, the codes' ids with the time when
    each was first seen in `users-*.arrow` and `items-*.arrow`, the counts in `merged-*.json`; for the next preparation
    the checked events are in `events-*.parquet`.
    """
    shard, files = shard_and_files
    log = job.data.interactions
    table = _gathered(shard, files, job)
    first = _first_of_duplicates(table, log)
    aside = [_listed(table, ~first, "duplicate")]
    table = _sorted(table if first.all() else table.filter(pa.array(first)))
    if job.data.incremental:
        job.work.write_parquet(f"events-{shard:05d}.parquet", table)
    allowed = _within_rate(table, log)
    aside.append(_listed(table, ~allowed, "rate_limit"))
    kept = allowed & _first_of_repeats(table, allowed, log)
    job.work.write(f"aside-{shard:06d}.arrow", pa.concat_tables(aside))
    table = table.drop_columns(["digest", "file", "row"])
    if not kept.all():
        table = table.filter(pa.array(kept))
    for name in ("user", "item"):
        ids, codes = _coded(table, name, log)
        job.work.write(f"{name}s-{shard:06d}.arrow", ids)
        table = table.set_column(table.column_names.index(name), name, codes)
    job.work.write(f"merged-{shard:06d}.arrow", table)
    time = table["time"].to_numpy()
    report = {
        "duplicates": int((~first).sum()),
        "rate_limit": int((~allowed).sum()),
        "repeats": int((allowed & ~kept).sum()),
        "kept": len(time),
        **_repeated(table),
        "first": int(time.min(initial=np.iinfo(np.int64).max)),
        "last": int(time.max(initial=np.iinfo(np.int64).min)),
        "per_day": _per_day(time, table["user"].to_numpy()) if log.columns.time else {},
    }
    job.work.write_json(f"merged-{shard:06d}.json", report)


def describe_aside(unit: Unit, *, job: Job) -> None:
    """Reads the unit once more for the content of the rows that the shards set aside, into `bad-again-*.arrow`.

    Only a digest of each row went through the shards.
    """
    listed = job.work.read("aside.arrow")
    listed = listed.filter(pc.equal(listed["file"], unit.file)).sort_by("row")
    wanted, reasons = listed["row"].to_numpy(), listed["reason"].to_pylist()
    parts = [BAD_ROWS.empty_table()]
    for batch in read_batches(unit):
        place = np.minimum(np.searchsorted(wanted, batch.rows), max(0, len(wanted) - 1))
        mine = wanted[place] == batch.rows
        if not mine.any():
            continue
        frame = pl.DataFrame(batch.table.filter(pa.array(mine)))
        parts.append(bad_rows(frame, batch.rows[mine], [reasons[n] for n in place[mine]], file=unit.file))
    job.work.write(f"bad-again-{unit.number:06d}.arrow", pa.concat_tables(parts))


def _write_pieces(table: pa.Table, job: Job, name: str) -> list[tuple[int, str]]:
    """One file for each shard that has rows in the batch."""
    coded = table["user"].combine_chunks().dictionary_encode()
    shard_of = (stable_hash(coded.dictionary) % np.uint64(job.data.shards)).astype(np.int16)
    shards = shard_of[coded.indices.to_numpy()] if table.num_rows else np.empty(0, np.int16)
    order = np.argsort(shards, kind="stable")
    table = table.take(pa.array(order))
    bounds = np.searchsorted(shards[order], np.arange(job.data.shards + 1))
    pieces = []
    for shard in np.flatnonzero(np.diff(bounds)).tolist():
        piece = f"pieces-{shard:06d}/{name}.arrow"
        job.work.write(piece, table.slice(bounds[shard], bounds[shard + 1] - bounds[shard]))
        pieces.append((shard, piece))
    return pieces


def _first_row(batch: LogBatch, unit: Unit) -> dict[str, Any]:
    """The batch's first row as one of `BAD_ROWS`, for the message that the filters leave nothing."""
    first = bad_rows(pl.DataFrame(batch.table.slice(0, 1)), batch.rows[:1], ["filtered"], file=unit.file)
    return dict(first.to_pylist()[0])


def _gathered(shard: int, files: list[str], job: Job) -> pa.Table:
    """The shard's pieces, after what an earlier preparation left of it, in the order of the source."""
    tables = [job.work.read(name) for name in sorted(files) if name]  # sorted names: the order of the source
    if job.earlier is None or shard not in job.earlier.shards:
        return pa.concat_tables(tables)
    table = pa.concat_tables([_earlier_events(shard, job, job.earlier), *tables])
    return table.take(pa.array(stable_order(table["file"].to_numpy(), table["row"].to_numpy())))


def _earlier_events(shard: int, job: Job, earlier: Earlier) -> pa.Table:
    """The shard's events of the earlier preparation, with the numbers that its files have now."""
    path = earlier.shards[shard]
    with job.work.source(path) if job.work.is_remote else contextlib.nullcontext(path) as source:
        table = pq.read_table(source)
    files = np.array(earlier.files, dtype=np.int32)[table["file"].to_numpy()]
    for name in ("user", "item"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.large_string()))
    return table.set_column(table.column_names.index("file"), "file", pa.array(files))


def _sorted(table: pa.Table) -> pa.Table:
    """The rows by (user, given split, time), the ids as dictionaries; equal rows stay in the order of the source."""
    for name in ("user", "item"):
        coded = table[name].combine_chunks().dictionary_encode()
        table = table.set_column(table.column_names.index(name), name, coded)
    parts = [table["part"].to_numpy()] if "part" in table.column_names else []
    order = stable_order(_codes(table, "user"), *parts, table["time"].to_numpy())
    return table.take(pa.array(order))


def _codes(table: pa.Table, name: str) -> Int32:
    """The codes `[rows]` of a dictionary column."""
    codes: Int32 = table[name].combine_chunks().indices.to_numpy()
    return codes


def _coded(table: pa.Table, name: str, log: InteractionsSettings) -> tuple[pa.Table, pa.Array]:
    """The ids of a dictionary column that occur, when each was first seen and in how many rows; the rows' codes."""
    codes, time = _codes(table, name), table["time"].to_numpy()
    seen = pl.DataFrame({"code": codes, "time": time if log.columns.time else np.zeros_like(time)})
    seen = seen.group_by("code").agg(pl.col("time").min(), pl.len().cast(pl.Int64).alias("rows")).sort("code")
    dictionary = table[name].combine_chunks().dictionary
    ids = dictionary.take(seen["code"].to_arrow())
    ids = pa.table({"id": ids, "first_seen": seen["time"].to_arrow(), "rows": seen["rows"].to_arrow()})
    compact = np.zeros(len(dictionary), dtype=np.int32)
    compact[seen["code"].to_numpy()] = np.arange(seen.height, dtype=np.int32)
    return ids, pa.array(compact[codes])


def _listed(table: pa.Table, chosen: Bool, reason: str) -> pa.Table:
    """Where the chosen rows lie in the source, and the reason for which they are set aside."""
    rows = table.select(["file", "row"]).filter(pa.array(chosen))
    return rows.append_column("reason", pa.array([reason] * rows.num_rows, pa.string()))


def _first_of_duplicates(table: pa.Table, log: InteractionsSettings) -> Bool:
    """Which of the events `[rows]`, in the order of the source, are not to be set aside as duplicates."""
    if log.duplicates == "keep":
        return np.ones(table.num_rows, dtype=bool)
    first: Bool = pl.Series(table["digest"]).is_first_distinct().to_numpy()
    return first


def _within_rate(table: pa.Table, log: InteractionsSettings) -> Bool:
    """Which of the sorted events `[rows]` are not beyond the rate limit.

    An event is beyond it when `events` other ones of its user lie within the time `per` before it, whatever became of
    them: this looks back only, so that what comes later cannot change what is trained on. The parts of a given split,
    whose times may overlap, are looked at apart.
    """
    within = np.ones(table.num_rows, dtype=bool)
    if (rate := log.max_rate) is None or table.num_rows <= rate.events:
        return within
    time, group = table["time"].to_numpy(), _codes(table, "user")
    if "part" in table.column_names:
        group = group * np.int64(len(SPLITS)) + table["part"].to_numpy()
    same = group[rate.events :] == group[: -rate.events]
    within[rate.events :] = ~(same & (time[rate.events :] - time[: -rate.events] < span(rate.per)))
    return within


def _first_of_repeats(table: pa.Table, allowed: Bool, log: InteractionsSettings) -> Bool:
    """Which of the sorted events are their user's first with the item in the role, if only those are wanted."""
    first = np.ones(table.num_rows, dtype=bool)
    if log.repeats == "first":
        keys = pl.DataFrame(
            {"user": _codes(table, "user"), "item": _codes(table, "item"), "role": table["role"].to_numpy()}
        ).filter(pl.Series(allowed))
        first[allowed] = keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return first


def _repeated(table: pa.Table) -> dict[str, int]:
    """How many of the coded events are positive, and how many of these repeat an earlier one's user and item."""
    positive = table["role"].to_numpy() == ROLES.index("positive")
    user, item = (table[name].to_numpy()[positive].astype(np.int64) for name in ("user", "item"))
    pairs = pl.Series(user << 32 | item)
    return {"positives": len(pairs), "repeated": len(pairs) - pairs.n_unique()}


def _per_day(time: Int64, user: Int32) -> dict[int, list[int]]:
    """The events and the users of each day."""
    days = pl.DataFrame({"day": time // DAY, "user": user})
    counts = days.group_by("day").agg(pl.len().alias("events"), pl.col("user").n_unique().alias("users")).sort("day")
    return {day: [events, users] for day, events, users in counts.iter_rows()}
