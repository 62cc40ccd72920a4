"""One batch of log rows: filtered, checked, and brought into the columns that the shards hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from two_tower.columns import UInt64, column_hashes, is_missing, readable, row_digests, row_keys, share_hash
from two_tower.config import DataSettings, Given, InteractionsSettings
from two_tower.contracts import ROLES, FeatureType, Float32, Int64
from two_tower.data import notes
from two_tower.data.conditions import in_words, meets, within
from two_tower.data.notes import Noted
from two_tower.data.reading import LogBatch, Unit
from two_tower.data.splits import TEST, TRAIN, VALIDATION, Int8
from two_tower.data.swallowed import Expected
from two_tower.data.values import id_text, microseconds, weights_of, whole_numbers
from two_tower.errors import DataError

REASONS = (
    "malformed",
    "missing_user",
    "missing_item",
    "missing_time",
    "bad_time",
    "future_time",
    "bad_weight",
    "out_of_range",
    "bad_split",
    "unknown_user",
    "unknown_item",
    "duplicate",
    "rate_limit",
)
"""Why a row is set aside; the first that holds counts."""

EXAMPLES = 2
"""How many bad rows of each reason are shown."""
BAD_ROWS = pa.schema([("file", pa.int32()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class CheckedRows:
    """What one batch came to."""

    kept: pa.Table
    """`user` (without a user column: the context as JSON, so that equal queries meet in one shard), `item`, `time`
    (or the order's number, or 0), `weight`, `role` (a number in `ROLES`), `part` where the split is given, `digest` of
    the whole source row, `file`, `row`, `context.NAME`."""
    bad: pa.Table
    """The rows that are set aside, as `BAD_ROWS`."""
    read: int
    filtered: dict[str, int]
    noted: Noted
    """What is odd about rows that are kept (`two_tower.data.notes`)."""
    used: pl.DataFrame
    """The rows that the filters left, good and bad, as they came."""
    hashes: dict[str, UInt64]
    """Of every column of `used`, a hash of each value."""
    keys: UInt64
    """A number for each row of `used` that looks random and is the same in every run."""


def source_columns(data: DataSettings) -> dict[str, str]:
    """The log's columns that the configuration names, each with the key that does."""
    log = data.interactions
    found: dict[str, str] = {}
    for key, column in log.columns.model_dump().items():
        if column is not None:
            found.setdefault(column, f"data.interactions.columns.{key}")
    for condition in log.filters:
        found.setdefault(condition.column, "data.interactions.filters")
    for column in log.ranges:
        found.setdefault(column, f"data.interactions.ranges.{column}")
    if isinstance(data.split, Given) and data.split.column:
        found.setdefault(data.split.column, "data.split.column")
    for name, feature in data.query.context.items():
        found.setdefault(feature.column or name, f"data.query.context.{name}")
    return found


def expected_of(data: DataSettings) -> Expected:
    """The log's columns by which a row can be told from other text."""
    log = data.interactions
    measured = [log.columns.order, log.columns.weight, *(name for name in log.ranges if name != log.columns.time)]
    times = (log.columns.time,) if log.columns.time else ()
    return Expected(times, tuple(name for name in measured if name), log.timezone, log.time_format)


def check_rows(
    batch: LogBatch, unit: Unit, *, data: DataSettings, newest: int, known: Mapping[str, pa.Array] | None = None
) -> CheckedRows:
    """The batch's rows: kept, set aside with a reason, or filtered out.

    Args:
        batch: Rows as read.
        unit: Where they come from.
        data: The configuration's `data` section.
        newest: The latest time, in microseconds, that is not in the future.
        known: The ids of the `item` or `user` table, where others are to be set aside.

    Raises:
        DataError: A column's type does not fit its role.
    """
    log = data.interactions
    frame = _frame(batch, source_columns(data), unit)
    wanted, filtered, noted = _filter(frame, log)
    used = _understood(frame.filter(wanted), batch.rows[wanted.to_numpy()], unit, data)
    frame = used.frame
    out_of_range, noted_of_ranges = _out_of_range(frame, log)
    noted.update(noted_of_ranges)
    noted.update(_noted_lines(batch, unit))
    reason = _reasons(_checks(used, log, out_of_range, newest=newest, known=known or {}))
    good = reason.is_null()
    hashes = column_hashes(frame)
    digests = row_digests(frame, hashes)
    if used.part is not None:  # a training row may stand in the test too
        digests ^= used.part.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bad = bad_rows(frame.filter(~good), used.rows[~good.to_numpy()], reason.filter(~good).to_list(), file=unit.file)
    return CheckedRows(
        kept=_kept(used, good, digests, unit, data),
        bad=pa.concat_tables([_malformed(batch, unit), bad]),
        read=batch.table.num_rows + len(batch.malformed),
        filtered=filtered,
        noted=noted,
        used=frame,
        hashes=hashes,
        keys=row_keys(unit.name, used.rows, digests),
    )


@dataclass(frozen=True)
class _Understood:
    """The rows that the filters left, and what their columns say: null, NaN or -1 where they make no sense."""

    frame: pl.DataFrame
    rows: Int64
    user: pl.Series | None
    item: pl.Series
    time: pl.Series
    weight: Float32
    part: Int8 | None


def _understood(frame: pl.DataFrame, rows: Int64, unit: Unit, data: DataSettings) -> _Understood:
    """What the columns of these rows say."""
    log, untyped = data.interactions, unit.format == "csv"
    item = id_text(frame[log.columns.item], untyped=untyped)
    user = id_text(frame[log.columns.user], untyped=untyped) if log.columns.user else None
    time, weight = _times(frame, log), _weights(frame, log)
    part = _given_parts(frame, data.split, unit, user, item) if isinstance(data.split, Given) else None
    return _Understood(frame, rows, user, item, time, weight, part)


def _checks(
    used: _Understood, log: InteractionsSettings, out_of_range: pl.Series, *, newest: int, known: Mapping[str, pa.Array]
) -> dict[str, pl.Series]:
    """Of each of `REASONS` that a batch can tell, the rows for which it holds."""
    never = pl.Series([False]).new_from_index(0, used.frame.height)
    moment = log.columns.time or log.columns.order
    user, item = used.user, used.item
    return {
        "missing_user": user.is_null() if user is not None else never,
        "missing_item": item.is_null(),
        "missing_time": is_missing(used.frame[moment]) if moment else never,
        "bad_time": used.time.is_null(),
        "future_time": (used.time > newest).fill_null(False) if log.columns.time else never,
        "bad_weight": pl.Series(~np.isfinite(used.weight)),
        "out_of_range": out_of_range,
        "bad_split": pl.Series(used.part < 0) if used.part is not None else never,
        "unknown_user": _unknown(user, known["user"]) if "user" in known and user is not None else never,
        "unknown_item": _unknown(item, known["item"]) if "item" in known else never,
    }


def _kept(used: _Understood, good: pl.Series, digests: UInt64, unit: Unit, data: DataSettings) -> pa.Table:
    """The good rows as `CheckedRows.kept` has them."""
    kept, mask = used.frame if good.all() else used.frame.filter(good), good.to_numpy()
    context = _context(kept, data.query.context, unit)
    columns = {
        "user": _text(used.user.filter(good)) if used.user is not None else _query_keys(context, kept.height),
        "item": _text(used.item.filter(good)),
        "time": pa.array(used.time.filter(good).to_numpy()),
        "weight": pa.array(used.weight[mask]),
        "role": pa.array(_roles(kept, data.interactions)),
    }
    if used.part is not None:
        columns["part"] = pa.array(used.part[mask])
    columns |= {
        "digest": pa.array(digests[mask]),
        "file": pa.array(np.full(kept.height, unit.file, dtype=np.int32)),
        "row": pa.array(used.rows[mask]),
        **{f"context.{name}": column for name, column in context.items()},
    }
    return pa.table(columns)


def _malformed(batch: LogBatch, unit: Unit) -> pa.Table:
    """The lines of the batch that are no rows, as `BAD_ROWS`."""
    return pa.table(
        {
            "file": [unit.file] * len(batch.malformed),
            "row": [row for row, _ in batch.malformed],
            "reason": ["malformed"] * len(batch.malformed),
            "content": [json.dumps(text, ensure_ascii=False) for _, text in batch.malformed],
        },
        schema=BAD_ROWS,
    )


def _noted_lines(batch: LogBatch, unit: Unit) -> Noted:
    """What is odd about the lines of delimited text."""
    noted = Noted()
    if batch.extra_lines:
        noted[notes.key("extra_lines")] += batch.extra_lines
    if batch.swallowed:
        first = f"{unit.name} row {batch.swallowed[0].row}"
        noted[notes.key("swallowed", first)] += sum(len(one.lines) for one in batch.swallowed)
    return noted


def bad_rows(frame: pl.DataFrame, rows: Int64, reasons: list[str], *, file: int) -> pa.Table:
    """The rows of `frame` as `BAD_ROWS`, their content as JSON."""
    if not frame.height:
        return BAD_ROWS.empty_table()
    frame = pl.DataFrame([readable(column) for column in frame.get_columns()])
    content = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    files = np.full(frame.height, file, dtype=np.int32)
    return pa.table([files, rows, reasons, content.to_list()], schema=BAD_ROWS)


def examples_of(bad: pa.Table) -> list[dict[str, Any]]:
    """The first `EXAMPLES` of each reason, of rows as `BAD_ROWS`."""
    return pl.DataFrame(bad).group_by("reason", maintain_order=True).head(EXAMPLES).to_dicts() if bad.num_rows else []


def _frame(batch: LogBatch, needed: dict[str, str], unit: Unit) -> pl.DataFrame:
    """The batch in polars, with columns from the file's folders, and nulls for what a JSON Lines block lacks."""
    frame = pl.DataFrame(batch.table)
    given = [(name, value) for name, value in unit.folders if name in needed and name not in frame.columns]
    frame = frame.with_columns(pl.lit(value, pl.String).alias(name) for name, value in given)
    return frame.with_columns(pl.lit(None).alias(name) for name in needed if name not in frame.columns)


def _filter(frame: pl.DataFrame, log: InteractionsSettings) -> tuple[pl.Series, dict[str, int], Noted]:
    """Which rows to use, how many each filter took out of what the ones before it had left, and the filters' notes."""
    wanted = pl.Series([True]).new_from_index(0, frame.height)
    filtered: dict[str, int] = {}
    noted = Noted()
    for condition in log.filters:
        of_text = condition.op in ("not_null", "starts_with", "not_starts_with")
        met, counts = meets(
            frame[condition.column] if of_text else _compared(frame, condition.column, log),
            condition,
            key="data.interactions.filters",
            timezone=log.timezone,
            is_time=condition.column == log.columns.time,
        )
        filtered[in_words(condition)] = int(np.count_nonzero(wanted.to_numpy() & ~met.to_numpy()))
        noted.update(counts)
        wanted &= met
    if log.columns.event and log.events:
        events = id_text(frame[log.columns.event])
        known = events.is_in(list(log.events)).fill_null(False)
        others = events.filter(wanted & ~known).fill_null("(missing)").value_counts()
        for name, count in others.iter_rows():
            filtered[f"event {name}"] = count
        wanted &= known
    return wanted, filtered, noted


def _compared(frame: pl.DataFrame, name: str, log: InteractionsSettings) -> pl.Series:
    """The column as conditions see it: times of a form that does not tell itself as timestamps."""
    if name != log.columns.time or log.time_format == "auto":
        return frame[name]
    return _times(frame, log).cast(pl.Datetime("us", "UTC")).alias(name)


def _times(frame: pl.DataFrame, log: InteractionsSettings) -> pl.Series:
    """Microseconds; without times the order's number; without an order 0."""
    if log.columns.time:
        return microseconds(frame[log.columns.time], timezone=log.timezone, time_format=log.time_format)
    if log.columns.order:
        return whole_numbers(frame[log.columns.order])
    return pl.Series([0]).new_from_index(0, frame.height)


def _weights(frame: pl.DataFrame, log: InteractionsSettings) -> Float32:
    """The event's weight times the weight column's; NaN where that is no number from 0 up."""
    weight = np.ones(frame.height, dtype=np.float32)
    if log.columns.event and log.events:
        weights = [event.weight for event in log.events.values()]
        of_event = id_text(frame[log.columns.event]).replace_strict(list(log.events), weights, return_dtype=pl.Float32)
        weight *= of_event.to_numpy()
    if log.columns.weight:
        weight *= weights_of(frame[log.columns.weight])
    return weight


def _roles(kept: pl.DataFrame, log: InteractionsSettings) -> Int8:
    """The number of each row's role."""
    if not (log.columns.event and log.events):
        return np.zeros(kept.height, dtype=np.int8)
    roles = [ROLES.index(event.role) for event in log.events.values()]
    numbers: Int8 = (
        id_text(kept[log.columns.event]).replace_strict(list(log.events), roles, return_dtype=pl.Int8).to_numpy()
    )
    return numbers


def _out_of_range(frame: pl.DataFrame, log: InteractionsSettings) -> tuple[pl.Series, Noted]:
    """Which rows have a value that its column's range does not allow, and the ranges' notes."""
    outside, noted = pl.Series([False]).new_from_index(0, frame.height), Noted()
    for column, bounds in log.ranges.items():
        inside, counts = within(
            _compared(frame, column, log),
            bounds,
            key="data.interactions.ranges",
            timezone=log.timezone,
            is_time=column == log.columns.time,
        )
        outside |= ~inside
        noted.update(counts)
    return outside, noted


def _unknown(ids: pl.Series, known: pa.Array) -> pl.Series:
    return ~ids.is_in(pl.Series(known).implode()).fill_null(True)


def _given_parts(frame: pl.DataFrame, split: Given, unit: Unit, user: pl.Series | None, item: pl.Series) -> Int8:
    """The split that each row is given to, -1 where it has none; validation is cut from training if not given."""
    if split.column is None:
        path = PurePosixPath(unit.path)
        is_test, is_validation = (bool(glob and path.match(glob)) for glob in (split.test, split.validation))
        part = np.full(frame.height, TEST if is_test else VALIDATION if is_validation else TRAIN, dtype=np.int8)
    else:
        values = id_text(frame[split.column])
        part = np.where(values.is_null().to_numpy(), -1, TRAIN).astype(np.int8)
        part[(values == split.test).fill_null(False).to_numpy()] = TEST
        if split.validation is not None:
            part[(values == split.validation).fill_null(False).to_numpy()] = VALIDATION
    if split.validation is None and user is not None:
        pairs = user.fill_null("") + "\0" + item.fill_null("")
        chosen = share_hash(_text(pairs)) < split.validation_share
        part[chosen & (part == TRAIN)] = VALIDATION
    return part


def _reasons(checks: dict[str, pl.Series]) -> pl.Series:
    """The first reason that holds of each row, or null."""
    frame = pl.DataFrame(checks)
    return frame.select(
        pl.coalesce(pl.when(pl.col(name)).then(pl.lit(name)) for name in checks).cast(pl.String).alias("reason")
    ).to_series()


def _context(kept: pl.DataFrame, features: dict[str, FeatureType], unit: Unit) -> dict[str, pa.ChunkedArray]:
    """The context features, cast."""
    found = {}
    for name, feature in features.items():
        column = pa.chunked_array([kept[feature.column or name].to_arrow(compat_level=pl.CompatLevel.oldest())])
        try:
            found[name] = feature.cast(column)
        except DataError as error:
            raise DataError(f"{unit.path}: data.query.context.{name}: {error}") from error
    return found


def _query_keys(context: dict[str, pa.ChunkedArray], rows: int) -> pa.Array:
    """The context features of each row as one JSON text."""
    keys = pl.DataFrame(pa.table(context)).select(pl.struct(pl.all()).struct.json_encode()).to_series()
    assert len(keys) == rows
    return _text(keys)


def _text(column: pl.Series) -> pa.Array:
    return column.to_arrow(compat_level=pl.CompatLevel.oldest())
