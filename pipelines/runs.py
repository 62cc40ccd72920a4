"""What a run leaves in its folder: `WORKDIR/RUN_ID/run.json`, the compiled pipeline, logs and the report."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import secrets
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from pipelines.hints import meant
from two_tower.artifacts import write_json
from two_tower.config import STEPS
from two_tower.errors import ArtifactError, UserError

PACKAGES = (
    "apache-beam", "kfp", "numpy", "polars", "pyarrow", "scann", "tensorflow", "tensorflow-recommenders", "two-tower",
)  # fmt: skip
"""The packages whose versions a run's record names, where they are installed."""

State = Literal["waiting", "running", "ran", "cached", "skipped", "failed"]
Kind = Literal["run", "try", "schedule", "tune", "evaluate", "step"]
"""What a run was started by; that of `tune` is the preparation of its data alone."""
ARTIFACTS = "artifacts"
"""The folder, below the working folder, with a folder for the artefacts of each run."""


@dataclass
class StepRecord:
    """One step of a run."""

    name: str
    state: State = "waiting"
    seconds: float = 0.0
    outputs: dict[str, Any] = field(default_factory=dict)
    """Output parameters by name, and the folders of output artefacts."""


@dataclass
class Run:
    """A run's record, written to `run.json` at every change."""

    folder: Path
    run_id: str
    name: str
    config_file: str
    config: dict[str, Any]
    started: str
    code: str
    versions: dict[str, str]
    steps: list[StepRecord]
    state: Literal["running", "finished", "failed", "interrupted"] = "running"
    decision: str | None = None
    version: str | None = None
    seconds: float = 0.0
    kind: Kind = "run"

    @classmethod
    def start(cls, workdir: Path, *, name: str, config_file: str, config: dict[str, Any], kind: Kind = "run") -> Run:
        """A new run with a folder of its own in `workdir`."""
        now = datetime.now().astimezone()
        run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder = workdir / run_id
        (folder / "logs").mkdir(parents=True)
        return cls(
            folder, run_id, name, config_file, config, now.isoformat(timespec="seconds"), commit(),
            _installed(), [StepRecord(step) for step in STEPS],
            kind=kind,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Run:
        """The record in a run's folder.

        Raises:
            ArtifactError: There is none, or another version of this program wrote it.
        """
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            content["steps"] = [StepRecord(**step) for step in content["steps"]]
            return TypeAdapter(cls).validate_python(asdict(cls(folder=folder, **content)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{folder / 'run.json'}: not a run's record that this version reads: {error}"
            ) from error

    def save(self) -> None:
        """Writes the record."""
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "run.json", content)

    def step(self, name: str) -> StepRecord:
        """The record of a step; a step beside the DAG's own (the exit handler) gets one when it is first asked for."""
        for step in self.steps:
            if step.name == name:
                return step
        self.steps.append(StepRecord(name))
        return self.steps[-1]

    @property
    def kind_in_words(self) -> str:
        """What a person reads of the kind."""
        return "preparation of tune" if self.kind == "tune" else self.kind

    @property
    def artifacts(self) -> Path:
        """The folder of what the run's own steps have written."""
        return (self.folder.parent / ARTIFACTS / self.run_id).resolve()

    def from_cache(self) -> dict[Path, list[str]]:
        """The steps that the cache answered, by the folder of the run whose artefacts they gave."""
        root = self.artifacts.parent
        found: dict[Path, list[str]] = {}
        for step in self.steps:
            places = [Path(str(value)) for value in step.outputs.values() if step.state == "cached"]
            runs = [root / place.relative_to(root).parts[0] for place in places if place.is_relative_to(root)]
            for folder in dict.fromkeys(runs):
                found.setdefault(folder, []).append(step.name)
        return found

    @property
    def report(self) -> Path | None:
        """The report, or the page that a failed run left."""
        path = self.folder / "report.html"
        return path if path.is_file() else None

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The content of metrics.json, where `evaluate_recall` has finished."""
        folder = self.step("evaluate_recall").outputs.get("evaluation")
        path = Path(folder) / "metrics.json" if folder else None
        return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None


def list_runs(workdir: Path) -> list[Run]:
    """The runs in `workdir`, oldest first, less those whose record this version does not read."""
    runs = []
    for path in sorted(workdir.glob("*/run.json")):
        with contextlib.suppress(ArtifactError):
            runs.append(Run.load(path.parent))
    return runs


def prepared_folders(workdir: Path, name: str) -> list[str]:
    """The folders of the prepared data of a configuration's runs, newest first."""
    runs = [run for run in reversed(list_runs(workdir)) if run.name == name]
    folders = [run.step("prepare_data").outputs.get("prepared") for run in runs]
    return list(dict.fromkeys(folder for folder in folders if folder))


def mark_interrupted(workdir: Path) -> None:
    """Marks the runs that were cut off; to be called by whoever holds the folder, so that none of them goes on."""
    for run in list_runs(workdir):
        if run.state == "running":
            run.state = "interrupted"
            run.save()


def find_run(workdir: Path, run_id: str) -> Run:
    """The run with this id, the one id that starts so, or the newest for `latest`.

    Raises:
        UserError: There is none, or more than one.
    """
    runs = list_runs(workdir)
    found = runs[-1:] if run_id == "latest" else meant(run_id, runs, lambda run: run.run_id)
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.run_id for run in runs[-5:]) or "none"
    problem = "no run is called" if not found else "more than one run starts with"
    raise UserError(f"{workdir}: {problem} {run_id!r}; the newest runs: {known}")


def _installed() -> dict[str, str]:
    """The versions of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str:
    """The commit of the checkout, with a + when it has changes; empty outside one."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
