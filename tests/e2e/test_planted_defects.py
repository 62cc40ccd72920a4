"""Retrainings with a planted defect, through the whole DAG: the gate refuses them and the champion goes on serving."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from project import kept

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GATE = [
    {"type": "not_worse_than_champion", "metric": "recall@100", "margin": 0.02},
    {"type": "data_complete"},
    {"type": "minimum", "metric": "recall@100", "at_least": 0.01},
]
WORK = ("--workdir", "planted", "--set", f"evaluation.gate={json.dumps(GATE)}")
WITHOUT_GATE = ("--workdir", "planted", "--set", "evaluation.gate=null")
ONE_STEP = ("training.epochs=1", "training.batch_size=1000000", "training.learning_rate=0.0001")
TRAINED_FOR_ONE_STEP = [word for text in ONE_STEP for word in ("--set", text)]


@pytest.fixture(scope="module")
def champion(project, first_run) -> str:
    """The version of the first run, in a registry of its own."""
    shutil.copytree(project.folder / "runs" / "registry", project.folder / "planted" / "registry")
    return project.champion("planted")


def failed_checks(project) -> list[str]:
    run = project.runs("planted")[-1]
    outputs = {key: path for step in run["steps"] for key, path in step["outputs"].items()}
    metrics = json.loads((project.folder / outputs["evaluation"] / "metrics.json").read_text())
    return [check["name"] for check in metrics["gate"]["checks"] if check["status"] == "failed"]


def test_towers_trained_for_one_step(project, champion):
    project.command("run", "configs/tiny.yaml", *WORK, *TRAINED_FOR_ONE_STEP, code=3)
    assert "recall@100 not worse than champion by more than 0.02" in failed_checks(project)
    assert project.champion("planted") == champion
    assert project.states("planted")["keep_refused"] == "ran"


def test_towers_trained_for_one_step_where_the_configuration_has_no_gate(project, champion):
    said = project.command("run", "configs/tiny.yaml", *WITHOUT_GATE, *TRAINED_FOR_ONE_STEP, code=3).stdout
    assert "Refused by the default gate, since recall@100 not worse than champion (auto margin) failed" in said
    assert "standard errors) with probability" in said
    assert project.champion("planted") == champion
    page = project.folder / "planted" / project.runs("planted")[-1]["run_id"] / "report.html"
    assert "These are the checks of the default gate" in page.read_text()


def test_a_day_missing_from_the_logs(project, champion):
    path = project.folder / "data" / "tiny" / "interactions.parquet"
    logs = pl.read_parquet(path)
    days = logs["time"].cast(pl.Int64)
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(getattr(logs["time"].dtype, "time_unit", "s"), 1)
    day = datetime.fromtimestamp(days.median() / unit, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = (int(moment.timestamp() * unit) for moment in (day, day + timedelta(days=1)))
    with kept(path):
        logs.filter((days < start) | (days >= end)).write_parquet(path)
        project.command("run", "configs/tiny.yaml", *WORK, code=3)
    assert "missing or low days <= 0" in failed_checks(project)
    assert project.champion("planted") == champion
