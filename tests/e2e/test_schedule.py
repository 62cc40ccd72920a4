"""Nights of growing logs: each is trained on its own window, with the champion before it, and judged on its merits."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKDIR = "scheduled"
FIRST, DAYS = datetime(2024, 5, 15, tzinfo=UTC), 80
ENVIRONMENT = f"""
schedules:
  nightly:
    config: configs/tiny.yaml
    cron: "0 3 * * *"
    start: {FIRST:%Y-%m-%d}
    catch_up: all
    set:
      training.warm_start: true
      evaluation.gate: [{{type: minimum, metric: recall@100, at_least: 0.3}}]
      evaluation.baselines: []
      data.interactions.path: nights/*.parquet
      data.interactions.filters:
        - {{column: time, op: ">=", value: "{{date-{DAYS}d}}"}}
        - {{column: time, op: "<", value: "{{date}}"}}
"""


def test_three_nights_of_growing_logs(project):
    (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
    logs = pq.read_table(path)
    nights = path.parent / "nights"
    nights.mkdir()
    (project.folder / "nights.yaml").write_text(ENVIRONMENT)

    def add(table: pa.Table, name: str) -> None:
        pq.write_table(table, nights / f"{name}.parquet")

    def until(moment: datetime) -> pa.Table:
        return logs.filter(pc.less(logs["time"], pa.scalar(moment, logs["time"].type)))

    def look(moment: datetime) -> str:
        arguments = ("--env", "nights.yaml", "--workdir", WORKDIR, "--now", moment.isoformat())
        return project.command("schedule", "run-local", "--once", *arguments).stdout

    add(until(FIRST + timedelta(days=1, hours=3)), "first")  # the second night's logs are there before the first's run
    said = look(FIRST + timedelta(days=1, hours=3, minutes=5))
    assert said.count("starts") == 2
    assert "starts" not in look(FIRST + timedelta(days=1, hours=4))

    bad = until(FIRST + timedelta(days=2, hours=3)).slice(8000)
    shuffled = np.random.default_rng(1).permutation(np.repeat(np.arange(bad.num_rows), 20))
    names = pa.array([f"i{number}" for number in np.random.default_rng(2).integers(0, 2000, len(shuffled))])
    late = bad.take(pa.array(shuffled)).set_column(bad.schema.get_field_index("item_id"), "item_id", names)
    add(late.filter(pc.greater(late["time"], pa.scalar(FIRST - timedelta(days=10), late["time"].type))), "third")
    said = look(FIRST + timedelta(days=2, hours=3, minutes=5))
    assert "refused" in said

    state = json.loads((project.folder / WORKDIR / "schedules" / "nightly" / "state.json").read_text())
    assert [entry["verdict"] for entry in state["entries"]] == ["promoted", "promoted", "refused"]
    runs = project.runs(WORKDIR)
    assert [entry["run_id"] for entry in state["entries"]] == [run["run_id"] for run in runs]
    for number, run in enumerate(runs):
        first, last = window(run)
        end = FIRST + timedelta(days=number)
        assert end - timedelta(days=DAYS) <= first < end - timedelta(days=DAYS - 1)
        assert end - timedelta(days=1) <= last < end
    started_from = [outputs(run, "resolve_inputs")["warm_start"] for run in runs]
    assert started_from[0] == ""
    assert runs[0]["version"] in started_from[1] and runs[1]["version"] in started_from[2]
    assert project.champion(WORKDIR) == runs[1]["version"]


def outputs(run: dict, step: str) -> dict:
    return next(found["outputs"] for found in run["steps"] if found["name"] == step)


def window(run: dict) -> tuple[datetime, datetime]:
    """The first and the last moment of all that a run's data hold."""
    summary = json.loads((Path(outputs(run, "prepare_data")["prepared"]) / "summary.json").read_text())
    moments = [moment for part in summary["windows"].values() for moment in part]
    return tuple(datetime.fromtimestamp(moment / 1e6, UTC) for moment in (min(moments), max(moments)))
