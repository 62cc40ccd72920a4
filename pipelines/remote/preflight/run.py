"""The run that is looked at: its configuration at its time, its sources, its images."""

from __future__ import annotations

import contextlib
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.remote.preflight.problem import Problem
from pipelines.remote.submission import Submission
from two_tower.artifacts import normalised
from two_tower.config import Config, SourceSettings, at_time, first_time
from two_tower.errors import ConfigError

IMAGE_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class PlannedRun:
    """What the services are asked about."""

    submission: Submission
    config: Config
    """With the run's time filled in."""
    backend: str
    scheduled: bool

    @property
    def is_to_come(self) -> bool:
        """Whether it is to start later, when there will be files that are not there yet."""
        if self.scheduled:
            return True
        with contextlib.suppress(ConfigError):  # a problem of its own
            return first_time(self.submission.parameters.get("run_time", "")) > datetime.now(UTC)
        return True


def at_the_runs_time(submission: Submission) -> tuple[Config, list[Problem]]:
    """The configuration with the run's time filled in, as far as that is possible."""
    time, zone = submission.parameters.get("run_time", ""), submission.parameters.get("time_zone", "UTC")
    try:
        moment = first_time(time)
    except ConfigError:
        return submission.config, [
            Problem("run_time", f"{time!r} is no time", "write it as ISO 8601, such as 2026-12-01T03:00+01:00")
        ]
    try:
        return at_time(submission.config, moment, zone=zone), []
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        return submission.config, [
            Problem("time_zone", f"there is no time zone {zone!r}", "take one such as Europe/Berlin or UTC")
        ]
    except (ConfigError, ValueError) as error:
        to_do = "mend the placeholders below `data`, such as {date}, {date-7d} and {time-24h}"
        return submission.config, [Problem("data", " ".join(str(error).split()), to_do)]


def tables(config: Config) -> dict[str, SourceSettings]:
    """The sources by key."""
    tables = {"interactions": config.data.interactions, "items": config.data.items, "users": config.data.users}
    return {f"data.{name}": source for name, source in tables.items() if source is not None}


def paths(source: SourceSettings) -> list[str]:
    paths = source.path if isinstance(source.path, list) else [source.path or ""]
    return [normalised(path) for path in paths if path]


def executors(submission: Submission) -> Iterator[tuple[str, str]]:
    """The steps of the compiled pipeline with their images."""
    executors = submission.pipeline.get("deploymentSpec", {}).get("executors", {})
    for name, executor in sorted(executors.items()):
        step = re.sub(r"-\d+$", "", name.removeprefix("exec-")).replace("-", "_")
        yield step, executor.get("container", {}).get("image", "")
