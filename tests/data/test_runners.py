"""The preparation on every runner gives the same bytes, and what goes to other machines survives the way there."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import DAY, START, contents, ordinary_log, run, settings, write_rows

from two_tower.beam import pipeline
from two_tower.config import BeamSettings, DataSettings
from two_tower.data import encode, prepare, resolve_sources, shards
from two_tower.data.reading import plan_units
from two_tower.data.stages import Stages
from two_tower.data.work import Work
from two_tower.errors import ConfigError, DataError

DATAFLOW = BeamSettings(
    runner="DataflowRunner",
    work="gs://bucket/work",
    options={
        "project": "my-project",
        "region": "europe-west4",
        "temp_location": "gs://bucket/temp",
        "service_account_email": "workers@my-project.iam.gserviceaccount.com",
        "sdk_container_image": f"europe-docker.pkg.dev/my-project/two-tower/prep@sha256:{'0' * 64}",
    },
)


def rich_log(folder: Path, **changes: Any) -> DataSettings:
    """Settings for a log of several files with everything that has a stage of its own."""
    rows = [
        row | {"device": ["phone", "web"][n % 2], "event": "view" if n % 5 == 2 else "buy"}
        for n, row in enumerate(ordinary_log(users=9, days=40))
    ]
    rows[7]["time"], rows[10]["user"], rows[20]["item"] = "soon", "", "unknown"
    rows += rows[30:33]
    for n, (name, step) in enumerate((("b/a", 3), ("a", 1), ("c", 2))):
        write_rows(folder / "logs" / f"{name}.csv", rows[n::3][::step] + rows[n : n + 2])
    items = [{"id": f"i{n}", "colour": ["red", "blue"][n % 2], "price": n + 0.5} for n in range(13)]
    users = [{"id": f"u{n}", "age": 20 + n} for n in range(7)]
    log = {
        "columns": {"user": "user", "item": "item", "time": "time", "event": "event"},
        "events": {"buy": 2, "view": {"role": "impression", "weight": 0.5}},
        "max_bad_share": 0.5,
        "max_rate": {"events": 3, "per": "1d"},
        "k_core": {"user": 2, "item": 2},
    }
    return settings(
        folder / "logs",
        log=log,
        items={
            "path": str(write_rows(folder / "items.csv", items)),
            "id": "id",
            "features": {"colour": {"type": "categorical"}, "price": {"type": "numeric"}},
            "unknown": "set_aside",
        },
        users={
            "path": str(write_rows(folder / "users.csv", users)),
            "id": "id",
            "features": {"age": {"type": "numeric"}},
        },
        query={"context": {"device": {"type": "categorical"}}, "history_length": 7},
        examples={"shape": "pairs"},
        shards=5,
        **changes,
    )


def prepared_on(beam: BeamSettings, out: Path, data: DataSettings) -> dict[str, bytes]:
    """Every file of the prepared data and of the profile."""
    sources = resolve_sources(data, dataset="test")
    prepare(sources, out=out / "prepared", data=data, beam=beam, profile=out / "profile")
    assert sorted(path.name for path in out.iterdir()) == ["prepared", "profile"]
    return contents(out)


def test_threads_and_memory_give_the_same_bytes(tmp_path: Path) -> None:
    data = rich_log(tmp_path, incremental=True)
    one = prepared_on(BeamSettings(workers=1), tmp_path / "one", data)
    names = {name.partition("/part-")[0] for name in one}
    assert names >= {"prepared/train", "prepared/pairs", "prepared/events", "prepared/sketch.parquet"}
    assert "profile/profile.json" in names
    reasons = pq.read_table(tmp_path / "one" / "prepared" / "set_aside.parquet")["reason"].to_pylist()
    assert {"bad_time", "missing_user", "unknown_item", "duplicate"} <= set(reasons)
    assert prepared_on(BeamSettings(workers=3), tmp_path / "threads", data) == one
    assert prepared_on(BeamSettings(work="memory://runners-test/"), tmp_path / "memory", data) == one

    import fsspec

    assert fsspec.filesystem("memory").find("/runners-test") == []


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_threads(tmp_path: Path) -> None:
    data = rich_log(tmp_path)
    one = prepared_on(BeamSettings(), tmp_path / "one", data)
    assert prepared_on(BeamSettings(runner="multi_process", workers=2), tmp_path / "processes", data) == one


@pytest.mark.slow
def test_a_broken_file_is_the_same_error_in_a_process(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    path.write_bytes(path.read_bytes().replace(b"i5", b"\xe9"))
    data = settings(path)
    with pytest.raises(DataError, match=r"log\.csv: not UTF-8"):
        prepared_on(BeamSettings(runner="multi_process", workers=2), tmp_path / "out", data)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["log.csv", "out"]


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
@pytest.mark.parametrize(("name", "mode"), [("in_process", "multi_threading"), ("multi_process", "multi_processing")])
def test_the_local_runners_take_the_number_of_workers(name: str, mode: str, workers: int) -> None:
    from apache_beam.options.pipeline_options import DirectOptions

    options = pipeline(BeamSettings(runner=name, workers=workers)).options.view_as(DirectOptions)
    if workers == 1 and name == "in_process":
        return  # Beam's own way for one worker
    assert options.direct_running_mode == mode
    assert options.direct_num_workers == workers if workers else 1 <= options.direct_num_workers <= 8


REFUSED: list[tuple[BeamSettings, str]] = [
    (
        BeamSettings(runner="direct"),
        "beam.runner: no runner 'direct'; expected one of in_process, multi_process, Dataflow",
    ),
    (BeamSettings(runner="dataflowrunner"), "beam.runner: no runner 'dataflowrunner'"),
    (BeamSettings(runner=""), "beam.runner: no runner ''"),
    (BeamSettings(runner="DataflowRunner"), "beam.options: DataflowRunner needs project and region and temp_location"),
    (DATAFLOW.model_copy(update={"work": None}), "beam.work: DataflowRunner needs a gs:// folder"),
]


@pytest.mark.parametrize(("beam", "match"), REFUSED, ids=[match[:60] for _, match in REFUSED])
def test_a_runner_that_lacks_something_is_refused_at_once(beam: BeamSettings, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        pipeline(beam)


def test_the_step_refuses_an_unknown_runner_and_leaves_nothing(tmp_path: Path) -> None:
    data = settings(write_rows(tmp_path / "log.csv", ordinary_log()))
    with pytest.raises(ConfigError, match=r"beam\.runner"):
        prepare(resolve_sources(data, dataset="x"), out=tmp_path / "out", data=data, beam=BeamSettings(runner="spark"))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


IN_A_FRESH_PROCESS = """
import sys
from pathlib import Path
from apache_beam.internal import pickler
for path in sys.argv[1:]:
    loaded = pickler.loads(Path(path).read_bytes())
    print(type(loaded).__name__, *getattr(loaded, "keywords", {}))
"""


def loaded_elsewhere(folder: Path, payloads: list[bytes]) -> list[str]:
    """What a process that knows nothing yet makes of what was pickled."""
    paths = []
    for n, payload in enumerate(payloads):
        paths.append(folder / f"pickled-{n}")
        paths[-1].write_bytes(payload)
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return done.stdout.splitlines()


def test_every_stage_is_built_for_dataflow_and_can_be_loaded_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.portability.api import beam_runner_api_pb2

    monkeypatch.setattr(GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled", lambda *_: None)  # asks the bucket
    payloads: list[bytes] = []
    names: list[str] = []
    run_here = Stages._run

    def build_too(self: Any, stages: Callable[[Any], None], *, part: str) -> None:
        built = pipeline(DATAFLOW)
        stages(built)
        proto = built.to_runner_api()
        again = apache_beam.Pipeline.from_runner_api(proto, built.runner, built.options).to_runner_api()
        assert len(again.components.transforms) == len(proto.components.transforms)
        for transform in proto.components.transforms.values():
            if transform.spec.urn == "beam:transform:pardo:v1":
                work = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
                payloads.append(work.do_fn.payload)
                names.append(transform.unique_name.partition("/")[0])
        run_here(self, stages, part=part)

    monkeypatch.setattr(Stages, "_run", build_too)
    run(tmp_path / "prepared", rich_log(tmp_path))
    assert {"Read", "Merge", "Encode", "Describe what was set aside"} <= set(names)
    assert len(loaded_elsewhere(tmp_path, payloads)) == len(payloads)


def test_a_piece_of_work_survives_the_way_to_another_process(tmp_path: Path) -> None:
    from apache_beam.internal import pickler

    data = rich_log(tmp_path)
    logs = resolve_sources(data, dataset="x")["interactions"]
    work = Work(str(tmp_path / "work"))
    work.make()
    work.write("known-item.arrow", pa.table({"id": pa.array([f"i{n}" for n in range(11)])}))
    earlier = shards.Earlier({0: "events.parquet"}, (1, 0))
    job = shards.Job(data=data, work=work, newest=START + 100 * DAY, earlier=earlier)
    functions = [
        functools.partial(function, job=job)
        for function in (shards.read_unit, shards.merge_shard, shards.describe_aside, encode.encode_shard)
    ]
    pickled = [pickler.dumps(function) for function in functions]
    assert loaded_elsewhere(tmp_path, pickled) == ["partial job"] * len(functions)
    again = [pickler.loads(one) for one in pickled]
    assert all(one.keywords["job"] == job for one in again)
    for unit in plan_units(logs):
        assert pickler.loads(pickler.dumps(unit)) == unit
        assert list(again[0](unit)) == list(functions[0](unit)) != []


def skewed_log(path: Path, *, share: float, events: int = 12_000) -> dict[str, list[tuple[str, int]]]:
    """A log in which one user has that share of the events; its events by user, in order."""
    random = np.random.default_rng(7)
    user = np.where(random.random(events) < share, 0, random.integers(1, 150, events))
    users, items = [f"u{n}" for n in user], [f"i{n}" for n in random.integers(0, 300, events)]
    times = [START + n * 60_000_000 for n in range(events)]
    pq.write_table(
        pa.table({"user": users, "item": items, "time": pa.array(times, pa.timestamp("us"))}), path, row_group_size=1000
    )
    found: dict[str, list[tuple[str, int]]] = {}
    for one, item, time in zip(users, items, times, strict=True):
        found.setdefault(one, []).append((item, time))
    return found


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_user_with_much_of_all_events_loses_none_of_them(tmp_path: Path, share: float) -> None:
    log = skewed_log(tmp_path / "log.parquet", share=share)
    assert len(log["u0"]) > 0.9 * share * 12_000
    data = settings(
        tmp_path / "log.parquet",
        split={"type": "global_time", "test": "1d", "validation": "1d"},
        examples={"shape": "pairs", "max_per_user": 400},
        query={"history_length": 50},
        shards=4,
    )
    prepared = run(tmp_path / "prepared", data)
    items = prepared.items(["item_id"])["item_id"].to_pylist()
    users = prepared.users(["user_id"])["user_id"].to_pylist()
    assert prepared.summary["rows"]["kept"] == 12_000
    bounds = (prepared.manifest.extra["validation_from"], prepared.manifest.extra["test_from"], 1 << 62)
    sequences = {users[row["user"]]: row for row in prepared.sequences().to_pylist()}
    trained = {user: [event for event in events if event[1] < bounds[0]] for user, events in log.items()}
    for user, row in sequences.items():
        assert [(items[n], time) for n, time in zip(row["items"], row["times"], strict=True)] == trained[user]
        assert row["visible"] == list(range(len(row["items"])))
        assert sum(row["targets"]) == min(400, len(row["items"])) and all(row["targets"][-400:])
    assert set(sequences) == {user for user, events in trained.items() if events}
    for split, start, end in (("validation", *bounds[:2]), ("test", *bounds[1:])):
        queries = {row["user_id"]: row for row in prepared.queries(split).to_pylist()}
        windows = {user: {item for item, time in events if start <= time < end} for user, events in log.items()}
        assert {user: {items[n] for n in row["relevant"]} for user, row in queries.items()} == {
            user: window for user, window in windows.items() if window
        }
        for user, row in queries.items():
            past = [event for event in log[user] if event[1] < start]
            shown = [(items[n], time) for n, time in zip(row["history"], row["history_times"], strict=True)]
            assert shown == past[-50:]
            assert {items[n] for n in row["seen"]} == {item for item, _ in past}
    pairs: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(prepared.folder / "pairs").to_pylist():
        pairs.setdefault(users[row["user"]], []).append(row)
    for user, rows in pairs.items():
        events = trained[user]
        assert [(items[row["item"]], row["time"]) for row in rows] == events[-400:]
        for place, row in enumerate(rows, len(events) - len(rows)):
            assert row["history_times"] == [time for _, time in events[max(0, place - 50) : place]]
            assert [items[n] for n in row["history"]] == [item for item, _ in events[max(0, place - 50) : place]]


@pytest.mark.slow
def test_a_user_with_most_events_gives_the_same_bytes_in_processes(tmp_path: Path) -> None:
    skewed_log(tmp_path / "log.parquet", share=0.6)
    split = {"type": "global_time", "test": "1d", "validation": "1d"}
    data = settings(tmp_path / "log.parquet", split=split, shards=2, log={"max_bad_share": 0.1})
    one = prepared_on(BeamSettings(), tmp_path / "one", data)
    assert prepared_on(BeamSettings(runner="multi_process", workers=2), tmp_path / "processes", data) == one


def test_runs_that_share_a_work_folder_keep_out_of_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = Work.make
    monkeypatch.setattr(Work, "make", lambda work: (made.append(work.root), make(work))[1])
    data = rich_log(tmp_path)
    for folder in ("a", "b", "a"):
        sources = resolve_sources(data, dataset="x")
        prepare(
            sources,
            out=tmp_path / folder / "prepared",
            data=data,
            beam=BeamSettings(work=str(tmp_path / "work"), workers=1),
        )
    first, other, again = made
    assert first == again != other
