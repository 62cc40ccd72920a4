"""Stored versions measured on other windows than their own, and runs set beside each other, as a user does it.

The versions are those of a registry of its own, so that the other tests find theirs as they left it.
"""

import re
import shutil

import pytest

from two_tower.artifacts import open_artifact

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LENIENT = ("--set", "evaluation.gate=[{type: enough_queries, at_least: 50}]")
LATER = ("--set", "data.split.test=7d")
WORKDIR = ("--workdir", "measured")


@pytest.fixture(scope="module")
def versions(project, first_run) -> tuple[str, str]:
    """The version of the first run, and one that was trained on a week more, after quick training; it is champion."""
    shutil.copytree(project.folder / "runs" / "registry", project.folder / "measured" / "registry")
    first = project.champion("measured")
    quick = (
        "--set",
        "training.epochs=1",
        "--set",
        "data.interactions.filters=[{column: event, op: ==, value: purchase}]",
    )
    project.command("run", "configs/tiny.yaml", *LENIENT, *LATER, *quick, *WORKDIR)
    return first, project.champion("measured")


def test_two_versions_of_other_vocabularies_compare_on_a_later_window(project, versions):
    first, second = versions
    command = ("evaluate", "configs/tiny.yaml", "--version", first[:8], "--against", "champion")
    shown = project.command(*command, *LATER, *LENIENT, *WORKDIR, "-o", "out").stdout
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

    again = project.command(*command, *LATER, *LENIENT, *WORKDIR).stdout
    assert project.states("measured")["prepare_data"] == "cached"
    assert re.search(r"report: measured/2\S+/report.html", again)
    (step,) = [step for step in project.runs("measured")[-1]["steps"] if step["name"] == "evaluate_recall"]
    once_more = open_artifact(step["outputs"]["evaluation"], "evaluation").json("metrics.json")
    assert once_more | {"index": None} == metrics | {"index": None}, "the latency alone may differ"


def test_a_version_that_has_trained_on_the_window_is_refused(project, versions):
    early = ("--set", "data.split.test=30d")
    command = ("evaluate", "configs/tiny.yaml", "--version", versions[1], *early, *LENIENT, *WORKDIR)
    shown = project.command(*command, code=3).stdout
    assert "Refused, since test window after training failed" in shown
    assert "The version was trained on events until 28 April 2024" in shown
    assert project.champion("measured") == versions[1], "nothing is taken back either"


def test_runs_on_the_same_queries_are_compared_in_pairs_and_others_are_not(project, versions):
    for version in versions:
        project.command("evaluate", "configs/tiny.yaml", "--version", version, *LATER, *LENIENT, *WORKDIR)
    *_, first, second = [run["run_id"] for run in project.runs("measured")]
    (trained,) = [run["run_id"] for run in project.runs("measured") if run["version"]]
    paired = project.command("runs", "compare", first, second, *WORKDIR, "--page", "pages/runs.html").stdout
    assert "so the differences are paired" in paired and "the configurations are the same" in paired
    assert re.search(r"recall@100 .* [+-]0\.\d{4} \[", paired)
    assert versions[0] in (project.folder / "pages" / "runs.html").read_text()
    other = project.command("runs", "compare", trained, second, *WORKDIR).stdout
    assert "The queries differ, so that no difference is drawn: they come from different prepared data" in other
    assert "data.interactions.filters" in other and "training.epochs" in other
