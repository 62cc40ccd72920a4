"""Recommending to everybody: the same as one by one, whatever the runner, and taken up where it was cut off."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_artefacts import DAY, TEST_FROM, item_ids, random_log, write_prepared, write_version

from two_tower.artifacts import open_artifact
from two_tower.config import BeamSettings
from two_tower.data import EveryUser, open_prepared
from two_tower.errors import ArtifactError, ConfigError, DataError
from two_tower.serving import QueryFile, Recommendations, Recommender, ScoreShard, recommend_all

ITEMS, USERS, KNOWN = 60, 30, 50
IDS = item_ids(ITEMS)
ONE = BeamSettings(workers=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, and a version of which the tower knows the first 50 items."""
    folder = tmp_path_factory.mktemp("world")
    log = random_log(users=USERS - 1, items=ITEMS, events=700)
    quiet = [event for event in log if event[0] % 5 or event[2] < 90 * DAY]  # every fifth user leaves early
    write_prepared(folder / "prepared", [*quiet, (USERS - 1, 3, 119 * DAY)], items=ITEMS)  # and one comes late
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    write_version(folder / "version", vectors, IDS, known=KNOWN)
    return folder


@pytest.fixture(scope="module")
def users(world: Path) -> EveryUser:
    return EveryUser(open_prepared(world / "prepared"))


@pytest.fixture(scope="module")
def stored(world: Path) -> Recommender:
    return Recommender.open(world / "version")


def score(world: Path, source: Any, out: Path, **options: Any) -> Recommendations:
    return recommend_all(world / "version", source, out, **{"k": 10, "beam": ONE, "shard_rows": 7} | options)


def read(out: Path) -> list[dict[str, Any]]:
    reader = open_artifact(out, "recommendations")
    parts = sorted(name for name in reader.manifest.files if name.startswith("part-"))
    return [row for name in parts for row in reader.table(name).to_pylist()]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def write_file(path: Path, rows: list[dict[str, Any]] | pa.Table) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path)
    return path


def assert_as_stored(row: dict[str, Any], stored: Recommender, query: dict[str, Any], k: int, **options: Any) -> None:
    expected = stored.recommend(query, k, **options)
    assert row["items"] == expected.item_ids
    np.testing.assert_allclose(row["scores"], expected.scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_every_user_gets_what_one_query_would_give(
    world: Path, users: EveryUser, stored: Recommender, tmp_path: Path, exclude_seen: bool
) -> None:
    found = score(world, users, tmp_path / "out", exclude_seen=exclude_seen)
    assert found == Recommendations(tmp_path / "out", USERS, {}, USERS, found.seconds, found.unknown_items)
    assert sorted(found.unknown_items) == IDS[KNOWN:]
    rows = read(tmp_path / "out")
    assert open_artifact(tmp_path / "out", "recommendations").manifest.data_seen_until == TEST_FROM - 1
    prepared = open_prepared(world / "prepared")
    ids = prepared.users()["user_id"].to_pylist()
    assert sorted(row["user_id"] for row in rows) == sorted(ids)
    for row in rows:
        assert ids[row["query"]] == row["user_id"]
        query = users.one(row["user_id"])
        assert query is not None
        assert_as_stored(row, stored, query, 10, exclude_seen=exclude_seen)
        if exclude_seen:
            assert not {*query["history"], *query["seen"]} & set(row["items"])
    part = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert part.schema.types == [
        pa.int64(), pa.string(), pa.list_(pa.string()), pa.list_(pa.float32()), pa.string(),
        pa.list_(pa.string()),
    ]  # fmt: skip
    assert part.num_rows == 7


def test_users_without_an_event_come_last(world: Path, tmp_path: Path, stored: Recommender) -> None:
    folder = write_prepared(tmp_path / "prepared", [(0, 1, DAY), (1, 2, 115 * DAY)], items=ITEMS)
    table = pa.table({"user_id": ["u0", "u1", "quiet"], "feature.age": [30.0, None, 50.0]})
    pq.write_table(table, folder / "users.parquet")
    prepared = open_prepared_unchecked(folder)
    score(world, EveryUser(prepared), tmp_path / "out")
    rows = read(tmp_path / "out")
    assert [row["user_id"] for row in rows] == ["u0", "u1", "quiet"]
    assert_as_stored(rows[2], stored, {"user.age": 50.0}, 10)


@pytest.mark.parametrize("name", ["queries.parquet", "queries.jsonl"])
def test_a_file_of_queries_is_answered_row_by_row(world: Path, stored: Recommender, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "user_id": None if number % 3 == 0 else f"x{number}",
            "history": [IDS[item] for item in rng.integers(0, ITEMS, size=1 + number % 9)] + ["gone"],
            "user.age": None if number % 4 == 0 else float(number),
        }
        for number in range(40)
    ]
    rows[5]["history"] = []
    found = score(world, QueryFile(write_file(tmp_path / name, rows)), tmp_path / "out", exclude_seen=True, k=7)
    assert found.queries == 40
    for number, (row, query) in enumerate(zip(read(tmp_path / "out"), rows, strict=True)):
        assert (row["query"], row["user_id"]) == (number, query["user_id"])
        assert not set(query["history"]) & set(row["items"])
        if row["reason"] is None and any(item in IDS[:50] for item in query["history"]):
            assert_as_stored(row, stored, query, 7, exclude_seen=True)


def test_a_wholly_unknown_history_needs_a_user(world: Path, stored: Recommender, tmp_path: Path) -> None:
    rows = [{"user_id": None, "history": ["gone"]}, {"user_id": "new", "history": ["gone"]}]
    found = score(world, QueryFile(write_file(tmp_path / "q.jsonl", rows)), tmp_path / "out")
    assert found.without == {"unknown_history": 1}
    nobody, new = read(tmp_path / "out")
    assert (nobody["items"], nobody["scores"], nobody["reason"]) == ([], [], "unknown_history")
    assert_as_stored(new, stored, {}, 10)
    assert open_artifact(tmp_path / "out", "recommendations").manifest.extra["without"] == {"unknown_history": 1}


def test_a_vector_that_is_not_finite_costs_one_query(world: Path, tmp_path: Path) -> None:
    rows = [{"user_id": "a", "history": [IDS[0]], "user.age": 1e300}, {"user_id": "b", "history": [IDS[0]]}]
    found = score(world, QueryFile(write_file(tmp_path / "q.parquet", rows)), tmp_path / "out")
    assert found.without == {"not_finite": 1}
    assert [len(row["items"]) for row in read(tmp_path / "out")] == [0, 10]


def test_more_than_the_corpus_gives_the_corpus(world: Path, tmp_path: Path) -> None:
    rows = [{"history": [IDS[0]], "seen": IDS[1:4]}, {"history": IDS[:50], "seen": IDS[50:]}]
    file = write_file(tmp_path / "q.jsonl", rows)
    score(world, QueryFile(file), tmp_path / "all", k=ITEMS + 9)
    assert [sorted(row["items"]) for row in read(tmp_path / "all")] == [IDS, IDS]
    found = score(world, QueryFile(file), tmp_path / "less", k=ITEMS + 9, exclude_seen=True)
    assert [sorted(row["items"]) for row in read(tmp_path / "less")] == [IDS[4:], []]
    assert found.without == {"nothing_left": 1}


def test_what_a_file_leaves_out_is_taken_from_its_users(
    world: Path, users: EveryUser, stored: Recommender, tmp_path: Path
) -> None:
    file = write_file(tmp_path / "q.jsonl", [{"user_id": "u7"}, {"user_id": "u3"}, {"user_id": "u7"}])
    score(world, QueryFile(file, users), tmp_path / "alone", exclude_seen=True)
    for row, user in zip(read(tmp_path / "alone"), ("u7", "u3", "u7"), strict=True):
        assert row["user_id"] == user
        assert_as_stored(row, stored, users.one(user) or {}, 10, exclude_seen=True)
    file = write_file(tmp_path / "q.parquet", [{"user_id": "u7", "history": [IDS[2]]}, {"user_id": "x", "history": []}])
    score(world, QueryFile(file, users), tmp_path / "given")
    known, new = read(tmp_path / "given")
    assert_as_stored(known, stored, {**(users.one("u7") or {}), "history": [IDS[2]]}, 10)
    assert_as_stored(new, stored, {}, 10)


def test_ids_may_be_numbers_and_large_types(world: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1, None]),
            "history": pa.array([[IDS[1]], [IDS[2]]], pa.large_list(pa.large_string())),
            "user.age": pa.array([20, 30], pa.int32()),
        }
    )
    score(world, QueryFile(write_file(tmp_path / "q.parquet", table)), tmp_path / "out")
    assert [row["user_id"] for row in read(tmp_path / "out")] == ["1", None]


def test_json_lines_may_mix_numbers_and_texts_and_hold_blank_lines(world: Path, tmp_path: Path) -> None:
    ids = [7, "u1", 8.0, None, True, 2**70]
    rows = [json.dumps({"user_id": user, "history": [IDS[number], number]}) for number, user in enumerate(ids)]
    (tmp_path / "q.jsonl").write_text("\n".join(["", rows[0], "  ", *rows[1:], "", ""]))
    score(world, QueryFile(tmp_path / "q.jsonl"), tmp_path / "mixed")
    answers = read(tmp_path / "mixed")
    assert [row["user_id"] for row in answers] == ["7", "u1", "8", None, "true", str(2**70)]
    assert [row["query"] for row in answers] == list(range(6))
    texts = [{"user_id": row["user_id"], "history": [IDS[number], str(number)]} for number, row in enumerate(answers)]
    score(world, QueryFile(write_file(tmp_path / "t.jsonl", texts)), tmp_path / "texts")
    assert read(tmp_path / "texts") == answers


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"user.age": 3.0}], "needs a column user_id, history or context.NAME; it has: user.age"),
        ([{"history": ["a"], "user.name": "x"}], "user.name: no column of queries; .*user_id, history, user.age"),
        ([{"history": ["a"], "context.shop": "x"}], "takes no context shop; it takes: none"),
        ([{"history": ["a"]}, {"history": None}], "row 1: history is null"),
        ([{"history": ["a"]}, {"history": ["b", None]}], "row 1: history holds a null"),
        ([{"user_id": "u1"}], "no run here made this version"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_wrong_queries_are_named(world: Path, tmp_path: Path, rows: Any, message: str, kind: str) -> None:
    file = write_file(tmp_path / f"q.{kind}", rows)
    with pytest.raises(DataError, match=f"(?s){file.name}.*{message}"):
        score(world, QueryFile(file), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"history": ["a"]}\n{"history": "a"}\n', r'row 1: history: expected a list of texts, got "a"'),
        ('{"history": ["a"]}\n{"history": [1.5]}\n', r"row 1: history: expected a list of texts, got \[1.5\]"),
        ('{"history": ["a"]}\n{"history": [{"id": 1}]}\n', r"row 1: history: expected a list of texts, got \[\{"),
        (
            '{"history": [], "user_id": 7}\n{"history": [], "user_id": [7]}\n',
            r"row 1: user_id: expected a text, got \[7",
        ),
        ('{"history": []}\n\n{"history": ["\\ud800"]}\n', "row 1: history: expected a list of texts"),
        (f'{{"history": []}}\n{{"history": {"[" * 100_000}', "row 1: not JSON"),
        ('{"history": [], "user.age": 1}\n{"history": [], "user.age": "old"}\n', "row 1: user.age: expected a number"),
        ('{"history": []}\nnonsense\n', "row 1: not JSON"),
        ('{"history": []}\n[1]\n', "row 1: expected a JSON object"),
        ("", "needs a column"),
    ],
)
def test_wrong_lines_are_named(world: Path, tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "q.jsonl").write_text(lines)
    with pytest.raises(DataError, match=message):
        score(world, QueryFile(tmp_path / "q.jsonl"), tmp_path / "out")


def test_wrong_files_are_named(world: Path, users: EveryUser, tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(DataError, match=message):
            score(world, QueryFile(path, users), tmp_path / "out")

    refused(tmp_path / "none.parquet", "no such file")
    (tmp_path / "q.csv").write_text("user_id\n1\n")
    refused(tmp_path / "q.csv", "ends with .parquet or .jsonl")
    (tmp_path / "q.parquet").write_text("user_id\n1\n")
    refused(tmp_path / "q.parquet", "not a readable Parquet file")
    floats = pa.table({"user_id": [1.5], "history": pa.array([["a"]])})
    refused(write_file(tmp_path / "q.parquet", floats), "user_id: expected a text, got a column of double")
    refused(write_file(tmp_path / "q.parquet", [{"user_id": "u1"}, {"user_id": "no"}]), "row 1: .* no such user: 'no'")
    refused(write_file(tmp_path / "q.parquet", [{"user_id": "u1"}, {"user_id": None}]), "row 1: user_id is null")
    empty = pa.table({"user_id": pa.array([], pa.string())})
    refused(write_file(tmp_path / "q.parquet", empty), "there is no query")


@pytest.mark.parametrize("runner", ["in_process", pytest.param("multi_process", marks=pytest.mark.slow)])
def test_the_runner_changes_no_byte(world: Path, users: EveryUser, tmp_path: Path, runner: str) -> None:
    score(world, users, tmp_path / "one")
    score(world, users, tmp_path / "other", beam=BeamSettings(runner=runner, workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_only_missing_shards_are_made_again(
    world: Path, users: EveryUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ScoreShard.process

    def dying(self: ScoreShard, shard: int) -> Any:
        if shard == 2:
            raise KeyError("the machine is gone")
        yield from process(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreShard, "process", dying)
        with pytest.raises(Exception, match="the machine is gone"):
            score(world, users, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert done and "part-00002.parquet" not in done
    found = score(world, users, tmp_path / "out")
    assert 0 < found.scored < found.queries == USERS
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done} == done
    score(world, users, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = score(world, users, tmp_path / "out")
    assert (again.scored, again.queries) == (0, USERS)


def test_a_killed_process_is_taken_up(world: Path, users: EveryUser, tmp_path: Path) -> None:
    program = """
import os, signal, sys
from two_tower.config import BeamSettings
from two_tower.data import EveryUser, open_prepared
from two_tower.serving import ScoreShard, recommend_all
process = ScoreShard.process
def dying(self, shard):
    yield from process(self, shard)
    open(sys.argv[2] + "/.part-00009.parquet.1.tmp", "w").write("half a fi")
    os.kill(os.getpid(), signal.SIGKILL)
ScoreShard.process = dying
recommend_all(sys.argv[1] + "/version", EveryUser(open_prepared(sys.argv[1] + "/prepared")), sys.argv[2], k=10,
              beam=BeamSettings(workers=1), shard_rows=7)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(world), str(tmp_path / "out")], timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob("part-*"))) == 1
    found = score(world, users, tmp_path / "out")
    assert found.scored == found.queries - 7
    score(world, users, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_plan_is_refused(world: Path, users: EveryUser, tmp_path: Path) -> None:
    score(world, users, tmp_path / "out")
    before = contents(tmp_path / "out")
    file = write_file(tmp_path / "q.parquet", [{"user_id": "u1"}])
    for options, message in (({"k": 11}, "k is 10 there, 11 here"), ({"exclude_seen": True}, "exclude_seen is False")):
        with pytest.raises(ArtifactError, match=rf"{message}.*name a new folder, or delete this one"):
            score(world, users, tmp_path / "out", **options)
    with pytest.raises(ArtifactError, match="query_file is none there"):
        score(world, QueryFile(file, users), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_folder_with_something_else_is_left_alone(world: Path, users: EveryUser, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letters.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="holds other files"):
        score(world, users, tmp_path / "out")
    assert contents(tmp_path / "out") == {"letters.txt": b"dear"}
    with pytest.raises(ArtifactError, match="is a file"):
        score(world, users, tmp_path / "out" / "letters.txt")


def open_prepared_unchecked(folder: Path) -> Any:
    """The prepared data of a folder whose files a test has changed."""
    from two_tower.artifacts import ArtifactReader, read_manifest
    from two_tower.data import Prepared

    return Prepared(ArtifactReader(folder, read_manifest(folder, "prepared_data")))


def test_a_runner_on_other_machines_is_refused(world: Path, users: EveryUser, tmp_path: Path) -> None:
    beam = BeamSettings(runner="DataflowRunner", work="gs://bucket/work")
    with pytest.raises(ConfigError, match=r"beam\.runner: recommendations are made on this machine"):
        score(world, users, tmp_path / "out", beam=beam)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["query_tower/signature.json", "index/settings.json"])
def test_a_damaged_version_is_named(world: Path, users: EveryUser, tmp_path: Path, part: str) -> None:
    shutil.copytree(world / "version", tmp_path / "version")
    (tmp_path / "version" / part).write_bytes(b"other bytes")
    with pytest.raises(ArtifactError, match=f"{part}: differs from what the manifest lists"):
        recommend_all(tmp_path / "version", users, tmp_path / "out", k=3, exclude_seen=False, beam=ONE)
