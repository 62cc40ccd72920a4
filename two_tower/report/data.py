"""The data: what was read, kept and set aside, its columns, and what has changed since the champion's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.artifacts import ArtifactReader
from two_tower.data import PROFILE, filtered_in_words
from two_tower.metrics_file import ColumnDrift, Days, Drift, SchemaChange, Volume
from two_tower.profile import in_words
from two_tower.report import plots
from two_tower.report.values import as_day, as_window

_SAMPLES_PER_REASON = 2
_MOST_REASONS = 12
_MOST_DAYS = 10
_NAMED_FILES = 5
_OPEN_COLUMNS = 8
"""Rows of the table of changed columns that are seen without opening the rest."""
_CHANGE, _LARGE_CHANGE = 0.1, 0.25
"""The stability index of a change, and of a large one."""
_TONES = {"none": "good", "moderate": "busy", "large": "bad", "not_compared": "neutral"}


def data_section(data: ArtifactReader, *, days: Days | None, new_data: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was read, kept and left out, when it happened, and what is new.

    `days` are those with no or few events, `new_data` is what the champion has not seen; both if known.
    """
    summary, odd = data.json("summary.json"), days or Days()
    rows = summary.get("rows", {})
    windows = {name: window for name, edges in summary.get("windows", {}).items() if (window := as_window(edges))}
    per_day = summary.get("per_day") or {}
    listed = [day for text in per_day.get("day", []) if (day := as_day(text))]
    shaded = {name: windows[name] for name in ("validation", "test") if name in windows}
    by_time = "train" in windows and all(window[0] >= windows["train"][1] for window in shaded.values())
    return {
        "new_data": _new_data(new_data, dict(zip(per_day.get("day", []), per_day.get("events", []), strict=True))),
        "summary": summary,
        "read": rows.get("read"),
        "kept": rows.get("kept"),
        "filtered": _reasons({filtered_in_words(name): n for name, n in (rows.get("filtered") or {}).items()}),
        "set_aside": _reasons(rows.get("set_aside")),
        "samples": _set_aside_samples(data),
        "windows": windows,
        "span": (min(window[0] for window in windows.values()), max(window[1] for window in windows.values()))
        if windows
        else None,
        "per_day": plots.events_per_day(listed, per_day["events"], windows=shaded if by_time else None)
        if listed
        else None,
        "odd_days": [
            f"{words}: {_first_days(found)}."
            for found, words in (
                (odd.missing, "Days without events"),
                (odd.low, "Days with far fewer than usual"),
            )
            if found
        ],
    }


def _new_data(new_data: Mapping[str, Any] | None, per_day: Mapping[str, int]) -> list[str]:
    """What is new in the logs since the champion, in sentences."""
    if not new_data:
        return []
    files = "1 file" if new_data["files"] == 1 else f"{new_data['files']:,} files"
    said = [f"The run is for {new_data['run_time']}; {files} of logs."]
    if "new" in new_data:
        kinds = [f"{new_data[kind]:,} {kind}" for kind in ("new", "changed", "gone")]
        names = ", ".join(new_data["new_names"][:_NAMED_FILES])
        more = " …" if len(new_data["new_names"]) > _NAMED_FILES else ""
        said.append(f"Since the champion's run: {', '.join(kinds)}{f' ({names}{more})' if names else ''}.")
    if new_data.get("seen_until") is not None:
        until = datetime.fromtimestamp(new_data["seen_until"] / 1e6, UTC)
        later = sum(events for day, events in per_day.items() if day > until.date().isoformat())
        said.append(f"The champion has seen events until {until:%Y-%m-%d %H:%M} UTC; {later:,} are of later days.")
    return said


def _first_days(days: Sequence[str]) -> str:
    more = f" and {len(days) - _MOST_DAYS} more" if len(days) > _MOST_DAYS else ""
    return ", ".join(days[:_MOST_DAYS]) + more


def columns_section(evaluation: ArtifactReader) -> list[dict[str, Any]]:
    """The columns of the profile, as far as the evaluation holds one."""
    if PROFILE not in evaluation.manifest.files:
        return []
    return [
        {
            **facts,
            "name": f"{table}.{column}",
            "type": facts["type"].partition("(time_unit")[0],
            "words": in_words(facts),
        }
        for table, described in evaluation.json(PROFILE)["tables"].items()
        for column, facts in described["columns"].items()
    ]


@dataclass(frozen=True)
class DriftRow:
    """How far a column is from the champion's data."""

    name: str
    psi: float | None
    reason: str
    verdict: str
    tone: str
    width: float | None
    """Of its bar, in percent."""


@dataclass(frozen=True)
class DriftSection:
    """What has changed in the data since the champion was trained, the largest change first."""

    open: list[DriftRow]
    rest: list[DriftRow]
    marks: list[float]
    """Where a bar passes from no change to one, and to a large one, in percent."""
    schema: list[SchemaChange]
    volume: Volume
    days: str


def drift_section(drift: Drift | None) -> DriftSection | None:
    """What has changed in the data since the champion was trained; None without a champion."""
    if drift is None:
        return None
    widest = max([_LARGE_CHANGE, *(column.psi for column in drift.columns.values() if column.psi is not None)])
    rows = [_drift_row(name, found, widest=widest) for name, found in drift.columns.items()]
    rows.sort(key=lambda row: -1.0 if row.psi is None else row.psi, reverse=True)
    volume = drift.volume
    return DriftSection(
        rows[:_OPEN_COLUMNS],
        rows[_OPEN_COLUMNS:],
        marks=[round(100 * edge / widest, 2) for edge in (_CHANGE, _LARGE_CHANGE)],
        schema=drift.schema_changes,
        volume=volume,
        days=_first_days([*(day.day for day in volume.unusual_days), *volume.missing_days]),
    )


def _drift_row(name: str, found: ColumnDrift, *, widest: float) -> DriftRow:
    return DriftRow(
        name,
        found.psi,
        found.reason,
        verdict=found.verdict.replace("_", " "),
        tone=_TONES[found.verdict],
        width=None if found.psi is None else round(100 * found.psi / widest, 2),
    )


def _reasons(counts: Mapping[str, int] | None) -> dict[str, Any]:
    ranked = sorted((counts or {}).items(), key=lambda item: -item[1])
    return {"total": sum(count for _, count in ranked), "rows": [row for row in ranked if row[1]][:50]}


def _set_aside_samples(data: ArtifactReader) -> list[dict[str, Any]]:
    """Up to two rows for each of the first reasons met; the table is read in batches until there are enough."""
    if "set_aside.parquet" not in data.manifest.files:
        return []
    taken: dict[str, list[dict[str, Any]]] = {}
    expected = min(
        len(data.json("summary.json").get("rows", {}).get("set_aside") or {}) or _MOST_REASONS, _MOST_REASONS
    )
    with pq.ParquetFile(data.path("set_aside.parquet")) as file:
        for batch in file.iter_batches(columns=["file", "row", "reason", "content"]):
            for reason in pc.unique(batch["reason"]).to_pylist():
                rows = taken.setdefault(reason, []) if len(taken) < _MOST_REASONS or reason in taken else None
                if rows is not None and len(rows) < _SAMPLES_PER_REASON:
                    matching = batch.filter(pc.equal(batch["reason"], pa.scalar(reason)))
                    rows += matching.slice(0, _SAMPLES_PER_REASON - len(rows)).to_pylist()
            if len(taken) >= expected and all(len(rows) >= _SAMPLES_PER_REASON for rows in taken.values()):
                break
    return [{**row, "file": Path(str(row["file"])).name} for reason in sorted(taken, key=str) for row in taken[reason]]
