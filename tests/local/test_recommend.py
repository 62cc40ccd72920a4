"""Recommending to everybody with the users of the run that made the version."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_artefacts import DAY, item_ids, random_log, write_prepared, write_version
from registry_parts import make_parts

from pipelines.local.recommend import (
    _item_ids,
    example_query,
    excludes_seen,
    find_prepared,
    in_words,
    recommend_items,
    recommend_to_all,
)
from pipelines.runs import Run, list_runs
from two_tower.artifacts import open_artifact
from two_tower.config import BeamSettings, load_config, with_values
from two_tower.errors import DataError, UserError
from two_tower.registry import Registry, Version
from two_tower.serving import Recommendations

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
ITEMS = 40
IDS = item_ids(ITEMS)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and two versions of which it made the one."""
    folder = tmp_path_factory.mktemp("runs")
    write_prepared(folder / "prepared", [*random_log(users=9, items=ITEMS, events=300), (9, 1, 119 * DAY)], items=ITEMS)
    for seed, name in enumerate(("made", "foreign")):
        vectors = np.random.default_rng(seed).normal(size=(ITEMS, 4)).astype(np.float32)
        vocabulary = write_version(folder / "versions" / name, vectors, IDS) / "vocabulary"
        vocabulary.mkdir()
        shutil.copyfile(folder / "prepared" / "items.parquet", vocabulary / "items.parquet")
    run = Run.start(folder, name="shop", config_file="shop.yaml", config={})
    run.version = "made"
    run.step("prepare_data").outputs["prepared"] = str(folder / "prepared")
    run.save()
    return folder


def recommend(
    workdir: Path, out: Path, *, version: str = "made", queries: Path | None = None, exclude_seen: bool = False
) -> Recommendations:
    asked = Version(version, workdir / "versions" / version, "champion")
    prepared_of = partial(find_prepared, workdir)
    beam = BeamSettings(workers=1)
    return recommend_to_all(prepared_of, out, version=asked, queries=queries, beam=beam, k=5, exclude_seen=exclude_seen)


def rows(out: Path) -> list[dict[str, Any]]:
    return open_artifact(out, "recommendations").table("part-00000.parquet").to_pylist()


def test_every_user_of_the_run_gets_items(workdir: Path, tmp_path: Path) -> None:
    found = recommend(workdir, tmp_path / "out")
    assert found.queries == 10
    assert {row["user_id"] for row in rows(tmp_path / "out")} == {f"u{number}" for number in range(10)}
    assert all(len(row["items"]) == 5 for row in rows(tmp_path / "out"))
    said = in_words(found, k=5)
    assert said.startswith(f"{tmp_path / 'out'}: 10 of 10 queries with up to 5 items; 10 now in ")
    assert in_words(recommend(workdir, tmp_path / "out"), k=5).endswith("; all were there already")


def test_what_is_left_out_is_said(workdir: Path, tmp_path: Path) -> None:
    found = recommend(workdir, tmp_path / "new", exclude_seen=True)
    assert in_words(found, k=5, exclude_seen=True).endswith("/s; items of the past left out")
    seen = {row["user_id"]: {IDS[item] for item in row["seen"]}
            for row in open_artifact(workdir / "prepared", "prepared_data").table("test").to_pylist()}  # fmt: skip
    assert not any(seen.get(row["user_id"], set()) & set(row["items"]) for row in rows(tmp_path / "new"))
    asked = {"version": Version("made", workdir / "versions" / "made", "champion"), "user": "u4", "history": None}
    for exclude in (True, False):
        table = recommend_items(partial(find_prepared, workdir), **asked, context={}, k=5, exclude_seen=exclude)
        assert str(table.title).endswith("\nitems of the past left out") == exclude


@pytest.mark.parametrize(
    ("made_with", "given", "expected"),
    [(True, None, True), (False, None, False), (None, None, False), (True, False, False), (False, True, True)],
)
def test_seen_items_are_left_out_as_the_configuration_given_says_or_else_the_versions(
    tmp_path: Path, made_with: bool | None, given: bool | None, expected: bool
) -> None:
    parts = make_parts(tmp_path / "parts", "a")
    if made_with is not None:
        parts = replace(parts, config={**parts.config, "evaluation": {"exclude_seen": made_with}})
    registry = Registry(tmp_path / "registry", "shop")
    registry.promote(parts)
    version = registry.champion()
    assert version is not None
    config = None if given is None else with_values(load_config(TINY), {"evaluation.exclude_seen": given})
    assert excludes_seen(version, config=config) == expected


def test_the_readable_columns_are_those_of_the_items_found(workdir: Path, tmp_path: Path) -> None:
    """Not all candidates are in the index, so an item's row there is not its row in the candidate table."""
    shutil.copytree(workdir / "versions" / "made", tmp_path / "made")
    version = Version("made", tmp_path / "made", "champion")
    table = pa.table({"item_id": ["gone", *IDS], "display.title": ["none", *(f"Title of {item}" for item in IDS)]})
    pq.write_table(table, version.items)
    found = recommend_items(partial(find_prepared, workdir), version=version, user=None, history=[IDS[3]], context={},
                            k=4, exclude_seen=False)  # fmt: skip
    columns = {column.header: list(column.cells) for column in found.columns}
    assert columns["title"] == [f"Title of {item}" for item in columns["item"]] and len(columns["item"]) == 4


def test_a_user_of_a_file_has_the_history_of_the_run(workdir: Path, tmp_path: Path) -> None:
    recommend(workdir, tmp_path / "all")
    (tmp_path / "q.jsonl").write_text(json.dumps({"user_id": "u4"}) + "\n")
    recommend(workdir, tmp_path / "one", queries=tmp_path / "q.jsonl")
    (alone,) = rows(tmp_path / "one")
    (among,) = [row for row in rows(tmp_path / "all") if row["user_id"] == "u4"]
    assert alone["items"] == among["items"]
    (tmp_path / "q.jsonl").write_text(json.dumps({"user_id": "nobody"}) + "\n")
    with pytest.raises(DataError, match=r"q\.jsonl row 0: the logs hold no such user: 'nobody'"):
        recommend(workdir, tmp_path / "two", queries=tmp_path / "q.jsonl")


def test_a_version_of_elsewhere_needs_histories(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run is at hand that made version foreign.*--queries"):
        recommend(workdir, tmp_path / "out", version="foreign")
    (tmp_path / "q.jsonl").write_text(json.dumps({"history": [IDS[3]]}) + "\n" + json.dumps({"history": ["gone"]}))
    found = recommend(workdir, tmp_path / "out", version="foreign", queries=tmp_path / "q.jsonl")
    assert "1 of 2 queries with up to 5 items (without: 1 with a history of unknown items" in in_words(found, k=5)
    assert in_words(found, k=5).endswith("\npassed over, unknown to this version: 1 items of histories: gone")


def test_unknown_items_of_histories_are_named_for_each_query_and_counted(workdir: Path, tmp_path: Path) -> None:
    histories = [[IDS[3], "gone", IDS[5], "lost"], [IDS[4]], ["gone", *(f"x{number}" for number in range(7))], []]
    lines = (json.dumps({"user_id": "u1", "history": history}) for history in histories)
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    found = recommend(workdir, tmp_path / "out", queries=tmp_path / "q.jsonl")
    told = [row["unknown_history"] for row in rows(tmp_path / "out")]
    assert told == [["gone", "lost"], [], histories[2], []]
    said = "passed over, unknown to this version: 9 items of histories: gone, lost, x0, x1, x2 and 4 more"
    assert in_words(found, k=5).splitlines()[1] == said
    again = recommend(workdir, tmp_path / "out", queries=tmp_path / "q.jsonl")
    assert again.unknown_items == found.unknown_items and again.scored == 0


def test_the_unknown_items_of_a_history_stand_under_its_table(workdir: Path) -> None:
    version = Version("made", workdir / "versions" / "made", "champion")
    version.items.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item_id": IDS}), version.items)
    asked: dict[str, Any] = {"version": version, "user": None, "context": {}, "k": 3, "exclude_seen": False}
    prepared_of = partial(find_prepared, workdir)
    table = recommend_items(prepared_of, history=[f"{IDS[3]},gone,{IDS[5]},lost"], **asked)
    assert table.caption == "passed over, unknown to this version: gone, lost" and table.row_count == 3
    assert recommend_items(prepared_of, history=[IDS[3]], **asked).caption is None
    with pytest.raises(DataError, match=r"none of the history's 2 items is known to this version \(gone, lost\)"):
        recommend_items(prepared_of, history=["gone,lost"], **asked)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["i1,i2"], ["i1", "i2"]),
        (["i1, i2 ,"], ["i1", "i2"]),
        (["mug, red 3"], ["mug, red 3"]),
        (["mug, blue 4"], ["mug", "blue 4"]),
        (["i1", "mug, red 3"], ["i1", "mug, red 3"]),
        (["i1,i2", "mug, blue 4"], ["i1,i2", "mug, blue 4"]),
    ],
)
def test_a_history_is_given_with_commas_or_by_an_option_an_item(given: list[str], expected: list[str]) -> None:
    assert _item_ids(given, pa.chunked_array([["i1", "mug, red 3"], ["i2"]])) == expected


def test_the_example_is_the_first_test_query(workdir: Path) -> None:
    (run,) = list_runs(workdir)
    assert example_query(run)["user"].startswith("u")
