"""Days of the logs that are missing or nearly so, from their counts alone (`per_day` in summary.json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

AROUND = 28
"""How many days before and after a day tell what is usual on it."""
SAME_WEEKDAYS = 2
"""From so many of its weekday among them on, a day is expected to be like those; else like all of them."""
DEVIATIONS = 4.0
"""How far below what is expected a day has to be, in standard deviations."""
LOW = 0.5
"""A low day has less than this share of what is expected."""
OFTEN_EMPTY = 0.25
"""Where more than this share of the days like it are empty, an empty day is usual."""


@dataclass(frozen=True)
class _Usual:
    """What is expected of a day: its events, their standard deviation, and whether such days are often empty."""

    events: float
    deviation: float
    often_empty: bool


def incomplete_days(per_day: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """The days without events, and those with far fewer than usual, as ISO dates in order.

    A day is expected to have as many events as the earlier data has on it (times the median ratio of the two, so that
    a new filter is no loss of every day); so what was missing there is not reported again.  Other days are expected
    to have the median of the days of their weekday around them.  The first and the last day may be incomplete by
    nature, and are never low.

    Args:
        per_day: Lists of the same length, `day` (ISO) and `events`.
        earlier: The same of earlier data, such as the champion's.

    Returns:
        `missing`: days without events where that is neither chance nor usual.  `low`: days with less than half of
        what is expected, and further below it than by chance and than such days vary.
    """
    counts, before = _counts(per_day), {} if earlier is None else _counts(earlier)
    found: dict[str, list[str]] = {"missing": [], "low": []}
    if not counts:
        return found
    first, last = min(counts), max(counts)
    if before:  # what is missing right after the earlier days is missing too
        first = min(first, max(before) + timedelta(days=1))
    days = {day: counts.get(day, 0) for day in _span(first, last)}
    scaled = _scaled(before, counts)
    for day, events in days.items():
        usual = _as_before(day, scaled) or _as_around(day, {**scaled, **days})
        if usual is None or usual.events - events <= DEVIATIONS * np.sqrt(usual.events):
            continue
        if events == 0:
            if not usual.often_empty:
                found["missing"].append(day.isoformat())
        elif first < day < last and events < min(LOW * usual.events, usual.events - DEVIATIONS * usual.deviation):
            found["low"].append(day.isoformat())
    return found


def _as_before(day: date, scaled: Mapping[date, float]) -> _Usual | None:
    """What the earlier data has on a day; None outside of it."""
    if not scaled or not min(scaled) <= day <= max(scaled):
        return None
    return _Usual(scaled.get(day, 0.0), 0.0, often_empty=False)


def _as_around(day: date, counts: Mapping[date, float]) -> _Usual | None:
    """What the days around a day have, itself left out; None where there are none."""
    near = [other for other in _span(day - timedelta(days=AROUND), day + timedelta(days=AROUND)) if other in counts]
    others = [other for other in near if other != day]
    weekdays = [other for other in others if other.weekday() == day.weekday()]
    like = np.array([counts[other] for other in (weekdays if len(weekdays) >= SAME_WEEKDAYS else others)])
    if not len(like):
        return None
    middle = float(np.median(like))
    deviation = 1.4826 * float(np.median(np.abs(like - middle)))  # the standard deviation of normal values
    return _Usual(middle, deviation, often_empty=bool(np.mean(like == 0) > OFTEN_EMPTY))


def _scaled(before: Mapping[date, int], counts: Mapping[date, int]) -> dict[date, float]:
    """The earlier events of each day times the median ratio of the new to the earlier; empty where that is none."""
    ratios = [counts[day] / events for day, events in before.items() if events and day in counts]
    return {day: events * float(np.median(ratios)) for day, events in before.items()} if ratios else {}


def _counts(per_day: Mapping[str, Any]) -> dict[date, int]:
    return {date.fromisoformat(day): int(n) for day, n in zip(per_day["day"], per_day["events"], strict=True)}


def _span(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
