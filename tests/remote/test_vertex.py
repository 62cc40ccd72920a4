"""Runs on Vertex AI, through the real client and a server that stands for it."""

import pytest
from cloud import Fault

from pipelines.remote import google
from pipelines.remote.submission import make_submission
from pipelines.remote.vertex import VertexBackend
from two_tower.config import load_environment
from two_tower.errors import UserError

CONFIG = "configs/tiny.yaml"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(google, "FIRST_PAUSE", 0.01)


@pytest.fixture
def submission(environment_file):
    return make_submission(CONFIG, load_environment(environment_file), backend="vertex")


@pytest.fixture
def backend(submission):
    return VertexBackend(submission.environment.vertex)


def test_a_run_is_submitted_with_all_that_the_environment_says(cloud, backend, submission):
    run = backend.submit(submission)
    assert run.run_id == submission.run_id and run.state == "waiting" and run.name == "tiny"
    (job,) = cloud.jobs.values()
    sent = job.resource
    assert sent.service_account == submission.environment.vertex.service_account
    assert dict(sent.labels)["team"] == "discovery" and dict(sent.labels)["config"] == submission.labels["config"]
    assert sent.runtime_config.gcs_output_directory == submission.root
    assert run.run_id in run.link and cloud.project in run.link


@pytest.mark.parametrize("kind", ["429", "503", "lost_reply"])
def test_a_busy_service_or_a_lost_reply_makes_one_run(cloud, backend, submission, kind):
    fault = Fault("PipelineService.CreatePipelineJob", kind, times=2 if kind != "lost_reply" else 1)
    cloud.faults.append(fault)
    assert backend.submit(submission).run_id == submission.run_id
    assert fault.hits and len(cloud.jobs) == 1


def test_a_run_that_is_there_already_is_given_back(cloud, backend, submission):
    backend.submit(submission)
    assert backend.submit(submission).run_id == submission.run_id
    assert len(cloud.jobs) == 1


def test_a_refusal_says_what_was_asked_for(cloud, backend, submission):
    cloud.denied.add("aiplatform.pipelineJobs.create")
    with pytest.raises(UserError, match=f"submitting the run {submission.run_id}: permission denied"):
        backend.submit(submission)
    assert not cloud.jobs


def test_runs_are_found_by_id_by_its_beginning_and_as_the_latest(cloud, backend, submission):
    backend.submit(submission)
    assert backend.find(submission.run_id).run_id == submission.run_id
    assert backend.find(submission.run_id[:12]).run_id == submission.run_id
    assert backend.find("latest").run_id == submission.run_id
    assert [run.run_id for run in backend.list_runs("tiny", most=5)] == [submission.run_id]
    assert backend.list_runs("other", most=5) == []
    with pytest.raises(UserError, match="no run is called 'nothing'"):
        backend.find("nothing")


def test_a_cancelled_run_is_resumed_with_what_it_was_sent(cloud, backend, submission):
    first = backend.submit(submission)
    with pytest.raises(UserError, match="is waiting; only one that failed"):
        backend.resume(first.run_id, new_id="tiny-again")
    backend.cancel(first.run_id)
    assert backend.find(first.run_id).state == "cancelled"
    again = backend.resume(first.run_id, new_id="tiny-again")
    assert again.labels["resumes"] == first.run_id
    one, two = (cloud.jobs[name].resource for name in (first.run_id, "tiny-again"))
    assert one.pipeline_spec == two.pipeline_spec and one.runtime_config == two.runtime_config


def test_a_run_without_cache_is_not_resumed(cloud, backend, environment_file):
    first = make_submission(CONFIG, load_environment(environment_file), backend="vertex", cache=False)
    backend.submit(first)
    backend.cancel(first.run_id)
    with pytest.raises(UserError, match="--no-cache"):
        backend.resume(first.run_id, new_id="tiny-again")


@pytest.mark.parametrize("exit_task", ["report-failure", "leave-page"])  # the latter in runs of earlier releases
def test_tasks_become_steps(backend, submission, exit_task):
    from google.cloud.aiplatform_v1.types import Artifact, PipelineJob, PipelineTaskDetail

    def task(name: str, state: str, **artefacts: str) -> PipelineTaskDetail:
        outputs = {
            key: PipelineTaskDetail.ArtifactList(artifacts=[Artifact(uri=uri)]) for key, uri in artefacts.items()
        }
        return PipelineTaskDetail(task_name=name, state=state, outputs=outputs)

    job = PipelineJob(backend.job_of(submission), name=f"{backend.parent}/pipelineJobs/tiny-1", state=5)
    job.job_detail.task_details = [
        task("retrieval", "SUCCEEDED"),
        task("prepare-data", "SKIPPED", prepared="gs://shop-bucket/prepared"),
        task("train-towers", "FAILED"),
        task(exit_task, "SUCCEEDED", page="gs://shop-bucket/page"),
    ]
    run = backend.described(job)
    states = {step.name: step.state for step in run.steps if step.state != "waiting"}
    assert states == {"prepare_data": "cached", "train_towers": "failed", "report_failure": "ran"}
    assert run.step("prepare_data").outputs == {"prepared": "gs://shop-bucket/prepared"}
    assert run.report == "gs://shop-bucket/page"
