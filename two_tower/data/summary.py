"""The content of summary.json: row counts, windows and distributions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from two_tower.config import ColumnSettings
from two_tower.data import splits
from two_tower.data.notes import Noted
from two_tower.data.tables import EntityTable, Numbering
from two_tower.data.work import Work

LONG_TAIL_POINTS = 1000


@dataclass(frozen=True)
class Findings:
    """What a preparation has found and the summary tells."""

    rows: dict[str, Any]
    """What became of the rows."""
    noted: Noted
    per_day: dict[str, list[Any]]
    merged: list[dict[str, Any]]
    """What was counted as the shards were merged."""
    encoded: list[dict[str, Any]]
    """What was counted as they were encoded."""
    counts: pa.Table
    """The events of every candidate by split."""
    items: EntityTable
    users: EntityTable
    item_numbers: Numbering
    user_numbers: Numbering

    @property
    def spans(self) -> dict[str, list[int]]:
        """The first and the last moment of each split."""
        return {name: _span(report["span"][name] for report in self.encoded) for name in splits.SPLITS}


def summary_of(found: Findings, columns: ColumnSettings) -> dict[str, Any]:
    """The content of summary.json."""
    encoded = found.encoded
    summary = {
        "rows": found.rows,
        "noted": dict(sorted(found.noted.items())),
        "tables": {
            name: {"rows": table.rows, "without_id": table.without_id, "distinct": len(table.ids)}
            for name, table in (("items", found.items), ("users", found.users))
        },
        "users": found.user_numbers.seen,
        "items": len(found.item_numbers.ids),
        "items_seen": found.item_numbers.seen,
        "events": events_by_split(encoded),
        "positives": sum(report["positives"] for report in found.merged),
        "repeats": sum(report["repeated"] for report in found.merged) if columns.user else None,
        "windows": found.spans if columns.time else {},
        "per_day": found.per_day,
        "item_counts": _long_tail(found.counts["train_count"].to_numpy()),
        "cold_items": _cold_items(found.counts),
    }
    for key in ("queries", "new_users", "tied"):
        summary[key] = {split: sum(report[key][split] for report in encoded) for split in ("validation", "test")}
    return summary


def events_by_split(encoded: list[dict[str, Any]]) -> dict[str, int]:
    """How many events each split has."""
    return {name: sum(report["events"][name] for report in encoded) for name in splits.SPLITS}


def events_per_day(work: Work, merged: list[dict[str, Any]], *, items: int) -> dict[str, list[Any]]:
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
    for table in work.tables("days-*.arrow"):
        of_day = pl.Series(table["day"]).replace_strict(place, return_dtype=pl.Int64).to_numpy()
        item = table["item"].to_numpy()
        np.bitwise_or.at(seen, (of_day, item // 8), np.left_shift(1, item % 8).astype(np.uint8))
    for day, bits in zip(days, seen, strict=True):
        counts[day][2] = int(np.bitwise_count(bits).sum())
    return {
        "day": [str(np.datetime64(day, "D")) for day in days],
        **{name: [counts[day][n] for day in days] for n, name in enumerate(("events", "users", "items"))},
    }


def _long_tail(counts: npt.NDArray[Any]) -> list[int]:
    """The training events of the items that have any, the most frequent first, at evenly spread places."""
    trained = np.sort(counts)[::-1]
    trained = trained[trained > 0]
    places = np.unique(np.linspace(0, len(trained) - 1, min(len(trained), LONG_TAIL_POINTS)).astype(np.int64))
    tail: list[int] = trained[places].tolist()
    return tail


def _cold_items(counts: pa.Table) -> dict[str, int]:
    """How many items of each window were never trained on."""
    is_cold = counts["train_count"].to_numpy() == 0
    return {split: int((is_cold & (counts[f"{split}_count"].to_numpy() > 0)).sum()) for split in ("validation", "test")}


def _span(spans: Iterable[list[int] | None]) -> list[int]:
    """The first and the last moment of all."""
    known = [span for span in spans if span]
    return [min(span[0] for span in known), max(span[1] for span in known)]
