"""One batch of log rows: filtered, checked, and brought into the columns that the shards hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from two_tower.config import Data, Interactions
from two_tower.contracts import FeatureType, Int64
from two_tower.data.reading import Batch, Unit
from two_tower.data.values import id_text, is_missing, meets, microseconds, row_digests, weights_of
from two_tower.errors import DataError

REASONS = (
    "malformed",
    "missing_user",
    "missing_item",
    "missing_time",
    "bad_time",
    "future_time",
    "bad_weight",
    "duplicate",
)
"""Why a row is set aside; the first that holds counts."""

BAD_ROWS = pa.schema([("file", pa.int32()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class CheckedRows:
    """What one batch came to."""

    kept: pa.Table
    """`user` (without a user column: the context as JSON, so that equal queries meet in one shard), `item`, `time`,
    `weight`, `digest` of the whole source row, `file`, `row`, `context.NAME`."""
    bad: pa.Table
    """The rows that are set aside, as `BAD_ROWS`."""
    read: int
    filtered: dict[str, int] = field(default_factory=dict)


def source_columns(data: Data) -> dict[str, str]:
    """The log's columns that the configuration names, each with the key that does."""
    log = data.interactions
    found: dict[str, str] = {}
    for key, column in log.columns.model_dump().items():
        if column is not None:
            found.setdefault(column, f"data.interactions.columns.{key}")
    for condition in log.filters:
        found.setdefault(condition.column, "data.interactions.filters")
    for name, feature in data.query.context.items():
        found.setdefault(feature.column or name, f"data.query.context.{name}")
    return found


def check_rows(batch: Batch, unit: Unit, *, data: Data, newest: int) -> CheckedRows:
    """The batch's rows: kept, set aside with a reason, or filtered out.

    Args:
        batch: Rows as read.
        unit: Where they come from.
        data: The configuration's `data` section.
        newest: The latest time, in microseconds, that is not in the future.

    Raises:
        DataError: A column's type does not fit its role.
    """
    log = data.interactions
    frame = _frame(batch, source_columns(data))
    wanted, filtered = _filter(frame, log)
    frame = frame.filter(wanted)
    rows = batch.rows[wanted.to_numpy()]
    untyped = unit.format == "csv"

    item = id_text(frame[log.columns.item], untyped=untyped)
    user = id_text(frame[log.columns.user], untyped=untyped) if log.columns.user else None
    time = microseconds(frame[log.columns.time], timezone=log.timezone)
    weight = _weights(frame, log)
    reason = _reasons(
        {
            "missing_user": user.is_null() if user is not None else item.is_null() & False,
            "missing_item": item.is_null(),
            "missing_time": is_missing(frame[log.columns.time]),
            "bad_time": time.is_null(),
            "future_time": (time > newest).fill_null(False),
            "bad_weight": pl.Series(np.isnan(weight)),
        }
    )
    good = reason.is_null()
    kept = frame.filter(good)
    context = _context(kept, data.query.context, unit)
    table = pa.table(
        {
            "user": _text(user.filter(good)) if user is not None else _query_keys(context, kept.height),
            "item": _text(item.filter(good)),
            "time": pa.array(time.filter(good).to_numpy()),
            "weight": pa.array(weight[good.to_numpy()]),
            "digest": pa.array(row_digests(kept)),
            "file": pa.array(np.full(kept.height, unit.file, dtype=np.int32)),
            "row": pa.array(rows[good.to_numpy()]),
            **{f"context.{name}": column for name, column in context.items()},
        }
    )
    bad = bad_rows(frame.filter(~good), rows[~good.to_numpy()], reason.filter(~good).to_list(), file=unit.file)
    broken = pa.table(
        {
            "file": [unit.file] * len(batch.malformed),
            "row": [row for row, _ in batch.malformed],
            "reason": ["malformed"] * len(batch.malformed),
            "content": [json.dumps(text, ensure_ascii=False) for _, text in batch.malformed],
        },
        schema=BAD_ROWS,
    )
    read = batch.table.num_rows + len(batch.malformed)
    return CheckedRows(table, pa.concat_tables([broken, bad]), read, filtered)


def bad_rows(frame: pl.DataFrame, rows: Int64, reasons: list[str], *, file: int) -> pa.Table:
    """The rows of `frame` as `BAD_ROWS`, their content as JSON."""
    if not frame.height:
        return BAD_ROWS.empty_table()
    frame = frame.with_columns(pl.col(pl.Binary).bin.encode("hex"))  # JSON has no bytes
    content = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    files = np.full(frame.height, file, dtype=np.int32)
    return pa.table([files, rows, reasons, content.to_list()], schema=BAD_ROWS)


def _frame(batch: Batch, needed: dict[str, str]) -> pl.DataFrame:
    """The batch in polars, with nulls for needed columns that a JSON Lines block leaves out."""
    frame = pl.DataFrame(batch.table)
    return frame.with_columns(pl.lit(None).alias(name) for name in needed if name not in frame.columns)


def _filter(frame: pl.DataFrame, log: Interactions) -> tuple[pl.Series, dict[str, int]]:
    """Which rows to use, and how many each filter took out of what the ones before it had left."""
    wanted = pl.Series([True]).new_from_index(0, frame.height)
    filtered: dict[str, int] = {}
    for condition in log.filters:
        value = "" if condition.op == "not_null" else f" {json.dumps(condition.value, default=str, ensure_ascii=False)}"
        left = wanted & meets(frame[condition.column], condition, timezone=log.timezone)
        filtered[f"{condition.column} {condition.op}{value}"] = int(
            np.count_nonzero(wanted.to_numpy() & ~left.to_numpy())
        )
        wanted = left
    if log.columns.event and log.event_weights:
        events = id_text(frame[log.columns.event])
        known = events.is_in(list(log.event_weights)).fill_null(False)
        others = events.filter(wanted & ~known).fill_null("(missing)").value_counts()
        for name, count in others.iter_rows():
            filtered[f"event {name}"] = count
        wanted &= known
    return wanted, filtered


def _weights(frame: pl.DataFrame, log: Interactions) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The event's weight times the weight column's; NaN where that is no number from 0 up."""
    weight = np.ones(frame.height, dtype=np.float32)
    if log.columns.event and log.event_weights:
        names = list(log.event_weights)
        of_event = id_text(frame[log.columns.event]).replace_strict(
            names, [log.event_weights[name] for name in names], return_dtype=pl.Float32
        )
        weight *= of_event.to_numpy()
    if log.columns.weight:
        weight *= weights_of(frame[log.columns.weight])
    return weight


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
