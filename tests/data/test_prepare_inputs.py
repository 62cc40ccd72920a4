"""Inputs that cannot be used: each against the real step, with what its message must say."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import contents, event, ordinary_log, run, run_rows, settings, write_rows
from pydantic import ValidationError

from two_tower.config import BeamSettings
from two_tower.data import prepare, resolve_sources
from two_tower.errors import ArtifactError, DataError

DAYS = {"type": "global_time", "test": "6d", "validation": "6d"}


def refused(folder: Path, match: str, data: Any, kind: type[Exception] = DataError) -> None:
    """Checks that the step refuses the settings with the message, and leaves nothing behind."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(kind, match=match):
        run(folder / "prepared", data)
    assert sorted(folder.rglob("*")) == before


def test_a_missing_path_names_the_key_the_places_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_TOWER_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError) as caught:
        resolve_sources(settings("gone.csv"), dataset="synthetic", data_root=str(tmp_path / "data"))
    for part in ("data.interactions.path", "data/synthetic/gone.csv", "elsewhere/synthetic/gone.csv"):
        assert part in str(caught.value)
    assert "two-tower data synthetic" in str(caught.value)
    with pytest.raises(DataError) as caught:
        resolve_sources(settings(tmp_path / "*.csv"), dataset="mine")
    assert "two-tower data" not in str(caught.value)


def test_relative_paths_are_found_in_the_data_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_TOWER_DATA", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    shared = write_rows(tmp_path / "shared" / "mine" / "log.csv", ordinary_log())
    found = resolve_sources(settings("log.csv"), dataset="mine")
    assert [file["path"] for file in found["interactions"]] == [str(shared)]
    own = write_rows(tmp_path / "data" / "mine" / "log.csv", ordinary_log())
    found = resolve_sources(settings("log.csv"), dataset="mine")
    facts = own.stat()
    assert found == {
        "interactions": [
            {
                "path": str(own),
                "name": "log.csv",
                "format": "csv",
                "bytes": facts.st_size,
                "generation": str(facts.st_mtime_ns),
                "modified": facts.st_mtime_ns // 1000,
            }
        ],
        "items": [],
        "users": [],
    }


def test_globs_folders_and_lists_give_sorted_files(tmp_path: Path) -> None:
    for name in ("logs/b.csv", "logs/a/c.csv", "logs/_temporary/x.csv", "logs/.a.csv", "logs/readme.md", "more/a.csv"):
        write_rows(tmp_path / name if name.endswith("csv") else tmp_path / f"{name}.jsonl", [event("u", "i", 1)])
        if not name.endswith("csv"):
            (tmp_path / f"{name}.jsonl").rename(tmp_path / name)

    def names(path: str | list[str]) -> list[str]:
        files = resolve_sources(settings(path), dataset="x")["interactions"]
        return [str(Path(file["path"]).relative_to(tmp_path)) for file in files]

    assert names(str(tmp_path / "logs")) == ["logs/a/c.csv", "logs/b.csv"]
    assert names(str(tmp_path / "*" / "[ab].csv")) == ["logs/b.csv", "more/a.csv"]
    assert names([str(tmp_path / "more"), str(tmp_path / "logs" / "**" / "*.csv")])[-1] == "more/a.csv"
    assert names([str(tmp_path / "more"), str(tmp_path / "more" / "a.csv")]) == ["more/a.csv"]


def test_remote_files_are_listed_with_their_generation(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, rows in (("a", ordinary_log()[:40]), ("b", ordinary_log()[40:])):
        memory.pipe(f"/logs-test/{name}.jsonl", write_rows(tmp_path / f"{name}.jsonl", rows).read_bytes())
    memory.pipe("/logs-test/_SUCCESS", b"")
    local = run(tmp_path / "local", settings([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]))
    for path in (
        "memory://logs-test",
        "memory://logs-test/*.jsonl",
        ["memory://logs-test/a.jsonl", "memory://logs-test/b.jsonl"],
    ):
        data = settings(path)
        files = resolve_sources(data, dataset="x")["interactions"]
        assert [file["path"] for file in files] == ["memory:///logs-test/a.jsonl", "memory:///logs-test/b.jsonl"]
        assert all(file["modified"] > 1.7e15 and file["generation"] and file["bytes"] for file in files)
    assert run(tmp_path / "remote", data).sequences().equals(local.sequences())
    refused(tmp_path, "memory://nothing", settings("memory://nothing/here"))


def test_sources_that_do_not_fit_together(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "the folder .*empty holds no data files", settings(tmp_path / "empty"))
    (tmp_path / "empty" / "notes.txt").write_text("x")
    refused(tmp_path, "the ending of .*notes.txt says no format", settings(tmp_path / "empty"))
    refused(tmp_path, "the list is empty", settings([]))
    write_rows(tmp_path / "mixed" / "a.csv", ordinary_log())
    write_rows(tmp_path / "mixed" / "b.parquet", ordinary_log())
    refused(tmp_path, r"files of several formats \(csv, parquet\)", settings(tmp_path / "mixed"))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_missing_column_names_the_file_and_the_nearest_one(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, ordinary_log())
    columns = {"user": "user", "item": "itemm", "time": "time"}
    match = rf"{name}: no column 'itemm', which data.interactions.columns.item names; did you mean 'item'\? .*amount"
    refused(tmp_path, match, settings(path, log={"columns": columns}))
    refused(
        tmp_path,
        "data.query.context.device",
        settings(path, query={"context": {"device": {"type": "categorical"}}}),
    )
    refused(
        tmp_path,
        "no column 'id', which data.items.id names",
        settings(path, items={"path": str(path), "id": "id"}),
    )
    refused(
        tmp_path,
        "no column 'colour', which data.items.features.colour names",
        settings(path, items={"path": str(path), "id": "item", "features": {"colour": {"type": "categorical"}}}),
    )


def test_a_column_missing_from_one_file_of_many(tmp_path: Path) -> None:
    write_rows(tmp_path / "logs" / "a.csv", ordinary_log())
    write_rows(tmp_path / "logs" / "b.csv", [{"user": "u", "item": "i", "date": "2020-01-01"}])
    refused(tmp_path, "b.csv: no column 'time'", settings(tmp_path / "logs"))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_an_empty_log(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refused(tmp_path, "the logs have no rows", settings(tmp_path / name))
    (tmp_path / "log.csv").write_text("user,item,time\n")
    refused(tmp_path, "the logs have no rows", settings(tmp_path / "log.csv"))
    pq.write_table(pa.Table.from_pylist(ordinary_log()).slice(0, 0), tmp_path / "log.parquet")
    refused(tmp_path, "the logs have no rows", settings(tmp_path / "log.parquet"))


def test_nothing_left_after_the_filters(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    log = {"filters": [{"column": "amount", "op": ">", "value": 1000}]}
    refused(tmp_path, "of 90 rows none is left after the filters .*amount > 1000: 90", settings(path, log=log))
    log = {"columns": {"user": "user", "item": "item", "time": "time", "event": "user"}, "events": {"buy": 1}}
    refused(tmp_path, r"none is left after the filters \(event u0: 15, event u1: 15", settings(path, log=log))


TIMES = [f"{n % 28 + 1:02}/{n % 12 + 1:02}/2020 10:00" for n in range(60)]


@pytest.mark.parametrize(
    ("max_bad_share", "verdict"),
    [(0.05, "61 of 61 rows are bad (100.0%), more than max_bad_share"), (1.0, "of 61 rows none is left; 61 are bad")],
)
def test_bad_rows_alone_are_refused_with_reasons_and_examples(
    tmp_path: Path, max_bad_share: float, verdict: str
) -> None:
    rows = [{"user": "u", "item": f"i{n}", "time": time} for n, time in enumerate(TIMES)]
    path = write_rows(tmp_path / "log.csv", rows)
    path.write_text(path.read_text() + "u,i,2020-01-01,1\n")
    with pytest.raises(DataError) as caught:
        run(tmp_path / "prepared", settings(path, log={"max_bad_share": max_bad_share}))
    for part in (
        verdict,
        f'\n  malformed: 1 rows\n    {path} row 60: "u,i,2020-01-01,1"\n',
        f'\n  bad_time: 60 rows\n    {path} row 0: {{"user"',
        "\n  note: 60 times in 'time' cannot be read; what can be: timestamps, dates, ISO 8601 text such as",
        "With data.interactions.time_format: day_first a sample of them can be read",
    ):
        assert part in str(caught.value)


def test_what_was_filtered_and_what_is_bad_are_both_told_where_nothing_is_left(tmp_path: Path) -> None:
    rows = [row | {"time": "soon"} if row["amount"] < 4 else row for row in ordinary_log()]
    log = {"max_bad_share": 1.0, "filters": [{"column": "amount", "op": "<", "value": 4}]}
    match = r"after the filters \(did not meet amount < 4: 81\);.*; 9 are bad.*\n  bad_time: 9 rows\n.*row 0: "
    refused(tmp_path, match, settings(write_rows(tmp_path / "log.csv", rows), log=log))


def test_a_row_is_shown_where_the_filters_leave_nothing(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    log = {"filters": [{"column": "user", "op": "==", "value": "U1"}]}
    refused(tmp_path, r'filtered: 90 rows\n    .*log\.csv row 0: \{"user":"u1",', settings(path, log=log))


def test_files_older_than_their_rows_are_told_how_to_get_a_date(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    os.utime(path, (315_532_800, 315_532_800))
    refused(tmp_path, "future_time: 90 rows(?s:.*)after 1980-01-02T00:00:00, .*is the future.*`touch`", settings(path))


def test_an_empty_window_of_times_that_were_misread_says_so(tmp_path: Path) -> None:
    rows = [row | {"time": row["time"][:10].replace("-", "")} for row in ordinary_log()]
    match = "the train window is empty(?s:.*)note: all times in 'time' are read as from 1970-08-22.*yyyymmdd"
    refused(tmp_path, match, settings(write_rows(tmp_path / "log.csv", rows)))


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    rows = ordinary_log()
    text = write_rows(tmp_path / "log.csv", rows).read_bytes()
    (tmp_path / "text.parquet").write_bytes(text)
    refused(tmp_path, "text.parquet: cannot be read as a Parquet file", settings(tmp_path / "text.parquet"))
    whole = write_rows(tmp_path / "whole.parquet", rows).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "cut.parquet: cannot be read as a Parquet file", settings(tmp_path / "cut.parquet"))
    (tmp_path / "damaged.parquet").write_bytes(whole[:200] + b"\xff" * 80 + whole[280:])
    refused(tmp_path, "damaged.parquet: ", settings(tmp_path / "damaged.parquet"))
    packed = gzip.compress(text)
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    refused(tmp_path, "cut.csv.gz: ", settings(tmp_path / "cut.csv.gz"))
    (tmp_path / "plain.csv.gz").write_bytes(text)
    refused(tmp_path, "plain.csv.gz: cannot be read as a CSV file", settings(tmp_path / "plain.csv.gz"))
    (tmp_path / "twice.csv").write_bytes(text.replace(b"amount", b"user", 1))
    refused(tmp_path, "names the column 'user' twice", settings(tmp_path / "twice.csv"))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_text_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, ordinary_log())
    path.write_bytes(path.read_bytes().replace(b"i5", b"\xe9t\xe9", 1))
    refused(tmp_path, rf"{name}: not UTF-8 text .*iconv -f LATIN1 -t UTF-8", settings(path))


def test_a_column_of_the_wrong_type(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.parquet", [row | {"tags": ["a", "b"], "ok": True} for row in ordinary_log()])
    refused(
        tmp_path,
        "'tags' of type List.* cannot hold ids",
        settings(path, log={"columns": {"item": "tags", "user": "user", "time": "time"}}),
    )
    refused(
        tmp_path,
        "'ok' of type Boolean cannot hold times",
        settings(path, log={"columns": {"item": "item", "user": "user", "time": "ok"}}),
    )
    refused(
        tmp_path,
        "log.parquet: data.query.context.user: .*numeric",
        settings(path, query={"context": {"user": {"type": "numeric"}}}),
    )
    refused(
        tmp_path,
        "data.items.features.user .*numeric",
        settings(path, items={"path": str(path), "id": "item", "features": {"user": {"type": "numeric"}}}),
    )


def test_empty_windows_say_what_the_logs_span(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    for split, name in (
        ({"test": "30d", "validation": "5d"}, "train"),
        ({"test": "5d", "validation": "60d"}, "train"),
    ):
        refused(
            tmp_path,
            f"the {name} window is empty; the logs span 2",
            settings(path, split={"type": "global_time"} | split),
        )
    path = write_rows(tmp_path / "gap.csv", [row for row in ordinary_log() if not 15 < row["amount"] < 25])
    refused(tmp_path, "the validation window is empty; the logs span 29", settings(path, split=DAYS))
    rows = [event(f"u{n}", "i", n) for n in range(20)]
    path = write_rows(tmp_path / "short.csv", rows)
    refused(tmp_path, "no user has 3 positive events", settings(path, split={"type": "leave_last_out"}))


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    columns = {"item": "item", "time": "time"}
    with pytest.raises(ValidationError, match=r"query\.context: without interactions\.columns\.user"):
        settings(path, log={"columns": columns})
    with pytest.raises(ValidationError, match="no time zone 'Mars/Base'"):
        settings(path, log={"timezone": "Mars/Base"})


def test_a_table_with_a_broken_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    (tmp_path / "items.csv").write_text("item,name\ni1,one\ni2\n")
    refused(
        tmp_path,
        "items.csv: row 1 does not parse",
        settings(path, items={"path": str(tmp_path / "items.csv"), "id": "item"}),
    )


def test_an_error_leaves_no_earlier_artefact_that_could_pass_for_the_new_one(tmp_path: Path) -> None:
    run_rows(tmp_path, ordinary_log())
    with pytest.raises(DataError):
        run_rows(tmp_path, ordinary_log(), log={"columns": {"user": "nobody", "item": "item", "time": "time"}})
    assert not (tmp_path / "prepared").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("two_tower.data.work.Work.write", full)
    with pytest.raises(ArtifactError, match="cannot write the prepared_data: No space left on device"):
        run_rows(tmp_path, ordinary_log())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet"]


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    prepared = run_rows(tmp_path, ordinary_log())
    complete = contents(prepared.folder)
    (prepared.folder / "manifest.json").unlink()
    (prepared.folder / "train" / "part-99999.parquet").write_bytes(b"half")
    (tmp_path / ".prepared.work").mkdir()
    (tmp_path / ".prepared.work" / "merged-000000.json").write_text("{")
    assert contents(run_rows(tmp_path, ordinary_log()).folder) == complete


def test_the_same_input_gives_the_same_bytes_on_any_runner_settings(tmp_path: Path) -> None:
    data = settings(write_rows(tmp_path / "log.parquet", ordinary_log()), log={"max_bad_share": 0.5})
    sources = resolve_sources(data, dataset="x")
    one = contents(run(tmp_path / "one", data).folder)
    parallel = {"direct_running_mode": "multi_threading", "direct_num_workers": 2}
    prepare(sources, out=tmp_path / "two", data=data, beam=BeamSettings(options=parallel))
    assert contents(tmp_path / "two") == one
