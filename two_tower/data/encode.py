"""A merged shard becomes training sequences, pairs and queries, with everything that a query may see and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.columns import share_hash
from two_tower.config import DataSettings
from two_tower.contracts import ROLES, Bool, Int32, Int64
from two_tower.data.shards import DAY, Job
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
    last_drawn,
    query_rows,
    visible_counts,
)
from two_tower.data.tables import numbers_of

POSITIVE, IMPRESSION = ROLES.index("positive"), ROLES.index("impression")


@dataclass(frozen=True)
class Shard:
    """A merged shard with its numbers, sorted by (group, given split, time, order in the source)."""

    table: pa.Table
    item: Int32
    time: Int64
    role: Int8
    part: Int8
    target: Bool
    """Which events are what a query of their part asks for."""
    starts: Int64
    """The groups' first rows, and the number of rows at the end."""
    group_user: Int32
    """`[groups]`: user numbers, or -1."""
    has_users: bool
    """Whether the groups are users, not query texts."""

    @property
    def positive(self) -> Bool:
        """Which events `[rows]` may be asked for."""
        positive: Bool = self.role == POSITIVE
        return positive

    def where(self, kept: Bool) -> Shard:
        """The events for which `kept` is true, less the groups that are left without any."""
        if kept.all():
            return self
        counts = np.diff(np.concatenate([[0], np.cumsum(kept)])[self.starts])
        columns = {name: getattr(self, name)[kept] for name in ("item", "time", "role", "part", "target")}
        starts = np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        users = self.group_user[counts > 0]
        return replace(self, table=self.table.filter(pa.array(kept)), starts=starts, group_user=users, **columns)


def count_core(shard: int, *, job: Job, windows: Windows) -> None:
    """Writes the training events of each item, as far as users and items are still in the core, to `core-*.arrow`.

    The items that still are stand in `core.arrow`.
    """
    events = _load(shard, job, windows)
    items = events.item[_core(events, job) & events.positive]
    numbers, counts = np.unique(items, return_counts=True)
    job.work.write(f"core-{shard:06d}.arrow", pa.table({"item": numbers, "count": counts}))


def encode_shard(shard: int, *, job: Job, windows: Windows) -> None:
    """Writes the shard's sequences, pairs and queries, its counts and its report.

    They are `train-*.parquet`, `pairs-*.parquet`, `validation-*.parquet`, `test-*.parquet`, `counts-*.arrow`,
    `days-*.arrow` (the items of each day) and `encoded-*.json`.
    """
    events = _load(shard, job, windows)
    in_training = events.part == TRAIN
    trained = events.where(in_training if job.data.interactions.k_core is None else _core(events, job))
    report: dict[str, Any] = {"events": {}, "span": {}, "queries": {}, "new_users": {}, "tied": {}}
    report["outside_core"] = int(in_training.sum()) - len(trained.time)
    for split, name in enumerate(SPLITS):
        times = trained.time if split == TRAIN else events.time[events.part == split]
        positive = trained.positive if split == TRAIN else events.positive[events.part == split]
        report["events"][name] = int(positive.sum())
        report["span"][name] = [int(times.min()), int(times.max())] if len(times) else None
    user_table = job.work.read("user-table.arrow")
    for split in (VALIDATION, TEST):
        queries = _queries(events, split, job.data, windows, user_table)
        job.work.write_parquet(f"{SPLITS[split]}-{shard:05d}.parquet", queries)
        report["queries"][SPLITS[split]] = queries.num_rows
        report["new_users"][SPLITS[split]] = pc.sum(queries["new_user"], min_count=0).as_py() or 0
        report["tied"][SPLITS[split]] = 0 if windows.targets is None else _tied(events, split, job.data)
    job.work.write(f"counts-{shard:06d}.arrow", _item_counts(events, trained, windows))
    if job.data.interactions.columns.time:
        job.work.write(f"days-{shard:06d}.arrow", _items_of_days(events))
    del events
    targets = _targets(trained, job.data.examples.max_per_user)
    visible = (
        visible_counts(trained.time, trained.starts, windows) if trained.has_users else np.zeros_like(trained.time)
    )
    job.work.write_parquet(f"train-{shard:05d}.parquet", _sequences(trained, targets, visible))
    if job.data.examples.shape == "pairs":
        job.work.write_parquet(f"pairs-{shard:05d}.parquet", _pairs(trained, targets, visible, job.data, windows))
    job.work.write_json(f"encoded-{shard:06d}.json", report)


def _load(shard: int, job: Job, windows: Windows) -> Shard:
    """The merged shard with numbers for codes, its groups in the order of the numbers."""
    table = job.work.read(f"merged-{shard:06d}.arrow")
    items = job.work.read("items.arrow")["id"].combine_chunks()
    item_of = numbers_of(job.work.read(f"items-{shard:06d}.arrow")["id"], items)
    codes = table["user"].to_numpy()
    has_users = job.data.interactions.columns.user is not None
    bounds = np.append(np.flatnonzero(np.diff(codes, prepend=-1)), len(codes)).astype(np.int64)
    if has_users:
        users = job.work.read("users.arrow")["id"].combine_chunks()
        group_user = numbers_of(job.work.read(f"users-{shard:06d}.arrow")["id"], users)
        by_number = np.argsort(group_user)  # a code a group, both from 0
        groups = Ranges(bounds[:-1], bounds[1:]).take(by_number)
        rows, bounds, group_user = groups.rows(), groups.offsets(), group_user[by_number]
        table = table.take(pa.array(rows))
    else:
        group_user = np.full(len(bounds) - 1, -1, dtype=np.int32)
    time, role = table["time"].to_numpy(), table["role"].to_numpy()
    given = "part" in table.column_names
    events = Shard(
        table=table,
        item=item_of[table["item"].to_numpy()],
        time=time,
        role=role,
        part=table["part"].to_numpy() if given else assign(time, role == POSITIVE, bounds, windows),
        target=role == POSITIVE,
        starts=bounds,
        group_user=group_user,
        has_users=has_users,
    )
    return replace(events, target=_drawn(events, shard, job, k=windows.targets)) if windows.apart else events


def _drawn(events: Shard, shard: int, job: Job, *, k: int | None) -> Bool:
    """The targets `[rows]` with ties apart: where a window's first moment has more than are asked for, a hash draws.

    It is of user, item and moment, so neither the order in the source nor an item's number has a say.
    """
    assert k is not None
    rows = np.flatnonzero((events.part != TRAIN) & events.positive)
    of = (np.searchsorted(events.starts, rows, side="right") - 1) * len(SPLITS) + events.part[rows]
    ids = [
        job.work.read(f"{name}s-{shard:06d}.arrow")["id"].cast(pa.string()).take(events.table[name].take(rows))
        for name in ("user", "item")
    ]
    moments = pa.array(events.time[rows]).cast(pa.string())
    texts = pc.binary_join_element_wise(*(column.combine_chunks() for column in ids), moments, "\0")
    target: Bool = (events.part == TRAIN) & events.positive
    target[last_drawn(rows, of=of, time=events.time[rows], draw=share_hash(texts), k=k)] = True
    return target


def _core(events: Shard, job: Job) -> Bool:
    """Which events `[rows]` are training events of users and items that are in the core so far.

    Only positive ones are counted; those of other roles go with the user and the item.
    """
    settings = job.data.interactions.k_core
    assert settings is not None
    inside = np.isin(events.item, job.work.read("core.arrow")["item"].to_numpy()) & (events.part == TRAIN)
    counted = inside & events.positive
    counts = np.diff(np.concatenate([[0], np.cumsum(counted)])[events.starts])
    core: Bool = inside & np.repeat(counts >= settings.user, np.diff(events.starts))
    return core


def _lists(ranges: Ranges, values: Any) -> pa.ListArray:
    """The values in each of the ranges."""
    taken = values.take(pa.array(ranges.rows())) if isinstance(values, pa.ChunkedArray) else values[ranges.rows()]
    if isinstance(taken, pa.ChunkedArray):
        taken = taken.combine_chunks()
    return pa.ListArray.from_arrays(pa.array(ranges.offsets(), pa.int32()), taken)


def _targets(trained: Shard, max_per_user: int | None) -> Bool:
    """Which training events `[rows]` are targets: the positive ones, of each user the latest `max_per_user`."""
    targets = trained.positive
    if max_per_user is not None and trained.has_users:
        counts = np.concatenate([[0], np.cumsum(targets)])
        later = np.repeat(counts[trained.starts[1:]], np.diff(trained.starts)) - counts[1:]
        targets = targets & (later < max_per_user)
    return targets


def _sequences(trained: Shard, targets: Bool, visible: Int64) -> pa.Table:
    """The training sequences: one row a user, or a positive event where there are no users."""
    if trained.has_users:
        user, ranges = trained.group_user, Ranges(trained.starts[:-1], trained.starts[1:])
    else:
        start = np.flatnonzero(trained.positive)
        user, ranges = np.full(len(start), -1, np.int32), Ranges(start, start + 1)
    return pa.table(
        {
            "user": pa.array(user, pa.int32()),
            "items": _lists(ranges, trained.item),
            "times": _lists(ranges, trained.time),
            "weights": _lists(ranges, trained.table["weight"].to_numpy()),
            "roles": _lists(ranges, trained.role),
            "visible": _lists(ranges, visible.astype(np.int32)),
            "targets": _lists(ranges, pa.chunked_array([pa.array(targets)])),
            **{name: _lists(ranges, trained.table[name]) for name in _context_names(trained.table)},
        }
    )


def _pairs(trained: Shard, targets: Bool, visible: Int64, data: DataSettings, windows: Windows) -> pa.Table:
    """One row a target, with the history that a query for it may show."""
    rows = np.flatnonzero(targets)
    group = np.searchsorted(trained.starts, rows, side="right") - 1
    start = trained.starts[group]
    past = Ranges(start, trained.starts[group + 1] if windows.unordered else start + visible[rows])
    shown = _in_history(trained, data)
    past, item, time, role = past.within(shown), trained.item[shown], trained.time[shown], trained.role[shown]
    if windows.unordered:  # an unordered history holds its own target unless it is taken out
        keys = pl.DataFrame(
            {"group": np.repeat(np.arange(len(trained.starts) - 1), np.diff(trained.starts)), "item": trained.item}
        )
        own = keys.select(pl.len().over("group", "item")).to_series().to_numpy()[rows].astype(np.int64)
        past = Ranges(np.maximum(past.start, past.stop - data.query.history_length - own), past.stop)
        shown_rows = past.rows()
        others = item[shown_rows] != np.repeat(trained.item[rows], past.stop - past.start)
        item, time, role = (values[shown_rows[others]] for values in (item, time, role))
        offsets = past.offsets()
        past = Ranges(offsets[:-1], offsets[1:]).within(others)
    history = past.last(data.query.history_length)
    return pa.table(
        {
            "user": pa.array(trained.group_user[group], pa.int32()),
            "item": pa.array(trained.item[rows]),
            "time": pa.array(trained.time[rows]),
            "weight": trained.table["weight"].take(pa.array(rows)),
            "history": _lists(history, item),
            "history_times": _lists(history, time),
            "history_roles": _lists(history, role),
            **{name: trained.table[name].take(pa.array(rows)) for name in _context_names(trained.table)},
        }
    )


def _in_history(events: Shard, data: DataSettings) -> Bool:
    """Which events `[rows]` have a role that histories show."""
    return np.isin(events.role, [ROLES.index(role) for role in data.query.history_roles])


def _context_names(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name.startswith("context.")]


def _queries(events: Shard, split: int, data: DataSettings, windows: Windows, users: pa.Table) -> pa.Table:
    """The shard's queries of the split.

    The context is that of the query's first target in the window.
    """
    rows = query_rows(events.part, events.target, events.starts, split=split)
    if not events.has_users:  # a query text has no past of its own
        rows = QueryRows(rows.group, Ranges(rows.window.start, rows.window.start), rows.window, rows.first)
    user = events.group_user[rows.group]
    number, first = pa.array(user, mask=user < 0), pa.array(rows.first)
    by_time = windows.test_from is not None
    cutoff = np.full(len(user), windows.cutoff(split), np.int64) if by_time else events.time[rows.first]
    shown, dealt_with = _in_history(events, data), events.role != IMPRESSION
    history = rows.past.within(shown).last(data.query.history_length)
    seen = rows.past.within(dealt_with).distinct(events.item[dealt_with])
    relevant = rows.window.within(events.target).distinct(events.item[events.target])
    features = [name for name in users.column_names if name.startswith("feature.")]
    return pa.table(
        {
            "user": pa.array(user, pa.int32()),
            "user_id": users["user_id"].take(number).cast(pa.string()),
            "cutoff": pa.array(cutoff, pa.int64()),
            "history": _lists(history, events.item[shown]),
            "history_times": _lists(history, events.time[shown]),
            "history_roles": _lists(history, events.role[shown]),
            "seen": pa.ListArray.from_arrays(pa.array(seen[0], pa.int32()), pa.array(seen[1])),
            "relevant": pa.ListArray.from_arrays(pa.array(relevant[0], pa.int32()), pa.array(relevant[1])),
            **{f"user.{name.removeprefix('feature.')}": users[name].take(number) for name in features},
            **{name: events.table[name].take(first) for name in _context_names(events.table)},
            "new_user": pa.array((rows.past.start == rows.past.stop) & (user >= 0)),
        }
    )


def _tied(events: Shard, split: int, data: DataSettings) -> int:
    """How many queries of the split see events of their own first target's moment."""
    rows = query_rows(events.part, events.target, events.starts, split=split)
    visible = _in_history(events, data) | (events.role != IMPRESSION)
    past, time = rows.past.within(visible), events.time[visible]
    latest = time[past.stop[past.stop > past.start] - 1]
    return int((latest == events.time[rows.first][past.stop > past.start]).sum())


def _item_counts(events: Shard, trained: Shard, windows: Windows) -> pa.Table:
    """The positive events of each item by split and in the recent windows."""
    later = events.where((events.part != TRAIN) & events.positive)
    shown = trained.where(trained.positive)
    item, part, time = pl.col("item"), pl.col("part"), pl.col("time")

    def recent(split: int) -> pl.Expr:
        cutoff = windows.cutoff(split)
        return ((part < split) & (time >= cutoff - windows.recent) & (time < cutoff)).sum()

    columns = {name: np.concatenate([getattr(shown, name), getattr(later, name)]) for name in ("item", "part", "time")}
    counts = (
        pl.DataFrame(columns)
        .group_by(item)
        .agg(
            (part == TRAIN).sum().alias("train_count"),
            (part == VALIDATION).sum().alias("validation_count"),
            (part == TEST).sum().alias("test_count"),
            recent(VALIDATION).alias("recent_count_validation"),
            recent(TEST).alias("recent_count_test"),
        )
    )
    return counts.with_columns(pl.exclude("item").cast(pl.Int64)).sort("item").to_arrow()


def _items_of_days(events: Shard) -> pa.Table:
    """Each pair of a day and an item that occurs."""
    pairs = pl.Series((events.time // DAY) << 32 | events.item.astype(np.int64)).unique().to_numpy()
    return pa.table({"day": (pairs >> 32).astype(np.int32), "item": (pairs & 0xFFFFFFFF).astype(np.int32)})
