"""Nights of growing logs: each is trained on its own window, in full or from the champion, and judged on its merits."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from project import Project, kill, wait_for

from pipelines.local.locks import exclusive

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FIRST, DAYS = datetime(2024, 5, 15, tzinfo=UTC), 80
"""The day of the first night, a Wednesday, and the length of a night's window."""
FULL = f"""
      data.interactions.path: nights/*.parquet
      data.interactions.filters:
        - {{column: time, op: ">=", value: "{{date-{DAYS}d}}"}}
        - {{column: time, op: "<", value: "{{date}}"}}
      evaluation.gate:
        - {{type: minimum, metric: recall@100, at_least: 0.3}}
        - {{type: not_worse_than_champion, metric: recall@100, margin: 0.05}}
      evaluation.baselines: []
      training.refit: true"""
ENVIRONMENT = f"""
schedules:
  full:
    config: configs/tiny.yaml
    cron: "0 3 * * Wed"
    start: {FIRST:%Y-%m-%d}
    catch_up: all
    set:{FULL}
  incremental:
    config: configs/tiny.yaml
    cron: "0 3 * * Thu-Sat,Sun-Tue"
    start: {FIRST:%Y-%m-%d}
    catch_up: all
    set:{FULL}
      training.warm_start: true
      training.epochs: 2
"""


class Nights:
    """A checkout whose logs grow night by night, and its scheduler."""

    def __init__(self, project: Project) -> None:
        self.project, self.workdir = project, project.folder / "scheduled"
        (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
        self.all, self.logs = pq.read_table(path), path.parent / "nights"
        self.logs.mkdir()
        (project.folder / "nights.yaml").write_text(ENVIRONMENT)

    def between(self, start: datetime | None, end: datetime) -> pa.Table:
        times = self.all["time"]
        kept = pc.less(times, pa.scalar(end, times.type))
        return self.all.filter(
            kept if start is None else pc.and_(kept, pc.greater_equal(times, pa.scalar(start, times.type)))
        )

    def deliver(self, night: int, table: pa.Table | None = None) -> None:
        """Adds the file of a night: what came since the night before, or what is given."""
        if table is None:
            table = self.between(due(night - 1) if night else None, due(night))
        pq.write_table(table, self.logs / f"night-{night}.parquet")

    def arguments(self, moment: datetime) -> tuple[str, ...]:
        return (
            *("schedule", "run-local", "--once", "--env", "nights.yaml", "--workdir", str(self.workdir)),
            *("--now", moment.isoformat()),
        )

    def look(self, moment: datetime) -> str:
        return self.project.command(*self.arguments(moment)).stdout

    def entries(self) -> list[dict]:
        """Of both schedules, in the order of their due times."""
        files = (self.workdir / "schedules").glob("*/state.json")
        return sorted(
            (entry for file in files for entry in json.loads(file.read_text())["entries"]),
            key=lambda entry: (entry["due"], entry["attempt"]),
        )

    def verdicts(self) -> list[str]:
        return [entry["verdict"] for entry in self.entries()]

    def ended(self) -> list[dict]:
        """The runs that came to a verdict, in the order of their due times."""
        runs = {run["run_id"]: run for run in self.project.runs(str(self.workdir))}
        return [runs[entry["run_id"]] for entry in self.entries() if entry["verdict"] in ("promoted", "refused")]


def due(night: int) -> datetime:
    return FIRST + timedelta(days=night, hours=3)


@pytest.mark.timeout(1800)  # six runs, one after the other
def test_five_nights_of_growing_logs(project):
    nights = Nights(project)
    soon = timedelta(minutes=5)

    nights.deliver(0)
    nights.deliver(1)  # the machine was off in the first night: both are caught up, each with the logs of its time
    said = nights.look(due(1) + soon)
    assert said.count("starts") == 2
    assert nights.verdicts() == ["promoted", "promoted"]
    assert "starts" not in nights.look(due(1) + timedelta(hours=1))

    nights.deliver(2)
    killed_while_it_trains(nights, due(2) + soon)
    assert nights.verdicts()[2:] == ["running"]
    said = nights.look(due(2) + 2 * soon)
    assert "was cut off, the scheduler was killed; it is started again" in said
    assert nights.verdicts()[2:] == ["interrupted", "promoted"]
    assert state_of(nights.ended()[2], "prepare_data") == "cached"

    good = nights.between(due(2), due(3))
    nights.deliver(3, shuffled(nights.between(due(3) - timedelta(days=10), due(3)), times=20))
    assert "refused" in nights.look(due(3) + soon)
    nights.deliver(3, good)  # mended in the morning
    nights.deliver(4)
    assert "promoted" in nights.look(due(4) + soon)

    assert nights.verdicts() == ["promoted", "promoted", "interrupted", "promoted", "refused", "promoted"]
    runs = nights.ended()
    assert len({run["run_id"] for run in runs}) == 5
    for night, run in enumerate(runs):
        first, last = window(run)
        end = FIRST + timedelta(days=night)
        assert end - timedelta(days=DAYS) <= first < end - timedelta(days=DAYS - 1)
        assert end - timedelta(days=1) <= last < end
    started_from = [outputs(run, "resolve_inputs")["warm_start"] for run in runs]
    assert started_from[0] == ""
    for before, start in zip([0, 1, 2, 2], started_from[1:], strict=True):
        assert runs[before]["version"] in start, "each starts from the champion of its time, none from what was refused"
    assert [len(history(run)["epoch"]) for run in runs] == [3, 2, 2, 2, 2]
    assert all(None not in history(run)["validation_recall"] for run in runs), "the champion's refit is no hindrance"
    assert nights.project.champion("scheduled") == runs[4]["version"]

    nights.deliver(5)
    with exclusive(nights.workdir):
        said = nights.look(due(5) + soon)
    assert "starts" not in said and nights.verdicts()[-1] == "skipped"
    assert len(nights.ended()) == 5


def killed_while_it_trains(nights: Nights, moment: datetime) -> None:
    """Kills the scheduler of a night, once its run has prepared the data and trains."""
    count = len(nights.project.runs(str(nights.workdir)))
    process = nights.project.start(*nights.arguments(moment))
    trains = wait_for(
        lambda: (
            len(runs := nights.project.runs(str(nights.workdir))) > count
            and state_of(runs[-1], "train_towers") == "running"
        ),
        process=process,
    )
    assert trains, nights.verdicts()
    below = psutil.Process(process.pid).children(recursive=True)
    kill(process, group=False)
    assert wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in below))


def shuffled(table: pa.Table, *, times: int) -> pa.Table:
    """Rows that many times over, each with an item at random: a night from which nothing can be learned."""
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(table.num_rows), times))
    items = pa.array([f"i{number}" for number in np.random.default_rng(2).integers(0, 2000, len(rows))])
    return table.take(pa.array(rows)).set_column(table.schema.get_field_index("item_id"), "item_id", items)


def step_of(run: dict, name: str) -> dict:
    return next((step for step in run["steps"] if step["name"] == name), {})


def state_of(run: dict, name: str) -> str | None:
    return step_of(run, name).get("state")


def outputs(run: dict, name: str) -> dict:
    return step_of(run, name)["outputs"]


def history(run: dict) -> dict:
    return json.loads((Path(outputs(run, "train_towers")["trained"]) / "history.json").read_text())


def window(run: dict) -> tuple[datetime, datetime]:
    """The first and the last moment of all that a run's data hold."""
    summary = json.loads((Path(outputs(run, "prepare_data")["prepared"]) / "summary.json").read_text())
    moments = [moment for part in summary["windows"].values() for moment in part]
    return tuple(datetime.fromtimestamp(moment / 1e6, UTC) for moment in (min(moments), max(moments)))
