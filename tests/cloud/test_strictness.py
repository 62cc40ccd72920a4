"""What the service would refuse, the stand-in refuses."""

import copy

import pytest
import yaml
from google.api_core import exceptions
from google.cloud import aiplatform_v1

PARENT = "projects/shop-project/locations/europe-west4"


@pytest.fixture
def body(toy):
    """The JSON of a good job."""
    with open(toy, encoding="utf-8") as file:
        spec = yaml.safe_load(file)
    config = {"gcsOutputDirectory": "gs://shop-bucket/pipelines", "parameterValues": {"text": "hello"}}
    return {"displayName": "try", "pipelineSpec": spec, "runtimeConfig": config}


@pytest.fixture
def post(still_cloud, session, body):
    """Posts the job with a value put at a path; status and message of the reply."""

    def posted(*path, value, query="pipelineJobId=first", parent=PARENT):
        changed = copy.deepcopy(body)
        inner = changed
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        if path:
            inner[path[-1]] = value
        reply = session(still_cloud).post(f"{still_cloud.url}/v1/{parent}/pipelineJobs?{query}", json=changed)
        return reply.status_code, reply.json().get("error", {}).get("message", "")

    return posted


def test_a_good_job_is_taken_once(post):
    assert post(value=None) == (200, "")
    assert post(value=None)[0] == 409


SPEC, CONFIG = "pipelineSpec", "runtimeConfig"
EXECUTOR = (SPEC, "deploymentSpec", "executors", "exec-say", "container", "image")
BAD = [
    (("colour",), "red", 'no field named "colour"'),
    ((CONFIG, "gcsOutputDir"), "gs://x/y", 'no field named "gcsOutputDir"'),
    ((CONFIG, "gcsOutputDirectory"), "", "runtime_config.gcs_output_directory is missing"),
    ((CONFIG, "gcsOutputDirectory"), "/tmp/pipelines", "must be gs://"),
    ((CONFIG, "gcsOutputDirectory"), "gs://other-bucket/x", "other-bucket does not exist"),
    ((CONFIG, "failurePolicy"), "FAIL_SOMETIMES", "Invalid enum value"),
    ((CONFIG, "parameterValues", "colour"), "red", "'colour' is not declared"),
    ((CONFIG, "parameterValues"), {}, "'text' has no value"),
    ((CONFIG, "parameterValues", "count"), "four", "'count' must be NUMBER_INTEGER"),
    ((CONFIG, "parameterValues", "count"), 4.5, "'count' must be NUMBER_INTEGER"),
    ((CONFIG, "parameterValues", "fail"), "yes", "'fail' must be BOOLEAN"),
    (("state",), 3, "state is output only"),
    (("labels",), {"Run": "x"}, "only lowercase letters"),
    (("labels",), {f"key{number}": "x" for number in range(65)}, "At most 64 labels"),
    (("serviceAccount",), "me@example.com", "not a service account"),
    (("network",), "projects/shop-project/global/networks/vpc", "network"),
    (("displayName",), "x" * 129, "at most 128"),
    ((SPEC,), {}, "pipeline_spec is missing"),
    ((SPEC, "colour"), "red", 'no field named "colour"'),
    ((SPEC, "schemaVersion"), "2.0.0", "expected 2.1.0"),
    ((SPEC, "root", "dag", "tasks", "x"), {"componentRef": {"name": "comp-x"}}, "unknown component 'comp-x'"),
    ((*EXECUTOR[:-1], "imag"), "python", 'no field named "imag"'),
    (EXECUTOR, "europe-west4-docker.pkg.dev/shop-project/two-tower/toy:latest", "by digest"),
    (EXECUTOR, "python", "by digest"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), BAD, ids=[f"{'.'.join(path)}={str(v)[:20]}" for path, v, _ in BAD]
)
def test_a_bad_job_is_refused(post, path, value, message):
    status, found = post(*path, value=value)
    assert status == 400
    assert message in found


def test_names_and_query_are_checked(post, still_cloud):
    assert "must match" in post(value=None, query="pipelineJobId=First")[1]
    assert post(value=None, query="jobId=first")[0] == 400
    assert post(value=None, parent="projects/other/locations/europe-west4")[0] == 403
    assert post(value=None, parent="projects/shop-project/locations/us-central1")[0] == 403
    assert not still_cloud.jobs


def test_calls_without_a_token_or_with_a_foreign_one_are_refused(still_cloud, session, tmp_path):
    import requests
    from cloud.credentials import Credentials

    where = f"{still_cloud.url}/v1/{PARENT}/pipelineJobs"
    assert requests.get(where, timeout=5).status_code == 401
    assert requests.get(where, headers={"Authorization": "Bearer made-up"}, timeout=5).status_code == 401
    assert session(still_cloud).get(where).status_code == 200
    foreign = Credentials(tmp_path / "other.json", project="shop-project", url=still_cloud.url)
    with pytest.raises(Exception, match="invalid authentication credentials"):
        session(type("", (), {"credentials": foreign})()).get(where)


def test_what_is_not_there_says_so(still_cloud, connect):
    aiplatform = connect(still_cloud)
    with pytest.raises(exceptions.NotFound):
        aiplatform.PipelineJob.get("nobody")
    client = aiplatform.PipelineJob._instantiate_client(location=still_cloud.region)
    with pytest.raises(exceptions.MethodNotImplemented):
        client.list_training_pipelines(parent=PARENT)
    assert still_cloud.called("PipelineService.ListTrainingPipelines")


def test_lists_know_filters_order_pages_and_masks(still_cloud, make_job):
    for name, label in (("a", "day"), ("b", "night"), ("c", "night")):
        job = make_job(still_cloud, name, labels={"run": label})
        job.submit()
    still_cloud.jobs["c"].execution.settle("SUCCEEDED")

    def named(text):
        return sorted(found.name for found in type(job).list(filter=text))

    assert named('labels.run="night" AND state="PIPELINE_STATE_PENDING"') == ["b"]
    assert named('labels.run=day OR state="PIPELINE_STATE_SUCCEEDED"') == ["a", "c"]
    assert named('NOT (labels.run:* AND display_name:"tr*")') == []
    assert named('display_name="try" AND create_time>"2020-01-01T00:00:00Z" AND pipeline_name=toy') == ["a", "b", "c"]
    for bad in ('colour="red"', "display_name=", '(state="x"', "display_name"):
        with pytest.raises(exceptions.BadRequest):
            named(bad)
    client = type(job)._instantiate_client(location=still_cloud.region)
    request = aiplatform_v1.ListPipelineJobsRequest(parent=PARENT, page_size=2, order_by="create_time desc")
    assert [found.display_name for found in client.list_pipeline_jobs(request)] == ["try"] * 3
    assert len(still_cloud.called("PipelineService.ListPipelineJobs")[-2:]) == 2
    simple = type(job).list(enable_simple_view=True)[0]
    assert not simple.gca_resource.runtime_config.gcs_output_directory
    assert simple.gca_resource.pipeline_spec["pipelineInfo"]["name"] == "toy"
