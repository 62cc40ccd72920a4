"""What a run leaves in its folder: `WORKDIR/RUN_ID/run.json`, the compiled pipeline, logs and the report."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipelines.command_lines import meant
from two_tower.artifacts import write_json
from two_tower.errors import ArtifactError, UserError
from two_tower.metrics_file import FILE, Evaluation
from two_tower.steps import STEPS, TABLE, present_name

PACKAGES = (
    "apache-beam", "kfp", "numpy", "polars", "pyarrow", "scann", "tensorflow", "tensorflow-recommenders", "two-tower",
)  # fmt: skip
"""The packages whose versions a run's record names, where they are installed."""

State = Literal["waiting", "running", "ran", "cached", "skipped", "failed"]
RunState = Literal["running", "finished", "failed", "interrupted"]
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
    outputs: dict[str, str] = field(default_factory=dict)
    """Output parameters by name, and the folders of output artefacts."""


class StepRecords:
    """The records of a run's steps, wherever it runs."""

    steps: list[StepRecord]

    def step(self, name: str) -> StepRecord:
        """The record of a step; a step beside the DAG's own (the exit handler) gets one when it is first asked for."""
        for step in self.steps:
            if step.name == name:
                return step
        self.steps.append(StepRecord(name))
        return self.steps[-1]


@dataclass
class Run(StepRecords):
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
    state: RunState = "running"
    decision: str | None = None
    version: str | None = None
    seconds: float = 0.0
    kind: Kind = "run"

    @classmethod
    def start(cls, workdir: Path, *, name: str, config_file: str, config: dict[str, Any], kind: Kind = "run") -> Run:
        """A new run with a folder of its own in `workdir`."""
        now = datetime.now().astimezone()
        folder = _new_folder(workdir, f"{now:%Y%m%d-%H%M%S}")
        return cls(
            folder, folder.name, name, config_file, config, now.isoformat(timespec="seconds"), commit(),
            _installed(), [StepRecord(step) for step in STEPS],
            kind=kind,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Run:
        """The record in a run's folder.

        What an earlier release did not write has its default, and what a later one adds is left out.

        Raises:
            ArtifactError: There is none, or it cannot be read.
        """
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            steps = [_with_present_names(step) for step in content["steps"]]
            return _reader().validate_python({**content, "folder": folder, "steps": steps})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(
                f"{folder / 'run.json'}: not a run's record that this version reads: {_in_one_line(error)}"
            ) from error

    def save(self) -> None:
        """Writes the record."""
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "run.json", content)

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
    def metrics(self) -> Evaluation | None:
        """The content of metrics.json, where `evaluate_recall` has finished."""
        folder = self.step("evaluate_recall").outputs.get("evaluation")
        path = Path(folder) / FILE if folder else None
        return Evaluation.read(path) if path and path.is_file() else None


def _new_folder(workdir: Path, moment: str) -> Path:
    """A folder that no other run has, not even one that starts at the same moment."""
    while True:
        folder = workdir / f"{moment}-{secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        (folder / "logs").mkdir()
        return folder


@cache
def _reader() -> TypeAdapter[Run]:
    return TypeAdapter(Run)


def _with_present_names(step: dict[str, Any]) -> dict[str, Any]:
    """A step of a record under the names that it and its outputs have now."""
    name = present_name(step["name"])
    now = TABLE[name].outputs_formerly if name in TABLE else {}
    return {**step, "name": name, "outputs": {now.get(key, key): out for key, out in step.get("outputs", {}).items()}}


def _in_one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(f"no {error}".split() if isinstance(error, KeyError) else str(error).split())


def list_runs(workdir: Path) -> list[Run]:
    """The runs in `workdir`, oldest first; a record that cannot be read is named on standard error, and left out."""
    runs = []
    for path in sorted(workdir.glob("*/run.json")):
        try:
            runs.append(Run.load(path.parent))
        except ArtifactError as error:
            _say_once(f"left out: {error}")
    return runs


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)


def prepared_folders(workdir: Path, name: str) -> list[str]:
    """The folders of the prepared data of a configuration's runs, newest first."""
    runs = [run for run in reversed(list_runs(workdir)) if run.name == name]
    folders = [run.step("prepare_data").outputs.get("prepared") for run in runs]
    return list(dict.fromkeys(folder for folder in folders if folder))


def find_run(workdir: Path, run_id: str) -> Run:
    """The run with this id, the one id that starts so, or the newest for `latest`.

    Raises:
        UserError: There is none, or more than one.
    """
    return choose_run(list_runs(workdir)[::-1], run_id, where=f"{workdir}: ")


class HasRunId(Protocol):
    """Whatever a run's id tells apart."""

    @property
    def run_id(self) -> str: ...


R = TypeVar("R", bound=HasRunId)


def choose_run(runs: Sequence[R], run_id: str, *, where: str = "") -> R:
    """The run with this id, the one whose id starts so, or the newest for `latest`; `runs` are newest first.

    Raises:
        UserError: There is none, or more than one; the message begins with `where`.
    """
    found = runs[:1] if run_id == "latest" else meant(run_id, runs, lambda run: run.run_id)
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.run_id for run in runs[:5]) or "none"
    problem = "no run is called" if not found else "more than one run starts with"
    raise UserError(f"{where}{problem} {run_id!r}; the newest runs: {known}")


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
