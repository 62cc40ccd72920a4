"""What is changed in kfp.local while a job runs, so that its steps see what they would see in the cloud."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local import (
    executor_input_utils,
    io,
    pipeline_orchestrator,
    placeholder_utils,
    status,
    subprocess_task_handler,
)
from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from record import Record

PR_SET_PDEATHSIG = 1
SHIELD = "{schedule time, unset}"


class Watch:
    """The hooks of one job.

    Which task is at work is remembered by thread, as loops run their rounds in threads; which group a task belongs to,
    by the store that kfp.local makes for each group.
    """

    def __init__(self, job: dict[str, Any], record: Record, folder: Path) -> None:
        self.job, self.record, self.folder = job, record, folder
        self.failed = False
        self.current = threading.local()
        self.original = {
            "store": io.IOStore.__init__,
            "group": enhanced_dag_orchestrator.execute_task,
            "task": task_executor.execute_single_task,
            "input": executor_input_utils.construct_executor_input,
            "root": executor_input_utils.construct_local_task_root,
            "placeholders": placeholder_utils.replace_placeholders,
            "resolve": placeholder_utils.resolve_io_placeholders,
            "start": subprocess_task_handler.run_local_subprocess,
            "failure": pipeline_orchestrator.log_and_maybe_raise_for_failure,
        }

    def install(self) -> None:
        """Puts the hooks in place; the process runs nothing else, so none is taken out again."""
        watch = self

        def make_store(store: Any, *args: Any, **kwargs: Any) -> None:
            watch.original["store"](store, *args, **kwargs)
            store.path = getattr(watch.current, "group", ())

        io.IOStore.__init__ = make_store
        enhanced_dag_orchestrator.execute_task = self.execute_task
        task_executor.execute_single_task = self.execute_single_task
        executor_input_utils.construct_executor_input = self.construct_executor_input
        executor_input_utils.construct_local_task_root = self.construct_local_task_root
        placeholder_utils.replace_placeholders = self.replace_placeholders
        placeholder_utils.resolve_io_placeholders = self.resolve_io_placeholders
        subprocess_task_handler.run_local_subprocess = self.run_local_subprocess
        pipeline_orchestrator.log_and_maybe_raise_for_failure = self.note_failure

    def note_failure(self, *args: Any, **kwargs: Any) -> None:
        """Remembers that the pipeline failed."""
        self.failed = True
        self.original["failure"](*args, **kwargs)

    def execute_task(self, task_name: str, task_spec: Any, **kwargs: Any) -> Any:
        """Runs a task or a group; of a group notes start and end."""
        component = kwargs["components"][task_spec.component_ref.name]
        if component.WhichOneof("implementation") != "dag":
            return self.original["group"](task_name=task_name, task_spec=task_spec, **kwargs)
        path = (*kwargs["io_store"].path, task_name)
        before, self.current.group = getattr(self.current, "group", ()), path
        task = self.record.task(path, group=True)
        self.record.update(task, state="RUNNING", group=True, start=time.time())
        try:
            outputs, ended = self.original["group"](task_name=task_name, task_spec=task_spec, **kwargs)
        except Exception:
            self.record.update(task, state="FAILED", end=time.time())
            raise
        finally:
            self.current.group = before
        self.record.update(task, state="SUCCEEDED" if ended == status.Status.SUCCESS else "FAILED", end=time.time())
        return outputs, ended

    def execute_single_task(self, task_name: str, task_spec: Any, io_store: Any, **kwargs: Any) -> Any:
        """Runs one step, noting its inputs, its outputs, whether the cache answered, and how it failed."""
        task = self.record.task((*io_store.path, task_name))
        executor = kwargs["executors"][kwargs["components"][task_spec.component_ref.name].executor_label]
        arguments = OrchestratorUtils.make_task_arguments(task_inputs_spec=task_spec.inputs, io_store=io_store)
        self.current.task, self.current.started = task, executor.WhichOneof("spec") == "importer"
        self.record.update(task, start=time.time(), inputs=_shown(arguments))
        try:
            outputs, ended = self.original["task"](
                task_name=task_name, task_spec=task_spec, io_store=io_store, **kwargs
            )
        except Exception as error:
            trace = traceback.format_exc()
            self.record.update(task, state="FAILED", end=time.time(), error=f"{error}", lines=trace.splitlines()[-20:])
            raise
        state = "FAILED" if ended != status.Status.SUCCESS else "SUCCEEDED" if self.current.started else "SKIPPED"
        self.record.update(task, state=state, end=time.time(), outputs=_shown(outputs))
        if self.job["fails_halfway"] and self.record.ended() == 1:
            os._exit(70)
        return outputs, ended

    def construct_executor_input(self, component_spec: Any, arguments: Any, task_root: str, **kwargs: Any) -> Any:
        """The input of a step, with its output artefacts in the bucket; parameters and the answer stay on disk."""
        made = self.original["input"](component_spec=component_spec, arguments=arguments, task_root=task_root, **kwargs)
        for name, artifacts in made.outputs.artifacts.items():
            for artifact in artifacts.artifacts:
                artifact.uri = f"{self.artifact_folder()}/{name}"
        return made

    def artifact_folder(self) -> str:
        """Where the current task's artefacts go."""
        task = self.current.task
        return f"{self.job['artifact_root']}/" + self.job["artifact_folder"].format(**task)

    def construct_local_task_root(self, task_resource_name: str, **kwargs: Any) -> str:
        """A task's own folder on disk; kfp.local would give two tasks of one component the same."""
        return self.original["root"](task_resource_name=f"{task_resource_name}_{self.current.task['number']}", **kwargs)

    def replace_placeholders(self, **kwargs: Any) -> Any:
        """Fills in the names of the job and its task as the service knows them."""
        values = self.job["placeholders"]
        kwargs.update(
            pipeline_resource_name=values.get(dsl.PIPELINE_JOB_NAME_PLACEHOLDER, ""),
            task_resource_name=self.current.task["name"],
            pipeline_root=self.job["artifact_root"],
            unique_pipeline_id=values.get(dsl.PIPELINE_JOB_ID_PLACEHOLDER, ""),
        )
        return self.original["placeholders"](**kwargs)

    def resolve_io_placeholders(self, executor_input: Any, command: str) -> str:
        """Leaves the time of a schedule alone in a run that has none, where kfp.local would break."""
        shielded = command.replace(dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER, SHIELD)
        resolved = self.original["resolve"](executor_input, shielded)
        return resolved.replace(SHIELD, dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)

    def run_local_subprocess(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Runs a step's process with a clean environment, its lines going to the step's log."""
        task = self.current.task
        self.current.started = True
        log = self.folder / "logs" / f"{task['path']}.log"
        self.record.update(task, state="RUNNING", log=str(log))
        scratch = self.folder / "scratch" / task["path"]
        scratch.mkdir(parents=True, exist_ok=True)
        prctl = ctypes.CDLL(None).prctl
        with open(log, "ab") as file:
            code = subprocess.run(
                full_command,
                env={**self._environment(), **(env_vars or {})},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
                check=False,
            ).returncode
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
            self.record.update(task, error=f"The replica exited with a non-zero status of {code}.", lines=lines)
        return code

    def _environment(self) -> dict[str, str]:
        """What a step sees: this process's variables, without what only the submitting side has."""
        hidden = ("TWO_TOWER_RUN_FOLDER", "TWO_TOWER_RUNNER_PID", "GOOGLE_CLOUD_PROJECT")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        return {
            **kept,
            **self.job["step_environment"],
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(Path(__file__).parent / "steps"),
            "CLOUD_EMPTY_MOUNT": str(self.folder / "mount"),
        }


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Parameters and artefacts of a task, apart, as JSON."""
    parameters, artifacts = {}, {}
    for name, value in values.items():
        listed = value if isinstance(value, list) else [value]
        if listed and all(isinstance(item, dsl.Artifact) for item in listed):
            artifacts[name] = [_artifact(item) for item in listed]
        elif value is not None:
            parameters[name] = value
    return {"parameters": parameters, "artifacts": artifacts}


def _artifact(artifact: dsl.Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "uri": artifact.uri,
        "schema": artifact.schema_title,
        "version": artifact.schema_version,
        "metadata": artifact.metadata,
    }
