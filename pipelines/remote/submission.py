"""A configuration and an environment put together: all that a backend is sent."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipelines.dag.pipeline import build_pipeline
from pipelines.runs import commit
from two_tower.artifacts import below
from two_tower.config import BeamSettings, Config, Environment, canonical_json, load_config, load_settings
from two_tower.errors import ConfigError
from two_tower.settings import Settings
from two_tower.steps import STEPS

TOOL = "two-tower"
"""The value of the label `tool` on all that this program makes in a cloud."""


@dataclass(frozen=True)
class Submission:
    """A run that is ready to be started."""

    run_id: str
    config_file: str
    config: Config
    environment: Environment
    pipeline: dict[str, Any]
    """The compiled pipeline, a KFP PipelineSpec."""
    parameters: dict[str, str]
    """Its parameters, without those that keep their defaults."""
    root: str
    """Where the artefacts go."""
    registry: str
    """The registry's root."""
    labels: dict[str, str]

    @property
    def name(self) -> str:
        """The configuration's name."""
        return self.config.name


class _Images(Settings):
    """The file that `make images` writes."""

    images: dict[str, str]


def load_images(path: Path) -> dict[str, str]:
    """The images of the file that `make images` writes, by target.

    Raises:
        ConfigError: The file cannot be read or does not validate.
    """
    return load_settings(_Images, path).images


def make_submission(
    config_file: Path,
    environment: Environment,
    overrides: Sequence[str] = (),
    *,
    backend: str,
    images: dict[str, str] | None = None,
    run_id: str | None = None,
    run_time: str = "",
    time_zone: str = "UTC",
    cache: bool = True,
    labels: dict[str, str] | None = None,
) -> Submission:
    """The run of a configuration in an environment.

    Args:
        config_file: The data set's configuration.
        environment: Where it runs; it overlays the configuration.
        overrides: `KEY=VALUE` texts that replace settings, beyond the environment's own.
        backend: `vertex` or `kubeflow`.
        images: Images by target, in place of the environment's.
        run_id: The run's id; a new one if not given.
        run_time: The time that placeholders below `data` stand for, ISO 8601; that of the run if empty.
        time_zone: The zone in which they are filled in.
        cache: Whether steps may be answered from earlier runs.
        labels: Further labels.

    Raises:
        ConfigError: The configuration or the environment does not allow it.
    """
    config = environment.overlaid(load_config(config_file, [*environment.overrides(), *overrides]))
    root, registry, data_root = places(environment, backend)
    images = dict[str, str](environment.images.items()) | (images or {})
    embedding_beam = completed_beam(config.beam, environment, images.get("embed"))
    config = config.model_copy(update={"beam": completed_beam(config.beam, environment, images.get("prep"))})
    uncached = STEPS if not cache else tuple(step for step, cached in environment.caching.items() if not cached)
    parameters = {"registry": registry, "data_root": data_root, "run_time": run_time, "time_zone": time_zone}
    if embedding_beam != config.beam:
        parameters["embedding_beam"] = canonical_json(embedding_beam)
    known = {"tool": TOOL, "pipeline": config.name, "commit": _as_label(commit()), "config": fingerprint_of(config)}
    return Submission(
        run_id=run_id or new_run_id(config.name),
        config_file=str(config_file),
        config=config,
        environment=environment,
        pipeline=compiled(config, images=images, uncached=uncached),
        parameters=parameters,
        root=root,
        registry=registry,
        labels={**environment.labels, **{key: value for key, value in known.items() if value}, **(labels or {})},
    )


def places(environment: Environment, backend: str) -> tuple[str, str, str]:
    """Where the artefacts, the registry and the data are.

    Raises:
        ConfigError: The environment has no section for the backend, or nothing says where the data are.
    """
    if backend == "vertex" and environment.vertex is not None:
        bucket = environment.vertex.bucket
        return below(bucket, "pipelines"), below(bucket, "registry"), environment.data_root or below(bucket, "data")
    if backend == "kubeflow" and environment.kubeflow is not None:
        found = environment.kubeflow
        data_root = environment.data_root or (below(found.root, "data") if found.root.startswith("gs://") else None)
        if data_root is None:
            raise ConfigError("data_root: needed, since kubeflow.root is not on gs://")
        return found.root, found.registry or below(found.root, "registry"), data_root
    raise ConfigError(f"the environment has no section {backend!r}, which says where the run goes")


def completed_beam(beam: BeamSettings, environment: Environment, image: str | None) -> BeamSettings:
    """The Beam section with what Dataflow needs and the environment knows; other runners are left as they are.

    Args:
        beam: The section; what stands in it stays.
        environment: It names project, region, bucket, account, network and labels.
        image: The image of the step, which its workers run too.
    """
    vertex = environment.vertex
    if beam.runner != "DataflowRunner" or vertex is None:
        return beam
    known: dict[str, Any] = {
        "project": vertex.project,
        "region": vertex.region,
        "service_account_email": vertex.service_account,
        "temp_location": below(vertex.bucket, "temp"),
    }
    if image and "setup_file" not in beam.options:
        known["sdk_container_image"] = image
    if environment.labels:
        known["labels"] = [f"{key}={value}" for key, value in sorted(environment.labels.items())]
    return beam.model_copy(
        update={"work": beam.work or below(vertex.bucket, "work"), "options": {**known, **beam.options}}
    )


def compiled(config: Config, *, images: dict[str, str], uncached: Sequence[str]) -> dict[str, Any]:
    """The compiled pipeline of a configuration, as `compile_pipeline` writes it."""
    from google.protobuf import json_format

    built = build_pipeline(config, images=images, uncached=uncached)
    spec: dict[str, Any] = json_format.MessageToDict(built.pipeline_spec)
    return spec


def new_run_id(name: str) -> str:
    """An id that no other run has: the configuration's name, the time in UTC, and four hexadecimal digits."""
    return f"{name.replace('_', '-')}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def fingerprint_of(config: Config) -> str:
    """Twelve hexadecimal digits of the whole configuration."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]


def shown(submission: Submission) -> str:
    """What would be sent, as YAML."""
    sent = {
        "run": submission.run_id,
        "root": submission.root,
        "registry": submission.registry,
        "labels": submission.labels,
        "parameters": submission.parameters,
        "config": json.loads(canonical_json(submission.config)),
        "pipeline": submission.pipeline,
    }
    return yaml.safe_dump(sent, sort_keys=False, allow_unicode=True, width=120)


def _as_label(text: str) -> str:
    """A commit as the value of a label."""
    return text.replace("+", "-changed")
