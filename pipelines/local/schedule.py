"""Retrainings that are due, run one after the other on this machine.

`WORKDIR/schedules/NAME/state.json` says up to which moment a schedule has been dealt with, which due times wait, and
what became of the latest ones.  It is written before and after every run, each time as a whole, so that whoever comes
after a kill knows what was cut off.  A run is a process of its own, `two-tower run`; it dies with the scheduler.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.exit_codes import EXIT_FAILED
from pipelines.local.locks import exclusive
from pipelines.local.schedule_machine import Clock, Machine, Outcome
from pipelines.local.schedule_state import Due, Entry, State, Verdict
from two_tower.config import Environment, ScheduleSettings, load_config
from two_tower.errors import ConfigError, UserError

NAP = 60.0
"""Seconds after which the sleeping scheduler looks at the clock again: the machine may have slept, too."""
POLL = 10.0
"""Seconds between two looks at a working folder that is in use."""
ATTEMPTS = 2
"""How often a run is started that is cut off every time: what takes the machine down is not tried for ever."""


class Scheduler:
    """Deals with the due times of some schedules of an environment; nobody else may deal with them meanwhile."""

    def __init__(
        self, schedules: dict[str, ScheduleSettings], folder: Path, *, machine: Machine, clock: Clock,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.schedules, self.folder, self.machine, self.clock, self._say = schedules, folder, machine, clock, say
        self.states: dict[str, State] = {}
        self.failed = 0
        """How many runs have failed."""
        for name in schedules:
            self._take_over(name)

    def run_due(self) -> None:
        """Runs what is due, until nothing is."""
        self._collect()
        while (job := self._first_waiting()) is not None:
            self._perform(*job)

    def run_forever(self) -> None:
        """Runs what is due and sleeps until more is; returns when nothing will ever be."""
        announced = None
        while True:
            self.run_due()
            coming = [(due, name) for name in self.schedules if (due := self._next_after_seen(name)) is not None]
            if not coming:
                self._say("no schedule will be due any more")
                return
            due, name = min(coming)
            if (due, name) != announced:
                self._tell(name, f"due next at {self._shown(name, due)}")
                announced = (due, name)
            self.clock.sleep(min(NAP, max(0.0, (due - self.clock.now()).total_seconds())))

    def _next_after_seen(self, name: str) -> datetime | None:
        return next(self.schedules[name].times(self.states[name].seen_until), None)

    def _take_over(self, name: str) -> None:
        """Reads a schedule's state, and brings in order what a scheduler that was killed left."""
        schedule, now = self.schedules[name], self.clock.now()
        file = self.folder / name / "state.json"
        state = State.load(file)
        if state is None or (state.cron, state.time_zone) != (schedule.cron, schedule.time_zone):
            self._tell(name, f"{'first seen' if state is None else 'changed'}: {schedule.in_words}")
            since = now
            if state is None and schedule.first and schedule.first < now:
                since = schedule.first - timedelta(microseconds=1)
            entries = state.entries if state else []
            state = State(file, schedule.cron, schedule.time_zone, since, state.waiting if state else [], entries)
        self.states[name] = state
        for entry in state.entries:
            if entry.verdict == "running":
                self._cut_off(name, entry, "the scheduler was killed")
        left, state.waiting = state.waiting, []
        self._sort_out(name, left, now)
        state.save()

    def _cut_off(self, name: str, entry: Entry, reason: str) -> None:
        """Records that a run was cut off, and lets its due time wait again where that is wanted."""
        entry.verdict, entry.reason = "interrupted", reason
        again = self.schedules[name].catch_up != "none" and entry.attempt < ATTEMPTS
        if again:
            self.states[name].waiting.append(Due(entry.due.astimezone(UTC), entry.attempt + 1))
        then = "it is started again, unless a newer one is due" if again else "it is not started again"
        self._tell(name, f"the run of {self._shown(name, entry.due)} was cut off, {reason}; {then}")

    def _collect(self, busy_with: str = "") -> None:
        """Brings every schedule up to now; `busy_with` says what kept the machine busy since the last time."""
        now = self.clock.now()
        for name, schedule in self.schedules.items():
            state = self.states[name]
            found = itertools.takewhile(lambda due: due <= now, schedule.times(state.seen_until))
            fresh = [Due(due) for due in found]
            state.seen_until = max(now, state.seen_until)
            if fresh and busy_with and schedule.when_busy == "skip":
                self._pass_over(name, fresh, "skipped", busy_with)
            elif fresh:
                self._sort_out(name, fresh, now, waited=bool(busy_with))
            if fresh:
                state.save()

    def _sort_out(self, name: str, fresh: Sequence[Due], now: datetime, *, waited: bool = False) -> None:
        """Adds due times to those that wait, and passes over what `catch_up` does not want."""
        schedule, state = self.schedules[name], self.states[name]
        wanted = sorted({*state.waiting, *fresh})
        if schedule.catch_up == "all":
            state.waiting = wanted
            return
        newest = wanted[-1:]
        if schedule.catch_up == "none" and not waited and newest and now - newest[0].time > schedule.grace:
            newest = []
        state.waiting = newest
        dropped = [due for due in wanted if due not in newest and due.attempt == 1]
        if dropped:
            self._pass_over(name, dropped, "missed", f"catch_up is {schedule.catch_up}")

    def _pass_over(self, name: str, dues: Sequence[Due], verdict: Verdict, reason: str) -> None:
        newest = dues[-1].time.astimezone(self.schedules[name].zone)
        self.states[name].entries.append(Entry(newest, verdict, count=len(dues), reason=reason))
        before = f" and {len(dues) - 1} before it" if len(dues) > 1 else ""
        self._tell(name, f"{self._shown(name, newest)}{before}: {verdict}, {reason}")

    def _first_waiting(self) -> tuple[str, Due] | None:
        """Of all the due times that wait the earliest; of equal ones that of the schedule that stands first."""
        jobs = [(due, name) for name, state in self.states.items() for due in state.waiting]
        if not jobs:
            return None
        due, name = min(jobs, key=lambda job: job[0].time)
        return name, due

    def _perform(self, name: str, due: Due) -> None:
        """Runs the DAG for a due time, or passes it over while the machine is busy."""
        schedule, state = self.schedules[name], self.states[name]
        if (reason := self.machine.busy()) is not None:
            if schedule.when_busy == "skip":
                state.waiting.remove(due)
                self._pass_over(name, [due], "skipped", reason)
                state.save()
            else:
                self._wait_until_free(name, reason)
            return
        moment = due.time.astimezone(schedule.zone)
        log = state.file.parent / f"{due.time:%Y%m%dT%H%M%SZ}.log"
        entry = Entry(moment, "running", attempt=due.attempt, started=self.clock.now(), log=str(log))
        state.waiting.remove(due)
        state.entries.append(entry)
        state.save()
        self._tell(name, f"the run of {self._shown(name, moment)} starts; it writes to {log}")
        try:
            outcome = self.machine.run(schedule, due.time, log)
        except KeyboardInterrupt:
            entry.ended = self.clock.now()
            self._cut_off(name, entry, "the scheduler was stopped")
            state.save()
            raise
        except OSError as error:  # a full disk, for example
            outcome = Outcome(EXIT_FAILED, reason=f"the run cannot be started: {error}")
        if outcome.code == EXIT_FAILED and outcome.run_id is None and self.machine.busy() is not None:
            state.entries.remove(entry)  # another run was quicker
            state.waiting.append(due)
            state.save()
            return
        entry.verdict, entry.code, entry.run_id = outcome.verdict, outcome.code, outcome.run_id
        entry.ended, entry.reason = self.clock.now(), outcome.reason
        state.save()
        self.failed += entry.verdict == "failed"
        self._tell(name, f"the run of {self._shown(name, moment)}: {entry.in_words}")
        self._collect(busy_with=f"the run of {name} {self._shown(name, moment)} went on")

    def _wait_until_free(self, name: str, reason: str) -> None:
        self._tell(name, f"waits: {reason}")
        while self.machine.busy() is not None:
            self.clock.sleep(POLL)
        self._collect(busy_with=reason)

    def _shown(self, name: str, due: datetime) -> str:
        return f"{due.astimezone(self.schedules[name].zone):%Y-%m-%d %H:%M %Z}"

    def _tell(self, name: str, text: str) -> None:
        self._say(f"{self.clock.now().astimezone(self.schedules[name].zone):%Y-%m-%d %H:%M:%S} {name}: {text}")


def choose(environment: Environment, name: str | None, *, file: Path) -> dict[str, ScheduleSettings]:
    """The schedules of an environment, or the one that is asked for.

    Raises:
        ConfigError: There is none, or its configuration, with what it replaces, does not validate.
    """
    known = ", ".join(environment.schedules) or "none"
    if name is not None and name not in environment.schedules:
        raise ConfigError(f"{file}: there is no schedule {name!r} (there are: {known})")
    if not environment.schedules:
        raise ConfigError(f"{file}: there is no schedule; add a section `schedules`")
    chosen = {key: schedule for key, schedule in environment.schedules.items() if name in (None, key)}
    for key, schedule in chosen.items():
        try:
            load_config(schedule.config, schedule.overrides(datetime.now(UTC)))
        except ConfigError as error:
            raise ConfigError(f"{file}: schedules.{key}: {error}") from error
    return chosen


@contextlib.contextmanager
def in_charge(
    schedules: dict[str, ScheduleSettings], folder: Path
) -> Iterator[tuple[dict[str, ScheduleSettings], dict[str, str]]]:
    """Those of the schedules that no other process deals with, which none will while this goes on; why not the others.

    The operating system drops the locks when this process dies.
    """
    with contextlib.ExitStack() as locks:
        free, taken = {}, {}
        for name, schedule in schedules.items():
            try:
                locks.enter_context(exclusive(folder / name))
                free[name] = schedule
            except UserError as error:
                taken[name] = str(error).partition(";")[0]
        yield free, taken
