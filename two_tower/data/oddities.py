"""What is odd about all the logs and tables together, for `two_tower.data.notes`: ids, times, and what is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.config import InteractionsSettings
from two_tower.contracts import FeatureType
from two_tower.data.notes import Noted, facts, key
from two_tower.data.splits import describe
from two_tower.data.tables import EntityTable
from two_tower.data.time_formats import PLAUSIBLE, suggested
from two_tower.data.values import microseconds

ROUNDED = r"^-?\d(?:\.\d+)?[eE]\+\d{2,3}$|^-?\d\.\d+[eE]\d{2,3}$|^-?\d{16,}\.0$"
"""Numbers whose last digits a spreadsheet or a float has lost."""
PLACEHOLDERS = (
    "\\n",
    "null",
    "(null)",
    "nan",
    "none",
    "nil",
    "n/a",
    "#n/a",
    "na",
    "<na>",
    "undefined",
    "(not set)",
    "-",
)
"""What programs write for a missing value, in lower case."""
SHOWN = 5
"""So many placeholders are named, the most frequent ones."""


def odd_ids(seen: pl.DataFrame, role: str, column: str) -> Noted:
    """What is odd about the ids in `seen` (`id`, and in how many `rows`; an id may stand there several times)."""
    noted: Noted = Counter()
    rounded = seen.filter(pl.col("id").str.contains(ROUNDED))
    if rounded.height:
        noted[key("rounded_ids", facts(role, column, rounded["id"].min()))] = int(rounded["rows"].sum())
    placeholders = seen.filter(pl.col("id").str.to_lowercase().is_in(PLACEHOLDERS))
    if placeholders.height:
        counts = placeholders.group_by("id").agg(pl.col("rows").sum()).sort(["rows", "id"], descending=[True, False])
        shown = counts.head(SHOWN)
        noted[key("placeholder_ids", facts(role, column, shown["id"].to_list()))] = int(shown["rows"].sum())
    return noted + _padded(seen["id"].unique(), role, column)


def _padded(ids: pl.Series, role: str, column: str) -> Noted:
    """The ids that are another one with blanks around it."""
    stripped = ids.str.strip_chars()
    padded = pl.DataFrame({"id": ids, "other": stripped}).filter(ids != stripped)
    # Either the bare id is there too, or it is there with other blanks.
    twice = padded.filter(padded["other"].is_in(ids.implode()) | padded["other"].is_duplicated()).sort("id")
    if not twice.height:
        return Counter()
    return Counter({key("padded_ids", facts(role, column, *twice.row(0))): twice.height})


def unknown_ids(set_aside: Mapping[str, int], tables: Mapping[str, EntityTable]) -> Noted:
    """How many rows were set aside since a table lacks their `item` or `user`."""
    counts = {role: set_aside.get(f"unknown_{role}", 0) for role in tables}
    known = {role: table.ids[0].as_py() if len(table.ids) else "" for role, table in tables.items()}
    return Counter({key("unknown_ids", facts(role, known[role])): count for role, count in counts.items() if count})


def unmatched_ids(logged: pa.Array, table: EntityTable, role: str) -> Noted:
    """How many of the ids of the logs the table lacks, where there is one."""
    if not table.rows:
        return Counter()
    lacking = logged.filter(pc.invert(pc.is_in(logged, value_set=table.ids)))
    if not len(lacking):
        return Counter()
    known = table.ids[0].as_py() if len(table.ids) else ""
    return Counter({key("unmatched_ids", facts(role, len(logged), lacking[0].as_py(), known)): len(lacking)})


def cut_values(table: EntityTable, features: Mapping[str, FeatureType], name: str) -> Noted:
    """How many rows of the table `data.NAME` have more values than their feature takes."""
    noted: Noted = Counter()
    for feature, settings in features.items():
        for setting, count in settings.cut_off(table.columns[f"feature.{feature}"]).items():
            about = (f"data.{name}.features.{feature}", setting, getattr(settings, setting), len(table.ids))
            noted[key("cut_values", facts(*about))] = count
    return +noted


def odd_times(
    log: InteractionsSettings,
    sampled: Iterable[pl.Series],
    set_aside: Mapping[str, int],
    *,
    span: tuple[int, int],
    newest: int,
) -> Noted:
    """What is odd about the times of the logs.

    Args:
        log: The configuration's section.
        sampled: Values of the column of times, good and bad; only looked at where something is odd.
        set_aside: How many rows were set aside, by reason.
        span: The first and the last time that was kept, in microseconds; the last before the first if there is none.
        newest: The latest time that is not in the future.
    """
    noted: Noted = Counter()
    column, (first, last) = log.columns.time, span
    if column is None:
        return noted
    is_old = log.time_format == "auto" and first <= last < PLAUSIBLE[0]
    bad = set_aside.get("bad_time", 0)
    values = list(sampled) if bad or is_old else []
    formats = _suggested(log, values)
    if bad:
        noted[key("bad_times", facts(column, log.time_format, formats))] = bad
    if is_old:
        are_timestamps = all(one.dtype.is_temporal() for one in values)
        about = facts(column, describe(first), describe(last), None if are_timestamps else formats)
        noted[key("old_times", about)] = 1
    if later := set_aside.get("future_time", 0):
        noted[key("future_times", describe(newest))] = later
    return noted


def _suggested(log: InteractionsSettings, sampled: list[pl.Series]) -> list[str]:
    """The formats that read the sample better than the one that is set."""

    def read(values: pl.Series, time_format: str) -> pl.Series:
        return microseconds(values, timezone=log.timezone, time_format=time_format)

    formats = suggested(sampled, read)
    return [] if log.time_format in formats else formats
