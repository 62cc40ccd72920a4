"""Where and when the runs of the local schedules take place: this machine, its clock, and a child process a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from components.child_process import dying_with_this_process
from pipelines.exit_codes import EXIT_DONE, EXIT_REFUSED
from pipelines.local.locks import in_use
from pipelines.local.schedule_state import Verdict
from pipelines.runs import Run, list_runs
from two_tower.config import ScheduleSettings

PATIENCE = 60.0
"""Seconds that a run has to end after an interrupt before it is killed."""

_DECISIONS: dict[str | None, Verdict] = {"promote": "promoted", "keep": "kept"}


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
        if self.code == EXIT_REFUSED:
            return "refused"
        return _DECISIONS.get(self.decision, "promoted") if self.code == EXIT_DONE else "failed"


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
        return in_use(self.workdir)

    def run(self, schedule: ScheduleSettings, due: datetime, log: Path) -> Outcome:
        """Runs `two-tower run` for a due time; an interrupt is passed on to it."""
        earlier = {run.run_id for run in list_runs(self.workdir)}
        overrides = [word for text in schedule.overrides(due) for word in ("--set", text)]
        command = [sys.executable, "-m", "pipelines", "run", schedule.config, "--workdir", str(self.workdir)]
        code = run_in_child([*command, "--scheduled", *overrides], log)
        made = [run for run in list_runs(self.workdir) if run.run_id not in earlier and _is_of(run, schedule)]
        return Outcome(code, made[-1].run_id, made[-1].decision) if made else Outcome(code)


def _is_of(run: Run, schedule: ScheduleSettings) -> bool:
    """Whether a schedule started a run, and not somebody beside it."""
    return run.kind == "schedule" and Path(run.config_file) == Path(schedule.config)


def run_in_child(command: list[str], log: Path) -> int:
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
