"""Preflight: every problem is found in one go and named, and nothing is made on the way."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cloud import Cloud, Fault, running_cloud

from pipelines.remote import google
from pipelines.remote.preflight import Problem, preflight
from pipelines.remote.submission import Submission, make_submission
from two_tower.config import BeamSettings, BigQuerySettings, Config, Environment, ResourcesSettings

ROOT = Path(__file__).parents[2]
STEPS_ACCOUNT = "pipelines@shop-project.iam.gserviceaccount.com"
CALLER = "tester@shop-project.iam.gserviceaccount.com"
TABLES = ("interactions.parquet", "items.parquet", "users.parquet")
LOOKING = ("oauth2.token", "cloudresourcemanager.projects.testIamPermissions", "iam.serviceAccounts.testIamPermissions")
"""The calls that are no GET and change nothing."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud with images, a service account, and the data set in the bucket."""
    from google.cloud.storage import Client

    with running_cloud(tmp_path_factory.mktemp("cloud")) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        patch.delenv("TWO_TOWER_DATA", raising=False)
        patch.setattr(google, "FIRST_PAUSE", 0.01)
        from gcsfs import GCSFileSystem  # it looks at the environment when it is imported

        GCSFileSystem.clear_instance_cache()
        bucket = Client().bucket(made.bucket)
        for name in TABLES:
            bucket.blob(f"data/tiny/{name}").upload_from_string(b"a table")
        yield made
        GCSFileSystem.clear_instance_cache()


@pytest.fixture
def cloud(store: Cloud) -> Iterator[Cloud]:
    """The cloud as it was in the beginning; in no test anything is made there."""
    services, accounts = set(store.services), set(store.accounts)
    store.calls.clear()
    yield store
    made = [call.name for call in store.calls if call.method not in ("GET", "HEAD") and call.name not in LOOKING]
    store.services, store.accounts, store.denied, store.faults = services, accounts, set(), []
    assert not made and not store.jobs and not store.schedules


@pytest.fixture(scope="module")
def good(store: Cloud) -> Submission:
    """A run in which there is nothing wrong."""
    settings = {
        "vertex": {
            "project": store.project, "region": store.region, "bucket": f"gs://{store.bucket}",
            "service_account": STEPS_ACCOUNT,
            "endpoints": dict.fromkeys(("vertex", "resource_manager", "iam", "service_usage", "images"), store.url),
        },
        "kubeflow": {"host": store.url, "root": f"gs://{store.bucket}"},
        "images": {target: store.images.push(target, "latest") for target in ("prep", "train", "embed", "index")},
        "resources": {"train_towers": {"cpu": "8", "memory": "32Gi", "accelerator": "NVIDIA_TESLA_T4"}},
    }  # fmt: skip
    environment = Environment.model_validate(settings)
    return make_submission(ROOT / "configs" / "tiny.yaml", environment, backend="vertex")


def changed(config: Config, changes: dict[str, Any]) -> Config:
    """The configuration with other values below dotted keys."""
    content = config.model_dump(mode="json")
    for key, value in changes.items():
        *outer, last = key.split(".")
        section = content
        for name in outer:
            section = section[name]
        section[last] = value
    return Config.model_validate(content)


def with_config(good: Submission, **changes: Any) -> Submission:
    return replace(good, config=changed(good.config, {key.replace("__", "."): value for key, value in changes.items()}))


def with_vertex(good: Submission, **changes: Any) -> Submission:
    vertex = good.environment.vertex.model_copy(update=changes)
    return replace(good, environment=good.environment.model_copy(update={"vertex": vertex}))


def with_image(good: Submission, image: str) -> Submission:
    pipeline = copy.deepcopy(good.pipeline)
    pipeline["deploymentSpec"]["executors"]["exec-prepare-data"]["container"]["image"] = image
    pipeline["deploymentSpec"]["executors"]["exec-resolve-inputs"]["container"]["image"] = image
    return replace(good, pipeline=pipeline)


def the_problem(found: list[Problem], *, blocking: bool = True) -> Problem:
    assert len(found) == 1, "\n".join(map(str, found))
    assert found[0].blocking is blocking, found[0]
    return found[0]


def test_a_good_run_has_no_problem(cloud, good):
    assert preflight(good, backend="vertex", schedules=True) == []
    asked = {call.name for call in cloud.calls}
    assert {
        "cloudresourcemanager.projects.get",
        "serviceusage.services.get",
        "PipelineService.ListPipelineJobs",
        "storage.buckets.testIamPermissions",
        "docker.manifests.get",
        "storage.objects.list",
    } <= asked


def test_offline_no_service_is_asked(cloud, good):
    assert preflight(good, backend="vertex", offline=True) == []
    assert preflight(with_vertex(good, bucket="gs://no-such-bucket"), backend="vertex", offline=True) == []
    assert not cloud.calls


def test_all_problems_are_found_at_once(cloud, good):
    cloud.denied |= {"aiplatform.pipelineJobs.create", "iam.serviceAccounts.actAs"}
    cloud.services -= {"dataflow"}
    broken = with_config(
        with_image(good, f"{cloud.image_repository}/prep:latest"),
        data__interactions__path=["interactions.parquet", "/home/me/more.parquet", "gs://no-such-bucket/logs/*"],
        data__items__path="itms.parquet",
        beam={"runner": "DataflowRunner", "work": f"gs://{cloud.bucket}/beam", "options": {}},
        resources={"train_towers": {"accelerator": "T4", "accelerator_count": 3}},
    )
    broken = replace(
        broken, run_id="Tiny_1", labels={"Team": "shop", "tool": "two tower"}, parameters={**good.parameters, "no": "x"}
    )
    found = [problem for problem in preflight(broken, backend="vertex") if problem.blocking]
    assert sorted({problem.where for problem in found}) == [
        "beam.options",
        "beam.runner",
        "data.interactions.path",
        "data.items.path",
        "images.prep",
        "labels",
        "labels.tool",
        "name",
        "parameters",
        "resources.train_towers.accelerator",
        "resources.train_towers.accelerator_count",
        "vertex.project",
        "vertex.service_account",
    ]
    assert all(problem.what and problem.to_do for problem in found)


def test_a_tag_is_refused_with_the_reason(cloud, good):
    problem = the_problem(preflight(with_image(good, f"{cloud.image_repository}/prep:latest"), backend="vertex"))
    assert problem.where == "images.prep"
    assert "results of the old one" in problem.what
    assert f"{cloud.image_repository}/prep@sha256:…" in problem.to_do


@pytest.mark.parametrize("image", ["prep@sha256:abc", "prep", "prep@sha256:" + "A" * 64])
def test_half_a_digest_is_none(good, image):
    image = f"europe-west4-docker.pkg.dev/shop-project/two-tower/{image}"
    assert the_problem(preflight(with_image(good, image), backend="vertex", offline=True)).where == "images.prep"


def test_a_target_without_an_image_is_named_with_its_steps(good):
    problem = the_problem(preflight(with_image(good, "python:3.11"), backend="vertex", offline=True))
    assert problem.where == "images.prep" and "resolve_inputs, prepare_data" in problem.what
    assert "make images" in problem.to_do


def test_an_image_that_is_not_in_the_registry(cloud, good):
    image = f"{cloud.image_repository}/prep@sha256:{'ab' * 32}"
    problem = the_problem(preflight(with_image(good, image), backend="vertex"))
    assert problem.where == "images.prep" and f"{image} is not in the registry" in problem.what


def test_an_unreadable_registry_is_a_note(cloud, good):
    cloud.denied.add("artifactregistry.repositories.downloadArtifacts")
    found = preflight(good, backend="vertex")
    assert [problem.where for problem in found] == [f"images.{name}" for name in ("index", "embed", "train", "prep")]
    assert not any(problem.blocking for problem in found)
    assert "add-iam-policy-binding two-tower --project=shop-project --location=europe-west4" in found[0].to_do


def test_other_registries_are_not_shown_the_credentials(cloud, good):
    problem = the_problem(
        preflight(with_image(good, f"ghcr.io/shop/prep@sha256:{'ab' * 32}"), backend="vertex"), blocking=False
    )
    assert "ghcr.io is no registry of Google's" in problem.what
    assert not [call for call in cloud.calls if "shop/prep" in call.path]


def test_a_pipeline_that_is_no_spec(good):
    pipeline = copy.deepcopy(good.pipeline)
    pipeline["root"]["dag"]["taskz"] = {}
    problem = the_problem(preflight(replace(good, pipeline=pipeline), backend="vertex", offline=True))
    assert problem.where == "pipeline" and "taskz" in problem.what


def test_parameters_are_the_declared_ones(good):
    parameters = {name: value for name, value in good.parameters.items() if name != "registry"}
    found = preflight(replace(good, parameters={**parameters, "regstry": "x"}), backend="vertex", offline=True)
    assert {problem.where for problem in found} == {"parameters"}
    assert any("'regstry'" in problem.what for problem in found) and any(
        "'registry'" in problem.what for problem in found
    )


@pytest.mark.parametrize(
    ("key", "asked", "says"),
    [
        ("accelerator", {"accelerator": "nvidia-tesla-t4"}, "'nvidia-tesla-t4'"),
        ("accelerator_count", {"accelerator": "NVIDIA_L4", "accelerator_count": 3}, "3 accelerators"),
    ],
)
def test_machines_that_there_are_not(good, key, asked, says):
    wrong = with_config(good, resources={"build_index": asked})
    problem = the_problem(preflight(wrong, backend="vertex", offline=True))
    assert problem.where == f"resources.build_index.{key}" and says in problem.what


def test_a_wrong_default_machine_is_one_problem(good):
    machine = ResourcesSettings(accelerator="lots")
    environment = good.environment.model_copy(update={"resources": {"default": machine}})
    wrong = replace(good, environment=environment, config=environment.overlaid(good.config))
    assert the_problem(preflight(wrong, backend="vertex", offline=True)).where == "resources.default.accelerator"


def test_kubeflow_names_accelerators_as_kubernetes_does(good):
    asked = {"train_towers": {"accelerator": "nvidia.com/gpu"}}
    assert preflight(with_config(good, resources=asked), backend="kubeflow", offline=True) == []
    assert the_problem(preflight(good, backend="kubeflow", offline=True)).where == "resources.train_towers.accelerator"


def test_labels_and_ids_that_google_does_not_take(good):
    labels = {**{f"l{n}": "" for n in range(63)}, "Team": "x", "team": "A b", "x" * 64: ""}
    found = preflight(replace(good, labels=labels, run_id="x" * 129), backend="vertex", offline=True)
    assert [problem.where for problem in found] == ["labels", "labels", "labels.team", "labels", "name"]
    assert "66 labels" in found[0].what


def test_each_problem_of_the_beam_options_is_one(good):
    beam = {"runner": "DataflowRunner", "work": "/tmp/work", "options": {"region": "europe", "temp_location": "tmp"}}
    found = preflight(with_config(good, beam=beam), backend="vertex", offline=True)
    assert {"beam.work", "beam.options.region", "beam.options.temp_location", "beam.options"} == {
        problem.where for problem in found
    }


@pytest.mark.parametrize(
    ("beam", "where"), [({"runner": "FlinkRunner", "work": "work"}, "beam.work"), ({"runner": "Flink"}, "beam.runner")]
)
def test_other_runners(good, beam, where):
    assert the_problem(preflight(with_config(good, beam=beam), backend="vertex", offline=True)).where == where


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.interactions.path", "/home/me/logs/*.parquet"),
        ("data.items.path", ["items.parquet", "file:///home/me/items.parquet"]),
        ("embedding.previous", "runs/1/embeddings"),
    ],
)
def test_folders_of_this_machine(good, key, value):
    local = replace(good, config=changed(good.config, {key: value}))
    assert the_problem(preflight(local, backend="vertex", offline=True)).where == key
    found = [one for one in preflight(local, backend="kubeflow", offline=True) if one.where == key]
    assert "mount" in the_problem(found, blocking=False).to_do  # there steps may have mounts


def test_a_mounted_bucket_is_no_folder_of_this_machine(cloud, good):
    paths = {"data__interactions__path": f"/gcs/{cloud.bucket}/data/tiny/interactions.parquet"}
    assert preflight(with_config(good, **paths), backend="vertex") == []


def test_a_local_data_root(good):
    local = replace(good, environment=good.environment.model_copy(update={"data_root": "data"}))
    assert the_problem(preflight(local, backend="vertex", offline=True)).where == "data_root"


def test_incremental_preparation_is_noted(good):
    found = preflight(with_config(good, data__incremental=True), backend="vertex", offline=True)
    assert the_problem(found, blocking=False).where == "data.incremental"


@pytest.mark.parametrize(
    ("parameters", "where"), [({"run_time": "tonight"}, "run_time"), ({"time_zone": "Europe/Berln"}, "time_zone")]
)
def test_times_that_are_none(cloud, good, parameters, where):
    logs = with_config(good, data__interactions__path="{date-1d}.parquet")
    found = preflight(replace(logs, parameters={**good.parameters, **parameters}), backend="vertex")
    assert the_problem(found).where == where


def test_a_placeholder_that_is_not_known(good):
    problem = the_problem(
        preflight(with_config(good, data__interactions__path="{yesterday}/*"), backend="vertex", offline=True)
    )
    assert problem.where == "data.interactions.path" and "{yesterday}" in problem.what


def test_no_credentials(cloud, good, monkeypatch, tmp_path):
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert the_problem(preflight(good, backend="vertex")).where == "credentials"


def test_credentials_that_are_not_accepted(cloud, good):
    cloud.faults.append(Fault("oauth2.token", "403", times=99))
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == "credentials" and "not accepted" in problem.what


def test_a_project_that_is_not_there(cloud, good):
    found = preflight(with_vertex(good, project="another-project"), backend="vertex")
    blocking = [problem for problem in found if problem.blocking]
    assert the_problem(blocking).where == "vertex.project" and "no project another-project" in blocking[0].what


def test_a_project_that_does_not_show_itself_but_grants_all(cloud, good):
    cloud.denied.add("resourcemanager.projects.get")
    assert preflight(good, backend="vertex") == []


def test_denied_permissions_are_named_with_the_role(cloud, good):
    cloud.denied |= {"aiplatform.pipelineJobs.create", "aiplatform.pipelineJobs.cancel", "aiplatform.schedules.create"}
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == "vertex.project"
    assert problem.what.endswith("aiplatform.pipelineJobs.create, aiplatform.pipelineJobs.cancel")
    assert problem.to_do == (
        f"`gcloud projects add-iam-policy-binding shop-project --member=serviceAccount:{CALLER} "
        "--role=roles/aiplatform.user`"
    )
    assert "aiplatform.schedules.create" in the_problem(preflight(good, backend="vertex", schedules=True)).what


def test_permissions_that_may_not_be_asked_for_are_a_note(cloud, good):
    cloud.faults = [
        Fault("cloudresourcemanager", "403", times=99), Fault("iam.serviceAccounts", "403", times=99),
        Fault("serviceusage", "403", times=99),
    ]  # fmt: skip
    found = preflight(good, backend="vertex")
    blocking = [problem for problem in found if problem.blocking]
    assert the_problem(blocking).where == "vertex.project"  # nobody can tell it from one that is not there
    assert {problem.where for problem in found} == {"vertex.project", "vertex.service_account"}
    cloud.faults = [Fault("projects.testIamPermissions|serviceusage", "403", times=99)]
    notes = preflight(good, backend="vertex")
    assert {problem.where for problem in notes} == {"vertex.project"} and len(notes) == 2
    assert not any(problem.blocking for problem in notes)
    assert all(problem.what.startswith("cannot be checked: ") for problem in notes)


def test_a_busy_service_is_asked_again(cloud, good):
    cloud.faults = [
        Fault(name, "503") for name in ("cloudresourcemanager.projects.get", "serviceusage", "docker", "iam.serviceAcc")
    ]
    assert preflight(good, backend="vertex") == []
    assert all(fault.hits for fault in cloud.faults)


def test_a_service_account_that_is_not_there(cloud, good):
    cloud.accounts.clear()
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == "vertex.service_account"
    assert "`gcloud iam service-accounts create pipelines --project=shop-project`" in problem.to_do


def test_nobody_runs_steps_as_an_account_without_leave(cloud, good):
    cloud.denied.add("iam.serviceAccounts.actAs")
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == "vertex.service_account" and "iam.serviceAccounts.actAs" in problem.what
    assert "roles/iam.serviceAccountUser" in problem.to_do


@pytest.mark.parametrize(
    ("service", "where"), [("aiplatform", "vertex"), ("storage", "vertex.bucket"), ("artifactregistry", "images.index")]
)
def test_services_that_are_not_enabled(cloud, good, service, where):
    cloud.services.discard(service)
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == where
    assert problem.to_do == f"`gcloud services enable {service}.googleapis.com --project=shop-project`"


def dataflow(good: Submission, cloud: Cloud, **options: Any) -> Submission:
    needed = {
        "project": cloud.project, "region": cloud.region, "temp_location": f"gs://{cloud.bucket}/temp",
        "service_account_email": STEPS_ACCOUNT, "sdk_container_image": good.environment.images["prep"],
    }  # fmt: skip
    beam = BeamSettings(runner="DataflowRunner", work=f"gs://{cloud.bucket}/work", options={**needed, **options})
    return replace(good, config=good.config.model_copy(update={"beam": beam}))


def test_dataflow_is_enabled_where_it_is_used(cloud, good):
    assert preflight(dataflow(good, cloud), backend="vertex") == []
    cloud.services -= {"dataflow", "compute"}
    found = preflight(dataflow(good, cloud), backend="vertex")
    assert [problem.where for problem in found] == ["beam.runner", "beam.runner"]
    assert preflight(good, backend="vertex") == []


def test_the_workers_image_and_buckets_are_looked_for(cloud, good):
    image = f"{cloud.image_repository}/prep@sha256:{'ab' * 32}"
    broken = dataflow(good, cloud, sdk_container_image=image, staging_location="gs://no-such-bucket/staging")
    found = preflight(broken, backend="vertex")
    assert [problem.where for problem in found] == [
        "beam.options.staging_location", "beam.options.sdk_container_image",
    ]  # fmt: skip


def test_a_bucket_that_is_not_there_is_one_problem(cloud, good):
    moved = with_vertex(good, bucket="gs://no-such-bucket/shop")
    moved = replace(moved, root="gs://no-such-bucket/shop/pipelines")
    problem = the_problem(preflight(moved, backend="vertex"))
    assert problem.where == "vertex.bucket" and "there is no bucket gs://no-such-bucket" in problem.what
    assert problem.to_do.startswith(
        "`gcloud storage buckets create gs://no-such-bucket --project=shop-project --location=europe-west4 "
    )


def test_a_bucket_with_several_uses_names_them_all(cloud, good):
    beam = {"work": "gs://no-such-bucket/work"}
    wrong = with_config(good, data__items__path="gs://no-such-bucket/items.parquet", beam=beam)
    assert the_problem(preflight(wrong, backend="vertex")).where == "data.items.path, beam.work"


def test_results_that_the_caller_may_not_read(cloud, good):
    cloud.denied.add("storage.objects.get")
    problem = the_problem(preflight(good, backend="vertex"))
    assert problem.where == "vertex.bucket" and "storage.objects.get" in problem.what
    assert "gs://shop-bucket" in problem.to_do and "roles/storage.objectViewer" in problem.to_do


def test_what_only_the_steps_write_is_a_note_unless_they_run_as_the_caller(cloud, good):
    cloud.denied |= {"storage.objects.create", "storage.objects.delete"}
    problem = the_problem(preflight(good, backend="vertex"), blocking=False)
    assert f"it cannot be seen from here whether the steps' own account, {STEPS_ACCOUNT}, may" in problem.what
    assert f"serviceAccount:{STEPS_ACCOUNT} --role=roles/storage.objectAdmin" in problem.to_do
    problem = the_problem(preflight(with_vertex(good, service_account=CALLER), backend="vertex"))
    assert problem.what.endswith("storage.objects.create, storage.objects.delete")
    assert f"{CALLER} --role=roles/storage.objectAdmin" in problem.to_do


def test_a_bucket_far_away_is_noted(cloud, good):
    far = with_vertex(good, region="us-central1")
    notes = [problem for problem in preflight(far, backend="vertex") if problem.where == "vertex.bucket"]
    assert "lies in EUROPE-WEST4, the steps in us-central1" in the_problem(notes, blocking=False).what


def test_a_bucket_that_does_not_say_where_it_lies(cloud, good):
    cloud.denied.add("storage.buckets.get")
    problem = the_problem(preflight(good, backend="vertex"), blocking=False)
    assert "storage.buckets.get" in problem.what


@pytest.mark.parametrize(
    ("location", "places", "region", "holds"),
    [
        ("EUROPE-WEST4", [], "europe-west4", True),
        ("EUROPE-WEST1", [], "europe-west4", False),
        ("EU", [], "europe-west4", True),
        ("EU", [], "europe-west2", False),
        ("US", [], "us-central1", True),
        ("ASIA", [], "us-central1", False),
        ("EUR4", [], "europe-north1", True),
        ("NAM4", [], "us-west1", False),
        ("EU", ["EUROPE-WEST1", "EUROPE-WEST3"], "europe-west4", False),
        ("EU", ["EUROPE-WEST1", "EUROPE-WEST4"], "europe-west4", True),
    ],
)
def test_locations_that_hold_a_region(location, places, region, holds):
    from types import SimpleNamespace

    from pipelines.remote.preflight.buckets import _holds

    assert _holds(SimpleNamespace(location=location, data_locations=places), region) is holds


def test_every_missing_source_is_named(cloud, good):
    logs = ["interactions.parquet", "missing.parquet", "gs://shop-bucket/elsewhere/*.parquet"]
    wrong = with_config(good, data__interactions__path=logs, data__users__path="usrs.parquet")
    found = preflight(wrong, backend="vertex")
    assert [problem.where for problem in found] == ["data.interactions.path"] * 2 + ["data.users.path"]
    assert "'gs://shop-bucket/data/tiny/missing.parquet' is not there" in found[0].what
    assert "'gs://shop-bucket/elsewhere/*.parquet' is not there" in found[1].what
    assert "TWO_TOWER_DATA" not in str(found)


def test_what_lies_on_this_machine_does_not_count(cloud, good, monkeypatch, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "usrs.parquet").write_bytes(b"here")
    monkeypatch.setenv("TWO_TOWER_DATA", str(tmp_path))
    assert the_problem(preflight(with_config(good, data__users__path="usrs.parquet"), backend="vertex"))


def test_files_of_a_time_to_come_are_not_missed(cloud, good):
    nightly = with_config(good, data__interactions__path=["interactions.parquet", "{date-1d}.parquet"])
    at = {**nightly.parameters, "run_time": "2026-01-02T03:00"}
    problem = the_problem(preflight(replace(nightly, parameters=at), backend="vertex"))
    assert "2026-01-01.parquet" in problem.what
    assert preflight(nightly, backend="vertex", schedules=True) == []
    later = {**nightly.parameters, "run_time": "2126-01-02T03:00"}
    assert preflight(replace(nightly, parameters=later), backend="vertex") == []


def test_a_table_of_bigquery_is_not_exported_to_look_at_it(cloud, good):
    source = BigQuerySettings(table="shop-project.logs.items", export_to=f"gs://{cloud.bucket}/exports")
    items = good.config.data.items.model_copy(update={"path": None, "bigquery": source})
    data = good.config.data.model_copy(update={"items": items})
    found = preflight(replace(good, config=good.config.model_copy(update={"data": data})), backend="vertex")
    assert {problem.where: problem.blocking for problem in found} == {"data.items.bigquery": False}


def test_an_address_that_does_not_answer(cloud, good):
    endpoints = {**good.environment.vertex.endpoints, "vertex": "http://127.0.0.1:9"}
    problem = the_problem(preflight(with_vertex(good, endpoints=endpoints), backend="vertex"))
    assert problem.where == "vertex.endpoints.vertex" and "http://127.0.0.1:9 does not answer" in problem.what


class _Pipelines(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/apis/v2beta1/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Pipelines) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def elsewhere(good: Submission) -> Submission:
    return with_config(good, resources={"train_towers": {"accelerator": "nvidia.com/gpu"}})


def test_kubeflow_is_asked_whether_it_is_there(cloud, elsewhere, host, monkeypatch):
    assert preflight(elsewhere, backend="kubeflow", host=host) == []
    assert not cloud.called("docker.manifests.get") and not cloud.called("cloudresourcemanager.projects.get")
    monkeypatch.setattr(_Pipelines, "status", 500)
    assert the_problem(preflight(elsewhere, backend="kubeflow", host=host)).where == "--host"
    monkeypatch.setattr(_Pipelines, "status", 302)
    assert "login" in the_problem(preflight(elsewhere, backend="kubeflow", host=host), blocking=False).what
    assert "does not answer" in the_problem(preflight(elsewhere, backend="kubeflow", host="http://127.0.0.1:9")).what


def test_kubeflow_without_an_address(cloud, elsewhere):
    kubeflow = elsewhere.environment.kubeflow.model_copy(update={"host": None})
    environment = elsewhere.environment.model_copy(update={"kubeflow": kubeflow})
    assert the_problem(preflight(replace(elsewhere, environment=environment), backend="kubeflow")).where == (
        "kubeflow.host"
    )


def test_kubeflows_buckets_are_looked_for(cloud, elsewhere, host, monkeypatch, tmp_path):
    moved = replace(elsewhere, root="gs://no-such-bucket", registry="gs://no-such-bucket/registry")
    assert the_problem(preflight(moved, backend="kubeflow", host=host)).where == "kubeflow.root, kubeflow.registry"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert the_problem(preflight(moved, backend="kubeflow", host=host), blocking=False).where == "kubeflow.root"
