"""Running a part of the DAG: the preparation of the data, or one step on the artefacts that an earlier run left."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.local.runner import data_root, run_pipeline
from pipelines.runs import Kind, Run, prepared_folders
from pipelines.views.console import watching
from two_tower.config import Config, at_time, canonical_json
from two_tower.errors import ConfigError, UserError
from two_tower.steps import EXIT_HANDLER, STEPS, TABLE, present_name


def prepare_only(config: Config, workdir: Path, *, kind: Kind, config_file: str, console: Console) -> tuple[Run, bool]:
    """A run of the DAG's first two steps, answered from its cache where nothing has changed; whether it succeeded."""
    from kfp import compiler

    from pipelines.dag.pipeline import build_preparation

    settings = config.model_dump(mode="json")
    record = Run.start(workdir, name=config.name, config_file=config_file, config=settings, kind=kind)
    record.steps = [record.step("resolve_inputs"), record.step("prepare_data")]
    file = record.folder / "pipeline.yaml"
    compiler.Compiler().compile(build_preparation(config), str(file))
    arguments = {
        "registry": str(workdir / "registry"),
        "data_root": data_root(),
        "earlier": json.dumps(prepared_folders(workdir, config.name) if config.data.incremental else []),
    }
    with watching(record, console) as watcher:
        return record, run_pipeline(record, file, arguments, watcher=watcher, cache=True)


def run_step(name: str, config: Config, upstream: Run, *, config_file: str, console: Console) -> tuple[Run, bool]:
    """Runs the step `name` with `config` on `upstream`'s artefacts, as a run of its own.

    The new run's record holds the upstream steps' outputs too, so that a further step can go on from it.

    Returns:
        The new run, and whether the step succeeded.

    Raises:
        ConfigError: There is no such step.
        UserError: `upstream` lacks an artefact that the step reads.
    """
    _require_step(name)
    workdir = upstream.folder.parent
    settings = config.model_dump(mode="json")
    record = Run.start(workdir, name=config.name, config_file=config_file, config=settings, kind="step")
    record.steps = [copy.deepcopy(step) for step in upstream.steps if step.name in STEPS]
    for step in record.steps:
        if step.state == "ran":
            step.state = "cached"
    record.decision, record.version = upstream.decision, upstream.version
    pipeline = _one_step_pipeline(name, config, record, upstream)
    target = record.step(name)
    target.state, target.seconds, target.outputs = "waiting", 0.0, {}

    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        with watching(record, console) as watcher:
            return record, run_pipeline(record, file, {}, watcher=watcher, cache=False)


def _require_step(name: str) -> None:
    """Refuses a name that is no step's, or that of the exit handler."""
    if name in STEPS:
        return
    now = present_name(name)
    called = f"{name} is called {now} now; it" if now != name else name
    if now == EXIT_HANDLER:
        raise ConfigError(f"{called} runs at the end of a whole run alone")
    if now != name:
        raise ConfigError(f"{name} is called {now} now")
    raise ConfigError(f"there is no step {name!r}; the steps: {', '.join(STEPS)}")


def _one_step_pipeline(name: str, config: Config, record: Run, upstream: Run) -> Any:
    """A pipeline of one importer per input artefact and the step."""
    from kfp import dsl

    from components.build import component_of

    component = component_of(name)
    inputs = component.component_spec.inputs or {}
    kinds = {key: spec for key, spec in inputs.items() if spec.type.startswith("system.")}
    folders = _folders(name, kinds, upstream)
    known = _parameters(name, config, record, upstream)
    given = {key: TABLE[name].parameters.get(key, key) for key in inputs if key not in kinds}
    parameters = {key: known[parameter] for key, parameter in given.items() if parameter in known}

    def one_step():  # type: ignore[no-untyped-def]  # kfp takes the text that an annotation is here for a type
        imported = {
            key: dsl.importer(artifact_uri=folder, artifact_class=_artifact_class(kinds[key].type)).output
            for key, folder in folders.items()
        }
        component(**imported, **parameters).set_caching_options(False)

    # With the step's own name kfp would load the step alone.
    return dsl.pipeline(name=f"only-{name}".replace("_", "-"))(one_step)


def _folders(name: str, kinds: Mapping[str, Any], upstream: Run) -> dict[str, str]:
    """The folders of the artefacts that a step reads, by input; `kinds` are the inputs' specifications."""
    folders = {}
    for key, kind in kinds.items():
        step = next((step for step in upstream.steps if key in step.outputs), None)
        if step is not None and Path(step.outputs[key]).exists():
            folders[key] = step.outputs[key]
        elif not kind.optional:
            raise UserError(
                f"run {upstream.run_id} holds no {key!r}, which {name} reads; run the steps before it first"
            )
    return folders


def _parameters(name: str, config: Config, record: Run, upstream: Run) -> dict[str, str]:
    """What the pipeline's parameters and the upstream steps' outputs are for a step that runs alone."""
    from pipelines.dag.pipeline import code_fingerprints, parameters_of

    return {
        "new_data": "null",
        **{key: value for step in upstream.steps for key, value in step.outputs.items()},
        **parameters_of(config),
        "data": canonical_json(at_time(config, datetime.fromisoformat(record.started)).data),
        "registry": str(record.folder.parent / "registry"),
        "run_id": record.run_id,
        "data_root": data_root(),
        "earlier": "[]",
        "run_time": record.started,
        "time_zone": "UTC",
        "split": "validation" if upstream.kind == "try" else "test",
        "scheduled": "",
        "created": "",
        "code": code_fingerprints(config).get(name, ""),
    }


def _artifact_class(type_name: str) -> Any:
    from kfp import dsl

    return getattr(dsl, type_name.removeprefix("system.").partition("@")[0])
