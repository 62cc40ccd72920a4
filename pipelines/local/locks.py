"""Who may run in a working folder: one run a configuration, and whatever needs a folder for itself.

A run holds the folder's `.lock` together with the other configurations' runs, and `.lock-NAME` alone: run ids,
artefact folders and entries of the cache never clash, and a registry is one configuration's.  Locks go with their
processes, however these end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipelines.runs import Run, list_runs
from two_tower.errors import UserError

PATIENCE = 1.0
"""Seconds for which a lock is asked for: who only looks whether it is free holds it for a moment."""
NAP = 0.05


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keeps everybody else out of a folder while this goes on.

    Raises:
        UserError: Somebody is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", fcntl.LOCK_EX, PATIENCE) as lock:
        _write_holder(lock)
        yield


@contextlib.contextmanager
def exclusive_run(workdir: Path, name: str) -> Iterator[None]:
    """Keeps a second run of the configuration `name` out of `workdir`; those of others may go on beside it.

    Runs there that were cut off before are marked as interrupted.

    Raises:
        UserError: Such a run is going on, or somebody has the folder for himself.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        _held(workdir / ".lock", fcntl.LOCK_SH, PATIENCE),
        _held(_of_run(workdir, name), fcntl.LOCK_EX, PATIENCE) as lock,
    ):
        _write_holder(lock)
        _mark_interrupted(workdir, name)
        yield


def in_use(folder: Path) -> str | None:
    """Who is in a folder, be it alone or beside others, as an error says it; None if it is free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder / ".lock", fcntl.LOCK_EX):
            return None
    except UserError as error:
        return str(error).partition(";")[0]


def _mark_interrupted(workdir: Path, own: str) -> None:
    """Marks the runs that were cut off: those of whose configuration none goes on."""
    for run in list_runs(workdir):
        if run.state != "running":
            continue
        with contextlib.suppress(UserError), contextlib.ExitStack() as locks:
            if run.name != own:
                locks.enter_context(_held(_of_run(workdir, run.name), fcntl.LOCK_EX))
            now = Run.load(run.folder)  # it may have ended meanwhile
            if now.state == "running":
                now.state = "interrupted"
                now.save()


def _of_run(workdir: Path, name: str) -> Path:
    return workdir / f".lock-{name.replace('/', '-')}"


@contextlib.contextmanager
def _held(file: Path, how: int, patience: float = 0.0) -> Iterator[IO[str]]:
    """A lock file that is held.

    Raises:
        UserError: Somebody else holds it.
    """
    deadline = time.monotonic() + patience
    with open(file, "a+", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{file.parent}: another run is going on here (process {_holder(file) or 'unknown'}); "
                        "wait for it, or give this one a --workdir of its own"
                    ) from error
                time.sleep(NAP)
        yield lock


def _write_holder(lock: IO[str]) -> None:
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _holder(file: Path) -> str:
    """The process that holds a lock, or one of those that hold it together."""
    for own in file.parent.glob(f"{file.name}-*"):
        with open(own, encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip()
    return file.read_text(encoding="utf-8").strip()
