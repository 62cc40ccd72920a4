"""Running a compiled pipeline on this machine with `kfp.local`, watched step by step.

kfp.local offers no hooks, so three of its functions are wrapped while a run goes on (`_watched`): the one that
executes a task, to learn its outputs and whether the cache answered, the one that starts the subprocess, to write a
log file a step and to tie the process to this one, and the one that names the job, after which the folder of its
artefacts is called.  The version of kfp is pinned; a test holds the functions to the signatures used here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from components.child_process import RUNNER_PID, dying_with_this_process
from components.runtime import RUN_FOLDER
from components.step_log import LINE_MARK
from pipelines.runs import ARTIFACTS, Run
from two_tower.artifacts import COMMIT, RUN_ID


class Watcher(Protocol):
    """Is told what a run does."""

    def step_started(self, name: str) -> None:
        """A step's process starts."""

    def step_ended(self, name: str) -> None:
        """A step has ended; the run's record says how."""

    def line(self, name: str, text: str) -> None:
        """A step logged a line."""


def run_pipeline(run: Run, pipeline_file: Path, arguments: Mapping[str, str], *, watcher: Watcher, cache: bool) -> bool:
    """Runs a compiled pipeline file as `run`, keeping its record up to date; whether every step succeeded.

    Artefacts go to `WORKDIR/artifacts/RUN_ID`, cached answers to `WORKDIR/cache`, logs to the run's folder.
    """
    from kfp import components, local

    workdir = run.folder.parent
    start = time.monotonic()
    run.save()
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(workdir / ARTIFACTS),
        raise_on_error=False,
        enable_caching=cache,
        cache_root=str(workdir / "cache"),
    )
    with (
        open(run.folder / "logs" / "runner.log", "a", buffering=1, encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        warnings.catch_warnings(),
        _watched(run, watcher),
    ):
        warnings.simplefilter("ignore")
        components.load_component_from_text(_with_times(pipeline_file.read_text(encoding="utf-8")))(**arguments)
    for step in run.steps:
        if step.state in ("waiting", "running"):
            step.state = "skipped"
    run.state = "failed" if any(step.state == "failed" for step in run.steps) else "finished"
    run.seconds = time.monotonic() - start
    run.save()
    return run.state == "finished"


def data_root() -> str:
    """Where a run on this machine looks relative paths up first: the folder `data` in the working folder."""
    return str(Path("data").resolve())


def _with_times(pipeline: str) -> str:
    """The compiled pipeline without the times of a job, which Vertex AI fills in and kfp.local does not know.

    A step that finds none takes the present time.
    """
    from kfp import dsl

    for placeholder in (dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER):
        pipeline = pipeline.replace(placeholder, "")
    return pipeline


@contextlib.contextmanager
def _watched(run: Run, watcher: Watcher) -> Iterator[None]:
    """Wraps kfp.local's execution of a task, its start of a subprocess and its name of the job while a run goes on."""
    from kfp.local import executor_input_utils, status, subprocess_task_handler
    from kfp.local.orchestrator import task_executor

    execute, start = task_executor.execute_single_task, subprocess_task_handler.run_local_subprocess
    name_job = executor_input_utils.get_local_pipeline_resource_name
    current = {"step": "", "started": False}

    def execute_single_task(task_name: str, **kwargs: Any) -> Any:
        name = task_name.replace("-", "_")
        if name.startswith("importer"):
            return execute(task_name=task_name, **kwargs)
        step = run.step(name)
        current.update(step=name, started=False)
        begin = time.monotonic()
        outputs, task_status = execute(task_name=task_name, **kwargs)
        step.seconds = round(time.monotonic() - begin, 2)
        succeeded = task_status == status.Status.SUCCESS
        step.state = "failed" if not succeeded else "ran" if current["started"] else "cached"
        step.outputs = {key: getattr(value, "path", value) for key, value in outputs.items()}
        if name == "evaluate_recall" and succeeded:
            run.decision, run.version = outputs["Output"], outputs["version"]
        run.save()
        watcher.step_ended(name)
        return outputs, task_status

    def run_local_subprocess(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        name = str(current["step"])
        current["started"] = True
        run.step(name).state = "running"
        run.save()
        watcher.step_started(name)
        return run_logged(
            full_command,
            environment={
                **os.environ,
                **(env_vars or {}),
                RUNNER_PID: str(os.getpid()),
                RUN_FOLDER: str(run.folder),
                RUN_ID: run.run_id,
                COMMIT: run.code,
            },
            log=run.folder / "logs" / f"{name}.log",
            line=lambda text: watcher.line(name, text),
        )

    task_executor.execute_single_task = execute_single_task
    subprocess_task_handler.run_local_subprocess = run_local_subprocess
    executor_input_utils.get_local_pipeline_resource_name = lambda pipeline_name: run.run_id
    try:
        yield
    finally:
        task_executor.execute_single_task = execute
        subprocess_task_handler.run_local_subprocess = start
        executor_input_utils.get_local_pipeline_resource_name = name_job


def run_logged(command: list[str], *, environment: Mapping[str, str], log: Path, line: Callable[[str], None]) -> int:
    """Runs a command that dies with this process, its output going to `log` and its own lines to `line`; the exit code.

    What `line` raises ends the command.
    """
    with (
        open(log, "a", buffering=1, encoding="utf-8") as file,
        subprocess.Popen(
            dying_with_this_process(command),
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for text in process.stdout:
                file.write(text)
                if text.startswith(LINE_MARK):
                    line(text.removeprefix(LINE_MARK).rstrip())
        except BaseException:
            process.kill()
            raise
    return process.returncode
