"""Runs of the Kubeflow Pipelines API, really run, and how they are shown."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kfp import dsl

from cloud.errors import CODE
from cloud.executions import Execution, now
from cloud.spec import read_parameters, read_spec

if TYPE_CHECKING:
    from cloud.state import Cloud

STATE = {"CANCELLED": "CANCELED", "NOT_TRIGGERED": "SKIPPED"}


@dataclass
class Run:
    """A run: as it was sent, and what became of it."""

    id: str
    body: dict[str, Any]
    spec: dict[str, Any]
    execution: Execution
    scheduled: datetime
    recurring: str = ""

    @property
    def state(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or CANCELED."""
        return STATE.get(self.execution.state, self.execution.state)

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What the runner recorded, by task name."""
        return {task["name"]: task for task in self.execution.tasks()}

    def wait(self, timeout: float = 300) -> Run:
        """Waits for the end of the run."""
        self.execution.join(timeout)
        assert self.state in ("SUCCEEDED", "FAILED", "CANCELED"), f"{self.id} is {self.state} after {timeout} s"
        return self

    def view(self) -> dict[str, Any]:
        """The run as the API shows it."""
        run = self.execution
        shown = {
            **self.body,
            "run_id": self.id,
            "storage_state": "AVAILABLE",
            "created_at": _time(run.created),
            "scheduled_at": _time(self.scheduled),
            "state": self.state,
            "state_history": [{"update_time": _time(run.ended or run.created), "state": self.state}],
            "run_details": {"task_details": self._details()},
        }
        if self.recurring:
            shown["recurring_run_id"] = self.recurring
        if run.ended:
            shown["finished_at"] = _time(run.ended)
        if run.error:
            shown["error"] = {"code": CODE[run.error[0]], "message": run.error[1]}
        return shown

    def _details(self) -> list[dict[str, Any]]:
        tasks = self.execution.tasks()
        root = {"path": "", "name": "root", "state": self.state, "create": self.execution.created.timestamp()}
        children: dict[str, list[dict[str, str]]] = {}
        for task in tasks:
            children.setdefault(task["parent"], []).append({"task_id": _task_id(self.id, task["path"])})
        return [_detail(self.id, task, children.get(task["path"], [])) for task in (root, *tasks)]


def _detail(run: str, task: Mapping[str, Any], children: list[dict[str, str]]) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "run_id": run,
        "task_id": _task_id(run, task["path"]),
        "display_name": task["name"],
        "state": STATE.get(task["state"], task["state"]),
        "create_time": _time(task["create"]),
    }
    if task["path"]:
        detail["parent_task_id"] = _task_id(run, task["parent"])
    if children:
        detail["child_tasks"] = children
    for key, name in (("start", "start_time"), ("end", "end_time")):
        if key in task:
            detail[name] = _time(task[key])
    for key in ("inputs", "outputs"):
        artifacts = (task.get(key) or {}).get("artifacts") or {}
        detail[key] = {
            name: {"artifact_ids": [str(uuid.uuid5(uuid.NAMESPACE_URL, item["uri"]).int % 10**9) for item in found]}
            for name, found in artifacts.items()
        }
    if task.get("error"):
        text = "\n".join([task["error"], *task.get("lines", [])])
        detail["error"] = {"code": CODE["INTERNAL"], "message": text}
    return detail


def _task_id(run: str, path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run}/{path}"))


def start_run(
    cloud: Cloud, body: dict[str, Any], spec: dict[str, Any], *, recurring: str = "", at: datetime | None = None
) -> Run:
    """A new run of a checked body; `at` is the time that a recurring run meant."""
    parsed = read_spec(spec, digests=False)
    config = body.get("runtime_config") or {}
    run_id, created = str(uuid.uuid4()), now()
    root = config.get("pipeline_root") or parsed.default_pipeline_root or f"gs://{cloud.bucket}/v2/artifacts"
    placeholders = {
        dsl.PIPELINE_JOB_NAME_PLACEHOLDER: body["display_name"],
        dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER: f"{parsed.pipeline_info.name}-{run_id[:5]}",
        dsl.PIPELINE_JOB_ID_PLACEHOLDER: run_id,
        dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER: f"{created:%Y-%m-%dT%H:%M:%SZ}",
        dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER: f"{(at or created).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    execution = cloud.execution(
        run_id,
        spec=spec,
        arguments=read_parameters(parsed, config.get("parameters") or {}),
        artifact_root=root.rstrip("/"),
        artifact_folder=f"{parsed.pipeline_info.name}/{run_id}/{{name}}/{{number}}",
        placeholders=placeholders,
        step_environment={},
    )
    if cloud.run_jobs:
        execution.start()
    return Run(run_id, body, spec, execution, at or created, recurring)


def _time(when: datetime | float) -> str:
    found = when if isinstance(when, datetime) else datetime.fromtimestamp(when, UTC)
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
