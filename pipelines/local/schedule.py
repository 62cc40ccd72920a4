"""Retrainings that are due, run one after the other on this machine.

`WORKDIR/schedules/NAME/state.json` says up to which moment a schedule has been dealt with, which due times wait, and
what became of the latest ones.  It is written before and after every run, each time as a whole, so that whoever comes
after a kill knows what was cut off.  A run is a process of its own, `two-tower run`; it dies with the scheduler.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.table import Table

from components.child_process import dying_with_this_process
from pipelines.local.runner import exclusive
from pipelines.runs import list_runs
from two_tower.artifacts import write_json
from two_tower.config import Environment, ScheduleSettings, load_config
from two_tower.errors import ConfigError, UserError
from two_tower.progress import human_seconds

KEPT = 200
"""How many entries a state file keeps."""
NAP = 60.0
"""Seconds after which the sleeping scheduler looks at the clock again: the machine may have slept, too."""
POLL = 10.0
"""Seconds between two looks at a working folder that is in use."""
PATIENCE = 60.0
"""Seconds that a run has to end after an interrupt before it is killed."""
ATTEMPTS = 2
"""How often a run is started that is cut off every time: what takes the machine down is not tried for ever."""

Verdict = Literal["running", "promoted", "kept", "refused", "failed", "interrupted", "skipped", "missed"]
_DECISIONS: dict[str | None, Verdict] = {"promote": "promoted", "keep": "kept"}


@dataclass(frozen=True, order=True)
class Due:
    """A moment at which a schedule is due, and how often a run has been started for it, this time included."""

    time: datetime
    attempt: int = 1


@dataclass
class Entry:
    """What became of a due time, or of several that were passed over together."""

    due: datetime
    """The newest of them, in the schedule's time zone."""
    verdict: Verdict
    count: int = 1
    attempt: int = 1
    started: datetime | None = None
    ended: datetime | None = None
    run_id: str | None = None
    code: int | None = None
    """The exit code of `two-tower run`; below 0 the signal that ended it."""
    log: str | None = None
    reason: str = ""


@dataclass
class State:
    """What is known of a schedule, as its state file has it."""

    file: Path
    cron: str
    time_zone: str
    seen_until: datetime
    """Due times up to here have been dealt with or wait."""
    waiting: list[Due] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    """Oldest first."""

    @classmethod
    def load(cls, file: Path) -> State | None:
        """The state in a file; None where there is no file.

        Raises:
            UserError: The file is damaged, or another version of this program wrote it.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            content["seen_until"] = _read_time(content["seen_until"])
            content["waiting"] = [Due(_read_time(due["time"]), due["attempt"]) for due in content["waiting"]]
            for entry in content["entries"]:
                entry.update({key: _read_time(entry[key]) for key in ("due", "started", "ended") if entry[key]})
            content["entries"] = [Entry(**entry) for entry in content["entries"]]
            return cls(file, **content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{file}: not a schedule's state that this version reads ({error}); move it away, and the schedule "
                "begins anew: what is due from then on is run"
            ) from error

    def save(self) -> None:
        """Writes the file, durably and as a whole."""
        self.entries = self.entries[-KEPT:]
        content = asdict(self)
        del content["file"]
        write_json(self.file, _written(content))


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    run_id: str | None = None
    decision: str | None = None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """Promoted, kept (the champion made again), refused or failed."""
        if self.code == 3:
            return "refused"
        return _DECISIONS.get(self.decision, "promoted") if self.code == 0 else "failed"


class Clock:
    """The machine's clock, put forward or back by `shift`."""

    def __init__(self, shift: timedelta = timedelta()) -> None:
        self.shift = shift

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC) + self.shift

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class Machine(Protocol):
    """Where runs take place, one at a time."""

    def busy(self) -> str | None:
        """Why no run can start now, or None."""

    def run(self, schedule: ScheduleSettings, due: datetime, log: Path) -> Outcome:
        """Runs the DAG for a due time, writing what it prints to `log`."""


class ThisMachine:
    """Runs in child processes, all in one working folder."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir

    def busy(self) -> str | None:
        """Why no run can start now: one goes on in the working folder, whoever started it."""
        try:
            with exclusive(self.workdir):
                return None
        except UserError as error:
            return str(error).partition(";")[0]

    def run(self, schedule: ScheduleSettings, due: datetime, log: Path) -> Outcome:
        """Runs `two-tower run` for a due time; an interrupt is passed on to it."""
        earlier = {run.run_id for run in list_runs(self.workdir)}
        overrides = [word for text in schedule.overrides(due) for word in ("--set", text)]
        command = [sys.executable, "-m", "pipelines", "run", schedule.config, "--workdir", str(self.workdir)]
        code = _in_child([*command, "--scheduled", *overrides], log)
        made = [run for run in list_runs(self.workdir) if run.run_id not in earlier]
        return Outcome(code, made[-1].run_id, made[-1].decision) if made else Outcome(code)


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
            outcome = Outcome(1, reason=f"the run cannot be started: {error}")
        if outcome.code == 1 and outcome.run_id is None and self.machine.busy() is not None:
            state.entries.remove(entry)  # another run was quicker
            state.waiting.append(due)
            state.save()
            return
        entry.verdict, entry.code, entry.run_id = outcome.verdict, outcome.code, outcome.run_id
        entry.ended, entry.reason = self.clock.now(), outcome.reason
        state.save()
        self.failed += entry.verdict == "failed"
        self._tell(name, f"the run of {self._shown(name, moment)}: {_in_words(entry)}")
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
    if last.verdict == "running":
        with contextlib.suppress(UserError), exclusive(folder):
            return "cut off"
    return _in_words(last)


def _in_words(entry: Entry) -> str:
    """What became of a due time."""
    parts: list[str] = [entry.verdict]
    if entry.code is not None and entry.verdict == "failed":
        parts.append(f"ended by signal {-entry.code}" if entry.code < 0 else f"exit code {entry.code}")
        parts.append(f"see {entry.log}")
    if entry.run_id:
        parts.append(f"run {entry.run_id}")
    if entry.started and entry.ended:
        parts.append(human_seconds((entry.ended - entry.started).total_seconds()))
    if entry.reason:
        parts.append(entry.reason)
    return ", ".join(parts)


def _in_child(command: list[str], log: Path) -> int:
    """Runs a command that dies with this process and gets the interrupts from it alone; the exit code."""
    stops = {signal.SIGINT, signal.SIGTERM}
    with open(log, "a", encoding="utf-8") as file:
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # a stop finds either no process or one that it is passed on to
        try:
            process = subprocess.Popen(
                dying_with_this_process(command, interruptible=True),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
            raise
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except BaseException:
            process.kill()
            process.wait()
        raise


def _read_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _written(value: Any) -> Any:
    """A value with its times as texts."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds" if value.microsecond == 0 else "microseconds")
    if isinstance(value, list):
        return [_written(inner) for inner in value]
    return {key: _written(inner) for key, inner in value.items()} if isinstance(value, dict) else value
