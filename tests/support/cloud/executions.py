"""Running a pipeline spec in a process group of its own, and what can be seen of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).parent / "runner" / "run.py"
HALFWAY = 70
PR_SET_PDEATHSIG = 1


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Execution:
    """One run of a spec by `kfp.local`: PENDING, RUNNING, then SUCCEEDED, FAILED or CANCELLED."""

    def __init__(self, folder: Path, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        hidden = ("TWO_TOWER_RUN_FOLDER", "TWO_TOWER_RUNNER_PID", "PYTHONPATH")
        self._environment = {key: value for key, value in os.environ.items() if key not in hidden} | {**environment}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._settled = ""
        self.when_done: Callable[[], None] = lambda: None
        self.created = now()
        self.ended: datetime | None = None
        self.error: tuple[str, str] | None = None
        """The canonical code's name and the message, once it has failed."""

    def start(self) -> None:
        """Starts the process, on a thread that lives as long (the process dies with the thread that starts it)."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        prctl = ctypes.CDLL(None).prctl
        with open(self.folder / "runner.log", "wb") as log:
            with self._lock:
                if self._settled:
                    return
                self._process = subprocess.Popen(
                    [sys.executable, str(RUNNER), str(self.folder)],
                    cwd=self.folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
                )
            code = self._process.wait()
        self._kill()  # what a step left behind
        if code == 0:
            self.settle("SUCCEEDED")
        elif code == HALFWAY:
            self.settle("FAILED", ("INTERNAL", "Internal error occurred. (ordered by the test)"))
        else:
            self.settle("FAILED", self._reason())

    def _reason(self) -> tuple[str, str]:
        failed = [task["name"] for task in self.tasks() if task["state"] == "FAILED" and not task["group"]]
        if failed:
            message = f"The DAG failed because some tasks failed. The failed tasks are: [{', '.join(failed)}]."
            return "FAILED_PRECONDITION", message
        lines = (self.folder / "runner.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "INTERNAL", "\n".join(lines[-20:])

    def settle(self, state: str, error: tuple[str, str] | None = None) -> None:
        """Ends the run in `state`, unless it has ended; tests without real runs call this themselves."""
        with self._lock:
            if self._settled:
                return
            self._settled, self.error, self.ended = state, error, now()
        self.when_done()

    def cancel(self) -> None:
        """Kills the run, if it goes on."""
        self.settle("CANCELLED", ("CANCELLED", "The pipeline job is cancelled."))
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        """Waits for the process to end."""
        if self._thread:
            self._thread.join(timeout)

    @property
    def state(self) -> str:
        """Where the run stands."""
        if self._settled:
            return self._settled
        return "RUNNING" if (self.folder / "tasks.json").exists() else "PENDING"

    @property
    def started(self) -> datetime | None:
        """When the first task could start."""
        file = self.folder / "logs"
        return datetime.fromtimestamp(file.stat().st_mtime, UTC) if file.exists() else None

    def tasks(self) -> list[dict[str, Any]]:
        """Every task and group as the runner recorded it, with states that fit a run that has ended."""
        file = self.folder / "tasks.json"
        tasks = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        if self._settled:
            cut = "CANCELLED" if self._settled == "CANCELLED" else "FAILED"
            for task in tasks:
                task["state"] = {"RUNNING": cut, "PENDING": "NOT_TRIGGERED"}.get(task["state"], task["state"])
        return tasks

    def log(self, task: str) -> str:
        """What a task wrote, by its path or its name."""
        found = [entry for entry in self.tasks() if task in (entry["path"], entry["name"]) and entry.get("log")]
        return "".join(Path(entry["log"]).read_text(encoding="utf-8", errors="replace") for entry in found)
