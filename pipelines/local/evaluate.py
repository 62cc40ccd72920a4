"""Measuring a stored version on the window of any configuration, beside another version or alone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from two_tower.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from pipelines.runs import Run
    from two_tower.config import Config
    from two_tower.metrics_file import Evaluation
    from two_tower.registry import Version

OF_THE_WINDOW = ("name", "dataset", "data", "evaluation")
"""The sections of the configuration that an evaluation goes by; the others are those that the version was made with."""


def require_free(out: Path) -> None:
    """Refuses a folder whose `evaluation/`, which would be replaced, is something else than an earlier evaluation.

    Raises:
        ConfigError: It is.
    """
    from two_tower.artifacts import read_manifest

    folder = out / "evaluation"
    if not folder.exists():
        return
    try:
        read_manifest(folder, "evaluation")
    except ArtifactError as error:
        raise ConfigError(f"--out {out}: {folder} would be replaced, and is no evaluation; name another one") from error


def evaluate_version(
    record: Run, config: Config, *, version: Version, against: Version | None, out: Path
) -> Evaluation:
    """The evaluation of `version` on the test queries that `record` has prepared.

    Nothing is decided about the version: the gate's verdict is what it would be.  `record` gets the step
    `evaluate_recall`, so that the run can be shown and compared like any other.

    Args:
        record: A run of the DAG's first two steps.
        config: What was prepared, and how to measure.
        version: What is measured.
        against: Plays the champion's part, on the same queries.
        out: The folder that gets `evaluation/`, the artefact, and `report.html`.

    Raises:
        ArtifactError: The version is damaged, or does not take such queries.
    """
    from two_tower.evaluation import evaluate

    prepared = record.step("prepare_data").outputs["prepared"]
    evaluation = out / "evaluation"
    step = record.step("evaluate_recall")
    start = time.monotonic()
    try:
        measured = evaluate(
            prepared,
            version.query_tower,
            version.index,
            None,
            evaluation,
            evaluation=config.evaluation,
            version=version.id,
            champion=against.folder if against else None,
        )
        step.state, step.outputs = "ran", {"evaluation": str(evaluation)}
        _write_page(record, config, version=version, out=out)
    except BaseException:
        step.state = record.state = "failed"
        raise
    finally:
        step.seconds = round(time.monotonic() - start, 2)
        record.seconds += step.seconds
        record.save()
    return measured


def _write_page(record: Run, config: Config, *, version: Version, out: Path) -> None:
    """The report, in `out` and in the run's folder; none where the version was stored without its trained towers."""
    from dataclasses import asdict

    from two_tower.report import write_report

    if version.trained_towers is None:
        return
    measured_with = {name: value for name, value in config.model_dump(mode="json").items() if name in OF_THE_WINDOW}
    page = out / "report.html"
    write_report(
        page,
        prepared=record.step("prepare_data").outputs["prepared"],
        trained=version.trained_towers,
        evaluation=out / "evaluation",
        index=version.index,
        config={**version.config, **measured_with},
        run=asdict(record),
    )
    if out != record.folder:
        shutil.copyfile(page, record.folder / "report.html")
