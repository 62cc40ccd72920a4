"""Running a part of the DAG: the preparation of the data, or one step on the artefacts that an earlier run left."""

from __future__ import annotations

import copy
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.local.runner import data_root, run_pipeline
from pipelines.runs import Kind, Run, prepared_folders
from pipelines.views.console import watching
from two_tower.config import STEPS, Config, at_time, canonical_json
from two_tower.errors import ConfigError, UserError


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
    if name not in STEPS:
        raise ConfigError(f"there is no step {name!r}; the steps: {', '.join(STEPS)}")
    workdir = upstream.folder.parent
    settings = config.model_dump(mode="json")
    record = Run.start(workdir, name=config.name, config_file=config_file, config=settings, kind="step")
    record.steps = [copy.deepcopy(step) for step in upstream.steps if step.name in STEPS]
    for step in record.steps:
        if step.state == "ran":
            step.state = "cached"
    record.decision, record.version = upstream.decision, upstream.version
    pipeline, arguments = _one_step_pipeline(name, config, record, upstream)
    target = record.step(name)
    target.state, target.seconds, target.outputs = "waiting", 0.0, {}

    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        with watching(record, console) as watcher:
            return record, run_pipeline(record, file, arguments, watcher=watcher, cache=False)


def _one_step_pipeline(name: str, config: Config, record: Run, upstream: Run) -> tuple[Any, dict[str, str]]:
    """A pipeline of one importer per input artefact and the step, and its arguments."""
    from kfp import dsl

    from components.build import component_of
    from pipelines.dag.pipeline import code_fingerprints, parameters_of

    component = component_of(name)
    known: dict[str, Any] = {
        **{key: value for step in upstream.steps for key, value in step.outputs.items()},
        **parameters_of(config),
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
    known.setdefault("new_data", "null")
    known["data"] = canonical_json(at_time(config, datetime.fromisoformat(record.started)).data)
    known["index_settings"], known["evaluation_settings"] = known["index"], known["evaluation"]
    inputs = component.component_spec.inputs or {}
    artifacts = {key: spec for key, spec in inputs.items() if spec.type.startswith("system.")}
    folders = {}
    for key in artifacts:
        step = next((step for step in upstream.steps if key in step.outputs), None)
        if step is None or not Path(step.outputs[key]).exists():
            if artifacts[key].optional:
                continue
            raise UserError(
                f"run {upstream.run_id} holds no {key!r}, which {name} reads; run the steps before it first"
            )
        folders[key] = step.outputs[key]
    parameters = {key: known[key] for key in inputs if key not in artifacts and key in known}

    @dsl.pipeline(name=f"only-{name}".replace("_", "-"))  # with the step's own name kfp would load the step alone
    def one_step():  # type: ignore[no-untyped-def]
        imported = {
            key: dsl.importer(artifact_uri=folder, artifact_class=_artifact_class(artifacts[key].type)).output
            for key, folder in folders.items()
        }
        component(**imported, **parameters).set_caching_options(False)

    return one_step, {}


def _artifact_class(type_name: str) -> Any:
    from kfp import dsl

    return getattr(dsl, type_name.removeprefix("system.").partition("@")[0])
