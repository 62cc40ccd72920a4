"""What a preflight finds, and how it is worded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

MAKE_IMAGES = (
    "`make images PUSH=1 REPOSITORY=REGION-docker.pkg.dev/PROJECT/NAME` builds it and writes build/images.yaml, which "
    "--images reads"
)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or that could not be looked at."""

    where: str
    """The key of the environment or the configuration."""
    what: str
    to_do: str
    blocking: bool = True
    """Whether the run would fail."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.to_do}"


def enable(service: str, project: str) -> str:
    """How to enable a service."""
    return gcloud("services", "enable", f"{service}.googleapis.com", f"--project={project}")


def grant(command: Sequence[str], member: str, role: str) -> str:
    """How to give a role to a member, by the words of the command that binds it."""
    return gcloud(*command, f"--member={member}", f"--role={role}")


def gcloud(*words: str) -> str:
    """A command of Google Cloud's, as a shell takes it."""
    return f"`{shlex.join(['gcloud', *words])}`"


def unknown(where: str, subject: str, why: str, to_do: str = "") -> Problem:
    """A note that something could not be looked at."""
    return Problem(where, f"cannot be checked: {subject} ({why})", to_do or "look at it yourself", blocking=False)
