"""Two versions of a growing catalogue: the second starts from the first one's towers; both are measured and compared.

They are measured on other windows than their own, and their runs are set beside each other, as a user does it.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from two_tower.artifacts import open_artifact

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUICK = ("--set", "training.epochs=1", "--set", "training.warm_start=true")
LATER = ("--set", "data.split.test=7d")
COMMON = (
    "--set", "data.interactions.path=grown.parquet",
    "--set", "evaluation.gate=[{type: enough_queries, at_least: 50}]",
)  # fmt: skip
WORKDIR = ("--workdir", "measured")
"""With a registry of their own, so that the other tests find theirs as they left it."""


class Trained(NamedTuple):
    """A version and the run that promoted it."""

    version: str
    said: str
    items: set[str]
    """Those in its vocabulary."""


@pytest.fixture(scope="module")
def trained(project) -> tuple[Trained, Trained]:
    """The first version knows two thirds of the logs, the second all but a week of them; the second is champion."""
    logs = pq.read_table(project.folder / "data" / "tiny" / "interactions.parquet").sort_by("time")
    found = []
    for rows, split in ((logs.num_rows * 2 // 3, ()), (logs.num_rows, LATER)):
        pq.write_table(logs.slice(0, rows), project.folder / "data" / "tiny" / "grown.parquet")
        said = project.command("run", "configs/tiny.yaml", *QUICK, *COMMON, *WORKDIR, *split).stdout
        steps = {step["name"]: step for step in project.runs("measured")[-1]["steps"]}
        items = vocabulary(Path(steps["train_towers"]["outputs"]["trained"]))
        found.append(Trained(project.champion("measured"), said, items))
    return tuple(found)


@pytest.fixture
def versions(trained) -> tuple[str, str]:
    """Their ids."""
    return trained[0].version, trained[1].version


def vocabulary(towers: Path) -> set[str]:
    """The items that trained towers know."""
    return set(pq.read_table(towers / "vocabulary.parquet")["item_id"].drop_null().to_pylist())


def test_the_second_run_starts_from_the_champion_and_knows_the_new_items(project, trained):
    first, second = trained
    assert "no champion yet to start from: training starts fresh" in first.said
    assert "starting from the champion's weights" in second.said
    assert second.items > first.items
    assert second.version != first.version
    (stored,) = (project.folder / "measured/registry/tiny/versions").glob(f"{second.version}/trained_towers")
    assert vocabulary(stored) == second.items


def test_two_versions_of_other_vocabularies_compare_on_a_later_window(project, versions):
    first, second = versions
    command = ("evaluate", "configs/tiny.yaml", "--version", first[:8], "--against", "champion")
    shown = project.command(*command, *LATER, *COMMON, *WORKDIR, "-o", "out").stdout
    assert f"two_tower is version {first} (former) against {second} (champion)" in shown
    assert re.search(r"recall@100 +│ +0\.\d{4} │ +0\.\d{4} │ [+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\] │", shown)
    assert "passed  queries >= 50" in shown
    assert "evaluation: out/evaluation" in shown and "report: out/report.html" in shown
    assert len((project.folder / "out" / "report.html").read_text()) > 50_000

    metrics = open_artifact(project.folder / "out" / "evaluation", "evaluation").json("metrics.json")
    assert (metrics["version"], metrics["champion"], metrics["champion_error"]) == (first, second, None)
    assert not metrics["window"]["overlaps"] and metrics["index"]["recall@100"] is None
    assert project.champion("measured") == second, "nothing is promoted"
    ran = project.states("measured")
    assert set(ran) == {"resolve_inputs", "prepare_data", "evaluate_recall"}

    again = project.command(*command, *LATER, *COMMON, *WORKDIR).stdout
    assert project.states("measured")["prepare_data"] == "cached"
    assert re.search(r"report: measured/2\S+/report.html", again)
    (step,) = [step for step in project.runs("measured")[-1]["steps"] if step["name"] == "evaluate_recall"]
    once_more = open_artifact(step["outputs"]["evaluation"], "evaluation").json("metrics.json")
    assert once_more | {"index": None} == metrics | {"index": None}, "the latency alone may differ"


def test_a_version_that_has_trained_on_the_window_is_refused(project, versions):
    early = ("--set", "data.split.test=30d")
    command = ("evaluate", "configs/tiny.yaml", "--version", versions[1], *early, *COMMON, *WORKDIR)
    shown = project.command(*command, code=3).stdout
    assert "Refused, since test window after training failed" in shown
    assert "The version was trained on events until 28 April 2024" in shown
    assert project.champion("measured") == versions[1], "nothing is taken back either"


def test_runs_on_the_same_queries_are_compared_in_pairs_and_others_are_not(project, versions):
    for version in versions:
        project.command("evaluate", "configs/tiny.yaml", "--version", version, *LATER, *COMMON, *WORKDIR)
    *_, first, second = [run["run_id"] for run in project.runs("measured")]
    before, _ = [run["run_id"] for run in project.runs("measured") if run["version"]]
    paired = project.command("runs", "compare", first, second, *WORKDIR, "--page", "pages/runs.html").stdout
    assert "so the differences are paired" in paired and "the configurations are the same" in paired
    assert re.search(r"recall@100 .* [+-]0\.\d{4} \[", paired)
    assert versions[0] in (project.folder / "pages" / "runs.html").read_text()
    other = project.command("runs", "compare", before, second, *WORKDIR).stdout
    assert "The queries differ, so that no difference is drawn: they come from different prepared data" in other
    assert "data.split.test" in other and "training.epochs" in other
