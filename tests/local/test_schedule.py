"""The local scheduler: what is due, what was missed, and what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from project import wait_for

from pipelines.local.locks import exclusive
from pipelines.local.schedule import Scheduler, choose, in_charge
from pipelines.local.schedule_machine import Outcome, ThisMachine
from pipelines.local.schedule_state import State
from pipelines.local.schedule_table import schedules_table
from pipelines.runs import list_runs
from two_tower.config import Environment, ScheduleSettings
from two_tower.errors import ConfigError, UserError

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)


class HandClock:
    """A clock that stands still until somebody sleeps."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class FakeMachine:
    """Runs take as long as it is told and end as it is told."""

    def __init__(self, clock: HandClock, *, hours: float = 0.1, outcomes=(), busy_until: datetime | None = None):
        self.clock, self.hours, self.outcomes, self.busy_until = clock, hours, list(outcomes), busy_until
        self.ran: list[tuple[str, str]] = []

    def busy(self) -> str | None:
        return "process 1 runs here" if self.busy_until and self.clock.now() < self.busy_until else None

    def run(self, schedule: ScheduleSettings, due: datetime, log: Path) -> Outcome:
        self.ran.append((schedule.config, f"{due:%d %H:%M}"))
        self.clock.time += self.hours * HOUR
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome(0, "a-run", "promote")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Night:
    """A scheduler of made-up schedules with its clock at noon of 2026-03-01, started anew as often as wanted."""

    def __init__(self, folder: Path, **schedules) -> None:
        self.folder = folder
        self.clock = HandClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.machine = FakeMachine(self.clock)
        self.said: list[str] = []
        self.set(**schedules)

    def set(self, **schedules) -> None:
        self.schedules = {
            name: ScheduleSettings.model_validate({"config": name, "cron": "0 3 * * *", **settings})
            for name, settings in schedules.items()
        }

    def look(self, **after) -> Scheduler:
        """A new process that runs what is due, so long after the last one."""
        self.clock.time += timedelta(**after)
        scheduler = self.start()
        scheduler.run_due()
        return scheduler

    def start(self) -> Scheduler:
        return Scheduler(self.schedules, self.folder, machine=self.machine, clock=self.clock, say=self.said.append)

    def state(self, name: str = "nightly") -> State:
        state = State.load(self.folder / name / "state.json")
        assert state is not None
        return state

    def entries(self, name: str = "nightly") -> list[tuple[str, str, int]]:
        return [(f"{entry.due:%d %H:%M}", entry.verdict, entry.count) for entry in self.state(name).entries]


@pytest.fixture
def night(tmp_path):
    def make(**schedules) -> Night:
        folder = tmp_path / "schedules"
        for name in schedules:
            (folder / name).mkdir(parents=True, exist_ok=True)
        return Night(folder, **schedules)

    return make


def test_nothing_is_due_when_a_schedule_is_first_seen_then_each_night_once(night):
    found = night(nightly={})
    found.look()
    assert found.machine.ran == [] and "first seen" in found.said[0]
    found.look(hours=10)
    found.look(hours=6)
    found.look(minutes=5)
    assert found.machine.ran == [("nightly", "02 03:00")]
    found.look(days=1)
    assert found.entries() == [("02 03:00", "promoted", 1), ("03 03:00", "promoted", 1)]


def test_a_look_at_which_nothing_is_due_says_nothing(night):
    found = night(nightly={})
    found.look()
    found.said.clear()
    found.look(hours=1)
    assert found.said == []


@pytest.mark.parametrize(
    ("catch_up", "ran", "entries"),
    [
        ("latest", ["04 03:00"], [("03 03:00", "missed", 2), ("04 03:00", "promoted", 1)]),
        ("all", ["02 03:00", "03 03:00", "04 03:00"],
         [("02 03:00", "promoted", 1), ("03 03:00", "promoted", 1), ("04 03:00", "promoted", 1)]),
        ("none", [], [("04 03:00", "missed", 3)]),
    ],
)  # fmt: skip
def test_three_missed_nights_are_caught_up_as_configured(night, catch_up, ran, entries):
    found = night(nightly={"catch_up": catch_up})
    found.look()
    found.look(days=3)
    assert [due for _, due in found.machine.ran] == ran
    assert found.entries() == entries


def test_without_catching_up_a_run_may_be_late_by_the_grace(night):
    found = night(nightly={"catch_up": "none", "grace": "30m"})
    found.look()
    found.look(days=1, hours=-9, minutes=29)  # 3:29
    assert found.entries() == [("02 03:00", "promoted", 1)]
    found.look(days=1)
    assert found.entries()[1:] == [("03 03:00", "missed", 1)]


def test_times_since_a_start_in_the_past_were_missed(night):
    found = night(nightly={"catch_up": "all", "start": "2026-02-27T03:00", "end": "2026-03-01T03:00"})
    found.look()
    assert found.entries() == [("27 03:00", "promoted", 1), ("28 03:00", "promoted", 1)]


def test_a_changed_cron_makes_nothing_due_that_lies_in_the_past(night):
    found = night(nightly={"cron": "0 20 * * *"})
    found.look()
    found.look(hours=9)
    found.set(nightly={"cron": "0 13 * * *"})
    found.look()
    found.look(days=1)
    assert [due for _, due in found.machine.ran] == ["01 20:00", "02 13:00"]


def test_the_verdicts_follow_the_exit_codes(night):
    found = night(nightly={})
    found.look()
    outcomes = [
        Outcome(0, "a", "promote"), Outcome(0, "b", "keep"), Outcome(3, "c", "refuse"), Outcome(1, "d"), Outcome(-9),
        Outcome(2),
    ]  # fmt: skip
    failures = []
    for outcome in outcomes:
        found.machine.outcomes = [outcome]
        failures.append(found.look(days=1).failed)
    assert [verdict for _, verdict, _ in found.entries()] == [
        "promoted", "kept", "refused", "failed", "failed", "failed",
    ]  # fmt: skip
    assert failures == [0, 0, 0, 1, 1, 1]
    assert any("ended by signal 9" in text for text in found.said)


def test_a_run_that_cannot_be_started_is_a_failed_run(night):
    found = night(nightly={})
    found.look()
    found.machine.outcomes = [OSError("no space left")]
    assert found.look(days=1).failed == 1
    assert "no space left" in found.state().entries[0].reason


def test_what_comes_due_during_a_run_is_skipped_or_waits(night):
    found = night(full={"cron": "0 1 * * *"}, nightly={}, hourly={"cron": "30 1-3 * * *", "when_busy": "wait"})
    found.machine.hours = 3
    found.look()
    found.look(hours=13)  # full runs from 1:00 to 4:00, then hourly until 7:00
    assert found.machine.ran == [("full", "02 01:00"), ("hourly", "02 03:30")]
    assert found.entries("nightly") == [("02 03:00", "skipped", 1)]
    assert "the run of full 2026-03-02 01:00 UTC went on" in found.state("nightly").entries[0].reason
    assert found.entries("hourly") == [("02 02:30", "missed", 2), ("02 03:30", "promoted", 1)]


def test_with_catch_up_all_every_time_that_waited_is_run(night):
    found = night(hourly={"cron": "0 1-3 * * *", "when_busy": "wait", "catch_up": "all"})
    found.machine.hours = 5
    found.look()
    found.look(hours=13)
    assert [due for _, due in found.machine.ran] == ["02 01:00", "02 02:00", "02 03:00"]


def test_waiting_is_not_being_late(night):
    found = night(full={"cron": "0 2 * * *"}, nightly={"when_busy": "wait", "catch_up": "none"})
    found.machine.hours = 5
    found.look()
    found.look(hours=14)
    assert found.machine.ran == [("full", "02 02:00"), ("nightly", "02 03:00")]


def test_another_run_in_the_working_folder_is_waited_for_or_the_time_is_skipped(night):
    found = night(nightly={}, patient={"when_busy": "wait", "cron": "0 4 * * *"})
    found.look()
    found.machine.busy_until = datetime(2026, 3, 2, 8, tzinfo=UTC)
    found.look(hours=16, minutes=1)
    assert found.machine.ran == [("patient", "02 04:00")]
    assert found.entries("nightly") == [("02 03:00", "skipped", 1)]
    assert found.state("nightly").entries[0].reason == "process 1 runs here"
    assert found.state("patient").entries[0].started >= found.machine.busy_until
    assert any("waits: process 1 runs here" in text for text in found.said)


def test_a_run_that_came_in_between_does_not_cost_the_due_time(night):
    found = night(nightly={"when_busy": "wait"})
    found.look()

    class Race(FakeMachine):
        def run(self, schedule, due, log):
            if not self.ran:
                self.busy_until = self.clock.now() + HOUR
                self.outcomes = [Outcome(1)]
            return super().run(schedule, due, log)

    found.machine = Race(found.clock)
    assert found.look(days=1).failed == 0
    assert len(found.machine.ran) == 2
    assert found.entries() == [("02 03:00", "promoted", 1)]


def test_equal_times_run_in_the_order_of_the_file(night):
    found = night(second={}, first={})
    found.look()
    found.look(days=1)
    assert [name for name, _ in found.machine.ran] == ["second", "first"]


def test_the_state_is_on_the_disk_before_a_run_and_names_it(night):
    found = night(nightly={"time_zone": "Europe/Berlin"})
    found.look()
    seen = []

    class Looking(FakeMachine):
        def run(self, schedule, due, log):
            seen.append(json.loads((found.folder / "nightly" / "state.json").read_text())["entries"][-1])
            return super().run(schedule, due, log)

    found.machine = Looking(found.clock)
    found.look(days=1)
    assert seen[0]["verdict"] == "running"
    assert seen[0]["due"] == "2026-03-02T03:00:00+01:00"
    assert seen[0]["log"].endswith("20260302T020000Z.log")


class Killed(BaseException):
    """Nothing is written after it."""


@pytest.mark.parametrize(
    ("catch_up", "ran"),
    [("latest", ["02 03:00", "02 03:00"]), ("all", ["02 03:00", "02 03:00"]), ("none", ["02 03:00"])],
)
def test_a_run_that_a_kill_cut_off_is_started_once_more(night, catch_up, ran):
    found = night(nightly={"catch_up": catch_up, "grace": "1d"})
    found.look()
    found.machine.outcomes = [Killed(), Killed()]
    with pytest.raises(Killed):
        found.look(hours=16)
    assert found.entries() == [("02 03:00", "running", 1)]
    if catch_up != "none":
        with pytest.raises(Killed):
            found.look(minutes=10)
    found.machine.outcomes = []
    found.look(minutes=10)
    found.look(minutes=10)
    assert [due for _, due in found.machine.ran] == ran
    assert {verdict for _, verdict, _ in found.entries()} == {"interrupted"}


@pytest.mark.parametrize(
    ("catch_up", "again"), [("latest", ["04 03:00"]), ("all", ["02 03:00", "03 03:00", "04 03:00"]), ("none", [])]
)
def test_after_a_kill_and_a_downtime_what_was_cut_off_counts_among_the_missed(night, catch_up, again):
    found = night(nightly={"catch_up": catch_up})
    found.look()
    found.machine.outcomes = [Killed()]
    with pytest.raises(Killed):
        found.look(hours=15)
    found.machine.ran.clear()
    found.look(days=2, hours=8)
    assert [due for _, due in found.machine.ran] == again


def test_an_interrupt_is_recorded_and_the_run_goes_on_at_the_next_start(night):
    found = night(nightly={})
    found.look()
    found.machine.outcomes = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        found.look(days=1)
    assert found.entries() == [("02 03:00", "interrupted", 1)]
    found.look(minutes=5)
    assert found.entries() == [("02 03:00", "interrupted", 1), ("02 03:00", "promoted", 1)]
    assert found.state().entries[-1].attempt == 2


def test_the_loop_sleeps_from_one_due_time_to_the_next_and_ends_with_the_last(night):
    found = night(nightly={"end": "2026-03-05T00:00"}, noon={"cron": "0 12 * * *", "end": "2026-03-03T00:00"})
    found.start().run_forever()
    assert found.machine.ran == [
        ("nightly", "02 03:00"), ("noon", "02 12:00"), ("nightly", "03 03:00"), ("nightly", "04 03:00"),
    ]  # fmt: skip
    assert found.said[-1] == "no schedule will be due any more"


def test_a_clock_that_is_put_back_makes_nothing_due_again(night):
    found = night(nightly={})
    found.look()
    found.look(days=1)
    found.look(days=-1, hours=-3)
    found.look(days=1)
    assert found.entries() == [("02 03:00", "promoted", 1)]


def test_a_damaged_state_is_named_and_not_overwritten(night):
    found = night(nightly={})
    file = found.folder / "nightly" / "state.json"
    file.write_text('{"cron": "0 3')
    with pytest.raises(UserError, match=r"state\.json: not a schedule's state .* move it away"):
        found.look()
    assert file.read_text() == '{"cron": "0 3'


def test_a_schedule_is_dealt_with_by_one_process(tmp_path):
    schedules = {name: ScheduleSettings(config="c.yaml", cron="0 3 * * *") for name in ("one", "two")}
    with in_charge({"one": schedules["one"]}, tmp_path) as (first, none):
        assert list(first) == ["one"] and not none
        with in_charge(schedules, tmp_path) as (free, taken):
            assert list(free) == ["two"]
            assert str(os.getpid()) in taken["one"]
    with in_charge(schedules, tmp_path) as (free, taken):
        assert list(free) == ["one", "two"] and not taken


def test_a_manual_run_makes_the_machine_busy(tmp_path):
    machine = ThisMachine(tmp_path)
    assert machine.busy() is None
    with exclusive(tmp_path):
        assert f"process {os.getpid()}" in (machine.busy() or "")
    assert machine.busy() is None


def test_a_run_of_a_schedule_is_recorded_as_one(tmp_path):
    config, nothing = str(ROOT / "configs" / "tiny.yaml"), {"data.interactions.path": "nothing.parquet"}
    schedule = ScheduleSettings(config=config, cron="0 3 * * *", set=nothing)
    outcome = ThisMachine(tmp_path).run(schedule, datetime.now(UTC), tmp_path / "run.log")
    (run,) = list_runs(tmp_path)
    assert (outcome.code, run.kind, run.state) == (1, "schedule", "failed"), (tmp_path / "run.log").read_text()


def test_the_table_tells_when_and_what_became_of_it(night):
    from rich.console import Console

    found = night(nightly={"time_zone": "Europe/Berlin", "end": "2026-03-04T00:00"}, gone={"end": "2026-01-01"})
    found.look()
    found.machine.outcomes = [Outcome(3, "20260302-030000-abcd", "refuse")]
    found.look(days=1)
    console = Console(width=200, record=True)
    console.print(schedules_table(found.schedules, found.folder, now=found.clock.now()))
    text = console.export_text()
    assert "At 03:00 every day, Europe/Berlin" in text
    assert "Tue 2026-03-03 03:00" in text and "2026-03-04 03:00" not in text
    assert "never again" in text
    assert "refused, run 20260302-030000-abcd" in text


def test_a_wrong_setting_is_found_before_anything_is_due(tmp_path):
    config = str(ROOT / "configs" / "tiny.yaml")
    wrong = ScheduleSettings(config=config, cron="0 3 * * *", set={"training.epoch": 3})
    environment = Environment(schedules={"fine": ScheduleSettings(config=config, cron="0 3 * * *"), "wrong": wrong})
    with pytest.raises(ConfigError, match=r"env\.yaml: schedules\.wrong: .*training\.epoch.*did you mean 'epochs'"):
        choose(environment, None, file=Path("env.yaml"))
    assert list(choose(environment, "fine", file=Path("env.yaml"))) == ["fine"]
    with pytest.raises(ConfigError, match=r"no schedule 'nigthly' \(there are: fine, wrong\)"):
        choose(environment, "nigthly", file=Path("env.yaml"))


class Service:
    """`two-tower schedule run-local` in a folder without data, where every run fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_file = folder / "runs" / "schedules" / "nightly" / "state.json"
        (folder / "env.yaml").write_text(
            f"schedules:\n  nightly: {{config: {ROOT / 'configs' / 'tiny.yaml'}, cron: '0 3 * * *', start: 2026-03-01}}"
        )

    def start(self, *arguments: str) -> subprocess.Popen:
        command = ["schedule", "run-local", "--env", "env.yaml", "--now", "2026-03-01T12:00+00:00", *arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *command], cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def verdicts(self) -> list[str]:
        return [entry["verdict"] for entry in json.loads(self.state_file.read_text())["entries"]]

    def until_running(self, process: subprocess.Popen) -> psutil.Process:
        """Waits for the run; its process."""
        running = wait_for(
            lambda: self.state_file.is_file() and psutil.Process(process.pid).children(), process=process
        )
        assert running, process.communicate()
        return psutil.Process(process.pid).children()[0]


def test_after_a_sigkill_the_run_is_dead_the_state_whole_and_the_run_done_again(tmp_path):
    service = Service(tmp_path)
    process = service.start()
    run = service.until_running(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert wait_for(lambda: not run.is_running() or run.status() == psutil.STATUS_ZOMBIE)
    assert service.verdicts() == ["running"]
    again = service.start("--once")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 1, out + err  # there are no logs to train on
    assert "was cut off, the scheduler was killed; it is started again" in out
    assert "failed, exit code 1" in out
    assert service.verdicts() == ["interrupted", "failed"]
    assert "interactions" in Path(json.loads(service.state_file.read_text())["entries"][-1]["log"]).read_text()


def test_sigterm_stops_the_run_and_ends_with_130(tmp_path):
    service = Service(tmp_path)
    process = service.start()
    run = service.until_running(process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "the scheduler was stopped; it is started again" in out and "interrupted" in err
    assert not run.is_running()
    assert service.verdicts() == ["interrupted"]


def test_a_second_scheduler_is_refused_and_one_look_leaves_the_work_to_the_first(tmp_path):
    service = Service(tmp_path)
    with exclusive(service.state_file.parent):
        loop, once = service.start(), service.start("--once")
        out, err = loop.communicate(timeout=60)
        assert loop.returncode == 1 and "a scheduler deals with nightly already" in err and "Traceback" not in err
        out, err = once.communicate(timeout=60)
        assert once.returncode == 0 and f"process {os.getpid()}" in out
    assert not service.state_file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--env", "nowhere.yaml"), "nowhere.yaml: cannot read"),
        (("run-local", "--env", "configs/environments/local.yaml", "--schedule", "daily"), "no schedule 'daily'"),
        (("run-local", "--once"), "--env"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, message):
    result = subprocess.run(
        [sys.executable, "-m", "pipelines", "schedule", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
