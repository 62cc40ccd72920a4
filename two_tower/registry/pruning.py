"""Which versions pruning removes, and why each of the others stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from two_tower.artifacts import below
from two_tower.errors import RegistryError
from two_tower.registry.decisions import Alias, Decision
from two_tower.registry.version import Version

RANKS = {"champion": 0, "former": 1, "refused": 2, "undecided": 3}


@dataclass(frozen=True)
class PruneDecision:
    """What pruning does with one version."""

    version: Version
    stays: bool
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True)
class Pruning:
    """The rules, and what they look at: the registry at one moment."""

    place: str
    alias: Alias | None
    decisions: Sequence[Decision]
    versions: Sequence[Version]
    """The latest decision first."""
    stored: Mapping[str, datetime]
    """When each version was stored, by id."""

    def decide(self, keep: int | None, days: int | None) -> list[PruneDecision]:
        """What becomes of each version, in the order of the places; `Registry.prune` has the rules.

        Raises:
            RegistryError: The champion is not known for sure.
        """
        certain = self._never_removed()
        ranked = sorted(self.versions, key=lambda version: (version.id not in certain, RANKS[version.status]))
        with_place = {version.id for version in ranked[:keep]}
        return [self._decided(version, certain, with_place, keep, days) for version in ranked]

    def _decided(
        self, version: Version, certain: Mapping[str, str], with_place: set[str], keep: int | None, days: int | None
    ) -> PruneDecision:
        if version.id in certain:
            return PruneDecision(version, True, certain[version.id])
        if version.id in with_place:
            return PruneDecision(version, True, "all are kept" if keep is None else f"within the {keep} that stay")
        if days is not None and self._since(version) > datetime.now(UTC) - timedelta(days=days):
            return PruneDecision(version, True, f"younger than {days} days")
        age = "" if days is None else f", and not younger than {days} days"
        return PruneDecision(version, False, f"beyond the {keep} that stay{age}")

    def _never_removed(self) -> dict[str, str]:
        """Why a version is never removed, by id.

        Raises:
            RegistryError: The champion is not stored, or nothing says which of the versions it is.
        """
        stored, alias = {version.id for version in self.versions}, self.alias
        if alias is None and any(decision.event != "refused" for decision in self.decisions):
            raise RegistryError(
                f"{below(self.place, 'champion.json')}: missing, although there was a champion, so nothing is removed; "
                "promote the version that serves with `two-tower registry promote`"
            )
        if alias and alias.version not in stored:
            raise RegistryError(
                f"{self.place}: the champion {alias.version} is not among the versions, so nothing is removed; "
                "promote another with `two-tower registry promote`"
            )
        certain = {each.id: "the latest decision is about it" for each in self.versions[:1] if each.decided_at}
        if alias:
            reachable = [each for each in alias.previous if each in stored and each != alias.version]
            certain |= dict.fromkeys(reachable[-1:], "the champion before this one")
            certain[alias.version] = "the champion"
        return certain

    def _since(self, version: Version) -> datetime:
        """When the latest decision about a version was made; of an undecided one, when it was stored."""
        if version.decided_at is None:
            return self.stored[version.id]
        try:
            return datetime.fromisoformat(version.decided_at).astimezone(UTC)
        except ValueError as error:
            raise RegistryError(
                f"{below(self.place, 'history.jsonl')}: version {version.id} was decided about at "
                f"{version.decided_at!r}, which is no time; mend the line"
            ) from error
