"""What surrounds a step's body while it runs: logging, errors without tracebacks, and no life without its runner."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from two_tower.errors import UserError
from two_tower.progress import human_seconds, log

RUNNER_PID = "TWO_TOWER_RUNNER_PID"
"""Set by the local runner: the step dies with that process."""

RUN_FOLDER = "TWO_TOWER_RUN_FOLDER"
"""Set by the local runner: where pages for people go."""

LINE_MARK = "[two-tower] "
"""What the step's own log lines start with, so that they can be told from those of the libraries."""

PR_SET_PDEATHSIG = 1
"""Linux's number for "send this process a signal when its parent dies"."""


@contextlib.contextmanager
def running(step: str) -> Iterator[None]:
    """Runs a step's body: its lines go to standard output; a `UserError` ends the process with its message, code 1."""
    _die_with_runner()
    log_to_console()
    start = time.monotonic()
    log.info("%s started", step)
    try:
        yield
    except UserError as error:
        log.error("%s failed: %s", step, error)
        sys.exit(1)
    log.info("%s finished in %s", step, human_seconds(time.monotonic() - start))


def run_folder() -> Path | None:
    """The folder of the local run that this step belongs to; None elsewhere."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder else None


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
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        os.kill(int(runner), 0)
    except ProcessLookupError:
        sys.exit(f"the runner (process {runner}) is gone")
