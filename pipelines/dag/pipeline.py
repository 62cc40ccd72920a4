"""The DAG: one pipeline function for one machine and for Vertex AI Pipelines.

resolve_inputs -> prepare_data -> check_prepared -> train_towers -> export_candidate_tower -> embed_candidates
train_towers -> [training.refit] measure_before_refit    (what the towers reach without the validation events)
embed_candidates -> export_query_tower     (the vectors become the history table inside the query tower)
{embed_candidates, export_query_tower} -> build_index    (the vectors become the index, tuned on real queries)
{build_index, export_query_tower, measure_before_refit} -> evaluate_recall -> [decision == promote] promote
                                                                          -> [decision == refuse] keep_refused
evaluate_recall -> write_report            (and report_failure, whatever happened)
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from components.build import LOCAL_IMAGE, component_of
from pipelines.dag.fingerprint import fingerprint
from two_tower.config import Config, ResourcesSettings, canonical_json
from two_tower.steps import EXIT_HANDLER, TABLE

RUN_ID = "{{$.pipeline_job_name}}"
"""KFP's placeholder (`dsl.PIPELINE_JOB_NAME_PLACEHOLDER`) for the name of the job, which is the run's id."""

Task = Callable[..., Any]
"""Makes a task from a step's name and inputs."""


def code_fingerprints(config: Config) -> dict[str, str]:
    """The fingerprint of every cached step's code, by step."""
    return {
        step.name: fingerprint(
            f"components.{step.name}.component", sections=[getattr(config, name) for name in step.sections]
        )
        for step in TABLE.values()
        if step.cached
    }


def parameters_of(config: Config) -> dict[str, str]:
    """The pipeline's parameters that come from the configuration, as canonical JSON texts."""
    return {
        "name": config.name,
        "config": canonical_json(config),
        "model": canonical_json(config.model),
        "training": canonical_json(config.training),
        "embedding": canonical_json(config.embedding),
        "index": canonical_json(config.index),
        "evaluation": canonical_json(config.evaluation),
        "figures_settings": canonical_json(config.evaluation.figures_alone()),
        "beam": canonical_json(config.beam),
        "embedding_beam": canonical_json(config.beam),
    }


def build_pipeline(config: Config, *, images: Mapping[str, str] | None = None, uncached: Collection[str] = ()) -> Any:
    """The KFP pipeline of a configuration.

    Args:
        config: Its sections become the defaults of the pipeline's parameters.
        images: Container image by image target (`prep`, `train`, `embed`, `index`); the local stand-in if absent.
        uncached: Steps that run in every run, beside those that always do.
    """
    from kfp import dsl

    defaults = parameters_of(config)
    refitted = config.training.refit
    task = _tasks(config, images=images, uncached=uncached)

    def two_tower_retrieval(
        registry: str,
        data_root: str = "",
        earlier: str = "[]",
        run_time: str = "",
        time_zone: str = "UTC",
        split: str = "test",  # whose queries measure the version; on those of validation nothing is decided
        name: str = defaults["name"],
        config: str = defaults["config"],
        model: str = defaults["model"],
        training: str = defaults["training"],
        embedding: str = defaults["embedding"],
        index: str = defaults["index"],
        evaluation: str = defaults["evaluation"],
        figures_settings: str = defaults["figures_settings"],
        beam: str = defaults["beam"],
        embedding_beam: str = defaults["embedding_beam"],  # where workers have images of their own, another one
    ) -> None:
        with dsl.ExitHandler(task(EXIT_HANDLER, run_id=RUN_ID), name="retrieval"):
            # 1. Which files, which window of time and which champion this run works with.
            inputs = task(
                "resolve_inputs",
                config=config,
                data_root=data_root,
                registry=registry,
                earlier=earlier,
                run_time=run_time,
                time_zone=time_zone,
                scheduled=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
                created=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
                run_id=RUN_ID,
            ).outputs
            # 2. Logs to examples, queries and the candidate table.
            prepared = _prepare(task, inputs, beam=beam)
            of_data = {"prepared": prepared["prepared"]}
            # 3. What the last steps could not do with them.
            checked = task(
                "check_prepared", **of_data, split=split, model=model, index_settings=index,
                evaluation_settings=evaluation,
            )  # fmt: skip
            # 4. Examples to towers.
            training_task = task(
                "train_towers", **of_data, model=model, training=training, warm_start=inputs["warm_start"]
            )
            trained = training_task.after(checked).outputs["trained"]
            unrefitted = {}
            if refitted:
                before = task("measure_before_refit", **of_data, trained=trained, figures_settings=figures_settings)
                unrefitted = {"before_refit": before.outputs["before_refit"]}
            # 5. The candidate tower, and every candidate through it.
            candidate_tower = task("export_candidate_tower", trained=trained).outputs["candidate_tower"]
            embeddings = task(
                "embed_candidates", candidate_tower=candidate_tower, **of_data, embedding=embedding, beam=embedding_beam
            ).outputs["embeddings"]
            # 6. The vectors become the query tower's history table, and the index, which is tuned on queries.
            query_tower = task("export_query_tower", trained=trained, embeddings=embeddings).outputs["query_tower"]
            built = task(
                "build_index", embeddings=embeddings, query_tower=query_tower, **of_data, index_settings=index
            ).outputs["index"]
            # 7. What it is worth, and the gate.
            candidate = {"candidate_tower": candidate_tower, "query_tower": query_tower, "index": built}
            measured = task(
                "evaluate_recall",
                name=name,
                **of_data,
                profile=prepared["profile"],
                **candidate,
                embeddings=embeddings,
                **unrefitted,
                evaluation_settings=evaluation,
                split=split,
                registry=registry,
                champion=inputs["champion"],
            ).outputs
            made = {**of_data, "trained": trained, "evaluation": measured["evaluation"]}
            version = {
                "name": name, **made, **candidate, "config": inputs["config"], "registry": registry,
                "sources": inputs["sources"], "run_id": RUN_ID,
            }  # fmt: skip
            with dsl.If(measured["Output"] == "promote", name="gate"):
                task("promote", **version)
            with dsl.If(measured["Output"] == "refuse", name="refused"):
                task("keep_refused", **version)
            # 8. The page that a person opens.
            task(
                "write_report", **made, index=built, config=inputs["config"], new_data=inputs["new_data"], run_id=RUN_ID
            )

    described = dsl.pipeline(name=config.name.replace("_", "-"), description=config.description or None)
    return described(two_tower_retrieval)


def build_preparation(config: Config) -> Any:
    """The KFP pipeline of the DAG's first two steps alone, whose tasks share the cache with the whole DAG's."""
    from kfp import dsl

    task = _tasks(config)
    known = parameters_of(config)

    def preparation(registry: str, data_root: str = "", earlier: str = "[]", run_time: str = "") -> None:
        inputs = task(
            "resolve_inputs",
            config=known["config"],
            data_root=data_root,
            registry=registry,
            earlier=earlier,
            run_time=run_time,
            time_zone="UTC",
            scheduled="",
            created="",
            run_id=RUN_ID,
        ).outputs
        _prepare(task, inputs, beam=known["beam"])

    return dsl.pipeline(name=f"prepare-{config.name}".replace("_", "-"))(preparation)


def _prepare(task: Task, inputs: Mapping[str, Any], *, beam: Any) -> Mapping[str, Any]:
    """The outputs of the preparation of what `resolve_inputs` has found."""
    found = {name: inputs[name] for name in ("sources", "previous", "data")}
    outputs: Mapping[str, Any] = task("prepare_data", **found, beam=beam).outputs
    return outputs


def _tasks(config: Config, *, images: Mapping[str, str] | None = None, uncached: Collection[str] = ()) -> Task:
    """What makes a step's task, by its name and inputs: in its image, with the machine that it asks for.

    A step that may be cached is given the fingerprint of its code, too.
    """
    code = code_fingerprints(config)
    components = {
        step.name: component_of(step.name, image=(images or {}).get(step.image, LOCAL_IMAGE)) for step in TABLE.values()
    }

    def task(step: str, **inputs: Any) -> Any:
        known = {"code": code[step]} if step in code else {}
        made = _ask_for(components[step](**inputs, **known), config.resources.get(step))
        return made if step in code and step not in uncached else made.set_caching_options(False)

    return task


def _ask_for(task: Any, resources: ResourcesSettings | None) -> Any:
    """The task with the machine that its step asks for; the local runner takes what there is."""
    if resources is None:
        return task
    if resources.cpu:
        task.set_cpu_limit(resources.cpu)
    if resources.memory:
        task.set_memory_limit(resources.memory)
    if resources.accelerator:
        task.set_accelerator_type(resources.accelerator).set_accelerator_limit(resources.accelerator_count)
    return task


def compile_pipeline(
    config: Config, out: str | Path, *, images: Mapping[str, str] | None = None, uncached: Collection[str] = ()
) -> None:
    """Writes the compiled pipeline of a configuration as YAML; the arguments are those of `build_pipeline`."""
    from kfp import compiler

    compiler.Compiler().compile(build_pipeline(config, images=images, uncached=uncached), str(out))
