"""Jobs are really run: states, tasks, artefacts in the bucket, caching, failure, cancellation."""

import contextlib
import time
from pathlib import Path

import pytest
from cloud import toys

pytestmark = pytest.mark.slow


def _states(job):
    return {task.task_name: task.state.name for task in job.task_details}


def _alive(group):
    """The processes of a group, but those that only wait for their end to be noticed."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = file.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                found.append(file.parent.name)
    return found


def test_a_job_runs_with_its_artefacts_in_the_bucket(cloud, make_job, monkeypatch):
    monkeypatch.setenv("TWO_TOWER_RUN_FOLDER", "/somewhere")
    job = make_job(cloud, parameters={"text": "hello", "count": 4}, labels={"run": "night-1"})
    job.submit(service_account="pipelines@shop-project.iam.gserviceaccount.com")
    assert job.resource_name == "projects/123456789012/locations/europe-west4/pipelineJobs/first"
    cloud.jobs["first"].wait()
    job.wait()

    details = {task.task_name: task for task in job.task_details}
    assert _states(job) == {
        "first": "SUCCEEDED",
        "exit-handler-1": "SUCCEEDED",
        "write-text": "SUCCEEDED",
        "read-text": "SUCCEEDED",
        "condition-2": "SUCCEEDED",
        "say-2": "SUCCEEDED",
        "condition-3": "NOT_TRIGGERED",
        "say-3": "NOT_TRIGGERED",
        "say": "SUCCEEDED",
    }
    written = details["write-text"].outputs["written"].artifacts[0]
    number = details["write-text"].task_id
    assert written.uri == f"gs://shop-bucket/pipelines/123456789012/first/write-text_{number}/written"
    assert dict(written.metadata) == {"length": 20.0}
    assert (cloud.buckets / written.uri.removeprefix("gs://") / "text.txt").read_text() == "hello" * 4
    assert details["write-text"].execution.metadata["output:Output"] == "long"
    assert details["read-text"].inputs["written"].artifacts[0].uri == written.uri
    assert details["read-text"].execution.metadata["output:Output"] == "hello" * 4
    assert details["read-text"].parent_task_id == details["exit-handler-1"].task_id
    assert "/customJobs/" in details["read-text"].executor_detail.container_detail.main_job
    assert details["say-2"].start_time >= details["read-text"].end_time
    assert "metadata {'length': 20.0} run folder None" in cloud.jobs["first"].log("read-text")
    mount = cloud.jobs["first"].execution.folder / "mount"  # read_text fails where its artefact lies there
    assert not [path for path in mount.rglob("*") if path.is_file()]
    assert job.gca_resource.labels == {"run": "night-1"}
    assert job.gca_resource.end_time > job.gca_resource.start_time >= job.gca_resource.create_time


def test_what_was_computed_before_is_skipped(cloud, make_job):
    make_job(cloud, "first").submit()
    before = cloud.jobs["first"].wait().tasks["write-text"]
    again = make_job(cloud, "second")
    again.submit()
    cloud.jobs["second"].wait()
    states = _states(again)
    assert (states["write-text"], states["read-text"]) == ("SKIPPED", "SUCCEEDED")  # read-text is not cached
    uri = cloud.jobs["second"].tasks["write-text"]["outputs"]["artifacts"]["written"][0]["uri"]
    assert uri == before["outputs"]["artifacts"]["written"][0]["uri"]


def test_a_failing_step_fails_the_job_and_the_exit_handler_runs(cloud, make_job):
    job = make_job(cloud, parameters={"text": "hello", "fail": True})
    job.submit()
    cloud.jobs["first"].wait()
    with pytest.raises(RuntimeError, match=r"The failed tasks are: \[read-text\]"):
        job.wait()
    states = _states(job)
    assert (states["read-text"], states["say-2"], states["say"]) == ("FAILED", "NOT_TRIGGERED", "SUCCEEDED")
    error = next(task.error for task in job.task_details if task.task_name == "read-text")
    assert error.code == 9
    assert "ValueError: ordered to fail" in error.message
    assert "said goodbye" in cloud.jobs["first"].log("say")


def test_the_condition_decides(cloud, make_job):
    job = make_job(cloud, parameters={"text": "hi", "count": 1})
    job.submit()
    cloud.jobs["first"].wait()
    states = _states(job)
    assert (states["say-2"], states["say-3"]) == ("NOT_TRIGGERED", "SUCCEEDED")


def test_cancelling_kills_what_runs(cloud, make_job, slow):
    job = make_job(cloud, template=slow, parameters={"seconds": 60})
    job.submit()
    assert job.state.name in ("PIPELINE_STATE_PENDING", "PIPELINE_STATE_RUNNING")
    while not any(task["state"] == "RUNNING" for task in cloud.jobs["first"].tasks.values()):
        time.sleep(0.05)
    assert job.state.name == "PIPELINE_STATE_RUNNING"
    group = cloud.jobs["first"].execution._process.pid
    job.cancel()
    assert job.state.name == "PIPELINE_STATE_CANCELLED"
    assert {task.state.name for task in job.task_details if task.task_name == "sleep"} == {"CANCELLED"}
    job.wait()  # the SDK raises for a failed job, not for a cancelled one
    cloud.jobs["first"].execution.join(5)
    assert not _alive(group)


def test_a_pipeline_of_one_step_and_loops_run(cloud, make_job, tmp_path):
    from kfp import dsl

    talk = dsl.component(toys.say, base_image=toys.IMAGE, install_kfp_package=False)

    @dsl.pipeline(name="loop")
    def loop():
        with dsl.ParallelFor(["a", "b"]) as item:
            talk(text=item)

    job = make_job(cloud, template=toys.compiled(loop, tmp_path), parameters={})
    job.submit()
    run = cloud.jobs["first"].wait()
    assert run.state == "SUCCEEDED"
    said = sorted(task["outputs"]["parameters"]["Output"] for task in run.execution.tasks() if task["name"] == "say")
    assert said[-2:] == ["a", "b"]
