"""The first hour with data of one's own: docs/quickstart.md as it stands, and what a trial may not know."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import ROOT, Project

from pipelines.datasets.tiny import COLOURS

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


LEFT_OUT = "evaluation.repeats=leave_out"


def shape(line: str) -> str:
    """A line without what differs from run to run: numbers, ids, borders of tables and how far the columns stand."""
    line = re.sub(r"[┃│┏┓┡┩└┘━─┳╇┻┴┼┬]+", " ", line)
    line = re.sub(r"\b[0-9a-f]{12,16}\b|runs/\S+/report.html", "NAME", line)
    line = re.sub(rf"\b({'|'.join(colour.capitalize() for colour in COLOURS)}) \w+", "TITLE", line)
    return re.sub(r"\s+", " ", re.sub(r"-?\d[\d,.:]*", "0", line)).strip()


def metrics_of(project: Project, workdir: str) -> dict:
    run = project.runs(workdir)[-1]
    evaluation = next(step for step in run["steps"] if step["name"] == "evaluate_recall")["outputs"]["evaluation"]
    content: dict = json.loads((Path(evaluation) / "metrics.json").read_text())
    return content


def test_the_quickstart_is_what_a_new_user_sees(tmp_path):
    """Every command of the page, in its order; the lines that it shows are printed, whatever their numbers."""
    project = Project(tmp_path)
    (config,) = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "configs" / "shop.yaml").write_text(config)
    commands = 0
    for _, text in (block for block in BLOCKS if block[0] == "console"):
        command, *shown = text.splitlines()
        assert command.startswith("$ two-tower ")
        commands += 1
        said = project.command(*shlex.split(command.removeprefix("$ two-tower "))).stdout
        printed = {shape(line) for line in said.splitlines()}
        for line in shown:
            assert line == "..." or shape(line) in printed, f"{command}: {line!r} is not in\n{said}"
    assert commands == 5
    metrics = metrics_of(project, "runs")
    assert project.champion(name="shop") == metrics["version"]
    assert all(compared["recall@100"]["low"] > 0 for compared in metrics["comparisons"].values())
    assert metrics["before_refit"]["queries"] == metrics["queries"]
    history = json.loads(next(tmp_path.glob("runs/artifacts/*/train-towers/trained/history.json")).read_text())
    assert history["chosen"]["recipe"] == "sequences"


def test_targets_that_users_have_had_are_told_and_count_as_misses(tmp_path):
    project = Project(tmp_path)
    project.command("data", "shop")
    (config,) = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "configs" / "shop.yaml").write_text(config)
    orders = tmp_path / "data" / "shop" / "orders.csv"
    first = {}
    for line in orders.read_text().splitlines()[1:]:
        customer, sku, _ = line.split(",")
        first.setdefault(customer, sku)
    again = [(customer, sku) for customer, sku in list(first.items())[:100]]
    with orders.open("a") as log:  # what validates and what tests of a hundred customers
        log.writelines(f"{who},{what},2024-07-0{day} 10:00:00.000000Z\n" for day in (1, 2) for who, what in again)
    checked = project.command("data", "check", "configs/shop.yaml").stdout
    assert re.search(
        r"^note: 200 of 30,200 positive events \(0\.7%\) take an item that their user has had", checked, re.M
    )
    quick = ("--set", "training.epochs=1", "--set", "training.repeats=miss", "--set", "evaluation.baselines=[]")
    said = " ".join(project.command("try", "configs/shop.yaml", *quick).stdout.split())
    assert "100 of 1,500 queries ask only for items that the user has had; they count as misses" in said
    assert metrics_of(project, "runs")["queries"] == 1500
    said = " ".join(project.command("try", "configs/shop.yaml", *quick, "--set", LEFT_OUT).stdout.split())
    assert metrics_of(project, "runs")["queries"] == 1400 and "they are left out" in said


def test_a_trial_has_the_same_figures_whatever_is_in_the_test_window(tmp_path):
    project = Project(tmp_path)
    project.command("data", "tiny")
    path = tmp_path / "data" / "tiny" / "interactions.parquet"
    settings = [
        *("--set", "training.deterministic=true", "--set", "training.epochs=1"),
        *("--set", "evaluation.baselines=[{type: recent_popularity}, {type: ials, factors: 8}]"),
    ]
    project.command("try", "configs/tiny.yaml", *settings, "--workdir", "before")
    logs = pq.read_table(path)
    seconds = logs["time"].cast(pa.int64()).to_numpy() / 1e6
    tested = np.flatnonzero(seconds > seconds.max() - 14 * 86_400)
    order = np.arange(len(logs))
    order[tested] = np.random.default_rng(1).permutation(tested)
    items = logs["item_id"].take(pa.array(order))
    pq.write_table(logs.set_column(logs.schema.get_field_index("item_id"), "item_id", items), path)
    project.command("try", "configs/tiny.yaml", *settings, "--workdir", "after")
    before, after = (metrics_of(project, workdir) for workdir in ("before", "after"))
    assert before["split"] == after["split"] == "validation"
    for section in ("systems", "comparisons", "slices", "loss", "queries", "candidates"):
        assert before[section] == after[section], section
