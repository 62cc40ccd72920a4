"""Runs one job in a process of its own: `python run.py FOLDER`, where `job.json` says what is to be run.

Exit codes: 0 the pipeline succeeded, 1 it failed, 70 the test ordered that the service fails half-way.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from kfp import components, local
from kfp.dsl.types import artifact_types
from record import Record
from watch import Watch


def main(folder: Path) -> int:
    """Runs the job of a folder; the exit code."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    artifact_types._GCS_LOCAL_MOUNT_PREFIX = job["buckets"].rstrip("/") + "/"
    for name in ("logs", "work", "scratch", "mount"):
        (folder / name).mkdir(exist_ok=True)
    spec = fill(job["spec"], job["placeholders"])
    record = Record(folder / "tasks.json", spec, job["name"])
    watch = Watch(job, record, folder)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "work"),
        workspace_root=str(folder / "workspace"),
        raise_on_error=False,
        enable_caching=True,
        cache_root=job["cache"],
    )
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.INFO)
    try:
        watch.install()
        pipeline = components.load_component_from_text(yaml.safe_dump(spec))
        pipeline(**job["arguments"])
    finally:
        record.close()
    return 1 if watch.failed else 0


def fill(spec: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """The spec with the job's names and times in place of their placeholders.

    Only where the service looks for them: in what tasks are given and in what containers are started with, not in the
    pipeline's own parameters.
    """

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replace(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [replace(inner) for inner in value]
        if isinstance(value, str):
            for placeholder, text in values.items():
                value = value.replace(placeholder, text)
        return value

    def in_tasks(component: dict[str, Any]) -> dict[str, Any]:
        return {key: replace(inner) if key == "dag" else inner for key, inner in component.items()}

    return {
        **spec,
        "root": in_tasks(spec["root"]),
        "components": {name: in_tasks(component) for name, component in spec.get("components", {}).items()},
        "deploymentSpec": replace(spec["deploymentSpec"]),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
