"""The three pieces of work that Beam hands out: read a unit, merge a shard, encode a shard.

They talk through files in the job's work folder, under names that depend on the unit or the shard alone: a repeated
bundle writes the same file again, and only file names go through a shuffle.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.config import Data
from two_tower.contracts import Int32, Int64
from two_tower.data.arrow import read_arrow, write_arrow
from two_tower.data.reading import Unit, read_batches
from two_tower.data.rows import BAD_ROWS, bad_rows, check_rows
from two_tower.data.splits import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Int8,
    QueryRows,
    Ranges,
    Windows,
    assign,
    query_rows,
    visible_counts,
)
from two_tower.data.tables import numbers_of
from two_tower.data.values import stable_hash
from two_tower.errors import DataError

EXAMPLES = 2
"""How many bad rows of each reason a unit reports for the error message."""
DAY = 86_400_000_000


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    data: Data
    work: str
    """The folder for the files between the stages."""
    newest: int
    """The latest time, in microseconds, that is not in the future."""

    def path(self, name: str) -> Path:
        """The path of a file in the work folder."""
        return Path(self.work) / name


def read_unit(unit: Unit, *, job: Job) -> Iterator[tuple[int, str]]:
    """The (shard, file) pairs of the unit's good rows; `read-*.json` counts the rest, `bad-*.parquet` holds it."""
    report: dict[str, Any] = {"read": 0, "filtered": {}, "set_aside": {}, "examples": [], "error": None}
    filtered: Counter[str] = Counter()
    bad: list[pa.Table] = []
    pieces: list[tuple[int, str]] = []
    try:
        for number, batch in enumerate(read_batches(unit)):
            checked = check_rows(batch, unit, data=job.data, newest=job.newest)
            report["read"] += checked.read
            filtered.update(checked.filtered)
            bad.append(checked.bad)
            pieces += _write_pieces(checked.kept, job, f"{unit.number:06d}-{number:06d}")
    except DataError as error:  # an exception would come out of Beam as text
        report["error"] = str(error)
    aside = pa.concat_tables(bad) if bad else BAD_ROWS.empty_table()
    if aside.num_rows:
        pq.write_table(aside, job.path(f"bad-{unit.number:06d}.parquet"))
    report["filtered"] = dict(filtered)
    report["set_aside"] = dict(Counter(aside["reason"].to_pylist()))
    report["examples"] = _examples(aside)
    job.path(f"read-{unit.number:06d}.json").write_text(json.dumps(report), encoding="utf-8")
    yield from pieces


def merge_shard(shard_and_files: tuple[int, list[str]], *, job: Job) -> None:
    """Joins the pieces of a shard into `merged-*.arrow`, without duplicates and with the ids as codes.

    The codes' ids with the time when each was first seen are in `users-*.arrow` and `items-*.arrow`, the duplicates
    in `duplicates-*.arrow`, the counts in `merged-*.json`.
    """
    shard, files = shard_and_files
    table = pa.concat_tables(read_arrow(path) for path in sorted(files))  # sorted names: the order of the source
    first = pl.Series(table["digest"]).is_first_distinct().to_numpy()
    write_arrow(table.filter(pa.array(~first)).select(["file", "row"]), job.path(f"duplicates-{shard:06d}.arrow"))
    table = table.filter(pa.array(first)).drop_columns(["digest", "file", "row"])
    time = table["time"].to_numpy()
    for name in ("user", "item"):
        coded = table[name].combine_chunks().dictionary_encode()
        codes = coded.indices.to_numpy()
        seen = pl.DataFrame({"code": codes, "time": time}).group_by("code").agg(pl.col("time").min()).sort("code")
        ids = pa.table({"id": coded.dictionary.cast(pa.string()), "first_seen": seen["time"].to_arrow()})
        write_arrow(ids, job.path(f"{name}s-{shard:06d}.arrow"))
        table = table.set_column(table.column_names.index(name), name, pa.array(codes, pa.int32()))
    write_arrow(table, job.path(f"merged-{shard:06d}.arrow"))
    days, counts = np.unique(time // DAY, return_counts=True)
    report = {
        "duplicates": int((~first).sum()),
        "kept": len(time),
        "first": int(time.min()),
        "last": int(time.max()),
        "per_day": dict(zip(days.tolist(), counts.tolist(), strict=True)),
    }
    job.path(f"merged-{shard:06d}.json").write_text(json.dumps(report), encoding="utf-8")


def describe_duplicates(unit: Unit, *, job: Job, rows: str) -> None:
    """Reads the unit once more for the content of its duplicates, into `bad-duplicates-*.parquet`.

    Only a digest of each row went through the shards.
    """
    listed = read_arrow(rows)
    wanted = listed.filter(pa.compute.equal(listed["file"], unit.file))["row"].to_numpy()
    parts = []
    for batch in read_batches(unit):
        mine = np.isin(batch.rows, wanted)
        frame = pl.DataFrame(batch.table.filter(pa.array(mine)))
        parts.append(bad_rows(frame, batch.rows[mine], ["duplicate"] * frame.height, file=unit.file))
    pq.write_table(pa.concat_tables(parts), job.path(f"bad-duplicates-{unit.number:06d}.parquet"))


@dataclass(frozen=True)
class Shard:
    """A merged shard with its numbers, sorted by (group, time, order in the source)."""

    table: pa.Table
    item: Int32
    time: Int64
    part: Int8
    starts: Int64
    """The groups' first rows, and the number of rows at the end."""
    group_user: Int32
    """`[groups]`: user numbers, or -1."""

    @property
    def has_users(self) -> bool:
        """Whether the groups are users, not query texts."""
        return bool(len(self.group_user)) and self.group_user[0] >= 0


def encode_shard(shard: int, *, job: Job, windows: Windows, train: str, users: str) -> None:
    """Writes the shard's sequences into the folder `train`, its queries and counts into the work folder.

    Args:
        shard: Its number.
        job: The job.
        windows: Of the split.
        train: The folder of the artefact's `train/part-*.parquet`.
        users: The artefact's finished `users.parquet`.
    """
    events = _load(shard, job, windows)
    report: dict[str, Any] = {"events": {}, "span": {}, "queries": {}, "new_users": {}}
    for split, name in enumerate(SPLITS):
        times = events.time[events.part == split]
        report["events"][name] = len(times)
        report["span"][name] = [int(times.min()), int(times.max())] if len(times) else None
    sequences = _sequences(events, by_order=windows.test_from is None)
    pq.write_table(sequences, Path(train) / f"part-{shard:05d}.parquet", compression="zstd")
    report["sequences"] = sequences.num_rows
    user_table = pq.read_table(users, memory_map=True)
    for split in (VALIDATION, TEST):
        queries = _queries(events, split, job.data, windows, user_table)
        pq.write_table(queries, job.path(f"{SPLITS[split]}-{shard:06d}.parquet"))
        report["queries"][SPLITS[split]] = queries.num_rows
        report["new_users"][SPLITS[split]] = pa.compute.sum(queries["new_user"], min_count=0).as_py() or 0
    write_arrow(_item_counts(events, windows), job.path(f"counts-{shard:06d}.arrow"))
    job.path(f"encoded-{shard:06d}.json").write_text(json.dumps(report), encoding="utf-8")


def _write_pieces(table: pa.Table, job: Job, name: str) -> list[tuple[int, str]]:
    """One file for each shard that has rows in the batch."""
    coded = table["user"].combine_chunks().dictionary_encode()
    shard_of = (stable_hash(coded.dictionary) % np.uint64(job.data.shards)).astype(np.int64)
    shards = shard_of[coded.indices.to_numpy()] if table.num_rows else np.empty(0, np.int64)
    order = np.argsort(shards, kind="stable")
    table = table.take(pa.array(order))
    bounds = np.searchsorted(shards[order], np.arange(job.data.shards + 1))
    pieces = []
    for shard in np.flatnonzero(np.diff(bounds)).tolist():
        path = job.path(f"pieces-{shard:06d}/{name}.arrow")
        path.parent.mkdir(exist_ok=True)
        write_arrow(table.slice(bounds[shard], bounds[shard + 1] - bounds[shard]), path)
        pieces.append((shard, str(path)))
    return pieces


def _examples(aside: pa.Table) -> list[dict[str, Any]]:
    """The first rows of each reason."""
    return (
        pl.DataFrame(aside).group_by("reason", maintain_order=True).head(EXAMPLES).to_dicts() if aside.num_rows else []
    )


def _load(shard: int, job: Job, windows: Windows) -> Shard:
    """The merged shard with numbers for codes, sorted."""
    table = read_arrow(job.path(f"merged-{shard:06d}.arrow"))
    items = read_arrow(job.path("items.arrow"))["id"].combine_chunks()
    item_of = numbers_of(read_arrow(job.path(f"items-{shard:06d}.arrow"))["id"], items)
    codes = table["user"].to_numpy()
    time = table["time"].to_numpy()
    if job.data.interactions.columns.user:
        users = read_arrow(job.path("users.arrow"))["id"].combine_chunks()
        group_of = numbers_of(read_arrow(job.path(f"users-{shard:06d}.arrow"))["id"], users)
    else:
        group_of = np.arange(int(codes.max()) + 1, dtype=np.int32)  # codes go by first appearance
    group = group_of[codes]
    order = np.lexsort((time, group))  # stable, so that equal times stay in the order of the source
    group, time = group[order], time[order]
    starts = np.append(np.flatnonzero(np.diff(group, prepend=-1)), len(group)).astype(np.int64)
    return Shard(
        table=table.take(pa.array(order)),
        item=item_of[table["item"].to_numpy()[order]],
        time=time,
        part=assign(time, starts, windows),
        starts=starts,
        group_user=group[starts[:-1]] if job.data.interactions.columns.user else np.full(len(starts) - 1, -1, np.int32),
    )


def _lists(ranges: Ranges, values: Any) -> pa.ListArray:
    """The values in each of the ranges."""
    taken = values.take(pa.array(ranges.rows())) if isinstance(values, pa.ChunkedArray) else values[ranges.rows()]
    if isinstance(taken, pa.ChunkedArray):
        taken = taken.combine_chunks()
    return pa.ListArray.from_arrays(pa.array(ranges.offsets(), pa.int32()), taken)


def _sequences(events: Shard, *, by_order: bool) -> pa.Table:
    """The training sequences: one row a user, or an event where there are no users."""
    if events.has_users:
        rows = query_rows(events.part, events.starts, split=TRAIN)
        user, ranges = events.group_user[rows.group], rows.target
        visible = visible_counts(events.time, events.starts, by_order=by_order).astype(np.int32)
    else:
        start = np.flatnonzero(events.part == TRAIN)
        user, ranges = np.full(len(start), -1, np.int32), Ranges(start, start + 1)
        visible = np.zeros(len(events.time), np.int32)
    return pa.table(
        {
            "user": pa.array(user, pa.int32()),
            "items": _lists(ranges, events.item),
            "times": _lists(ranges, events.time),
            "weights": _lists(ranges, events.table["weight"].to_numpy()),
            "visible": _lists(ranges, visible),
            **{name: _lists(ranges, events.table[name]) for name in _context_names(events.table)},
        }
    )


def _context_names(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name.startswith("context.")]


def _queries(events: Shard, split: int, data: Data, windows: Windows, users: pa.Table) -> pa.Table:
    """The shard's queries of the split.

    The context is that of the query's first event in the window.
    """
    rows = query_rows(events.part, events.starts, split=split)
    if not events.has_users:  # a query text has no past of its own
        rows = QueryRows(rows.group, Ranges(rows.target.start, rows.target.start), rows.target)
    user = events.group_user[rows.group]
    number = pa.array(user, mask=user < 0)
    first = pa.array(rows.target.start)
    if windows.test_from is None:
        cutoff = events.time[rows.target.start]
    else:
        cutoff = np.full(len(user), windows.cutoff(split), np.int64)
    history = rows.past.last(data.query.history_length)
    seen, relevant = (ranges.distinct(events.item) for ranges in (rows.past, rows.target))
    features = [name for name in users.column_names if name.startswith("feature.")]
    return pa.table(
        {
            "user": pa.array(user, pa.int32()),
            "user_id": users["user_id"].take(number).cast(pa.string()),
            "cutoff": pa.array(cutoff, pa.int64()),
            "history": _lists(history, events.item),
            "history_times": _lists(history, events.time),
            "seen": pa.ListArray.from_arrays(pa.array(seen[0], pa.int32()), pa.array(seen[1])),
            "relevant": pa.ListArray.from_arrays(pa.array(relevant[0], pa.int32()), pa.array(relevant[1])),
            **{f"user.{name.removeprefix('feature.')}": users[name].take(number) for name in features},
            **{name: events.table[name].take(first) for name in _context_names(events.table)},
            "new_user": pa.array((rows.past.start == rows.past.stop) & (user >= 0)),
        }
    )


def _item_counts(events: Shard, windows: Windows) -> pa.Table:
    """The events of each item by split and in the recent windows."""
    item, part, time = pl.col("item"), pl.col("part"), pl.col("time")

    def recent(split: int) -> pl.Expr:
        cutoff = windows.cutoff(split)
        return ((part < split) & (time >= cutoff - windows.recent) & (time < cutoff)).sum()

    frame = pl.DataFrame({"item": events.item, "part": events.part, "time": events.time})
    counts = frame.group_by(item).agg(
        (part == TRAIN).sum().alias("train_count"),
        (part == VALIDATION).sum().alias("validation_count"),
        (part == TEST).sum().alias("test_count"),
        recent(VALIDATION).alias("recent_count_validation"),
        recent(TEST).alias("recent_count_test"),
    )
    return counts.with_columns(pl.exclude("item").cast(pl.Int64)).sort("item").to_arrow()
