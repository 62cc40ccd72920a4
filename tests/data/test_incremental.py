"""Preparing day by day gives what preparing everything at once gives, and where it could not, everything is read."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings as hypothesis_settings, strategies as st
from prepared_logs import Row, contents, event, ordinary_log, settings, write_rows

from two_tower.config import BeamSettings, DataSettings
from two_tower.data import open_prepared, prepare, resolve_sources
from two_tower.errors import DataError

NOW = 1_700_000_000
"""The moment, in seconds, when every file was written: it decides what is in the future."""
COLUMNS = {"user": "user", "item": "item", "time": "time"}
EVENTS = {
    "columns": COLUMNS | {"event": "event", "weight": "amount"},
    "events": {"buy": 2, "view": {"role": "impression", "weight": 0.5}},
}
SHORT = {"type": "global_time", "test": "2d", "validation": "2d"}
LONG = {"type": "global_time", "test": "10d", "validation": "10d"}
LAST_OUT = {"split": {"type": "leave_last_out"}}


def write_day(folder: Path, name: str, rows: list[Row]) -> Path:
    """A file of the logs, written at a fixed moment."""
    path = write_rows(folder / name, rows)
    os.utime(path, (NOW, NOW))
    return path


def prepare_logs(out: Path, data: DataSettings, *, previous: Path | None = None) -> dict[str, bytes] | str:
    """Every file of the prepared data and the profile, or what the step says if it refuses the logs."""
    sources = resolve_sources(data, dataset="test")
    try:
        prepare(
            sources, out=out / "prepared", data=data, beam=BeamSettings(workers=1), profile=out / "profile",
            previous=previous / "prepared" if previous else None,
        )  # fmt: skip
    except DataError as error:
        return str(error)
    return contents(out)


def read_parts(caplog: pytest.LogCaptureFixture) -> list[int]:
    """How many files each preparation read."""
    lines = [record.getMessage() for record in caplog.records if "reading" in record.getMessage()]
    return [int(line.split()[2]) for line in lines if line.endswith("parts")]


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why earlier preparations were not used."""
    start = "prepare_data: all files are read, not only the new ones: "
    lines = [record.getMessage() for record in caplog.records]
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def grow(folder: Path, days: list[tuple[str, list[Row]]], **changes: Any) -> list[int]:
    """Prepares after every day from the day before and from nothing, and compares all the files.

    Returns how many files each preparation has to read.
    """
    data = settings(folder / "logs", incremental=True, **{"split": SHORT} | changes)
    previous, known, reads = None, 0, []
    for number, (name, rows) in enumerate(days):
        write_day(folder / "logs", name, rows)
        step = prepare_logs(folder / f"step{number}", data, previous=previous)
        whole = prepare_logs(folder / f"whole{number}", data)
        if isinstance(step, dict) and isinstance(whole, dict):
            assert {path for path in step if step[path] != whole.get(path)} == set()
        assert step == whole
        reads += [number + 1 - known, number + 1]
        if isinstance(step, dict):
            previous, known = folder / f"step{number}", number + 1
    return reads


def rich_rows() -> list[Row]:
    """Rows of two kinds of events, some of them broken, in the order of their times."""
    rows = []
    log = ordinary_log(users=5, days=30)
    for n in range(12, len(log), 9):  # faster than a person
        time = datetime.fromisoformat(log[n]["time"])
        log[n + 1 : n + 1] = [log[n] | {"time": f"{time.replace(second=s)}", "item": f"i{s}"} for s in (57, 58, 59)]
    for n, row in enumerate(log):
        more = {"event": ["buy", "buy", "view"][n % 3], "device": ["a", "b"][n % 2]}
        rows.append(row | more | {"part": "test" if n % 5 == 0 else "validation" if n % 5 == 1 else "train"})
    rows[4]["user"], rows[21]["time"], rows[40]["item"] = None, "soon", ""
    rows[9]["event"], rows[33]["event"], rows[50]["amount"] = "hover", None, -1.0
    return rows


def cut(rows: list[Row], ending: str = "jsonl") -> list[tuple[str, list[Row]]]:
    """The rows in three days, of which one comes late, with a row of yesterday's in each."""
    half, more = len(rows) // 2, len(rows) // 4
    first, second, last = rows[:half], rows[half : half + more], rows[half + more :]
    return [
        (f"day-2.{ending}", first + first[-2:]),
        (f"day-4.{ending}", last + first[-2:]),
        (f"day-3.{ending}", [last[3], *second]),  # late, and sorted before what is there
    ]


CASES: dict[str, dict[str, Any]] = {
    "plain": {"log": {"max_bad_share": 0.5}},
    "everything": {
        "log": EVENTS
        | {
            "max_bad_share": 0.5,
            "max_rate": {"events": 2, "per": "1d"},
            "repeats": "first",
            "k_core": {"user": 2, "item": 1},
            "filters": [{"column": "item", "op": "!=", "value": "i3"}],
        },
        "examples": {"shape": "pairs", "max_per_user": 5},
        "query": {"context": {"device": {"type": "categorical"}}, "history_roles": ["positive", "impression"]},
    },
    "rate limit": {"log": {"max_bad_share": 0.9, "max_rate": {"events": 1, "per": "1d"}}},
    "repeats": {"log": {"max_bad_share": 0.5, "repeats": "first"}} | LAST_OUT,
    "core": {"log": {"max_bad_share": 0.5, "k_core": {"user": 3, "item": 2}}},
    "leave last": {"log": EVENTS | {"max_bad_share": 0.5}, "split": {"type": "leave_last_k", "k": 2}},
    "given": {
        "log": {"max_bad_share": 0.5, "max_rate": {"events": 3, "per": "3d"}},
        "split": {"type": "given", "column": "part", "test": "test", "validation": "validation"},
    },
    "given files": {"log": {"max_bad_share": 0.5}, "split": {"type": "given", "test": "day-4*"}},
    "one shard": {"log": {"max_bad_share": 0.5}, "shards": 1},
    "duplicates stay, ties apart": {
        "log": {"max_bad_share": 0.5, "duplicates": "keep"},
        "split": {"type": "leave_last_k", "k": 2, "ties": "apart"},
    },
}


QUICK = ("everything",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_day_by_day_gives_what_all_at_once_gives(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO, "two_tower")
    reads = grow(tmp_path, cut(rich_rows()), **CASES[name])
    assert read_parts(caplog) == reads
    assert reads[4:] == [1, 3] and (reads[2] == 1 or name == "given files")
    assert reasons(caplog) == []
    assert open_prepared(tmp_path / "step2" / "prepared").set_aside().num_rows


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_other_formats(tmp_path: Path, ending: str) -> None:
    tables = {}
    for table, key in (("items", "i"), ("users", "u")):
        path = write_rows(tmp_path / f"{table}.csv", [{"id": f"{key}{n}", "age": n} for n in range(4)])
        os.utime(path, (NOW, NOW))
        tables[table] = {"path": str(path), "id": "id", "features": {"age": {"type": "numeric"}}}
        tables[table]["unknown"] = "set_aside"
    grow(tmp_path, cut(rich_rows(), ending), log={"max_bad_share": 0.95}, **tables)


def test_files_in_folders_of_days(tmp_path: Path) -> None:
    rows = rich_rows()
    days = [(f"day=2020-09-{n + 10}/part.jsonl", rows[n * 15 : n * 15 + 25]) for n in (3, 1, 2, 0)]
    filters = [{"column": "day", "op": "!=", "value": "2020-09-12"}]
    grow(tmp_path, days, log={"max_bad_share": 0.5, "filters": filters})


def test_what_is_noted_of_all_files(tmp_path: Path) -> None:
    rows = [
        row | {"time": f"{datetime.fromisoformat(row['time']):%d/%m/%Y %H:%M:%S}", "user": user}
        for row in ordinary_log(users=5)
        for user in [{"u1": "NULL", "u2": "u3 ", "u4": "1.5E+15"}.get(row["user"], row["user"])]
    ]
    rows[3]["time"] = rows[40]["time"] = "soon"
    days = [("day-1.jsonl", rows[:50]), ("day-2.jsonl", rows[50:])]
    grow(tmp_path, days, log={"time_format": "day_first", "max_bad_share": 0.5})
    noted = open_prepared(tmp_path / "step1" / "prepared").summary["noted"]
    assert {name.partition(":")[0] for name in noted} == {"bad_times", "padded_ids", "placeholder_ids", "rounded_ids"}


ROW = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 40), st.sampled_from(["good"] * 9 + ["bad"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [CASES["everything"] | {"split": LONG}, CASES["leave last"]], ids=["by time", "by order"]
)
@hypothesis_settings(
    max_examples=3,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(rows=st.lists(ROW, min_size=30, max_size=80), data=st.data())
def test_random_cuts_of_random_logs(rows: list[tuple[int, int, int, str]], data: Any, changes: dict[str, Any]) -> None:
    log = [
        event(f"u{user}", f"i{item}", day, event=["buy", "view", "hover"][(user + day) % 3 if item else 0])
        | {"device": f"d{day % 3}", "amount": 1.5 if state == "good" else -1.0}
        for user, item, day, state in rows
    ]
    names = data.draw(st.permutations(["a.jsonl", "b/c.jsonl", "d.jsonl"]))
    bounds = sorted(data.draw(st.lists(st.integers(5, len(log) - 1), min_size=2, max_size=2)))
    parts = [log[: bounds[0]], log[bounds[0] : bounds[1]], log[bounds[1] :]]
    with tempfile.TemporaryDirectory() as folder:
        grow(Path(folder), list(zip(names, parts, strict=True)), **changes)


class Growing:
    """A log of two days, prepared after the first."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.rows = rich_rows()
        self.settings = {"incremental": True, "log": {"max_bad_share": 0.5}} | changes
        self.first = write_day(folder / "logs", "day-1.jsonl", self.rows[:45])
        items = [{"id": f"i{n}"} for n in range(11)]
        self.items = write_day(folder, "items.csv", items)
        self.settings["items"] = {"path": str(self.items), "id": "id", "unknown": "set_aside"}
        self.before = folder / "before"
        assert isinstance(prepare_logs(self.before, self.data), dict)
        write_day(folder / "logs", "day-2.jsonl", self.rows[45:])

    @property
    def data(self) -> DataSettings:
        return settings(self.folder / "logs", **self.settings)


def change_settings(log: Growing) -> None:
    log.settings["shards"] = 2


def change_file(log: Growing) -> None:
    write_day(log.folder / "logs", "day-1.jsonl", log.rows[:44])


def touch_file(log: Growing) -> None:
    os.utime(log.first, (NOW - 5, NOW - 5))


def rename_file(log: Growing) -> None:
    log.first.rename(log.first.with_name("day-0.jsonl"))


def change_items(log: Growing) -> None:
    write_day(log.folder, "items.csv", [{"id": f"i{n}"} for n in range(9)])


def other_polars(log: Growing) -> None:
    """As if the earlier preparation had been made by another version."""
    rewrite(log.before / "prepared", lambda state: state | {"polars": "0.1.0"})


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes the state as an earlier preparation would have written it, size and checksum included."""
    from two_tower.artifacts import open_artifact, write_artifact

    old = open_artifact(folder, "prepared_data")
    kept = {name: old.path(name).read_bytes() for name in old.manifest.files}
    facts = old.manifest
    with write_artifact(folder, "prepared_data", config=facts.config) as writer:
        for name, content in kept.items():
            path = writer.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        writer.write_json("state.json", change(json.loads(kept["state.json"])))
        writer.manifest.extra = facts.extra


def cut_events(log: Growing) -> None:
    path = sorted((log.before / "prepared" / "events").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-9])


def no_manifest(log: Growing) -> None:
    (log.before / "prepared" / "manifest.json").unlink()


def no_folder(log: Growing) -> None:
    log.before = log.folder / "nowhere"


def not_incremental(log: Growing) -> None:
    log.settings["incremental"] = False
    assert isinstance(prepare_logs(log.before, log.data), dict)
    log.settings["incremental"] = True


REFUSALS: dict[str, tuple[Callable[[Growing], None], str]] = {
    "settings": (change_settings, "the data settings have changed"),
    "changed file": (change_file, "day-1.jsonl is gone or has changed"),
    "touched file": (touch_file, "day-1.jsonl is gone or has changed"),
    "renamed file": (rename_file, "day-1.jsonl is gone or has changed"),
    "items": (change_items, "the table of the items has changed, by which rows are set aside"),
    "polars": (other_polars, f"it was made with polars 0.1.0, this is {pl.__version__}"),
    "cut events": (cut_events, "events"),
    "no manifest": (no_manifest, "manifest"),
    "no folder": (no_folder, "nowhere"),
    "not incremental": (not_incremental, ""),
}


@pytest.mark.parametrize(
    "name",
    [name if name in ("settings", "changed file") else pytest.param(name, marks=pytest.mark.slow) for name in REFUSALS],
)
def test_what_cannot_be_gone_on_from_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    spoil, why = REFUSALS[name]
    log = Growing(tmp_path)
    spoil(log)
    caplog.set_level(logging.INFO, "two_tower")
    step = prepare_logs(tmp_path / "step", log.data, previous=log.before)
    assert len(reasons(caplog)) == 1 and why in reasons(caplog)[0]
    assert read_parts(caplog) == [2]
    assert isinstance(step, dict) and step == prepare_logs(tmp_path / "whole", log.data)


def test_future_rows_are_looked_at_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row that was in the future when its file was new is in the past of a newer file."""
    rows = rich_rows()
    tomorrow = datetime.fromtimestamp(NOW + 3 * 86400, UTC).replace(tzinfo=None)
    rows[2]["time"] = tomorrow.isoformat(sep=" ")
    data = settings(tmp_path / "logs", incremental=True, log={"max_bad_share": 0.5}, split={"type": "leave_last_out"})
    write_day(tmp_path / "logs", "day-1.jsonl", rows[:45])
    assert isinstance(prepare_logs(tmp_path / "before", data), dict)
    assert open_prepared(tmp_path / "before" / "prepared").summary["rows"]["set_aside"]["future_time"] == 1
    path = write_day(tmp_path / "logs", "day-2.jsonl", rows[45:])
    os.utime(path, (NOW + 4 * 86400, NOW + 4 * 86400))
    caplog.set_level(logging.INFO, "two_tower")
    step = prepare_logs(tmp_path / "step", data, previous=tmp_path / "before")
    assert len(reasons(caplog)) == 1 and "from the future" in reasons(caplog)[0]
    assert step == prepare_logs(tmp_path / "whole", data)
    assert "future_time" not in open_prepared(tmp_path / "step" / "prepared").summary["rows"]["set_aside"]


def test_an_item_table_that_sets_nothing_aside_may_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Growing(tmp_path)
    log.settings["items"] |= {"unknown": "keep"}
    assert isinstance(prepare_logs(log.before, log.data), dict)
    write_day(tmp_path, "items.csv", [{"id": f"i{n}"} for n in range(5, 25)])
    caplog.set_level(logging.INFO, "two_tower")
    step = prepare_logs(tmp_path / "step", log.data, previous=log.before)
    assert reasons(caplog) == [] and read_parts(caplog) == [0]
    assert step == prepare_logs(tmp_path / "whole", log.data)


def test_without_the_setting_nothing_is_kept_and_the_previous_one_is_not_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Growing(tmp_path)
    log.settings["incremental"] = False
    caplog.set_level(logging.INFO, "two_tower")
    assert isinstance(prepare_logs(tmp_path / "step", log.data, previous=log.before), dict)
    assert reasons(caplog) == [] and read_parts(caplog) == [2]
    names = {path.name for path in (tmp_path / "step" / "prepared").iterdir()}
    assert not names & {"events", "state.json", "sketch.parquet"}


def test_only_new_files_are_opened_and_none_if_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row for row in rich_rows() if row["user"] and row["item"] and row["time"] != "soon"]
    data = settings(tmp_path / "logs", incremental=True)
    write_day(tmp_path / "logs", "day-1.jsonl", rows[:45])
    assert isinstance(prepare_logs(tmp_path / "before", data), dict)
    write_day(tmp_path / "logs", "day-2.jsonl", rows[45:])
    opened: list[str] = []
    from two_tower.data import shards

    read = shards.read_batches
    monkeypatch.setattr(shards, "read_batches", lambda unit: opened.append(Path(unit.path).name) or read(unit))
    step = prepare_logs(tmp_path / "step", data, previous=tmp_path / "before")
    assert opened == ["day-2.jsonl"]
    opened.clear()
    caplog.set_level(logging.INFO, "two_tower")
    assert prepare_logs(tmp_path / "again", data, previous=tmp_path / "step") == step
    assert opened == [] and read_parts(caplog) == [0]
