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

from components.build import IMAGE_OF, LOCAL_IMAGE, component_of
from pipelines.dag.fingerprint import fingerprint
from two_tower.config import Config, ResourcesSettings, canonical_json

SECTIONS_OF: dict[str, tuple[str, ...]] = {
    "prepare_data": ("data", "beam"),
    "check_prepared": ("evaluation",),
    "train_towers": ("data", "model", "training"),
    "measure_before_refit": ("data", "model"),
    "export_candidate_tower": ("data", "model"),
    "embed_candidates": ("data", "embedding", "beam"),
    "build_index": ("data", "index"),
    "export_query_tower": ("data", "model"),
    "evaluate_recall": ("data", "evaluation"),
}
"""The sections whose plug-ins a cached step runs; they decide which files its fingerprint covers."""


RUN_ID = "{{$.pipeline_job_name}}"
"""KFP's placeholder (`dsl.PIPELINE_JOB_NAME_PLACEHOLDER`) for the name of the job, which is the run's id."""


def code_fingerprints(config: Config) -> dict[str, str]:
    """The fingerprint of every cached step's code, by step."""
    return {
        step: fingerprint(f"components.{step}.component", sections=[getattr(config, name) for name in sections])
        for step, sections in SECTIONS_OF.items()
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

    code = code_fingerprints(config)
    defaults = parameters_of(config)
    refitted = config.training.refit
    task = _tasks(config, images=images, uncached=uncached)

    @dsl.pipeline(name=config.name.replace("_", "-"), description=config.description or None)
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
    ):
        exit_task = task("report_failure", run_id=RUN_ID).set_caching_options(False)
        with dsl.ExitHandler(exit_task, name="retrieval"):
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
            ).set_caching_options(False)
            data, config = inputs.outputs["data"], inputs.outputs["config"]
            # 2. Logs to examples, queries and the candidate table.
            preparation = task(
                "prepare_data",
                sources=inputs.outputs["sources"],
                previous=inputs.outputs["previous"],
                data=data,
                beam=beam,
                code=code["prepare_data"],
            )
            prepared = preparation.outputs["prepared"]
            # 3. What the last steps could not do with them.
            checked = task(
                "check_prepared",
                prepared=prepared,
                split=split,
                model=model,
                index_settings=index,
                evaluation_settings=evaluation,
                code=code["check_prepared"],
            )
            # 4. Examples to towers.
            trained = (
                task(
                    "train_towers",
                    prepared=prepared,
                    model=model,
                    training=training,
                    warm_start=inputs.outputs["warm_start"],
                    code=code["train_towers"],
                )
                .after(checked)
                .outputs["trained"]
            )
            unrefitted = {}
            if refitted:
                measured_before = task(
                    "measure_before_refit",
                    prepared=prepared,
                    trained=trained,
                    figures_settings=figures_settings,
                    code=code["measure_before_refit"],
                )
                unrefitted = {"before_refit": measured_before.outputs["before_refit"]}
            # 5. The candidate tower, and every candidate through it.
            candidate_tower = task(
                "export_candidate_tower", trained=trained, code=code["export_candidate_tower"]
            ).outputs["candidate_tower"]
            embeddings = task(
                "embed_candidates",
                candidate_tower=candidate_tower,
                prepared=prepared,
                embedding=embedding,
                beam=embedding_beam,
                code=code["embed_candidates"],
            ).outputs["embeddings"]
            # 6. The vectors become the query tower's history table, and the index, which is tuned on queries.
            query_tower = task(
                "export_query_tower", trained=trained, embeddings=embeddings, code=code["export_query_tower"]
            ).outputs["query_tower"]
            built = task(
                "build_index",
                embeddings=embeddings,
                query_tower=query_tower,
                prepared=prepared,
                index_settings=index,
                code=code["build_index"],
            )
            # 7. What it is worth, and the gate.
            measured = task(
                "evaluate_recall",
                name=name,
                prepared=prepared,
                profile=preparation.outputs["profile"],
                candidate_tower=candidate_tower,
                query_tower=query_tower,
                embeddings=embeddings,
                index=built.outputs["index"],
                **unrefitted,
                evaluation_settings=evaluation,
                split=split,
                registry=registry,
                champion=inputs.outputs["champion"],
                code=code["evaluate_recall"],
            )
            with dsl.If(measured.outputs["Output"] == "promote", name="gate"):
                task(
                    "promote",
                    name=name,
                    prepared=prepared,
                    candidate_tower=candidate_tower,
                    query_tower=query_tower,
                    index=built.outputs["index"],
                    evaluation=measured.outputs["evaluation"],
                    trained=trained,
                    config=config,
                    registry=registry,
                    sources=inputs.outputs["sources"],
                    run_id=RUN_ID,
                ).set_caching_options(False)
            with dsl.If(measured.outputs["Output"] == "refuse", name="refused"):
                task(
                    "keep_refused",
                    name=name,
                    prepared=prepared,
                    candidate_tower=candidate_tower,
                    query_tower=query_tower,
                    index=built.outputs["index"],
                    evaluation=measured.outputs["evaluation"],
                    trained=trained,
                    config=config,
                    registry=registry,
                    sources=inputs.outputs["sources"],
                    run_id=RUN_ID,
                ).set_caching_options(False)
            # 8. The page that a person opens.
            task(
                "write_report",
                prepared=prepared,
                trained=trained,
                index=built.outputs["index"],
                evaluation=measured.outputs["evaluation"],
                config=config,
                new_data=inputs.outputs["new_data"],
                run_id=RUN_ID,
            ).set_caching_options(False)

    return two_tower_retrieval


def build_preparation(config: Config) -> Any:
    """The KFP pipeline of the DAG's first two steps alone, whose tasks share the cache with the whole DAG's."""
    from kfp import dsl

    task = _tasks(config)
    known = parameters_of(config)

    @dsl.pipeline(name=f"prepare-{config.name}".replace("_", "-"))
    def preparation(registry: str, data_root: str = "", earlier: str = "[]", run_time: str = ""):
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
        ).set_caching_options(False)
        task(
            "prepare_data",
            sources=inputs.outputs["sources"],
            previous=inputs.outputs["previous"],
            data=inputs.outputs["data"],
            beam=known["beam"],
            code=code_fingerprints(config)["prepare_data"],
        )

    return preparation


def _tasks(
    config: Config, *, images: Mapping[str, str] | None = None, uncached: Collection[str] = ()
) -> Callable[..., Any]:
    """What makes a step's task, by its name and inputs, in its image and with the machine that it asks for."""
    components = {
        name: component_of(name, image=(images or {}).get(target, LOCAL_IMAGE)) for name, target in IMAGE_OF.items()
    }

    def task(step: str, **inputs: Any) -> Any:
        made = _ask_for(components[step](**inputs), config.resources.get(step))
        return made.set_caching_options(False) if step in uncached else made

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
