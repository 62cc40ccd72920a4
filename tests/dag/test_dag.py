"""The compiled DAG: valid, complete, with the arrows of the design."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.build import IMAGE_OF, body_of
from pipelines.dag.pipeline import build_preparation, compile_pipeline
from two_tower.config import load_config
from two_tower.steps import EXIT_HANDLER, IMAGES, STEPS, TABLE

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    """The compiled small configuration with a refit, so with every step, and an image for the training target."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    config = load_config(CONFIGS / "tiny.yaml", ["training.refit=true"])
    compile_pipeline(config, path, images={"train": "example/train@sha256:12"})
    return yaml.safe_load(path.read_text())


def tasks(compiled) -> dict[str, dict]:
    found = dict(compiled["root"]["dag"]["tasks"])
    for component in compiled["components"].values():
        found.update(component.get("dag", {}).get("tasks", {}))
    return {name.replace("-", "_"): task for name, task in found.items()}


def test_the_file_is_a_valid_pipeline_spec(compiled):
    json_format.ParseDict(compiled, pipeline_spec_pb2.PipelineSpec())


def test_every_step_is_there_with_its_arrows(compiled):
    found = tasks(compiled)
    assert {*STEPS, "report_failure"} <= set(found)
    arrows = {name: {d.replace("-", "_") for d in task.get("dependentTasks", [])} for name, task in found.items()}
    assert arrows["check_prepared"] == {"prepare_data"}
    assert arrows["train_towers"] == {"prepare_data", "resolve_inputs", "check_prepared"}
    assert arrows["export_candidate_tower"] == {"train_towers"}
    assert arrows["embed_candidates"] == {"export_candidate_tower", "prepare_data"}
    assert arrows["build_index"] == {"embed_candidates", "export_query_tower", "prepare_data"}
    assert arrows["export_query_tower"] == {"embed_candidates", "train_towers"}
    assert arrows["measure_before_refit"] == {"prepare_data", "train_towers"}
    assert {"build_index", "export_query_tower", "measure_before_refit"} <= arrows["evaluate_recall"]
    assert "evaluate_recall" in arrows["write_report"]


def test_the_table_of_steps_says_what_the_dag_does(compiled):
    """Which steps there are, what the cache may answer, and which parameter an input takes."""
    found = {name: task for name, task in tasks(compiled).items() if name in TABLE}
    assert found.keys() == TABLE.keys() == {*STEPS, EXIT_HANDLER}
    assert {step.image for step in TABLE.values()} == set(IMAGES)
    for name, task in found.items():
        given = task["inputs"].get("parameters", {})
        assert bool(task.get("cachingOptions", {}).get("enableCache")) is TABLE[name].cached is ("code" in given)
        taken = {
            key: value["componentInputParameter"].removeprefix("pipelinechannel--")
            for key, value in given.items()
            if "componentInputParameter" in value
        }
        known = compiled["root"]["inputDefinitions"]["parameters"]
        taken = {key: parameter for key, parameter in taken.items() if parameter in known}
        assert taken == {key: TABLE[name].parameters.get(key, key) for key in taken}
        assert TABLE[name].parameters.keys() <= taken.keys()


def test_without_a_refit_nothing_is_measured_before_one(tmp_path):
    config = load_config(CONFIGS / "tiny.yaml", ["training.refit=false"])
    compile_pipeline(config, tmp_path / "pipeline.yaml")
    found = set(tasks(yaml.safe_load((tmp_path / "pipeline.yaml").read_text())))
    assert {*STEPS} - found == {"measure_before_refit"} == {*STEPS} - {*config.steps}


def test_the_champion_reaches_training_by_its_folder_alone(compiled):
    """Not by its id, which is news to every run after a promotion."""
    inputs = tasks(compiled)["train_towers"]["inputs"]["parameters"]
    came_from = {
        name: value["taskOutputParameter"]["outputParameterKey"]
        for name, value in inputs.items()
        if "taskOutputParameter" in value
    }
    assert came_from == {"warm_start": "warm_start"}
    assert "trained" in compiled["components"]["comp-promote"]["inputDefinitions"]["artifacts"]


def test_training_is_told_nothing_of_what_is_checked_before_it(compiled):
    """It waits for the check, and a changed evaluation or index trains nothing anew."""
    given = tasks(compiled)["train_towers"]["inputs"]
    assert set(given["parameters"]) == {"model", "training", "warm_start", "code"}
    assert set(given["artifacts"]) == {"prepared"}
    assert "outputDefinitions" not in compiled["components"]["comp-check-prepared"]


def test_the_first_two_steps_alone_ask_the_cache_as_the_whole_dag_does(compiled, tmp_path):
    from kfp import compiler

    file = tmp_path / "preparation.yaml"
    compiler.Compiler().compile(build_preparation(load_config(CONFIGS / "tiny.yaml")), str(file))
    alone = yaml.safe_load(file.read_text())
    assert {name.replace("-", "_") for name in alone["root"]["dag"]["tasks"]} == {"resolve_inputs", "prepare_data"}
    for name in ("comp-prepare-data", "comp-resolve-inputs"):
        assert alone["components"][name] == compiled["components"][name]
    for name in ("exec-prepare-data", "exec-resolve-inputs"):
        assert alone["deploymentSpec"]["executors"][name] == compiled["deploymentSpec"]["executors"][name]


def test_what_has_to_see_the_world_anew_is_never_cached(compiled):
    uncached = {name for name, task in tasks(compiled).items() if not task.get("cachingOptions", {}).get("enableCache")}
    assert uncached & set(IMAGE_OF) == {"resolve_inputs", "promote", "keep_refused", "write_report", "report_failure"}


def test_what_the_registry_keeps_is_news_for_no_cached_step(tmp_path):
    files = []
    for number, overrides in enumerate(([], ["retention.keep=3", "retention.days=7"])):
        files.append(tmp_path / f"{number}.yaml")
        compile_pipeline(load_config(CONFIGS / "tiny.yaml", overrides), files[-1])
    one, two = (yaml.safe_load(file.read_text()) for file in files)
    given = [spec["root"]["inputDefinitions"]["parameters"] for spec in (one, two)]
    assert {name for name in given[0] if given[0][name] != given[1][name]} == {"config"}
    of_whole_config = {
        name for name, task in tasks(one).items()
        if any("config" in str(value) for value in task["inputs"].get("parameters", {}).values())
    }  # fmt: skip
    assert of_whole_config & set(IMAGE_OF) == {"resolve_inputs", "promote", "keep_refused", "write_report"}


def test_a_step_runs_in_its_targets_image(compiled):
    executors = compiled["deploymentSpec"]["executors"]
    for step, target in IMAGE_OF.items():
        image = executors[f"exec-{step.replace('_', '-')}"]["container"]["image"]
        assert image == ("example/train@sha256:12" if target == "train" else "python:3.11")


def test_no_step_installs_packages_when_it_runs(compiled):
    for executor in compiled["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


@pytest.mark.parametrize("step", IMAGE_OF)
def test_every_body_fits_a_screen(step):
    import ast
    import inspect
    import textwrap

    source = textwrap.dedent(inspect.getsource(body_of(step)))
    function = ast.parse(source).body[0]
    first = function.body[1].lineno  # after the docstring
    assert function.end_lineno - first < 40


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_compiles(path, tmp_path):
    compile_pipeline(load_config(path), tmp_path / "pipeline.yaml")
