"""Days that are missing or low: those that were taken out, and no others."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from two_tower.profile import incomplete_days

START = date(2024, 1, 1)  # a Monday
WEEK = [1000, 1100, 900, 1000, 1500, 2000, 600]


def counts(days: int, *, seed: int = 0, scale: float = 1.0) -> dict[date, int]:
    """The events of some weeks, with the chance of counts and a growth of a tenth a month."""
    rng = np.random.default_rng(seed)
    return {START + timedelta(days=n): int(rng.poisson(scale * WEEK[n % 7] * 1.1 ** (n / 30))) for n in range(days)}


def per_day(events: dict[date, int]) -> dict[str, Any]:
    """As `prepare_data` writes it: days without events are not in it."""
    there = {day: n for day, n in sorted(events.items()) if n}
    return {"day": [day.isoformat() for day in there], "events": list(there.values())}


NONE: dict[str, list[str]] = {"missing": [], "low": []}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("days", [1, 3, 10, 60, 365])
def test_complete_logs(seed: int, days: int) -> None:
    assert incomplete_days(per_day(counts(days, seed=seed))) == NONE
    assert incomplete_days(per_day(counts(days, seed=seed)), per_day(counts(max(days - 1, 1), seed=seed))) == NONE


@pytest.mark.parametrize("taken", [1, 10, 30, 58])
def test_a_day_without_events(taken: int) -> None:
    day = START + timedelta(days=taken)
    assert incomplete_days(per_day(counts(60) | {day: 0})) == {"missing": [day.isoformat()], "low": []}


def test_days_in_a_row() -> None:
    holidays = {START + timedelta(days=n): 0 for n in range(30, 38)}
    assert incomplete_days(per_day(counts(90) | holidays))["missing"] == [day.isoformat() for day in holidays]


def test_a_day_of_which_most_was_lost() -> None:
    day = START + timedelta(days=30)
    events = counts(60)
    assert incomplete_days(per_day(events | {day: events[day] // 3})) == {"missing": [], "low": [day.isoformat()]}
    assert incomplete_days(per_day(events | {day: events[day] * 2 // 3})) == NONE


def test_the_first_and_the_last_day_may_be_cut_off() -> None:
    events = counts(60)
    assert incomplete_days(per_day(events | {min(events): 5, max(events): 5})) == NONE


def test_weekdays_that_are_always_without_events() -> None:
    closed = {day: 0 if day.weekday() == 6 else n for day, n in counts(60).items()}
    assert incomplete_days(per_day(closed)) == NONE


def test_few_events_are_missing_by_chance() -> None:
    rng = np.random.default_rng(0)
    sparse = {START + timedelta(days=n): int(rng.poisson(2)) for n in range(200)}
    assert 0 in sparse.values()
    assert incomplete_days(per_day(sparse)) == NONE


def test_against_earlier_data() -> None:
    events, day = counts(60), START + timedelta(days=20)
    earlier = per_day({day: n for day, n in events.items() if day < START + timedelta(days=45)})
    lost = events | {day: 0}
    assert incomplete_days(per_day(lost), earlier) == {"missing": [day.isoformat()], "low": []}
    assert incomplete_days(per_day(events | {day: events[day] // 3}), earlier)["low"] == [day.isoformat()]
    # What was missing then already has been accepted with the champion.
    assert incomplete_days(per_day(lost), per_day(lost)) == NONE
    # Days after the earlier data are still judged by the days around them.
    later = START + timedelta(days=50)
    assert incomplete_days(per_day(events | {later: 0}), earlier)["missing"] == [later.isoformat()]


def test_a_new_filter_is_no_loss_of_every_day() -> None:
    assert incomplete_days(per_day(counts(60, scale=0.3)), per_day(counts(60))) == NONE


def test_what_is_missing_between_the_earlier_data_and_the_new() -> None:
    events = counts(60)
    earlier = per_day({day: n for day, n in events.items() if day < START + timedelta(days=30)})
    later = per_day({day: n for day, n in events.items() if day > START + timedelta(days=30)})
    assert incomplete_days(later, earlier) == {"missing": ["2024-01-31"], "low": []}


def test_logs_without_times() -> None:
    empty = {"day": [], "events": []}
    assert incomplete_days(empty) == incomplete_days(empty, per_day(counts(9))) == NONE
    assert incomplete_days(per_day(counts(9)), empty) == NONE
