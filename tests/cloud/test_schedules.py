"""Schedules: made, listed, changed, paused, fired, deleted."""

from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions
from google.protobuf import field_mask_pb2

NIGHT = datetime(2024, 5, 1, 0, 30, tzinfo=UTC)  # 02:30 in Amsterdam
CRON = "TZ=Europe/Amsterdam 30 2 * * *"


@pytest.fixture
def schedule(still_cloud, make_job):
    """A nightly schedule of the toy pipeline."""
    job = make_job(still_cloud, labels={"schedule": "nightly"})
    return job.create_schedule(CRON, "nightly", max_concurrent_run_count=1)


def test_a_schedule_is_made_once_listed_and_got(still_cloud, schedule):
    found = type(schedule).list(filter='display_name="nightly" AND state="ACTIVE"')
    assert [item.resource_name for item in found] == [schedule.resource_name]
    got = type(schedule).get(schedule.name)
    assert (got.cron, got.state.name) == (CRON, "ACTIVE")
    next_run = got._gca_resource.next_run_time
    assert (next_run.hour + 1) % 24 in (1, 2)  # 00:30 or 01:30 UTC
    assert not type(schedule).list(filter="state=PAUSED")


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("30 2 * *", "Invalid cron"),
        ("0 30 2 * * *", "Invalid cron"),
        ("61 2 * * *", "Invalid cron"),
        ("TZ=Europe/Atlantis 30 2 * * *", "Invalid cron"),
        ("Europe/Amsterdam 30 2 * * *", "Invalid cron"),
    ],
)
def test_a_bad_cron_expression_is_refused(still_cloud, make_job, cron, message):
    with pytest.raises(exceptions.BadRequest, match=message):
        make_job(still_cloud).create_schedule(cron, "nightly")
    assert not still_cloud.schedules


def test_what_a_schedule_lacks_is_named(still_cloud, schedule):
    resource = type(schedule._gca_resource)(schedule._gca_resource)
    client, parent = schedule.api_client, "projects/shop-project/locations/europe-west4"
    with pytest.raises(exceptions.BadRequest, match="output only"):
        client.create_schedule(parent=parent, schedule=resource)
    bare = {"display_name": "x", "cron": CRON, "max_concurrent_run_count": 1}
    with pytest.raises(exceptions.BadRequest, match="create_pipeline_job_request is missing"):
        client.create_schedule(parent=parent, schedule=bare)
    request = resource.create_pipeline_job_request
    with pytest.raises(exceptions.BadRequest, match="display_name is missing"):
        client.create_schedule(
            parent=parent, schedule={**bare, "display_name": "", "create_pipeline_job_request": request}
        )
    with pytest.raises(exceptions.BadRequest, match="max_concurrent_run_count is missing"):
        whole = {**bare, "max_concurrent_run_count": 0, "create_pipeline_job_request": request}
        client.create_schedule(parent=parent, schedule=whole)


def test_a_patch_carries_the_whole_schedule_and_changes_what_the_mask_says(still_cloud, schedule):
    schedule.update(cron="TZ=Europe/Amsterdam 0 4 * * *", max_concurrent_run_count=2)
    call = still_cloud.called("ScheduleService.UpdateSchedule")[0]
    assert "createPipelineJobRequest" in call.body
    got = type(schedule).get(schedule.name)
    assert (got.cron, got.max_concurrent_run_count) == ("TZ=Europe/Amsterdam 0 4 * * *", 2)
    schedule._gca_resource.display_name = "not in the mask"
    schedule.update(allow_queueing=True)
    assert type(schedule).get(schedule.name)._gca_resource.display_name == "nightly"
    with pytest.raises(exceptions.BadRequest, match="Invalid cron"):
        schedule.update(cron="never")
    mask = field_mask_pb2.FieldMask(paths=["state"])
    with pytest.raises(exceptions.BadRequest, match="cannot be updated"):
        schedule.api_client.update_schedule(schedule=schedule._gca_resource, update_mask=mask)


def test_the_request_of_a_schedule_can_be_changed(still_cloud, schedule):
    resource = schedule._gca_resource
    resource.create_pipeline_job_request.pipeline_job.runtime_config.parameter_values["text"] = "changed"
    mask = field_mask_pb2.FieldMask(paths=["create_pipeline_job_request"])
    schedule.api_client.update_schedule(schedule=resource, update_mask=mask)
    job = still_cloud.fire(schedule.resource_name, NIGHT)
    assert job.resource.runtime_config.parameter_values["text"].string_value == "changed"


def test_firing_makes_the_job_that_the_schedule_describes(still_cloud, schedule):
    job = still_cloud.fire(schedule.resource_name, NIGHT)
    assert job.schedule == schedule.resource_name
    assert dict(job.resource.labels) == {"schedule": "nightly"}
    assert [found.name for found in schedule.list_jobs()] == [job.id]
    got = type(schedule).get(schedule.name)._gca_resource
    assert got.started_run_count == 1
    assert got.last_scheduled_run_response.scheduled_run_time == NIGHT
    assert got.next_run_time == NIGHT + timedelta(days=1)
    with pytest.raises(ValueError, match="does not name"):
        still_cloud.fire(schedule.resource_name, NIGHT + timedelta(minutes=1))


def test_a_run_that_goes_on_keeps_the_next_away(still_cloud, schedule):
    first = still_cloud.fire(schedule.resource_name, NIGHT)
    assert still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=1)) is None
    first.execution.settle("FAILED")
    assert still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=2)) is not None
    schedule.update(allow_queueing=True)
    assert still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=3)) is None
    assert len(still_cloud.jobs) == 2
    list(still_cloud.jobs.values())[-1].execution.settle("SUCCEEDED")
    assert len(still_cloud.jobs) == 3  # the one that had to wait


def test_pause_resume_start_end_and_delete(still_cloud, schedule):
    schedule.pause()
    assert still_cloud.fire(schedule.resource_name, NIGHT) is None
    with pytest.raises(exceptions.BadRequest):
        schedule.pause()
    schedule.resume()
    assert still_cloud.schedules[schedule.name].state == "ACTIVE"
    schedule.update(start_time="2024-05-02T00:00:00Z", end_time="2999-05-04T00:00:00Z")
    assert still_cloud.fire(schedule.resource_name, NIGHT) is None
    assert still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=1)) is not None
    schedule.delete()
    assert not still_cloud.schedules
    with pytest.raises(exceptions.NotFound):
        type(schedule).get(schedule.resource_name)


def test_a_schedule_completes_with_its_count(still_cloud, make_job):
    schedule = make_job(still_cloud).create_schedule(CRON, "twice", max_run_count=2)
    for day in range(2):
        still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=day)).execution.settle("SUCCEEDED")
    assert schedule.state.name == "COMPLETED"
    assert still_cloud.fire(schedule.resource_name, NIGHT + timedelta(days=2)) is None
    with pytest.raises(exceptions.BadRequest):
        schedule.resume()


def test_a_scheduled_run_learns_its_time(cloud, make_job):
    schedule = make_job(cloud).create_schedule(CRON, "nightly")
    job = cloud.fire(schedule.resource_name, NIGHT).wait()
    assert job.state == "SUCCEEDED"
    assert "as of 2024-05-01T00:30:00Z" in job.log("read-text")
    make_job(cloud, "by-hand").submit()
    assert "as of {{$.pipeline_job_schedule_time_utc}}" in cloud.jobs["by-hand"].wait().log("read-text")
