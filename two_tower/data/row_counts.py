"""What became of the rows of the logs, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from two_tower.data import notes
from two_tower.data.incremental import EarlierRun
from two_tower.data.rows import REASONS
from two_tower.data.sources import SourceFile
from two_tower.errors import DataError

FILTERED_NAMES = 20
"""So many of the reasons for which rows were filtered are counted apart."""


def count_rows(
    logs: list[SourceFile], reports: list[dict[str, Any]], merged: list[dict[str, Any]], earlier: EarlierRun | None
) -> tuple[dict[str, Any], Counter[str]]:
    """The row counts of summary.json, and how many rows each filter took out.

    Args:
        logs: The files.
        reports: What was counted as they were read.
        merged: What was counted as the shards were merged.
        earlier: The preparation that had read the other files.

    Raises:
        DataError: The logs have no rows.
    """
    read = sum(report["read"] for report in reports)
    filtered = notes.summed(report["filtered"] for report in reports)
    set_aside = notes.summed(report["set_aside"] for report in reports)
    if earlier:
        read += earlier.state["read"]
        filtered.update(earlier.filtered)  # `+=` would drop what filtered nothing
        from_earlier = Counter(earlier.bad["reason"].to_pylist())
        del from_earlier["rate_limit"]  # the shards look at all the events again
        set_aside += from_earlier
    set_aside["duplicate"] += sum(report["duplicates"] for report in merged)
    set_aside["rate_limit"] += sum(report["rate_limit"] for report in merged)
    by_filter = Counter(filtered)
    if repeats := sum(report["repeats"] for report in merged):
        filtered["repeats"] = repeats
    kept = sum(report["kept"] for report in merged)
    if not read:
        raise DataError(f"data.interactions: the logs have no rows ({_names(logs)})")
    rows = {
        "read": read,
        "kept": kept,
        "filtered": _largest(filtered),
        "set_aside": {reason: set_aside[reason] for reason in REASONS if set_aside[reason]},
    }
    return rows, by_filter


def _names(logs: list[SourceFile]) -> str:
    paths = [file["path"] for file in logs]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The largest counts by name, the others together."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    kept = dict(ordered[:FILTERED_NAMES])
    if rest := sum(count for _, count in ordered[FILTERED_NAMES:]):
        kept["(others)"] = rest
    return kept
