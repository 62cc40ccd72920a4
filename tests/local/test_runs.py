"""Runs' records: found by id, by its beginning, by `latest`; unreadable ones do not hide the others."""

import io
import json

import pytest
from rich.console import Console

from pipelines.runs import Run, find_run, list_runs
from pipelines.views.console import LiveWatcher
from pipelines.views.runs_table import runs_table
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


def test_a_record_says_what_started_the_run_and_an_old_one_was_a_run(tmp_path):
    tuned = Run.start(tmp_path, name="shop", config_file="shop.yaml", config={}, kind="tune")
    tuned.save()
    assert Run.load(tuned.folder).kind == "tune"
    record = tuned.folder / "run.json"
    content = json.loads(record.read_text())
    del content["kind"]
    record.write_text(json.dumps(content))
    assert Run.load(tuned.folder).kind == "run"


def test_the_list_of_runs_tells_the_preparation_of_tune_from_a_run(tmp_path):
    for kind in ("run", "tune", "schedule"):
        Run.start(tmp_path, name="shop", config_file="shop.yaml", config={}, kind=kind).save()
    console = Console(width=160, file=io.StringIO())
    console.print(runs_table(reversed(list_runs(tmp_path)), kind=lambda run: run.kind_in_words))
    listed = console.file.getvalue()
    assert all(listed.count(f"│ {words} ") == 1 for words in ("preparation of tune", "run    ", "schedule"))


def test_what_the_cache_answered_is_found_in_the_folder_of_the_run_that_made_it(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    made = str(first.artifacts / "prepare-data" / "prepared")
    second.steps[0].outputs = {"previous": made}  # a parameter of a step that ran
    for run, state in ((first, "ran"), (second, "cached")):
        run.step("prepare_data").state = state
        run.step("prepare_data").outputs = {"prepared": made, "profile": made}
    assert first.from_cache() == {} and second.from_cache() == {first.artifacts: ["prepare_data"]}


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
def test_a_record_that_cannot_be_read_is_named_and_does_not_hide_the_others(tmp_path, content, capsys):
    run = start(tmp_path)
    (tmp_path / "20200101-000000-dead").mkdir()
    (tmp_path / "20200101-000000-dead" / "run.json").write_text(content)
    assert list_runs(tmp_path) == [run]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"left out: {tmp_path / '20200101-000000-dead' / 'run.json'}: not a run's record that this")
    assert list_runs(tmp_path) == [run] and capsys.readouterr().err == "", "it is said once"


@pytest.mark.parametrize("change", [{"steps": [{"name": 1}]}, {"seconds": "long"}, {"state": "asleep"}])
def test_a_record_of_another_shape_is_refused(tmp_path, change, capsys):
    record = start(tmp_path).folder / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    assert list_runs(tmp_path) == []
    assert next(iter(change)) in capsys.readouterr().err


def test_what_another_release_has_added_to_a_record_hides_no_run(tmp_path):
    run = start(tmp_path)
    content = json.loads((run.folder / "run.json").read_text()) | {"deployment": {"to": "somewhere"}}
    content["steps"][0]["attempts"] = 2
    (run.folder / "run.json").write_text(json.dumps(content))
    assert list_runs(tmp_path) == [run]


def test_an_old_run_has_the_names_of_now(tmp_path):
    run = start(tmp_path)
    content = json.loads((run.folder / "run.json").read_text())
    content["steps"][0] |= {"state": "ran", "outputs": {"news": "{}", "config": "{}"}}
    content["steps"].append({"name": "leave_page", "state": "ran", "seconds": 1.0, "outputs": {"page": "/p.html"}})
    (run.folder / "run.json").write_text(json.dumps(content))
    (found,) = list_runs(tmp_path)
    assert found.step("resolve_inputs").outputs == {"new_data": "{}", "config": "{}"}
    assert found.step("report_failure").outputs == {"page": "/p.html"} and len(found.steps) == len(run.steps) + 1
    console = Console(width=160, file=io.StringIO())
    console.print(LiveWatcher(found))
    assert "report_failure" in console.file.getvalue()
