"""The run: its training, example queries, steps and artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from two_tower.artifacts import ArtifactReader, content_hash
from two_tower.report import plots
from two_tower.report.systems import metric_title
from two_tower.report.values import moment


def training_section(history: Mapping[str, Any]) -> dict[str, Any]:
    """The curves of the training and what they came to."""
    epochs, seconds = history.get("epoch", []), history.get("seconds", [])
    steps = history.get("steps") or {}
    monitor = metric_title(history.get("monitor", "recall"))
    by_step = bool(steps.get("step"))
    at, loss = (steps["step"], steps["loss"]) if by_step else (epochs, history.get("loss", []))
    recall = history.get("validation_recall", [])
    best_epoch = history.get("best_epoch")
    refit = history.get("refit")
    return {
        "chosen": chosen_settings(history.get("chosen")),
        "stopped_early": history.get("stopped_early"),
        "refit": refit and {"epochs": refit["epochs"], "seconds": sum(refit["seconds"])},
        "epochs": len(epochs),
        "seconds": sum(seconds) if seconds else None,
        "best_epoch": best_epoch,
        "best": recall[epochs.index(best_epoch)] if best_epoch in epochs and recall else None,
        "monitor": monitor,
        "loss": plots.training_loss(at, loss, unit="step" if by_step else "epoch") if loss else None,
        "recall": plots.validation_recall(epochs, recall, best_epoch=best_epoch, metric=monitor) if recall else None,
    }


def chosen_settings(chosen: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What `auto` stood for: the recipe, why, and each setting as it is written in a file; None where nothing was."""
    if not chosen:
        return None
    settings = [(key, json.dumps(value)) for key, value in chosen["settings"].items()]
    return {"recipe": chosen["recipe"], "why": chosen["why"], "settings": settings}


def artefact_row(name: str, reader: ArtifactReader) -> dict[str, Any]:
    """A row of the table of artefacts."""
    seen = reader.manifest.data_seen_until
    return {
        "name": name,
        "hash": content_hash(reader.folder),
        "seen_until": moment(seen) if seen is not None else None,
        "bytes": sum(facts["bytes"] for facts in reader.manifest.files.values()),
    }


def run_section(run: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ran: the steps with their times, and the versions of the packages."""
    run = run or {}
    steps: list[dict[str, Any]] = []
    for step in run.get("steps") or []:
        state, seconds = step.get("state") or "unknown", step.get("seconds")
        timed = seconds if state not in ("waiting", "skipped") else None
        steps.append({"name": step["name"], "state": state, "seconds": timed})
    longest = max((step["seconds"] or 0 for step in steps), default=0)
    for step in steps:
        step["width"] = round(100 * (step["seconds"] or 0) / longest, 1) if longest else 0
    return {
        "run_id": run.get("run_id"),
        "started": run.get("started"),
        "code": run.get("code"),
        "steps": steps,
        "seconds": sum(step["seconds"] or 0 for step in steps),
        "versions": dict(sorted((run.get("versions") or {}).items())),
    }


def was_promoted(run: Mapping[str, Any] | None) -> bool | None:
    """Whether the step `promote` has finished; None where the run does not tell."""
    states = {step["name"]: step.get("state") for step in (run or {}).get("steps") or []}
    return states["promote"] in ("ran", "cached") if "promote" in states else None
