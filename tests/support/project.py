"""A copy of the project in a folder of its own, whose command the end-to-end tests run like a user would."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Project:
    """A checkout that a test may edit: its data, its runs and its code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}
        """Further environment variables of its commands."""
        for name in ("two_tower", "components", "pipelines", "configs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def command(self, *arguments: str, code: int | None = 0, **options) -> subprocess.CompletedProcess:
        """Runs `two-tower ARGUMENTS` in the checkout and expects the exit code `code`."""
        result = subprocess.run(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=540, **options,
        )  # fmt: skip
        if code is not None:
            assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def start(self, *arguments: str) -> subprocess.Popen:
        """Starts `two-tower ARGUMENTS` as the leader of a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run_until(self, step: str, *arguments: str, workdir: str) -> str:
        """Starts a run and kills it once `step` has ended, for a test that looks at nothing later; the step's log."""
        count = len(self.runs(workdir))
        process = self.start("run", *arguments, "--workdir", workdir)
        ended = wait_for(
            lambda: len(self.runs(workdir)) > count and self.states(workdir)[step] in ("ran", "cached"),
            process=process,
        )
        assert ended, f"the run ended before {step} had: {self.states(workdir)}"
        kill(process, group=True)
        log = self.folder / workdir / self.runs(workdir)[-1]["run_id"] / "logs" / f"{step}.log"
        return log.read_text() if log.is_file() else ""  # none where the cache answered

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables, "PYTHONPATH": str(self.folder)}

    def runs(self, workdir: str = "runs") -> list[dict]:
        """The records of the runs, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / workdir).glob("2*/run.json"))]

    def states(self, workdir: str = "runs") -> dict[str, str]:
        """The newest run's state by step."""
        return {step["name"]: step["state"] for step in self.runs(workdir)[-1]["steps"]}

    def champion(self, workdir: str = "runs", *, name: str = "tiny") -> str | None:
        """The id that the alias of a configuration's registry names."""
        path = self.folder / workdir / "registry" / name / "champion.json"
        return json.loads(path.read_text())["version"] if path.is_file() else None


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Puts a file back as it was, its time of change included, which is part of a run's inputs."""
    content, times = path.read_bytes(), path.stat()
    try:
        yield
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def kill(process: subprocess.Popen, *, group: bool) -> None:
    """Kills the runner with SIGKILL, alone or with its whole process group."""
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition, *, process: subprocess.Popen | None = None, seconds: float = 240) -> bool:
    """Waits until `condition()` holds; False where `process` has ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return True
