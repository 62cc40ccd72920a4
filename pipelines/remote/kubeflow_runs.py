"""A run of Kubeflow Pipelines, as its service and the launcher's folders tell it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pipelines.remote.kubeflow_labels import labels_in
from pipelines.remote.runs import ENDED, RemoteRun, State
from pipelines.remote.submission import TOOL
from pipelines.remote.vertex import moment_of
from two_tower.artifacts import below, describe_objects, is_remote, list_folders, read_object
from two_tower.config import KubeflowSettings
from two_tower.errors import ArtifactError
from two_tower.metrics_file import FILE, Evaluation
from two_tower.progress import log
from two_tower.steps import EXIT_HANDLER, TABLE

STATES: dict[str, State] = {
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "finished",
    "SKIPPED": "finished",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
STEP_STATES = {
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "ran",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "failed",
}


@dataclass
class KubeflowRun(RemoteRun):
    """A run of Kubeflow Pipelines; where its artefacts lie is looked up when it is asked for."""

    handle: str = ""
    """The service's id of it."""
    folder: str = ""
    """What the launcher keeps its artefacts below: ROOT/PIPELINE/ID."""

    @classmethod
    def of_service(cls, run: Any, settings: KubeflowSettings, *, host: str) -> KubeflowRun:
        """A run as the service gives it."""
        spec = _spec_of(run)
        labels = labels_in(run.description) or _labels_of(spec)
        config = run.runtime_config
        root = (config and config.pipeline_root) or settings.root
        found = cls(
            run_id=run.display_name,
            name=labels.get("pipeline", ""),
            state=STATES.get(run.state, "waiting"),
            link=f"{host}/#/runs/details/{run.run_id}",
            started=moment_of(run.created_at),
            ended=moment_of(run.finished_at),
            labels=labels,
            registry=str(((config and config.parameters) or {}).get("registry", "")),
            handle=run.run_id,
            folder=below(below(root, spec.get("pipelineInfo", {}).get("name", "")), run.run_id),
        )
        history = [status.state for status in run.state_history or []]
        if found.state == "failed" and "CANCELING" in history[-2:]:
            found.state = "cancelled"  # its workflow was stopped, which counts as a failure
        tasks = (run.run_details and run.run_details.task_details) or []
        found._note_tasks(tasks, namespace=settings.namespace or "kubeflow")
        if run.error and run.error.message:
            found.errors[""] = run.error.message
        return found

    @cached_property
    def metrics(self) -> Evaluation | None:
        """The content of metrics.json, from the evaluation's artefact or else from the registry, where on gs://."""
        if self.state not in ENDED and self.step("evaluate_recall").state not in ("ran", "cached"):
            return None
        try:
            for folder in self._evaluations():
                found = read_object(below(folder, FILE))
                if found:
                    return Evaluation.parse(found[0])
        except ArtifactError as error:
            log.info("the evaluation of run %s cannot be read: %s", self.run_id, error)
        return None

    @cached_property
    def report(self) -> str | None:
        """Where the report is, or the page that a failed run left; None while it goes on."""
        if self.state not in ENDED:
            return None
        try:
            return self._place("write_report", "report") or self._place(EXIT_HANDLER, "page")
        except ArtifactError as error:
            log.info("the artefacts of run %s cannot be listed: %s", self.run_id, error)
            return None

    def _evaluations(self) -> Iterator[str]:
        made = self._place("evaluate_recall", "evaluation")
        if made:
            yield made
        if is_remote(self.registry) and self.name:
            versions = below(below(self.registry, self.name), "versions")
            for version in list_folders(versions):
                manifest = read_object(below(below(versions, version), "manifest.json"))
                if manifest and _run_that_made(manifest[0]) == self.run_id:
                    yield below(below(versions, version), "evaluation")

    def _place(self, step: str, output: str) -> str | None:
        """The newest artefact of this name below a step's folder; None where the root is not on gs:// or it made none.

        Between the step and the artefact the launcher puts the id of the attempt (older ones do not).
        """
        if not is_remote(self.folder):
            return None
        newest: dict[str, datetime] = {}
        for name in (step, *TABLE[step].formerly):
            folder = below(self.folder, name.replace("_", "-"))
            for file, facts in describe_objects(folder).items():
                parts = file.split("/")
                if output in parts:
                    place = below(folder, "/".join(parts[: parts.index(output) + 1]))
                    newest[place] = max(facts.updated, newest.get(place, facts.updated))
        return max(newest, key=lambda place: newest[place]) if newest else None

    def _note_tasks(self, tasks: Sequence[Any], *, namespace: str) -> None:
        """Adds what the service's tasks say to the records of the steps.

        A step's container runs in a task of its own below the step's, which is skipped where the cache has answered.
        A task that is skipped itself has outputs if it was the cache, and none if it was not its turn.
        """
        for task in tasks:
            step = self.step_of_task(task.display_name or "")
            if step is None:
                continue
            step.state = STEP_STATES.get(task.state, "waiting")  # type: ignore[assignment]
            inner = [one for one in tasks if one.parent_task_id and one.parent_task_id == task.task_id]
            if (step.state == "ran" and any(one.state == "SKIPPED" for one in inner)) or (
                step.state == "skipped" and task.outputs
            ):
                step.state = "cached"
            start, end = moment_of(task.start_time), moment_of(task.end_time)
            if start and end:
                step.seconds = (end - start).total_seconds()
            if step.state == "failed":
                self.errors[step.name] = _reason(task, inner, namespace)
        if self.state == "finished":
            for step in self.steps:
                if step.state == "waiting":  # it stands behind a condition that did not hold, so it got no task
                    step.state = "skipped"


def _reason(task: Any, inner: Sequence[Any], namespace: str) -> str:
    """What a failed task says, or else where its log is."""
    for one in (task, *inner):
        if one.error and one.error.message:
            return str(one.error.message)
    pods = [one.pod_name for one in (*inner, *(task.child_tasks or []), task) if one.pod_name]
    command = ["kubectl", "logs", "--namespace", namespace, *pods[:1]]
    where = shlex.join(command) if pods else "its page"
    return f"Kubeflow gives no reason; see {where}"


def _run_that_made(manifest: bytes) -> str:
    return str(json.loads(manifest).get("measured", {}).get("lineage", {}).get("run_id", ""))


def _spec_of(run: Any) -> dict[str, Any]:
    """The pipeline of a run; the service may give it together with what concerns its platform."""
    spec = run.pipeline_spec or {}
    found: dict[str, Any] = spec.get("pipeline_spec", spec)
    return found


def _labels_of(spec: dict[str, Any]) -> dict[str, str]:
    """What labels a run that has no description, such as one of a recurring run, has by its pipeline."""
    parameters = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    name = parameters.get("name", {}).get("defaultValue")
    return {"tool": TOOL, "pipeline": name} if name and {"registry", "run_time"} <= parameters.keys() else {}
