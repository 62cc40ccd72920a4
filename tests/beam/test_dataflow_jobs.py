"""Submitting, watching and stopping jobs, with whatever may happen in between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import apache_beam
import pytest
from cloud import Cloud, Fault
from cloud.dataflow import Dataflow
from remote_beam import on_dataflow

from two_tower.beam import pipeline, spread
from two_tower.beam.dataflow_job import JobError
from two_tower.config import BeamSettings

NAME = "two-tower-prepare-data-shop-20261126t010000-read"


def run(beam: BeamSettings, part: str = "read") -> None:
    """A pipeline that needs nothing."""
    with pipeline(beam, part) as steps:
        _ = spread(steps, "Numbers", [1, 2, 3]) | apache_beam.Map(float)


def states(service: Dataflow) -> list[str]:
    return [job.state.name.removeprefix("JOB_STATE_") for job in service.jobs.values()]


def wait_for(service: Dataflow, state: str, *, after: int = 0) -> None:
    """Returns once a job is in that state, the first `after` jobs left aside."""
    for _ in range(600):
        if state in states(service)[after:]:
            return
        time.sleep(0.1)
    raise AssertionError(f"no job is {state}: {states(service)}")


LEAVE_A_JOB = """
import json, os, sys
from two_tower.beam import dataflow_job
from two_tower.beam import pipeline, spread
from two_tower.config import BeamSettings
import apache_beam
dataflow_job.POLL = 0.1
with pipeline(BeamSettings.model_validate_json(sys.argv[1]), sys.argv[2]) as steps:
    _ = spread(steps, "Numbers", [1, 2, 3]) | apache_beam.Map(float)
"""


def started_elsewhere(beam: BeamSettings, service: Dataflow, part: str = "read") -> subprocess.Popen[bytes]:
    """A process that has a job running on Dataflow, which does not end."""
    service.hold, before = True, len(states(service))
    process = subprocess.Popen([sys.executable, "-c", LEAVE_A_JOB, beam.model_dump_json(), part])
    wait_for(service, "RUNNING", after=before)
    service.hold = False
    return process


@pytest.fixture(autouse=True)
def nothing_moves(cloud: Cloud) -> None:
    """These jobs need nothing of this machine, and several of them run at a time."""
    cloud.dataflow.aside = []


@pytest.mark.usefixtures("a_run")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_told_to_end_cancels_its_job(cloud: Cloud, end: signal.Signals) -> None:
    process = started_elsewhere(on_dataflow(cloud), cloud.dataflow)
    process.send_signal(end)
    assert process.wait(60) != 0
    wait_for(cloud.dataflow, "CANCELLED")


@pytest.mark.usefixtures("a_run")
@pytest.mark.parametrize("part", ["read", "encode"])
@pytest.mark.slow
def test_a_restarted_step_stops_what_a_killed_try_has_left(cloud: Cloud, part: str) -> None:
    process = started_elsewhere(on_dataflow(cloud), cloud.dataflow, part)
    process.kill()
    process.wait()
    assert states(cloud.dataflow) == ["RUNNING"]
    run(on_dataflow(cloud))
    assert states(cloud.dataflow) == ["CANCELLED", "DONE"]


@pytest.mark.slow
def test_jobs_of_other_runs_and_steps_are_left_alone(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_TOWER_STEP", "prepare_data")
    left = []
    for other in ("1-2", "1/read", "2"):
        monkeypatch.setenv("TWO_TOWER_RUN_ID", other)
        left.append(started_elsewhere(on_dataflow(cloud), cloud.dataflow))
    monkeypatch.setenv("TWO_TOWER_RUN_ID", "1")
    run(on_dataflow(cloud), "")
    monkeypatch.delenv("TWO_TOWER_RUN_ID")
    run(on_dataflow(cloud))
    assert states(cloud.dataflow) == ["RUNNING", "RUNNING", "RUNNING", "DONE", "DONE"]
    for process in left:
        process.kill()


@pytest.mark.usefixtures("a_run")
@pytest.mark.parametrize("answered", [False, True], ids=["refused", "answered with the other"])
@pytest.mark.slow
def test_a_job_of_the_same_name_that_starts_meanwhile_is_named(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    from two_tower.beam import dataflow_job

    process = started_elsewhere(on_dataflow(cloud), cloud.dataflow)
    monkeypatch.setattr(dataflow_job._Jobs, "stop_earlier", lambda jobs: None)
    cloud.dataflow.returns_the_active_job = answered
    with pytest.raises(JobError) as refused:
        run(on_dataflow(cloud))
    assert f"cannot start the Dataflow job {NAME}: " in str(refused.value)
    assert re.search("already (an )?active job", str(refused.value))
    assert "another process works on the same step" in str(refused.value)
    assert states(cloud.dataflow) == ["RUNNING"]  # it is not ours to cancel
    process.kill()


@pytest.mark.usefixtures("a_run")
def test_a_lost_reply_makes_no_second_job(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apache_beam.utils.retry.Clock.sleep", lambda clock, seconds: time.sleep(0.1))
    cloud.faults.append(Fault("JobsV1Beta3.CreateJob", "lost_reply"))
    run(on_dataflow(cloud))
    assert states(cloud.dataflow) == ["DONE"]
    assert len(cloud.called("JobsV1Beta3.CreateJob")) == 2


@pytest.mark.parametrize("name", ["JobsV1Beta3.CreateJob", "JobsV1Beta3.ListJobs"])
@pytest.mark.usefixtures("a_run")
def test_what_is_not_allowed_is_said(cloud: Cloud, name: str) -> None:
    cloud.faults.append(Fault(name, "403"))
    with pytest.raises(JobError, match=r"cannot .*: .*; the account that starts jobs needs roles/dataflow\.developer"):
        run(on_dataflow(cloud))
    assert not cloud.dataflow.jobs


def test_a_job_that_somebody_cancels_is_an_error(cloud: Cloud) -> None:
    cloud.dataflow.hold = True

    def cancel() -> None:
        wait_for(cloud.dataflow, "RUNNING")
        cloud.executions[-1].cancel()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(JobError, match=r"the Dataflow job \S+ was cancelled; see https://console\.cloud\.google\.com/"):
        run(on_dataflow(cloud))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"service_account_email": "other@shop-project.iam.gserviceaccount.com"}, "cannot act as service account"),
        ({"sdk_container_image": f"docker.io/a/b@sha256:{'0' * 64}"}, "No image by digest of this project"),
        ({"temp_location": "gs://no-bucket/temp"}, "no-bucket"),
    ],
)
def test_what_dataflow_refuses_is_said(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], message: str
) -> None:
    monkeypatch.setattr("apache_beam.utils.retry.Clock.sleep", lambda clock, seconds: time.sleep(0.01))
    with pytest.raises(JobError, match=f"cannot start the Dataflow job: .*{message}"):
        run(on_dataflow(cloud, **options))
    assert not cloud.dataflow.jobs


def test_the_stand_in_refuses_unknown_fields(cloud: Cloud) -> None:
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.service_account import Credentials

    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    key = Credentials.from_service_account_file(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    session = AuthorizedSession(key.with_scopes(scopes))
    place = f"{cloud.url}/v1b3/projects/{cloud.project}/locations/{cloud.region}/jobs"
    for body, word in (
        ({"name": "a", "colour": "red"}, "colour"),
        ({"name": "A"}, "Invalid job name"),
        ({"name": "a", "labels": {"A": "b"}}, "Invalid label"),
        ({"name": "a", "id": "1"}, "id is set by the service"),
        ({"name": "a"}, "Not a batch job"),
    ):
        answer = session.post(place, json=body)
        assert answer.status_code == 400 and word in answer.json()["error"]["message"]
    assert session.get(f"{place}?colour=red").status_code == 400
    assert session.get(f"{place}/nowhere").status_code == 404
    assert session.get(place.replace(cloud.region, "us-east1")).status_code == 403
