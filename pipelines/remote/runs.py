"""A run on somebody else's machines, as far as its service and its bucket tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, Protocol

from pipelines.hints import meant
from pipelines.remote.submission import Submission
from pipelines.runs import StepRecord
from two_tower.artifacts import below, read_object
from two_tower.config import STEPS
from two_tower.errors import UserError
from two_tower.metrics_file import FILE, Evaluation

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
ENDED = ("finished", "failed", "cancelled")
EXIT_HANDLER = "report_failure"


@dataclass
class RemoteRun:
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

    def step(self, name: str) -> StepRecord:
        """The record of a step; a step beside the DAG's own gets one when it is first asked for."""
        for step in self.steps:
            if step.name == name:
                return step
        self.steps.append(StepRecord(name))
        return self.steps[-1]

    @property
    def seconds(self) -> float:
        """How long it has taken, so far."""
        if self.started is None:
            return 0.0
        return ((self.ended or datetime.now(self.started.tzinfo)) - self.started).total_seconds()

    @property
    def report(self) -> str | None:
        """Where the report is, or the page that a failed run left."""
        page: str | None = self.step("write_report").outputs.get("report") or self.step(EXIT_HANDLER).outputs.get(
            "page"
        )
        return page

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


def choose_run(runs: list[RemoteRun], run_id: str) -> RemoteRun:
    """The run with this id, the only one whose id starts so, or the newest for `latest`; `runs` are newest first.

    Raises:
        UserError: There is none, or more than one.
    """
    found = runs[:1] if run_id == "latest" else meant(run_id, runs, lambda run: run.run_id)
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.run_id for run in runs[:5]) or "none"
    raise UserError(
        f"{'no run is called' if not found else 'more than one run starts with'} {run_id!r}; the newest runs: {known}"
    )
