"""A Vertex AI pipeline job's details, from what the runner recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloud.errors import CODE

EXECUTION_STATE = {"SUCCEEDED": "COMPLETE", "SKIPPED": "CACHED", "FAILED": "FAILED", "CANCELLED": "CANCELLED"}


def detail_of(job_id: str, tasks: list[dict[str, Any]], *, store: str, state: str, created: float) -> dict[str, Any]:
    """`jobDetail` of a job: a root task named like the job, and one task for each task and group of the spec.

    Args:
        store: The metadata store that artefacts and executions are named in.
        state: Of the whole job.
        created: When the job was made, in seconds since 1970.
    """
    root = {"path": "", "name": job_id, "number": 1, "state": state, "create": created, "group": True}
    numbers = {task["path"]: task["number"] for task in (root, *tasks)}
    details = [_task(task, numbers, store) for task in (root, *tasks)]
    context = {"name": f"{store}/contexts/{job_id}", "displayName": job_id, "schemaTitle": "system.PipelineRun"}
    return {"taskDetails": details, "pipelineRunContext": context}


def _task(task: Mapping[str, Any], numbers: Mapping[str, int], store: str) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "taskId": str(task["number"]),
        "taskName": task["name"],
        "taskUniqueName": task["path"] or task["name"],
        "createTime": _time(task["create"]),
        "state": task["state"],
    }
    if task["path"]:
        detail["parentTaskId"] = str(numbers[task["parent"]])
    for key, name in (("start", "startTime"), ("end", "endTime")):
        if key in task:
            detail[name] = _time(task[key])
    for key in ("inputs", "outputs"):
        artifacts = (task.get(key) or {}).get("artifacts") or {}
        detail[key] = {
            name: {"artifacts": [_artifact(item, store) for item in found]} for name, found in artifacts.items()
        }
    if "inputs" in task:
        detail["execution"] = _execution(task, store)
    if "log" in task:
        main = f"{store.removesuffix('/metadataStores/default')}/customJobs/{abs(task['number'])}"
        detail["executorDetail"] = {"containerDetail": {"mainJob": main}}
    if task["state"] == "FAILED" and not task["group"]:
        text = "\n".join([task.get("error", ""), *task.get("lines", [])])
        detail["error"] = {"code": CODE["FAILED_PRECONDITION"], "message": text}
    return detail


def _execution(task: Mapping[str, Any], store: str) -> dict[str, Any]:
    metadata = {f"input:{name}": value for name, value in task["inputs"]["parameters"].items()}
    outputs = (task.get("outputs") or {}).get("parameters") or {}
    metadata |= {f"output:{name}": value for name, value in outputs.items()}
    return {
        "name": f"{store}/executions/{abs(task['number'])}",
        "displayName": task["name"],
        "schemaTitle": "system.ContainerExecution",
        "state": EXECUTION_STATE.get(task["state"], "RUNNING"),
        "metadata": metadata,
    }


def _artifact(artifact: Mapping[str, Any], store: str) -> dict[str, Any]:
    return {
        "name": f"{store}/artifacts/{abs(hash(artifact['uri'])) % 10**18}",
        "displayName": artifact["name"],
        "uri": artifact["uri"],
        "schemaTitle": artifact["schema"],
        "schemaVersion": artifact["version"],
        "state": "LIVE",
        "metadata": artifact["metadata"],
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
