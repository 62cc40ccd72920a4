"""Waiting for a run, step by step."""

from __future__ import annotations

import time

from rich.console import Console

from pipelines.remote.runs import ENDED, Backend, RemoteRun
from pipelines.views.console import PlainWatcher, watching
from two_tower.progress import human_seconds

POLL = 10.0
"""Seconds between two looks at a run."""


def follow(backend: Backend, run: RemoteRun, console: Console) -> RemoteRun:
    """The run when it has ended; its steps are shown as they go."""
    with watching(run, console) as watcher:  # type: ignore[arg-type]
        while True:
            seen = {step.name: step.state for step in run.steps}
            found = backend.find(run.run_id)
            run.steps, run.errors = found.steps, found.errors
            run.state, run.started, run.ended = found.state, found.started, found.ended
            for step in found.steps:
                before = seen.get(step.name, "waiting")
                if step.state == before:
                    continue
                if step.state == "running":
                    watcher.step_started(step.name)
                    if isinstance(watcher, PlainWatcher):
                        watcher.line(step.name, "started")
                elif step.state != "waiting":
                    watcher.step_ended(step.name)
                    if isinstance(watcher, PlainWatcher) and step.state == "ran":
                        watcher.line(step.name, f"finished in {human_seconds(step.seconds)}")
            if found.state in ENDED:
                return found
            time.sleep(POLL)
