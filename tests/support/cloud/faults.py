"""Faults to order: what goes wrong, at which call."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from cloud.errors import Refused

KINDS = {
    "429": ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'requests per minute' (ordered by the test)"),
    "503": ("UNAVAILABLE", "The service is currently unavailable (ordered by the test)"),
    "403": ("PERMISSION_DENIED", "The caller does not have permission (ordered by the test)"),
    "lost_reply": None,
    "fails_halfway": None,
}


@dataclass
class Fault:
    """What happens to some of the calls whose `NAME RESOURCE` matches a pattern."""

    name: str
    """A regular expression, searched in for example `PipelineService.CreatePipelineJob projects/…` or
    `storage.objects.insert gs://bucket/object`."""
    kind: str
    """`429`, `503`, `403`: refused, nothing done.  `lost_reply`: done, then the connection is closed.
    `fails_halfway`: the long-running operation ends in an error, or the job dies after its first step."""
    nth: int = 1
    """The first of the matching calls that is hit, counted from 1."""
    times: int = 1
    """How many matching calls in a row are hit."""
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)
    """How many calls were hit; a test that ordered a fault asserts that this is not 0."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind}: no such kind of fault; one of {', '.join(KINDS)}")

    def refusal(self) -> Refused | None:
        """The error that the call gets instead of an answer; None where the work is done."""
        error = KINDS[self.kind]
        return Refused(*error) if error else None


class Orders:
    """Decides which fault hits a call; safe to ask from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def hit(self, faults: Iterable[Fault], call: str) -> Fault | None:
        """The first fault that hits this call, counted as a hit; every matching fault counts the call."""
        with self._lock:
            chosen = None
            for fault in faults:
                if not re.search(fault.name, call):
                    continue
                fault.seen += 1
                if chosen is None and fault.nth <= fault.seen < fault.nth + fault.times:
                    fault.hits += 1
                    chosen = fault
            return chosen
