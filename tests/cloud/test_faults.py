"""Faults that a test orders: refusals, lost replies, what fails half-way, withheld permissions."""

import pytest
import requests
from cloud import Fault
from google.api_core import exceptions
from google.cloud import storage


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", exceptions.TooManyRequests),
        ("503", exceptions.ServiceUnavailable),
        ("403", exceptions.Forbidden),
    ],
)
def test_a_refused_create_leaves_nothing(still_cloud, make_job, kind, error):
    still_cloud.faults.append(Fault("PipelineService.CreatePipelineJob", kind))
    with pytest.raises(error):
        make_job(still_cloud).submit()
    assert not still_cloud.jobs
    make_job(still_cloud).submit()  # the second goes through
    assert list(still_cloud.jobs) == ["first"]
    assert [call.status for call in still_cloud.called("PipelineService.CreatePipelineJob")] == [int(kind), 200]
    assert still_cloud.faults[0].hits == 1


def test_a_lost_reply_leaves_the_work_done(still_cloud, make_job):
    still_cloud.faults.append(Fault("PipelineService.CreatePipelineJob", "lost_reply"))
    with pytest.raises(requests.exceptions.ConnectionError):
        make_job(still_cloud).submit()
    assert list(still_cloud.jobs) == ["first"]
    with pytest.raises(exceptions.Conflict):
        make_job(still_cloud).submit()


def test_the_nth_call_is_hit_and_gets_are_retried(still_cloud, make_job):
    job = make_job(still_cloud)
    job.submit()
    still_cloud.faults.append(Fault("GetPipelineJob .*/first", "503", nth=2, times=1))
    assert job.state.name == job.state.name == "PIPELINE_STATE_PENDING"
    assert [call.status for call in still_cloud.called("PipelineService.GetPipelineJob")] == [200, 503, 200]


def test_a_job_dies_half_way(cloud, make_job):
    cloud.faults.append(Fault("CreatePipelineJob", "fails_halfway"))
    job = make_job(cloud)
    job.submit()
    assert cloud.jobs["first"].wait().state == "FAILED"
    with pytest.raises(RuntimeError, match="Internal error"):
        job.wait()
    states = {task.task_name: task.state.name for task in job.task_details}
    assert (states["write-text"], states["read-text"], states["say"]) == ("SUCCEEDED", "NOT_TRIGGERED", "NOT_TRIGGERED")


def test_an_operation_fails(still_cloud, make_job):
    job = make_job(still_cloud)
    job.submit()
    with pytest.raises(exceptions.BadRequest):
        job.delete()  # it is not at its end
    still_cloud.jobs["first"].execution.settle("SUCCEEDED")
    still_cloud.faults.append(Fault("DeletePipelineJob", "fails_halfway"))
    with pytest.raises(exceptions.GoogleAPICallError, match="Internal error"):
        job.delete()
    assert list(still_cloud.jobs) == ["first"]
    job.delete()
    assert not still_cloud.jobs


def test_storage_faults(still_cloud):
    bucket = storage.Client().bucket(still_cloud.bucket)
    blob = bucket.blob("registry/alias.json")
    still_cloud.faults.append(Fault("storage.objects.insert gs://shop-bucket/registry/", "503"))
    blob.upload_from_string("one", if_generation_match=0)  # retried by the client, as the precondition makes it safe
    assert [call.status for call in still_cloud.called("storage.objects.insert")] == [503, 200]
    still_cloud.faults.append(Fault("storage.objects.insert .*alias", "lost_reply"))
    with pytest.raises(exceptions.PreconditionFailed):  # done, lost, and retried against its own work
        blob.upload_from_string("two", if_generation_match=blob.generation)
    assert bucket.blob("registry/alias.json").download_as_text() == "two"
    still_cloud.faults.append(Fault("storage.objects.insert", "429", times=2))
    bucket.blob("other").upload_from_string("x")
    still_cloud.faults.append(Fault("storage.objects.get", "403"))
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("other").download_as_text()
    assert all(fault.hits == fault.times for fault in still_cloud.faults)


def test_withheld_permissions(still_cloud, make_job):
    still_cloud.denied |= {"aiplatform.pipelineJobs.create", "storage.objects.create"}
    with pytest.raises(exceptions.Forbidden, match=r"aiplatform\.pipelineJobs\.create"):
        make_job(still_cloud).submit()
    still_cloud.denied = {"storage.objects.create", "iam.serviceAccounts.actAs"}
    with pytest.raises(exceptions.Forbidden, match="act as"):
        make_job(still_cloud).submit(service_account="pipelines@shop-project.iam.gserviceaccount.com")
    bucket = storage.Client().bucket(still_cloud.bucket)
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("x").upload_from_string("x")
    granted = bucket.test_iam_permissions(["storage.objects.create", "storage.objects.get"])
    assert granted == ["storage.objects.get"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no such kind"):
        Fault("x", "500")
