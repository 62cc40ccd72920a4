"""A run on somebody else's machines, as far as its service and its bucket tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, Protocol

from pipelines.remote.submission import Submission
from pipelines.runs import StepRecord, StepRecords
from two_tower.artifacts import below, read_object
from two_tower.metrics_file import FILE, Evaluation
from two_tower.steps import EXIT_HANDLER, STEPS, TABLE, present_name

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
ENDED = ("finished", "failed", "cancelled")


@dataclass
class RemoteRun(StepRecords):
    """What is known of a run at one moment."""

    run_id: str
    name: str
    """The configuration's name."""
    state: State
    link: str
    """Where the service shows it."""
    started: datetime | None = None
    ended: datetime | None = None
    steps: list[StepRecord] = field(default_factory=lambda: [StepRecord(step) for step in STEPS])
    errors: dict[str, str] = field(default_factory=dict)
    """What a failed step said, by its name; under an empty name what the service said of the whole run."""
    labels: dict[str, str] = field(default_factory=dict)
    registry: str = ""

    def step_of_task(self, task: str) -> StepRecord | None:
        """The record of the step that a service's task is; None for a task that is no step."""
        name = present_name(task.replace("-", "_"))
        return self.step(name) if name in TABLE else None

    @property
    def seconds(self) -> float:
        """How long it has taken, so far."""
        if self.started is None:
            return 0.0
        return ((self.ended or datetime.now(self.started.tzinfo)) - self.started).total_seconds()

    @property
    def report(self) -> str | None:
        """Where the report is, or the page that a failed run left."""
        return self.step("write_report").outputs.get("report") or self.step(EXIT_HANDLER).outputs.get("page")

    @cached_property
    def metrics(self) -> Evaluation | None:
        """The content of metrics.json, where `evaluate_recall` has finished and its bucket can be read."""
        folder = self.step("evaluate_recall").outputs.get("evaluation")
        if not folder or not folder.startswith("gs://"):
            return None
        found = read_object(below(folder, FILE))
        return Evaluation.parse(found[0]) if found else None

    @property
    def decision(self) -> str | None:
        """What the gate said."""
        return self.metrics.gate.decision if self.metrics else None

    @property
    def version(self) -> str | None:
        """The id of the version that the run made."""
        return self.metrics.version if self.metrics else None


class Backend(Protocol):
    """A service that runs pipelines."""

    def submit(self, submission: Submission) -> RemoteRun:
        """Starts a run; one that is there already under this id is given back as it is."""

    def resume(self, run_id: str, *, new_id: str) -> RemoteRun:
        """Starts a failed run anew, with what it was sent; its finished steps are answered from the cache."""

    def find(self, run_id: str) -> RemoteRun:
        """The run with this id, the only one whose id starts so, or the newest for `latest`."""

    def list_runs(self, name: str | None, *, most: int) -> list[RemoteRun]:
        """The runs of a configuration, or of all, the newest first."""

    def cancel(self, run_id: str) -> None:
        """Asks for the end of a run."""
