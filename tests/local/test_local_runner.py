"""The local runner: states, logs, the cache, failures, and no life without the runner."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.step_log import cause_in, own_log
from pipelines.local.locks import exclusive, in_use
from pipelines.runs import Run, list_runs
from two_tower.errors import UserError

TOY = Path(__file__).with_name("toy.py")


def run_toy(workdir, *arguments, name="toy"):
    return subprocess.run(
        [sys.executable, str(TOY), str(workdir), *arguments],
        env={**os.environ, "TOY_NAME": name}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def states(run: Run) -> dict[str, str]:
    return {step.name: step.state for step in run.steps if step.state != "skipped"}


def test_a_run_records_its_steps_and_a_second_one_is_served_from_the_cache(tmp_path):
    first = run_toy(tmp_path)
    second = run_toy(tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "prepares hello" in first.stdout
    assert "prepare_data: from the cache" in second.stdout
    one, two = list_runs(tmp_path)
    assert states(one) == {"prepare_data": "ran", "train_towers": "ran", "report_failure": "ran"}
    assert states(two) == {"prepare_data": "cached", "train_towers": "cached", "report_failure": "ran"}
    assert Path(one.step("prepare_data").outputs["made"]).read_text() == "hello"
    assert one.step("prepare_data").outputs == two.step("prepare_data").outputs
    assert Path(one.step("prepare_data").outputs["made"]).is_relative_to(one.artifacts)
    assert one.artifacts.name == one.run_id and two.from_cache() == {one.artifacts: ["prepare_data"]}
    assert "ended as SUCCEEDED" in (one.folder / "logs" / "report_failure.log").read_text()


def test_a_users_error_ends_a_step_with_its_message_and_no_traceback(tmp_path):
    result = run_toy(tmp_path, "bad")
    assert result.returncode == 1
    assert "row 3 is bad; mend it" in result.stdout
    (run,) = list_runs(tmp_path)
    assert run.state == "failed"
    assert states(run)["train_towers"] == "failed"
    log = (run.folder / "logs" / "train_towers.log").read_text()
    assert "Traceback" not in log
    assert cause_in(log) == "log.parquet: row 3 is bad; mend it"
    assert own_log(log).startswith("[two-tower] ") and "train_towers started" in own_log(log).splitlines()[0]


def test_a_bug_leaves_its_traceback_in_the_log(tmp_path):
    assert run_toy(tmp_path, "broken").returncode == 1
    (run,) = list_runs(tmp_path)
    log = (run.folder / "logs" / "train_towers.log").read_text()
    assert cause_in(log) == "ZeroDivisionError: a bug" and log.rstrip().endswith("ZeroDivisionError: a bug")


def test_the_cause_is_a_steps_own_word_over_all_of_its_lines():
    log = (
        "{}\n[two-tower] 06:14:43 INFO prepare_data started\n"
        "[two-tower] 06:14:44 ERROR prepare_data failed: log.csv: no row is left\nnote: all are bad\n"
    )
    assert cause_in(log) == "log.csv: no row is left\nnote: all are bad"
    assert cause_in(f"{log}[two-tower] 06:14:45 INFO more\n") == "log.csv: no row is left\nnote: all are bad"
    assert cause_in("[two-tower] 06:14:43 INFO epoch 1\n") == "", "killed: it said nothing"


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    beat = tmp_path / "beat"
    first = subprocess.Popen([sys.executable, str(TOY), str(tmp_path), "beat", str(beat)], stdout=subprocess.DEVNULL)
    try:
        wait_for(beat.exists)
        second = run_toy(tmp_path)
        assert second.returncode != 0
        assert f"another run is going on here (process {first.pid})" in second.stderr
    finally:
        first.kill()
        first.wait()


def test_runs_of_two_configurations_go_on_side_by_side(tmp_path):
    beat = tmp_path / "beat"
    first = subprocess.Popen([sys.executable, str(TOY), str(tmp_path), "beat", str(beat)], stdout=subprocess.DEVNULL)
    try:
        wait_for(beat.exists)
        assert in_use(tmp_path) == f"{tmp_path}: another run is going on here (process {first.pid})"
        second = run_toy(tmp_path, name="other")
        assert second.returncode == 0, second.stderr
        going_on, other = sorted(list_runs(tmp_path), key=lambda run: run.name == "other")
        assert (going_on.name, going_on.state) == ("toy", "running"), "what goes on is not taken for interrupted"
        assert (other.name, other.state, states(other)["prepare_data"]) == ("other", "finished", "cached")
        assert other.from_cache() == {going_on.artifacts: ["prepare_data"]} and other.artifacts != going_on.artifacts
        assert run_toy(tmp_path, name="toy").returncode != 0, "two runs of one configuration do not"
        with pytest.raises(UserError, match="another run is going on here"), exclusive(tmp_path):
            pass
    finally:
        first.kill()
        first.wait()
    assert run_toy(tmp_path, name="other").returncode == 0
    assert {run.state for run in list_runs(tmp_path) if run.name == "toy"} == {"interrupted"}
    assert in_use(tmp_path) is None


def test_who_has_the_folder_for_himself_keeps_every_run_out(tmp_path):
    with exclusive(tmp_path):
        refused = run_toy(tmp_path)
        assert refused.returncode != 0
        assert f"another run is going on here (process {os.getpid()}); wait for it, or" in refused.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_step_dies_with_its_runner_and_the_next_run_goes_on(tmp_path, signal_number):
    beat = tmp_path / "beat"
    runner = subprocess.Popen([sys.executable, str(TOY), str(tmp_path), "beat", str(beat)], stdout=subprocess.DEVNULL)
    wait_for(beat.exists)
    os.kill(runner.pid, signal_number)  # the runner alone: its step is not told
    runner.wait()
    time.sleep(0.5)
    last = beat.read_text()
    time.sleep(1.0)
    assert beat.read_text() == last, "an orphaned step went on writing"
    assert run_toy(tmp_path).returncode == 0
    cut, finished = list_runs(tmp_path)
    assert (cut.state, finished.state) == ("interrupted", "finished")
    assert states(finished)["prepare_data"] == "cached"


def test_the_wrapped_functions_of_kfp_have_the_signatures_that_the_wrappers_expect():
    from kfp.local import executor_input_utils, subprocess_task_handler
    from kfp.local.orchestrator import task_executor

    name_job = executor_input_utils.get_local_pipeline_resource_name
    assert list(inspect.signature(name_job).parameters) == ["pipeline_name"]
    assert next(iter(inspect.signature(task_executor.execute_single_task).parameters)) == "task_name"
    assert list(inspect.signature(subprocess_task_handler.run_local_subprocess).parameters) == [
        "full_command",
        "env_vars",
    ]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
