"""The options of a Dataflow job: every problem named before anything starts, and what the step adds to them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from two_tower.beam import pipeline
from two_tower.beam.dataflow_options import check_options, job_family, job_name, job_options, label_value
from two_tower.config import BeamSettings
from two_tower.errors import ConfigError

DIGEST = f"europe-docker.pkg.dev/my-project/two-tower/prep@sha256:{'0' * 64}"
OPTIONS = {
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://bucket/temp",
    "service_account_email": "workers@my-project.iam.gserviceaccount.com",
    "sdk_container_image": DIGEST,
}
MORE = {
    "staging_location": "gs://bucket/staging",
    "network": "projects/host/global/networks/shared",
    "subnetwork": "regions/europe-west4/subnetworks/workers",
    "use_public_ips": False,
    "worker_machine_type": "n2-highmem-8",
    "worker_zone": "europe-west4-b",
    "num_workers": 2,
    "max_num_workers": 20,
    "autoscaling_algorithm": "THROUGHPUT_BASED",
    "disk_size_gb": 50,
    "labels": {"team": "search", "cost-centre": "42"},
    "experiments": ["shuffle_mode=service"],
    "dataflow_service_options": ["enable_google_cloud_profiler"],
    "job_name": "shop",
}


def dataflow(**options: Any) -> BeamSettings:
    return BeamSettings(runner="DataflowRunner", work="gs://bucket/work", options=OPTIONS | options)


@pytest.fixture
def a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_TOWER_RUN_ID", "Shop-20261126T010000")
    monkeypatch.setenv("TWO_TOWER_STEP", "prepare_data")
    monkeypatch.setenv("TWO_TOWER_COMMIT", "0f6c1d")


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWO_TOWER_RUN_ID", "TWO_TOWER_STEP", "TWO_TOWER_COMMIT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("options", [{}, MORE], ids=["the least", "many"])
def test_good_options_have_no_problem(options: dict[str, Any]) -> None:
    assert check_options(dataflow(**options)) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    *(
        ({name: None}, f"beam.options: DataflowRunner needs {name}")
        for name in OPTIONS
        if name != "sdk_container_image"
    ),
    ({"region": ""}, "beam.options: DataflowRunner needs region"),
    ({"sdk_container_image": None}, "sdk_container_image (the prep image) or setup_file"),
    ({"sdk_container_image": "host/project/repository/prep:1"}, "'host/project/repository/prep:1' is not an image by"),
    ({"sdk_container_image": "host/project/repository/prep"}, "is not an image by digest"),
    ({"sdk_container_image": f"prep@sha256:{'0' * 63}"}, "is not an image by digest"),
    ({"project": "123456"}, "beam.options.project: '123456' is not the id of a project"),
    ({"project": "My Project"}, "beam.options.project"),
    ({"region": "europe-west4-a"}, "beam.options.region: 'europe-west4-a' is not a region"),
    ({"temp_location": "/tmp/temp"}, "beam.options.temp_location: '/tmp/temp' is not a folder such as gs://"),
    ({"temp_location": "gs://bucket"}, "beam.options.temp_location"),
    ({"staging_location": "s3://bucket/x"}, "beam.options.staging_location"),
    ({"service_account_email": "someone@example.com"}, "beam.options.service_account_email"),
    ({"network": "Default"}, "beam.options.network: 'Default' is not the name of a network"),
    ({"subnetwork": "workers"}, "beam.options.subnetwork: 'workers' is not regions/REGION/subnetworks/NAME"),
    ({"subnetwork": "regions/us-east1/subnetworks/a"}, "in the region us-east1, the workers in europe-west4"),
    ({"worker_zone": "us-east1-b"}, "beam.options.worker_zone: us-east1-b does not lie in the region europe-west4"),
    ({"worker_zone": "us-east1-b", "worker_region": "us-east1"}, "exclude each other"),
    ({"machine_type": "big"}, "beam.options.machine_type: 'big' is not a machine type"),
    ({"worker_machine_type": "e2-small"}, "beam.options.worker_machine_type: 'e2-small' is not a machine type"),
    ({"num_workers": 0}, "beam.options.num_workers: 0 is fewer than one worker"),
    ({"num_workers": 3, "max_num_workers": 2}, "beam.options.num_workers: 3 is more than max_num_workers, 2"),
    ({"num_workers": "many"}, "beam.options.num_workers: 'many' cannot be used"),
    ({"autoscaling_algorithm": "ON"}, "beam.options.autoscaling_algorithm: 'ON' cannot be used"),
    ({"job_name": "My_Shop"}, "beam.options.job_name: 'My_Shop' is not lower-case letters"),
    ({"job_name": "shop-"}, "beam.options.job_name"),
    ({"labels": {"Team": "a"}}, "beam.options.labels: no key of a label: 'Team'"),
    ({"labels": {"team": "A b"}}, "beam.options.labels.team: no value of a label: 'A b'"),
    ({"labels": {"team": "a" * 64}}, "beam.options.labels.team"),
    ({"labels": ["team"]}, "expected a mapping, or a list of KEY=VALUE, got 'team'"),
    ({"labels": {"run_id": "1"}}, "'run_id' is set by the step itself"),
    ({"labels": {f"l{n}": "x" for n in range(70)}}, "70 labels; 61 at most"),
    ({"machinetype": "n2-standard-2"}, "machinetype: Beam has no such option"),
    ({"max_num_worker": 2}, "did you mean 'max_num_workers'?"),
    ({"save_main_session": True}, "beam.options.save_main_session: cannot be set here"),
    ({"streaming": True}, "beam.options.streaming: cannot be set here: the steps are batch jobs"),
    ({"no_wait_until_finish": True}, "beam.options.no_wait_until_finish"),
    ({"template_location": "gs://bucket/t"}, "beam.options.template_location"),
    ({"runner": "DirectRunner"}, "beam.options.runner"),
    ({"experiments": ["disable_runner_v2"]}, "disable_runner_v2 turns off the runner"),
    ({"sdk_location": "default"}, "beam.options.sdk_location: must be 'container'"),
]


@pytest.mark.parametrize(("options", "problem"), WRONG, ids=[problem[:70] for _, problem in WRONG])
def test_each_problem_is_named_and_nothing_else(options: dict[str, Any], problem: str) -> None:
    problems = check_options(dataflow(**options))
    assert len(problems) == 1 and problem in problems[0]


@pytest.mark.parametrize("work", [None, "", "/tmp/work", "gs://bucket", "s3://bucket/work"])
def test_the_work_folder_lies_on_a_bucket(work: str | None) -> None:
    (problem,) = check_options(dataflow().model_copy(update={"work": work}))
    assert problem.startswith("beam.work: DataflowRunner needs a gs:// folder that all its workers reach")


@pytest.mark.usefixtures("no_run")
def test_all_problems_come_at_once() -> None:
    wrong = BeamSettings(runner="DataflowRunner", options={"region": "mars", "labels": {"A": "b"}, "workerz": 1})
    problems = check_options(wrong)
    assert len(problems) == 6
    with pytest.raises(ConfigError) as refused:
        pipeline(wrong)
    assert str(refused.value).splitlines() == problems


def test_the_check_needs_no_beam_and_no_cloud() -> None:
    code = f"""
import sys
sys.modules["apache_beam"] = None
from two_tower.config import BeamSettings
from two_tower.beam.dataflow_options import check_options
for options in ({OPTIONS | MORE!r}, {{}}):
    print(len(check_options(BeamSettings(runner="DataflowRunner", work="gs://bucket/work", options=options))))
print(sorted(name for name in sys.modules if name.startswith(("google.cloud.", "tensorflow"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["0", "2", "[]"]


@pytest.mark.usefixtures("a_run")
def test_the_job_says_which_step_of_which_run_it_is() -> None:
    options = job_options(dataflow(**MORE), part="read")
    assert options["job_name"] == "shop-prepare-data-shop-20261126t010000-read"
    assert options["labels"] == [
        "team=search",
        "cost-centre=42",
        "run_id=shop-20261126t010000",
        "step=prepare_data",
        "commit=0f6c1d",
    ]
    assert options["experiments"] == ["shuffle_mode=service", "use_runner_v2"]
    assert (options["sdk_location"], options["staging_location"]) == ("container", "gs://bucket/staging")
    assert "save_main_session" not in options
    assert job_family(dataflow(**MORE)) == "shop-prepare-data-shop-20261126t010000"


@pytest.mark.usefixtures("no_run")
def test_without_a_run_beam_names_the_job() -> None:
    options = job_options(dataflow())
    assert "job_name" not in options and "labels" not in options
    assert options["staging_location"] == "gs://bucket/temp"
    assert job_family(dataflow()) is None


@pytest.mark.usefixtures("a_run")
def test_beam_reads_the_options_as_they_are_meant() -> None:
    from apache_beam.options.pipeline_options import (
        DebugOptions,
        GoogleCloudOptions,
        PipelineOptions,
        SetupOptions,
        WorkerOptions,
    )

    options = PipelineOptions.from_dictionary(job_options(dataflow(**MORE), part="read"))
    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    assert cloud.labels == [
        "team=search",
        "cost-centre=42",
        "run_id=shop-20261126t010000",
        "step=prepare_data",
        "commit=0f6c1d",
    ]
    assert cloud.service_account_email == OPTIONS["service_account_email"]
    assert (workers.machine_type, workers.num_workers, workers.use_public_ips) == ("n2-highmem-8", 2, False)
    assert (workers.sdk_container_image, workers.subnetwork) == (DIGEST, MORE["subnetwork"])
    assert options.view_as(DebugOptions).lookup_experiment("use_runner_v2")
    assert not options.view_as(SetupOptions).save_main_session


@pytest.mark.parametrize("run", ["1", "Shop 2026", "x" * 200, "-", "a" * 100 + "-b", "früh"])
@pytest.mark.parametrize("part", ["", "read", "core-100", "a very long part"])
@pytest.mark.parametrize("name", ["two-tower", "n" * 63])
def test_any_run_makes_a_name_and_labels_that_dataflow_takes(run: str, part: str, name: str) -> None:
    import re

    from two_tower.artifacts import Lineage

    lineage = Lineage(run, "embed_candidates", "c" * 40)
    made, family = job_name(name, lineage, part), job_name(name, lineage)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", made)
    assert made == family or made.startswith(f"{family}-")
    assert re.fullmatch(r"[a-z0-9_-]{1,63}", label_value(run))


def test_runs_that_differ_in_what_is_cut_have_different_names() -> None:
    from two_tower.artifacts import Lineage

    names = {job_name("two-tower", Lineage(f"{'r' * 80}{n}", "prepare_data")) for n in range(20)}
    assert len(names) == 20
