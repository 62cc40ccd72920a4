"""The record of a job's tasks: a tree that the runner fills and the server reads."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "NOT_TRIGGERED", "CANCELLED")


class Record:
    """Every task of a job, by its path (`exit-handler-1.train-towers`), written to a file at every change."""

    def __init__(self, file: Path, spec: dict[str, Any], job: str) -> None:
        self.file, self.job = file, job
        self.tasks: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._declare(spec, spec["root"], ())
        self.save()

    def _declare(self, spec: dict[str, Any], component: dict[str, Any], parent: tuple[str, ...]) -> None:
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            inner = spec.get("components", {}).get(task["componentRef"]["name"], {})
            self.task((*parent, name), group="dag" in inner)
            if not task.keys() & {"parameterIterator", "artifactIterator"}:  # a loop's rounds come as they come
                self._declare(spec, inner, (*parent, name))

    def task(self, path: tuple[str, ...], *, group: bool = False) -> dict[str, Any]:
        """The entry of a task, made on first sight (a loop's iterations are not in the spec)."""
        with self._lock:
            key = ".".join(path)
            if key not in self.tasks:
                self.tasks[key] = {
                    "path": key,
                    "name": path[-1],
                    "parent": ".".join(path[:-1]),
                    "number": self._number(key),
                    "group": group,
                    "state": "PENDING",
                    "create": time.time(),
                }
            return self.tasks[key]

    def _number(self, key: str) -> int:
        """A task's id as Vertex makes them: any 64 bits, often negative; the same for the same job and task."""
        return int.from_bytes(hashlib.sha256(f"{self.job}/{key}".encode()).digest()[:8], "big", signed=True)

    def update(self, task: dict[str, Any], **values: Any) -> None:
        """Changes an entry and writes the record."""
        with self._lock:
            task.update(values)
            self.save()

    def ended(self) -> int:
        """How many steps have ended."""
        return sum(task["state"] in ENDED and not task["group"] for task in self.tasks.values())

    def close(self) -> None:
        """Says of every task that never started that it was not triggered; a loop ends as its iterations did."""
        with self._lock:
            for task in self.tasks.values():
                if task["state"] in ENDED:
                    continue
                rounds = [
                    other["state"]
                    for key, other in self.tasks.items()
                    if key.startswith(f"{task['path']}-iteration-") and "." not in key.removeprefix(task["path"])
                ]
                task["state"] = "NOT_TRIGGERED" if not rounds else "FAILED" if "FAILED" in rounds else "SUCCEEDED"
                task["end"] = time.time()
            self.save()

    def save(self) -> None:
        """Writes the file in one piece."""
        with self._lock:
            scratch = self.file.with_suffix(".tmp")
            scratch.write_text(json.dumps(list(self.tasks.values()), default=str), encoding="utf-8")
            scratch.replace(self.file)
