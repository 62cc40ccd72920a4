"""The local schedules at a glance."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path

from rich.table import Table

from pipelines.local.locks import in_use
from pipelines.local.schedule_state import Entry, State
from two_tower.config import ScheduleSettings


def schedules_table(schedules: dict[str, ScheduleSettings], folder: Path, *, now: datetime) -> Table:
    """When each schedule is due and what became of it last.

    Raises:
        UserError: A state file cannot be read.
    """
    table = Table()
    for column in ("schedule", "when", "next", "waits", "last", "verdict"):
        table.add_column(column, no_wrap=column not in ("when", "verdict"))
    for name, schedule in schedules.items():
        state = State.load(folder / name / "state.json")
        coming = [f"{due.astimezone(schedule.zone):%a %Y-%m-%d %H:%M}" for due in
                  itertools.islice(schedule.times(now), 3)]  # fmt: skip
        last = state.entries[-1] if state and state.entries else None
        table.add_row(
            name, schedule.in_words, "\n".join(coming) or "never again", str(len(state.waiting)) if state else "",
            f"{last.due.astimezone(schedule.zone):%Y-%m-%d %H:%M}" if last else "", _standing(last, folder / name),
        )  # fmt: skip
    return table


def _standing(last: Entry | None, folder: Path) -> str:
    """A schedule's latest entry in words; a run that nobody watches any more has been cut off."""
    if last is None:
        return ""
    if last.verdict == "running" and in_use(folder) is None:
        return "cut off"
    return last.in_words
