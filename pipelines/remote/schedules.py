"""Keeping what a service has scheduled as an environment file says.

A schedule of a service carries, in labels of the job that it starts, who owns it (the environment file's name), its
name in the file, and two hashes: of the job and of its timing.  So a second `apply` changes nothing, another time is
changed in place, and another job is scheduled anew before the old schedule goes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from rich.table import Table

from pipelines.remote.submission import Submission, make_submission
from two_tower.config import Environment, ScheduleSettings, canonical_json
from two_tower.errors import ConfigError, UserError

DEFINITION, TIMING, NAME, OWNER = "definition", "timing", "schedule", "environment"
"""The labels by which a service's schedule is known again."""

Deed = Literal["created", "retimed", "replaced", "unchanged", "removed", "left"]


@dataclass(frozen=True)
class PlannedSchedule:
    """A schedule of the environment file, with the run that it starts."""

    name: str
    owner: str
    """The environment file's name without its ending."""
    schedule: ScheduleSettings
    submission: Submission
    definition: str
    """Twelve hexadecimal digits of the job."""
    timing: str
    """Twelve hexadecimal digits of when it is started."""


@dataclass(frozen=True)
class RemoteSchedule:
    """A schedule that a service has."""

    handle: str
    """The service's name for it."""
    name: str
    owner: str
    definition: str
    timing: str
    cron: str
    time_zone: str
    state: Literal["active", "paused", "ended"]
    next_run: datetime | None
    last_run: datetime | None
    link: str


class Schedules(Protocol):
    """A service that starts runs when they are due."""

    def list(self, owner: str) -> Sequence[RemoteSchedule]:
        """The schedules of an environment file, the newest first."""

    def create(self, planned: PlannedSchedule) -> RemoteSchedule:
        """Makes a schedule."""

    def retime(self, existing: RemoteSchedule, planned: PlannedSchedule) -> RemoteSchedule:
        """Changes when a schedule is due."""

    def pause(self, existing: RemoteSchedule) -> None:
        """Has it start nothing until it is resumed."""

    def resume(self, existing: RemoteSchedule, *, catch_up: bool) -> None:
        """Has it start runs again; with `catch_up` also those that came due meanwhile."""

    def delete(self, existing: RemoteSchedule) -> None:
        """Removes it; runs that it has started go on."""


@dataclass(frozen=True)
class Done:
    """What `apply` did about one schedule."""

    deed: Deed
    name: str
    schedule: RemoteSchedule | None


def plan(
    environment: Environment,
    file: Path,
    *,
    backend: str,
    only: str | None = None,
    images: dict[str, str] | None = None,
) -> list[PlannedSchedule]:
    """The schedules of an environment file, or one of them, with their runs put together.

    Raises:
        ConfigError: There is no such schedule, or one does not validate; the message names its key.
    """
    if only is not None and only not in environment.schedules:
        known = ", ".join(environment.schedules) or "none"
        raise ConfigError(f"{file}: there is no schedule {only!r} (there are: {known})")
    found = []
    for name, schedule in environment.schedules.items():
        if only not in (None, name):
            continue
        try:
            found.append(_planned(name, schedule, environment, owner=owner_of(file), backend=backend, images=images))
        except ConfigError as error:
            raise ConfigError(f"{file}: schedules.{name}: {error}") from error
    return found


def owner_of(file: Path) -> str:
    """The name under which a service knows an environment file: its own, without the ending, as a label's value."""
    return re.sub(r"[^a-z0-9_-]", "-", file.stem.lower())[:63]


def apply(
    service: Schedules, planned: Iterable[PlannedSchedule], *, owner: str, prune: bool = False, whole: bool = True
) -> list[Done]:
    """Makes the service's schedules those of the file; what was done about each.

    Args:
        service: Who has the schedules.
        planned: What the file says.
        owner: The environment file's name without its ending; nobody else's schedules are looked at.
        prune: Whether schedules go that the file no longer has.
        whole: Whether `planned` is all of the file.
    """
    there = list(service.list(owner))
    done = [_apply_one(service, each, [one for one in there if one.name == each.name]) for each in planned]
    if whole:
        kept = {each.name for each in done}
        for stray in there:
            if stray.name in kept:
                continue
            if prune:
                service.delete(stray)
            done.append(Done("removed" if prune else "left", stray.name, stray))
    return done


def _apply_one(service: Schedules, planned: PlannedSchedule, there: list[RemoteSchedule]) -> Done:
    """The newest schedule of this job stays; others of this name go once it is as it should be."""
    same = next((one for one in there if one.definition == planned.definition and one.state != "ended"), None)
    deed: Deed = "unchanged"
    if same is None:
        now = service.create(planned)
        deed = "replaced" if there else "created"
        if there and there[0].state == "paused":
            service.pause(now)
    elif same.timing != planned.timing:
        now = service.retime(same, planned)
        deed = "retimed"
    else:
        now = same
    for old in there:
        if old.handle not in (now.handle, same.handle if same else None):
            service.delete(old)
    return Done(deed, planned.name, now)


def find(service: Schedules, owner: str, name: str) -> RemoteSchedule:
    """The schedule of this name.

    Raises:
        UserError: The service has none.
    """
    there = service.list(owner)
    found = next((one for one in there if one.name == name), None)
    if found is None:
        known = ", ".join(sorted({one.name for one in there})) or "none"
        raise UserError(f"{owner}: no schedule {name!r} has been applied (there are: {known})")
    return found


def remote_table(environment: Environment, there: Sequence[RemoteSchedule]) -> Table:
    """The schedules that a service has beside those of the file, and when they are due."""
    table = Table()
    for column in ("schedule", "when", "state", "next", "last", "where"):
        table.add_column(column, no_wrap=column in ("schedule", "state", "next", "last"), overflow="fold")
    for one in there:
        known = environment.schedules.get(one.name)
        when = known.in_words if known else f"{one.cron} {one.time_zone}"
        table.add_row(
            one.name, when, one.state if known else f"{one.state}, not in the file", _shown(one.next_run),
            _shown(one.last_run), one.link,
        )  # fmt: skip
    for name, schedule in environment.schedules.items():
        if name not in {one.name for one in there}:
            coming = next(islice(schedule.times(datetime.now(UTC)), 1), None)
            table.add_row(name, schedule.in_words, "not applied", _shown(coming), "", "")
    return table


def _planned(
    name: str,
    schedule: ScheduleSettings,
    environment: Environment,
    *,
    owner: str,
    backend: str,
    images: dict[str, str] | None,
) -> PlannedSchedule:
    submission = make_submission(
        Path(schedule.config),
        environment,
        schedule.standing_overrides(),
        backend=backend,
        images=images,
        time_zone=schedule.time_zone,
        labels={"schedule": name, "environment": owner},
    )
    job = {
        "pipeline": submission.pipeline,
        "parameters": submission.parameters,
        "root": submission.root,
        "labels": {key: value for key, value in submission.labels.items() if key != "commit"},
        "service": canonical_json(environment.vertex if backend == "vertex" else environment.kubeflow),
    }
    timing = schedule.model_dump(
        mode="json", include={"cron", "time_zone", "start", "end", "max_concurrent_runs", "when_busy", "catch_up"}
    )
    return PlannedSchedule(name, owner, schedule, submission, _digits(job), _digits(timing))


def _digits(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _shown(moment: datetime | None) -> str:
    return f"{moment.astimezone():%a %Y-%m-%d %H:%M %Z}" if moment else ""
