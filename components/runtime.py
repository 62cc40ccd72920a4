"""What surrounds a step's body while it runs: logging, errors without tracebacks, and no life without its runner."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.ending import end_process
from components.tied import die_with_parent
from two_tower.artifacts import RUN_ID, STEP, Lineage, Staging, is_remote, staging
from two_tower.errors import UserError
from two_tower.extras import naming_extras
from two_tower.progress import human_seconds, log

RUNNER_PID = "TWO_TOWER_RUNNER_PID"
"""Set by the local runner: the step dies with that process."""

RUN_FOLDER = "TWO_TOWER_RUN_FOLDER"
"""Set by the local runner: where pages for people go."""

LINE_MARK = "[two-tower] "
"""What the step's own log lines start with, so that they can be told from those of the libraries."""

_SAID = re.compile(
    rf"^{re.escape(LINE_MARK)}\S+ ERROR (?:\w+ failed: )?(.*?)(?=^{re.escape(LINE_MARK)}|\Z)", re.M | re.S
)
_RAISED = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.M)

EXECUTOR = "kfp.dsl.executor_main"
"""The module that kfp runs a step's body with, in a process of its own."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Step:
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
def running(step: str, *, run_id: str = "") -> Iterator[Step]:
    """Runs a step's body: its lines go to standard output; a `UserError` ends the process with its message, code 1.

    Args:
        step: The step's name.
        run_id: The run that it belongs to; the local runner has said so already, and a step with outputs on a bucket
            reads it off their places.
    """
    _die_with_runner()
    log_to_console()
    start = time.monotonic()
    log.info("%s started", step)
    try:
        with naming_extras("the step"), _lineage(step, run_id), staging() as staged:
            yield Step(staged)
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


def cause_in(log: str) -> str:
    """What ended a step, by its log: its own word, else the exception that it did not catch, else nothing."""
    said = _SAID.search(log)
    raised = None if said else next(reversed([*_RAISED.finditer(log)]), None)
    found = said or raised
    return found[1].strip() if found else ""


def own_log(log: str) -> str:
    """A step's log from its own first line on, without what KFP's executor says before: its inputs as JSON."""
    start = log.find(LINE_MARK)
    return log[max(start, 0) :]


def log_to_console() -> None:
    """Sends the project's log lines to standard output, marked as its own."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(f"{LINE_MARK}%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _die_with_runner() -> None:
    """Has the kernel kill this process when its parent dies, and ends it now if the runner is gone already.

    The parent is the shell that the local runner started with the same tie to itself, so a killed runner takes
    the whole chain along and no orphan goes on writing.
    """
    runner = os.environ.get(RUNNER_PID)
    if not runner:
        return
    die_with_parent()
    try:
        os.kill(int(runner), 0)
    except ProcessLookupError:
        sys.exit(f"the runner (process {runner}) is gone")
