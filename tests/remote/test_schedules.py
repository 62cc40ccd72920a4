"""Schedules on Vertex AI: what is applied is what the file says, once."""

import pytest
import yaml
from cloud import Fault
from remote_environment import write_environment

from pipelines.remote import google
from pipelines.remote.schedules import apply, find, plan
from pipelines.remote.vertex import VertexBackend
from pipelines.remote.vertex_schedules import VertexSchedules
from two_tower.config import load_environment
from two_tower.errors import ConfigError, UserError

NIGHTLY = {
    "config": "configs/tiny.yaml",
    "cron": "0 3 * * *",
    "time_zone": "Europe/Berlin",
    "set": {"data.interactions.filters": [{"column": "time", "op": "<", "value": "{date}"}]},
}
FULL = {"config": "configs/tiny.yaml", "cron": "0 1 * * 0", "when_busy": "wait"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(google, "FIRST_PAUSE", 0.01)


@pytest.fixture
def file(cloud, tmp_path):
    return write_environment(tmp_path / "prod.yaml", cloud, schedules={"nightly": NIGHTLY, "full": FULL})


@pytest.fixture
def service(file):
    return VertexSchedules(VertexBackend(load_environment(file).vertex))


def deeds(service, file, **options) -> dict[str, str]:
    planned = plan(load_environment(file), file, backend="vertex")
    return {done.name: done.deed for done in apply(service, planned, owner="prod", **options)}


def change(file, **schedules) -> None:
    content = yaml.safe_load(file.read_text())
    for name, changes in schedules.items():
        if changes is None:
            del content["schedules"][name]
        else:
            content["schedules"][name].update(changes)
    file.write_text(yaml.safe_dump(content))


def names(cloud) -> list[str]:
    return sorted(entry.resource.display_name for entry in cloud.schedules.values())


def test_applied_twice_is_one_schedule_each(cloud, service, file):
    assert deeds(service, file) == {"nightly": "created", "full": "created"}
    before = set(cloud.schedules)
    assert deeds(service, file) == {"nightly": "unchanged", "full": "unchanged"}
    assert set(cloud.schedules) == before and names(cloud) == ["prod/full", "prod/nightly"]


def test_a_changed_time_is_changed_in_place(cloud, service, file):
    deeds(service, file)
    before = set(cloud.schedules)
    change(file, nightly={"cron": "30 4 * * *"})
    assert deeds(service, file) == {"nightly": "retimed", "full": "unchanged"}
    assert set(cloud.schedules) == before
    assert "TZ=Europe/Berlin 30 4 * * *" in {entry.resource.cron for entry in cloud.schedules.values()}
    assert deeds(service, file)["nightly"] == "unchanged"


def test_a_changed_job_is_scheduled_anew_before_the_old_schedule_goes(cloud, service, file):
    deeds(service, file)
    cloud.calls.clear()
    change(file, nightly={"set": {"training.epochs": 9}})
    assert deeds(service, file)["nightly"] == "replaced"
    changes = [call.name.partition(".")[2] for call in cloud.calls if call.method in ("POST", "DELETE", "PATCH")]
    assert [name for name in changes if name.endswith("Schedule")] == ["CreateSchedule", "DeleteSchedule"]
    assert names(cloud) == ["prod/full", "prod/nightly"]


def test_an_end_that_is_taken_away_makes_a_new_schedule(cloud, service, file):
    change(file, nightly={"end": "2040-01-01"})
    deeds(service, file)
    content = yaml.safe_load(file.read_text())
    del content["schedules"]["nightly"]["end"]
    file.write_text(yaml.safe_dump(content))
    deeds(service, file)
    assert names(cloud) == ["prod/full", "prod/nightly"]
    assert not any(entry.resource.HasField("end_time") for entry in cloud.schedules.values())


def test_pause_resume_and_delete(cloud, service, file):
    deeds(service, file)
    nightly = find(service, "prod", "nightly")
    service.pause(nightly)
    service.pause(nightly)  # nothing more happens
    assert find(service, "prod", "nightly").state == "paused"
    change(file, nightly={"set": {"training.epochs": 9}})
    deeds(service, file)
    assert find(service, "prod", "nightly").state == "paused", "a schedule that is replaced stays paused"
    service.resume(find(service, "prod", "nightly"), catch_up=True)
    assert find(service, "prod", "nightly").state == "active"
    service.delete(find(service, "prod", "nightly"))
    assert names(cloud) == ["prod/full"]
    with pytest.raises(UserError, match=r"no schedule 'nightly' has been applied \(there are: full\)"):
        find(service, "prod", "nightly")


def test_what_the_file_no_longer_has_goes_when_that_is_asked_for(cloud, service, file):
    deeds(service, file)
    change(file, full=None)
    assert deeds(service, file) == {"nightly": "unchanged", "full": "left"}
    assert deeds(service, file, prune=True) == {"nightly": "unchanged", "full": "removed"}
    assert names(cloud) == ["prod/nightly"]


def test_the_schedules_of_another_file_are_left_alone(cloud, service, file, tmp_path):
    deeds(service, file)
    other = write_environment(tmp_path / "other.yaml", cloud, schedules={"nightly": NIGHTLY})
    planned = plan(load_environment(other), other, backend="vertex")
    assert [done.deed for done in apply(service, planned, owner="other", prune=True)] == ["created"]
    assert names(cloud) == ["other/nightly", "prod/full", "prod/nightly"]


@pytest.mark.parametrize("call", ["CreateSchedule", "UpdateSchedule", "DeleteSchedule", "ListSchedules"])
@pytest.mark.parametrize(
    "kind", ["lost_reply", pytest.param("429", marks=pytest.mark.slow), pytest.param("503", marks=pytest.mark.slow)]
)
def test_a_fault_at_any_call_leaves_one_schedule_each(cloud, service, file, call, kind):
    deeds(service, file)
    change(file, nightly={"set": {"training.epochs": 9}}, full={"cron": "0 2 * * 0"})
    fault = Fault(f"ScheduleService.{call}", kind)
    cloud.faults.append(fault)
    assert deeds(service, file) == {"nightly": "replaced", "full": "retimed"}
    assert fault.hits and names(cloud) == ["prod/full", "prod/nightly"]
    assert deeds(service, file) == {"nightly": "unchanged", "full": "unchanged"}


def test_an_apply_that_was_cut_off_is_finished_by_the_next(cloud, service, file):
    deeds(service, file)
    change(file, nightly={"set": {"training.epochs": 9}})
    cloud.denied.add("aiplatform.schedules.delete")
    with pytest.raises(UserError, match="permission denied"):
        deeds(service, file)
    assert names(cloud) == ["prod/full", "prod/nightly", "prod/nightly"]
    cloud.denied.clear()
    deeds(service, file)
    assert names(cloud) == ["prod/full", "prod/nightly"]


def test_the_run_of_a_night_is_told_its_time(cloud, service, file):
    from datetime import UTC, datetime

    deeds(service, file)
    nightly = find(service, "prod", "nightly")
    at = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)
    job = cloud.fire(nightly.handle, at)
    assert dict(job.resource.labels)["schedule"] == "nightly"
    assert dict(job.resource.runtime_config.parameter_values)["time_zone"].string_value == "Europe/Berlin"
    assert cloud.fire(nightly.handle, datetime(2026, 12, 2, 2, 0, tzinfo=UTC)) is None, "one run at a time"


def test_a_time_outside_of_data_is_refused(file):
    change(file, nightly={"set": {"training.seed": "{date}"}})
    with pytest.raises(ConfigError, match=r"schedules\.nightly: set\.training\.seed: '{date}' depends on the time"):
        plan(load_environment(file), file, backend="vertex")


def test_a_schedule_that_is_not_there_is_named(file):
    with pytest.raises(ConfigError, match=r"no schedule 'weekly' \(there are: nightly, full\)"):
        plan(load_environment(file), file, backend="vertex", only="weekly")
