"""A configuration and an environment put together, and how its pipeline differs from that of this machine."""

import copy
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.dag.pipeline import compile_pipeline
from pipelines.remote.submission import make_submission, shown
from two_tower.beam.dataflow_options import check_options
from two_tower.config import BeamSettings, Environment, load_config
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
IMAGES = {target: f"europe-west4-docker.pkg.dev/shop/tower/{target}@sha256:{'a' * 64}" for target in
          ("prep", "train", "embed", "index")}  # fmt: skip
VERTEX = {
    "project": "shop-project",
    "region": "europe-west4",
    "bucket": "gs://shop-bucket",
    "service_account": "runner@shop-project.iam.gserviceaccount.com",
}


def environment(**more):
    return Environment.model_validate({"vertex": VERTEX, "images": IMAGES, **more})


def stripped(spec: dict) -> dict:
    """The pipeline without what may differ: images, machines, and the defaults that hold the machines' settings."""
    spec = copy.deepcopy(spec)
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("image", None)
        executor["container"].pop("resources", None)
    spec["root"]["inputDefinitions"]["parameters"]["config"].pop("defaultValue")
    return spec


def test_the_pipelines_for_this_machine_and_for_vertex_differ_in_images_and_machines_alone(tmp_path):
    compile_pipeline(load_config(TINY), tmp_path / "local.yaml")
    local = yaml.safe_load((tmp_path / "local.yaml").read_text())
    machine = {"cpu": "8", "memory": "32G", "accelerator": "NVIDIA_L4"}
    asked = environment(resources={"default": {"cpu": "4", "memory": "16G"}, "train_towers": machine})
    remote = make_submission(TINY, asked, backend="vertex").pipeline
    assert local != remote
    assert stripped(local) == stripped(remote)
    for spec in (local, remote):
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    containers = {name: each["container"] for name, each in remote["deploymentSpec"]["executors"].items()}
    assert all("@sha256:" in each["image"] for each in containers.values())
    assert containers["exec-train-towers"]["resources"]["accelerator"]["resourceType"] == "NVIDIA_L4"
    assert "accelerator" not in containers["exec-prepare-data"]["resources"]


def test_a_step_can_be_kept_from_the_cache():
    def cached(**more) -> set[str]:
        spec = make_submission(TINY, environment(**more.get("environment", {})), backend="vertex",
                               cache=more.get("cache", True)).pipeline  # fmt: skip
        tasks = dict(spec["root"]["dag"]["tasks"])
        for component in spec["components"].values():
            tasks.update(component.get("dag", {}).get("tasks", {}))
        return {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}

    every = cached()
    assert {"train-towers", "prepare-data"} <= every
    assert every - cached(environment={"caching": {"train_towers": False}}) == {"train-towers"}
    assert not cached(cache=False) & {step for step in every if not step.startswith("condition")} - {
        "retrieval", "gate", "refused",
    }  # fmt: skip


def test_the_environment_overlays_the_configuration():
    asked = environment(
        set={"training.epochs": 7},
        beam={"runner": "DataflowRunner", "work": "gs://shop-bucket/work"},
        data_root="gs://logs/all",
    )
    found = make_submission(TINY, asked, ["training.batch_size=64"], backend="vertex", run_time="2026-11-26T03:00")
    assert (found.config.training.epochs, found.config.training.batch_size) == (7, 64)
    assert found.config.beam.runner == "DataflowRunner"
    assert found.parameters["data_root"] == "gs://logs/all"
    assert found.parameters["registry"] == "gs://shop-bucket/registry" and found.root == "gs://shop-bucket/pipelines"
    assert found.labels["pipeline"] == "tiny" and found.labels["tool"] == "two-tower"
    assert found.run_id in shown(found) and "prepare-data" in shown(found)


def test_dataflow_gets_what_the_environment_knows_and_each_step_its_own_image():
    asked = environment(beam={"runner": "DataflowRunner", "options": {"max_num_workers": 3}}, labels={"team": "shop"})
    found = make_submission(TINY, asked, backend="vertex")
    assert check_options(found.config.beam) == []
    assert found.config.beam.options["max_num_workers"] == 3
    assert found.config.beam.options["sdk_container_image"] == IMAGES["prep"]
    embedding = BeamSettings.model_validate_json(found.parameters["embedding_beam"])
    assert embedding.options == {**found.config.beam.options, "sdk_container_image": IMAGES["embed"]}
    assert "embedding_beam" not in make_submission(TINY, environment(), backend="vertex").parameters


def test_nothing_says_where_it_goes_but_the_environment_file():
    with pytest.raises(ConfigError, match="no section 'kubeflow'"):
        make_submission(TINY, environment(), backend="kubeflow")
    for key in ("project", "bucket", "service_account", "region"):
        lacking = {name: value for name, value in VERTEX.items() if name != key}
        with pytest.raises(ValueError, match=key):
            Environment.model_validate({"vertex": lacking})
