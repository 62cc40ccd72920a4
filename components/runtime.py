"""What surrounds a step's body while it runs: local paths, errors without tracebacks, and whose work it is."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.child_process import die_with_runner
from components.ending import end_process
from components.step_log import log_to_console
from two_tower.artifacts import RUN_ID, STEP, Lineage, Staging, is_remote, staging
from two_tower.errors import UserError
from two_tower.extras import naming_extras
from two_tower.progress import human_seconds, log

RUN_FOLDER = "TWO_TOWER_RUN_FOLDER"
"""Set by the local runner: where pages for people go."""

EXECUTOR = "kfp.dsl.executor_main"
"""The module that kfp runs a step's body with, in a process of its own."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class StagedStep:
    """A step at work: gives its body local paths, whether its artefacts lie on this machine or on a bucket."""

    def __init__(self, staged: Staging) -> None:
        self._staged = staged

    def read(self, artifact: Any) -> str:
        """The local path of an input artefact of KFP."""
        return self.fetch(_place(artifact))

    def fetch(self, place: str) -> str:
        """The local path of an artefact that a parameter names; an empty text stays one."""
        return self._staged.read(place) if place else ""

    def write(self, artifact: Any) -> str:
        """The local path at which an output artefact of KFP is to be written."""
        os.environ.setdefault(RUN_ID, _run_of(artifact.uri))
        artifact.metadata.update(Lineage.of_process().as_labels())
        return self._staged.write(_place(artifact))


@contextlib.contextmanager
def running(step: str, *, run_id: str = "") -> Iterator[StagedStep]:
    """Runs a step's body: its lines go to standard output; a `UserError` ends the process with its message, code 1.

    Args:
        step: The step's name.
        run_id: The run that it belongs to; the local runner has said so already, and a step with outputs on a bucket
            reads it off their places.
    """
    die_with_runner()
    log_to_console()
    start = time.monotonic()
    log.info("%s started", step)
    try:
        with naming_extras("the step"), _lineage(step, run_id), staging() as staged:
            yield StagedStep(staged)
    except UserError as error:
        log.error("%s failed: %s", step, error)
        if _is_all_of_the_process():
            end_process(1)
        sys.exit(1)
    log.info("%s finished in %s", step, human_seconds(time.monotonic() - start))


@contextlib.contextmanager
def _lineage(step: str, run_id: str) -> Iterator[None]:
    """Has whatever the step writes say which step of which run made it."""
    before = {name: os.environ.get(name) for name in (STEP, RUN_ID)}
    os.environ[STEP] = step
    if run_id:
        os.environ.setdefault(RUN_ID, run_id)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text


def _is_all_of_the_process() -> bool:
    """Whether this process was started for one step, here or in a container."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == EXECUTOR


def _place(artifact: Any) -> str:
    """Where an artefact lies: its URI on Cloud Storage, else the path at which the runner puts it."""
    return str(artifact.uri if is_remote(artifact.uri) else artifact.path)


def _run_of(uri: str) -> str:
    """The run in an output's URI: …/PROJECT_NUMBER/RUN/TASK/OUTPUT on Vertex AI, a UUID on Kubeflow; else empty."""
    parts = uri.split("/")
    if is_remote(uri) and len(parts) > 6 and parts[-4].isdigit():
        return parts[-3]
    return next((part for part in parts if UUID.fullmatch(part)), "")


def run_folder() -> Path | None:
    """The folder of the local run that this step belongs to; None elsewhere."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder else None
