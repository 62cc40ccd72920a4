"""The Kubeflow Pipelines API by its real client."""

import time
from datetime import UTC, datetime, timedelta

import kfp
import kfp_server_api
import pytest
import requests
from cloud import Fault
from urllib3.exceptions import HTTPError

NIGHT = datetime(2024, 5, 1, 2, tzinfo=UTC)


@pytest.fixture
def client():
    """Makes a client of a cloud."""
    return lambda cloud: kfp.Client(host=cloud.url)


@pytest.fixture
def nightly(still_cloud, client, toy):
    """A client, and a recurring run of the toy pipeline."""
    opened = client(still_cloud)
    experiment = opened.create_experiment("shop").experiment_id
    made = opened.create_recurring_run(
        experiment,
        "nightly",
        pipeline_package_path=toy,
        params={"text": "hello"},
        cron_expression="0 0 2 * * *",
        max_concurrency=1,
        no_catchup=True,
    )
    return opened, made


def test_a_run_runs(cloud, client, toy):
    opened = client(cloud)
    experiment = opened.create_experiment("shop")
    assert opened.create_experiment("shop").experiment_id == experiment.experiment_id
    sent = opened.run_pipeline(
        experiment.experiment_id, "night", toy, {"text": "hello"}, pipeline_root="gs://shop-bucket/kfp"
    )
    assert sent.state == "PENDING"
    cloud.kubeflow.runs[sent.run_id].wait()
    run = opened.wait_for_run_completion(sent.run_id, 10, sleep_duration=1)
    assert run.state == "SUCCEEDED"
    tasks = {task.display_name: task for task in run.run_details.task_details}
    states = {name: task.state for name, task in tasks.items()}
    assert (states["root"], states["read-text"], states["say-3"]) == ("SUCCEEDED", "SUCCEEDED", "SKIPPED")
    assert tasks["write-text"].outputs["written"].artifact_ids
    assert tasks["write-text"].parent_task_id == tasks["exit-handler-1"].task_id
    uri = cloud.kubeflow.runs[sent.run_id].tasks["write-text"]["outputs"]["artifacts"]["written"][0]["uri"]
    assert uri.startswith(f"gs://shop-bucket/kfp/toy/{sent.run_id}/write-text/")
    assert [found.run_id for found in opened.list_runs(experiment_id=experiment.experiment_id).runs] == [sent.run_id]


def test_a_run_fails_and_a_run_is_terminated(cloud, client, toy, slow):
    opened = client(cloud)
    sent = opened.run_pipeline(None, "bad", toy, {"text": "hello", "fail": True})
    assert cloud.kubeflow.runs[sent.run_id].wait().state == "FAILED"
    found = opened.get_run(sent.run_id)
    assert "read-text" in found.error.message
    error = next(task.error for task in found.run_details.task_details if task.display_name == "read-text")
    assert "ordered to fail" in error.message
    sent = opened.run_pipeline(None, "slow", slow)
    while opened.get_run(sent.run_id).state == "PENDING":
        time.sleep(0.05)
    opened.terminate_run(sent.run_id)
    assert opened.get_run(sent.run_id).state == "CANCELED"
    opened.delete_run(sent.run_id)
    with pytest.raises(kfp_server_api.ApiException) as caught:
        opened.get_run(sent.run_id)
    assert caught.value.status == 404


def test_pipelines_and_versions(still_cloud, client, toy):
    opened = client(still_cloud)
    pipeline = opened.upload_pipeline(toy, "toy")
    assert opened.get_pipeline_id("toy") == pipeline.pipeline_id
    version = opened.upload_pipeline_version(toy, "v2", pipeline_id=pipeline.pipeline_id)
    found = opened.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert [item.display_name for item in found] == ["toy", "v2"]
    sent = opened.run_pipeline(
        None,
        "by version",
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
        params={"text": "hello"},
    )
    assert still_cloud.kubeflow.runs[sent.run_id].spec["pipelineInfo"]["name"] == "toy"
    with pytest.raises(kfp_server_api.ApiException, match="already exists"):
        opened.upload_pipeline(toy, "toy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, 'unknown field "colour"'),
        ({"runtime_config": {"parameters": {"text": "x"}, "root": "gs://x"}}, 'unknown field "runtime_config.root"'),
        ({"runtime_config": {"parameters": {"text": "x", "colour": "red"}}}, "'colour' is not declared"),
        ({"runtime_config": {}}, "'text' has no value"),
        ({"run_id": "mine"}, "given by the server"),
        ({"state": "RUNNING"}, "given by the server"),
        ({"storage_state": "LOST"}, "storage_state"),
        ({"display_name": ""}, "display_name is missing"),
        ({"display_name": 4}, "must be str"),
        ({"pipeline_spec": {"colour": "red"}}, "Failed to parse pipeline_spec"),
        ({"pipeline_spec": None}, "Exactly one of"),
    ],
)
def test_a_bad_run_is_refused(still_cloud, toy, change, message):
    import yaml

    with open(toy, encoding="utf-8") as file:
        spec = yaml.safe_load(file)
    good = {"display_name": "night", "pipeline_spec": spec, "runtime_config": {"parameters": {"text": "x"}}}
    reply = requests.post(f"{still_cloud.url}/apis/v2beta1/runs", json={**good, **change}, timeout=5)
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
    assert not still_cloud.kubeflow.runs


def test_recurring_runs_are_fired_disabled_enabled_deleted(still_cloud, nightly):
    client, made = nightly
    assert (made.status, made.max_concurrency) == ("ENABLED", "1")
    run = still_cloud.kubeflow.fire(made.recurring_run_id, NIGHT)
    assert (run.recurring, run.scheduled) == (made.recurring_run_id, NIGHT)
    assert still_cloud.kubeflow.fire(made.recurring_run_id, NIGHT + timedelta(days=1)) is None  # the first goes on
    run.execution.settle("SUCCEEDED")
    client.disable_recurring_run(made.recurring_run_id)
    assert client.get_recurring_run(made.recurring_run_id).status == "DISABLED"
    assert still_cloud.kubeflow.fire(made.recurring_run_id, NIGHT + timedelta(days=1)) is None
    client.enable_recurring_run(made.recurring_run_id)
    assert still_cloud.kubeflow.fire(made.recurring_run_id, NIGHT + timedelta(days=1)) is not None
    with pytest.raises(ValueError, match="does not name"):
        still_cloud.kubeflow.fire(made.recurring_run_id, NIGHT + timedelta(hours=1))
    assert len(client.list_recurring_runs().recurring_runs) == 1
    client.delete_recurring_run(made.recurring_run_id)
    assert not client.list_recurring_runs().recurring_runs


@pytest.mark.parametrize("cron", ["0 2 * * *", "TZ=Europe/Amsterdam 0 0 2 * * *", "0 0 25 * * *"])
def test_cron_expressions_have_six_fields_and_no_time_zone(still_cloud, client, toy, cron):
    with pytest.raises(kfp_server_api.ApiException, match="Invalid cron"):
        client(still_cloud).create_recurring_run(
            None, "x", pipeline_package_path=toy, params={"text": "x"}, cron_expression=cron, max_concurrency=1
        )


def test_faults(still_cloud, client, toy):
    opened = client(still_cloud)
    still_cloud.faults += [Fault("kfp.runs.create", "503"), Fault("kfp.runs.create", "lost_reply", nth=2)]
    with pytest.raises(kfp_server_api.ApiException) as caught:
        opened.run_pipeline(None, "night", toy, {"text": "hello"})
    assert caught.value.status == 503
    with pytest.raises((HTTPError, OSError)):
        opened.run_pipeline(None, "night", toy, {"text": "hello"})
    assert len(opened.list_runs().runs) >= 1
