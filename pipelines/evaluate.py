"""Measuring a stored version on the window of any configuration, beside another version or alone."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from two_tower.errors import ArtifactError, ConfigError, RegistryError
from two_tower.evaluation import main_k, shown_metrics

if TYPE_CHECKING:
    from pipelines.runs import Run
    from two_tower.config import Config
    from two_tower.registry import Version

CHAMPION = "champion"
"""What stands for the id of the version that serves."""
OF_THE_WINDOW = ("name", "dataset", "data", "evaluation")
"""The sections of the configuration that an evaluation goes by; the others are those that the version was made with."""


def find_stored(root: Path, name: str, version: str) -> Version:
    """The version of the registry `root/name` that `version` names: an id, the beginning of one, or `champion`.

    Raises:
        RegistryError: None is called so, or several are; the message says where it is found instead.
    """
    from two_tower.registry import Registry

    registry = Registry(root, name)
    if version == CHAMPION:
        champion = registry.champion()
        if champion is None:
            raise RegistryError(f"{registry.folder}: there is no champion yet; `two-tower run` makes one")
        return champion
    stored = registry.versions()
    found = [each for each in stored if each.id == version] or [each for each in stored if each.id.startswith(version)]
    if len(found) == 1 and version:  # every id begins with nothing, which stands for none
        return found[0]
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise RegistryError(f"{registry.folder}: several versions start with {version!r}: {ids}")
    elsewhere = [
        folder.name
        for folder in sorted(root.glob("*/") if version else ())
        if folder.name != name and any(each.id.startswith(version) for each in Registry(root, folder.name).versions())
    ]
    if elsewhere:
        raise RegistryError(
            f"{registry.folder}: no version {version!r}; {root / elsewhere[0]} has it, the configuration is called "
            f"{name}: give the configuration of {elsewhere[0]}, or --set name={elsewhere[0]}"
        )
    ids = ", ".join(each.id for each in stored) or "none"
    raise RegistryError(f"{registry.folder}: no version {version!r}; there are: {ids}")


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
) -> dict[str, Any]:
    """The content of metrics.json of `version` on the test queries that `record` has prepared.

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
        evaluate(
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
    metrics = record.metrics
    assert metrics is not None
    return metrics


def _write_page(record: Run, config: Config, *, version: Version, out: Path) -> None:
    """The report, in `out` and in the run's folder; none where the version was stored without its trained towers."""
    from dataclasses import asdict

    from two_tower.evaluation import write_report

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


def window_in_words(window: Mapping[str, Any] | None) -> str:
    """From when the queries are and until when the version was trained, in one line."""
    from two_tower.data import moment_text

    if window is None:
        return "the logs are not split by time: whether the version has trained on these queries is not known"
    start, seen = (
        "an unknown time" if window[name] is None else f"{moment_text(int(window[name] * 1_000_000))} UTC"
        for name in ("start", "seen_until")
    )
    return f"queries from {start} on; the version was trained on events until {seen}"


def named(metrics: Mapping[str, Any], *, against: Version | None) -> dict[str, Any]:
    """The metrics with the id of the version that played the champion's part as its name."""
    systems = {against.id if against and name == CHAMPION else name: of for name, of in metrics["systems"].items()}
    return {**metrics, "systems": systems}


def differences_table(metrics: Mapping[str, Any], *, against: Version) -> Table:
    """One row a metric that is shown: both versions' figures, and the paired difference on the same queries."""
    table = Table(title="difference on the same queries", title_justify="left", title_style="bold")
    for column in ("metric", metrics["version"], against.id, "difference", "better with probability"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    systems = metrics["systems"]
    compared = metrics["comparisons"][CHAMPION]
    for name, paired in ((name, compared[name]) for name in shown_metrics(metrics) if name in compared):
        ours, theirs = (systems[system]["metrics"][name]["value"] for system in ("two_tower", CHAMPION))
        table.add_row(name, f"{ours:.4f}", f"{theirs:.4f}", difference_text(paired), probability_text(paired))
    return table


def slices_table(metrics: Mapping[str, Any], *, against: Version | None) -> Table:
    """One row a slice: the recall in it, and with `against` the difference and what it says."""
    metric = f"recall@{main_k(metrics)}"
    table = Table(title=f"{metric} by slice", title_justify="left", title_style="bold")
    table.add_column("slice", overflow="fold")
    others = [against.id, "difference", "better with probability"] if against else []
    for column in ("queries", metrics["version"], *others):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict" if against else "", no_wrap=True)
    for name, found in ordered_slices(metrics["slices"]):
        paired = found["comparisons"].get(CHAMPION, {}).get(metric)
        systems = ("two_tower", CHAMPION) if against else ("two_tower",)
        cells = [_value(found["systems"].get(system, {}).get("metrics", {}).get(metric)) for system in systems]
        if against:
            cells += [difference_text(paired), probability_text(paired)]
        few = "too few queries to judge" if found["too_small"] else ""
        table.add_row(slice_label(name, found), f"{found['queries']:,}", *cells, few or verdict_of(paired))
    return table


def ordered_slices(slices: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The slices that have a query: those of users first, then by history, by item and by column."""
    groups = ["users", "history", "items"]

    def order(slice_: tuple[str, Mapping[str, Any]]) -> tuple[int, str, list[tuple[int, str]]]:
        name, group = slice_[0], slice_[1].get("group", "")
        pieces = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]
        return groups.index(group) if group in groups else len(groups), group, pieces

    return sorted(((name, found) for name, found in slices.items() if found["queries"]), key=order)


def slice_label(name: str, found: Mapping[str, Any]) -> str:
    """How a slice is called for people: its group and its label."""
    label = found.get("label", name.replace("_", " "))
    group = found.get("group")
    return f"{group}: {label}" if group else label


def verdict_of(paired: Mapping[str, float] | None) -> str:
    """What an interval of a difference says."""
    if paired is None:
        return ""
    return "better" if paired["low"] > 0 else "worse" if paired["high"] < 0 else "no clear difference"


def difference_text(paired: Mapping[str, float] | None) -> str:
    """Such as `+0.0120 [-0.0010, +0.0230]`; empty without a difference."""
    return f"{paired['difference']:+.4f} [{paired['low']:+.4f}, {paired['high']:+.4f}]" if paired else ""


def probability_text(paired: Mapping[str, float] | None) -> str:
    """With three decimals; empty without a difference."""
    return f"{paired['probability_better']:.3f}" if paired else ""


def _value(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.4f}" if figure else ""
