"""Runs' records: found by id, by its beginning, by `latest`; unreadable ones do not hide the others."""

import json

import pytest

from pipelines.runs import Run, find_run, list_runs
from two_tower.errors import UserError


def start(workdir) -> Run:
    run = Run.start(workdir, name="shop", config_file="shop.yaml", config={"name": "shop"})
    run.save()
    return run


def test_a_record_is_read_as_it_was_written(tmp_path):
    run = start(tmp_path)
    run.step("prepare_data").outputs = {"prepared": "/somewhere"}
    run.save()
    assert Run.load(run.folder) == run


def test_a_run_is_found_by_its_id_its_beginning_and_as_the_latest(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    assert find_run(tmp_path, first.run_id) == first
    assert find_run(tmp_path, max(first.run_id, second.run_id)[:-1]).run_id == max(first.run_id, second.run_id)
    assert find_run(tmp_path, "latest").run_id == max(first.run_id, second.run_id)
    with pytest.raises(UserError, match="more than one run starts with '20'"):
        find_run(tmp_path, "20")
    with pytest.raises(UserError, match="no run is called 'x'"):
        find_run(tmp_path, "x")


def test_an_empty_id_is_that_of_no_run_though_every_id_begins_so(tmp_path):
    start(tmp_path)
    with pytest.raises(UserError, match="no run is called ''"):
        find_run(tmp_path, "")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"run_id": "1", "steps": [{"nam": "x"}]}'])
def test_a_record_that_cannot_be_read_does_not_hide_the_others(tmp_path, content):
    run = start(tmp_path)
    (tmp_path / "20200101-000000-dead").mkdir()
    (tmp_path / "20200101-000000-dead" / "run.json").write_text(content)
    assert list_runs(tmp_path) == [run]


@pytest.mark.parametrize("change", [{"steps": [{"name": 1}]}, {"seconds": "long"}, {"state": "asleep"}, {"new": 1}])
def test_a_record_of_another_shape_is_refused(tmp_path, change):
    record = start(tmp_path).folder / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    assert list_runs(tmp_path) == []
