"""What was decided about versions: the lines of `history.jsonl`, and the latest in `champion.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from two_tower.errors import RegistryError
from two_tower.metrics_file import CHALLENGER, Evaluation, values_of
from two_tower.registry.version import Status, Version


@dataclass(frozen=True)
class Decision:
    """One line of `history.jsonl`."""

    event: Literal["promoted", "refused", "rolled_back"]
    version: str
    """The version decided about; after `rolled_back`, the one that serves again."""
    at: str
    """ISO 8601 UTC."""
    reason: str
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_gate(cls, event: Literal["promoted", "refused"], version: str, evaluation: Evaluation) -> Decision:
        """The gate's decision about a version, as its evaluation has it."""
        challenger = evaluation.systems.get(CHALLENGER)
        figures = values_of(challenger.metrics) if challenger else {}
        return cls(event, version, now(), evaluation.gate.reason, figures)

    @classmethod
    def by_hand(cls, event: Literal["promoted", "rolled_back"], version: Version, reason: str) -> Decision:
        """A person's decision about a stored version."""
        return cls(event, version.id, now(), reason, dict(version.metrics or {}))


@dataclass(frozen=True)
class Alias:
    """The content of `champion.json`, complete in itself: the history is written after it and mended from it."""

    version: str
    previous: list[str]
    """The champions before it, oldest first; what `rollback` goes back to. Each of them is stored."""
    decision: Decision

    @classmethod
    def parse(cls, content: bytes | None, file: str) -> Alias | None:
        """The alias in a `champion.json`, which may say that there is no champion yet.

        Raises:
            RegistryError: It cannot be read.
        """
        if content is None:
            return None
        try:
            found = json.loads(content)
            if found["version"] is None:
                return None
            return cls(found["version"], found["previous"], Decision(**found["decision"]))
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(f"{file}: not a readable alias: {error!r}") from error

    def with_only(self, stays: set[str]) -> dict[str, Any] | None:
        """The alias as it is to be once only these versions are left; None where it is that already."""
        there = [each for each in self.previous if each in stays]
        there = [each for each, after in pairwise([*there, self.version]) if each != after]
        return None if there == self.previous else asdict(replace(self, previous=there))


def decisions_in(lines: Sequence[str], file: str) -> list[Decision]:
    """The decisions in the lines of a `history.jsonl`.

    Raises:
        RegistryError: A line cannot be read.
    """
    decisions = []
    for number, line in enumerate(lines, start=1):
        try:
            decisions.append(Decision(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RegistryError(f"{file}:{number}: not a decision: {error}; remove the line") from error
    return decisions


def described(id_: str, place: str, alias: Alias | None, decisions: Sequence[Decision]) -> Version:
    """The version with what was decided about it, oldest first."""
    status: Status = "undecided"
    if alias and id_ == alias.version:
        status = "champion"
    elif (alias and id_ in alias.previous) or any(decision.event == "promoted" for decision in decisions):
        status = "former"
    elif decisions:
        status = "refused"
    if not decisions:
        return Version(id_, place, status)
    latest = decisions[-1]
    return Version(id_, place, status, decided_at=latest.at, reason=latest.reason, metrics=latest.metrics)


def now() -> str:
    """This moment as decisions name it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
