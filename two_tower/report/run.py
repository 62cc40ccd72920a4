"""The run: its training, example queries, steps and artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from two_tower.artifacts import ArtifactReader, content_hash
from two_tower.report import plots
from two_tower.report.svg import Picture
from two_tower.report.systems import metric_title
from two_tower.report.values import moment


@dataclass(frozen=True)
class Chosen:
    """What `auto` stood for: the recipe, why, and each setting as it is written in a file."""

    recipe: str
    why: str
    settings: list[tuple[str, str]]


@dataclass(frozen=True)
class Refit:
    """The second training, on training and validation events together."""

    epochs: int
    seconds: float


@dataclass(frozen=True)
class TrainingSection:
    """The curves of the training and what they came to."""

    chosen: Chosen | None
    stopped_early: str | None
    refit: Refit | None
    epochs: int
    seconds: float | None
    best_epoch: int | None
    best: float | None
    monitor: str
    loss: Picture | None
    recall: Picture | None


def training_section(history: Mapping[str, Any]) -> TrainingSection:
    """The curves of the training and what they came to."""
    epochs, seconds = history.get("epoch", []), history.get("seconds", [])
    steps = history.get("steps") or {}
    monitor = metric_title(history.get("monitor", "recall"))
    by_step = bool(steps.get("step"))
    at, loss = (steps["step"], steps["loss"]) if by_step else (epochs, history.get("loss", []))
    recall = history.get("validation_recall", [])
    best_epoch = history.get("best_epoch")
    refit = history.get("refit")
    return TrainingSection(
        chosen=chosen_settings(history.get("chosen")),
        stopped_early=history.get("stopped_early"),
        refit=Refit(refit["epochs"], sum(refit["seconds"])) if refit else None,
        epochs=len(epochs),
        seconds=sum(seconds) if seconds else None,
        best_epoch=best_epoch,
        best=recall[epochs.index(best_epoch)] if best_epoch in epochs and recall else None,
        monitor=monitor,
        loss=plots.training_loss(at, loss, unit="step" if by_step else "epoch") if loss else None,
        recall=plots.validation_recall(epochs, recall, best_epoch=best_epoch, metric=monitor) if recall else None,
    )


def chosen_settings(chosen: Mapping[str, Any] | None) -> Chosen | None:
    """What `auto` stood for: the recipe, why, and each setting as it is written in a file; None where nothing was."""
    if not chosen:
        return None
    settings = [(key, json.dumps(value)) for key, value in chosen["settings"].items()]
    return Chosen(chosen["recipe"], chosen["why"], settings)


@dataclass(frozen=True)
class ArtefactRow:
    """A row of the table of artefacts."""

    name: str
    hash: str
    seen_until: str | None
    bytes: int


def artefact_row(name: str, reader: ArtifactReader) -> ArtefactRow:
    """What the table says of an artefact."""
    seen = reader.manifest.data_seen_until
    return ArtefactRow(
        name,
        hash=content_hash(reader.folder),
        seen_until=moment(seen) if seen is not None else None,
        bytes=sum(facts["bytes"] for facts in reader.manifest.files.values()),
    )


@dataclass(frozen=True)
class RunStep:
    """A step with its time and the width of its bar, in percent."""

    name: str
    state: str
    seconds: float | None
    width: float


@dataclass(frozen=True)
class RunSection:
    """What ran: the steps with their times, and the versions of the packages."""

    run_id: str | None
    started: str | None
    code: str | None
    steps: list[RunStep]
    seconds: float
    versions: dict[str, str]


def run_section(run: Mapping[str, Any] | None) -> RunSection:
    """What ran, as far as it is told."""
    run = run or {}
    timed = [(step["name"], step.get("state") or "unknown", _seconds(step)) for step in run.get("steps") or []]
    longest = max((seconds or 0 for *_, seconds in timed), default=0)
    return RunSection(
        run_id=run.get("run_id"),
        started=run.get("started"),
        code=run.get("code"),
        steps=[RunStep(*step, width=round(100 * (step[2] or 0) / longest, 1) if longest else 0) for step in timed],
        seconds=sum(seconds or 0 for *_, seconds in timed),
        versions=dict(sorted((run.get("versions") or {}).items())),
    )


def _seconds(step: Mapping[str, Any]) -> float | None:
    """How long a step took; None where it has not run."""
    return None if step.get("state") in ("waiting", "skipped") else step.get("seconds")


def was_promoted(run: Mapping[str, Any] | None) -> bool | None:
    """Whether the step `promote` has finished; None where the run does not tell."""
    states = {step["name"]: step.get("state") for step in (run or {}).get("steps") or []}
    return states["promote"] in ("ran", "cached") if "promote" in states else None
