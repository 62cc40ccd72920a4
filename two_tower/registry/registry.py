"""The registry: versions that never change, and one alias, `champion.json`, that says which of them serves.

The rules are here; how a change becomes visible as a whole, and two changes are kept apart, depends on where the
registry lies: `local` or `on_bucket`.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from two_tower.artifacts import ObjectChanged, Place, below, is_remote
from two_tower.config import RetentionSettings
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry.decisions import Alias, Decision, decisions_in, described
from two_tower.registry.local import LocalStorage
from two_tower.registry.on_bucket import BucketStorage
from two_tower.registry.parts import VersionParts
from two_tower.registry.pruning import PruneDecision, Pruning
from two_tower.registry.storage import Held, Storage
from two_tower.registry.version import Version

log = logging.getLogger("two_tower")

TRIES = 100
"""So often a change begins again that others have overtaken."""

Result = TypeVar("Result")


class Registry:
    """The versions of one configuration under `root/name`."""

    def __init__(self, root: str | Path, name: str) -> None:
        """The registry of the configuration `name` in a local folder or, as gs://bucket/folder, on a bucket."""
        self.name = name
        self._storage: Storage = (
            BucketStorage(below(str(root), name)) if is_remote(root) else LocalStorage(Path(root) / name)
        )
        self.place = self._storage.place
        """Where it lies: a local path or a gs:// URI."""

    @classmethod
    def open(cls, place: Place) -> Registry:
        """The registry at a place, such as runs/registry/shop or gs://bucket/registry/shop; it may be empty yet."""
        root, _, name = os.fspath(place).rstrip("/").rpartition("/")
        return cls(root or ".", name)

    def __repr__(self) -> str:
        champion = self.champion()
        return (
            f"Registry({self.place}; {len(self.versions()):,} versions; champion {champion.id if champion else 'none'})"
        )

    @property
    def folder(self) -> Path:
        """The folder of a registry on this machine."""
        return Path(self.place)

    def champion(self) -> Version | None:
        """The version that serves, or None before the first promotion.

        Raises:
            RegistryError: `champion.json` cannot be read or names a version that is not there.
        """
        alias = self._alias()
        while alias:
            try:
                return self.version(alias.version)
            except RegistryError:
                latest = self._alias()
                if latest == alias:
                    raise
                alias = latest  # since the first look it was followed by two others and removed
        return None

    def warm_start(self) -> str | None:
        """Where the champion's `trained_towers` lie, to start a training from: a local path or a gs:// URI.

        None where there are none, and the log says so.
        """
        champion = self.champion()
        if champion is None:
            log.info("%s: no champion yet to start from: training starts fresh", self.place)
            return None
        towers = champion.trained_towers_place
        if towers is None:
            log.info(
                "%s: the champion %s was stored without its trained towers: training starts fresh",
                self.place, champion.id,
            )  # fmt: skip
        return towers

    def version(self, version: str) -> Version:
        """The version with this id.

        Raises:
            RegistryError: There is none; the message lists those there are.
        """
        found = {each.id: each for each in self.versions()}
        if version not in found:
            raise RegistryError(f"{self.place}: no version {version!r}; there are: {', '.join(found) or 'none'}")
        return found[version]

    def versions(self) -> list[Version]:
        """All versions, the latest decision first."""
        return self._versions(self._alias())

    def history(self) -> list[Decision]:
        """All decisions, oldest first.

        Raises:
            RegistryError: A line of `history.jsonl` cannot be read.
        """
        return self._decisions(self._alias())

    def promote(self, parts: VersionParts) -> str:
        """The id of the version made of these artefacts, which is the champion now.

        Nothing happens where it is the champion already.

        Raises:
            RegistryError: The artefacts do not belong together, the gate refused them, the evaluation is of
                another version, or the champion is no longer the one they were compared with.
            ArtifactError: An artefact is incomplete or damaged, or the disk is full.
        """
        version, measured = parts.evaluated()
        if measured.gate.decision == "refuse":
            raise RegistryError(f"version {version}: the gate refused it: {measured.gate.reason}")

        def work(alias: Alias | None, held: Held) -> str:
            current = alias.version if alias else None
            if current == version:
                log.info("%s: version %s is the champion already", self.place, version)
                return version
            if current != measured.champion:
                raise RegistryError(
                    f"{self.place}: version {version} was compared with the champion {measured.champion}, but the "
                    f"champion is {current} now; run again to compare with that"
                )
            self._storage.store(version, parts, held)
            self._switch(alias, Decision.of_gate("promoted", version, measured), held)
            return version

        return self._change(work)

    def add_refused(self, parts: VersionParts) -> str:
        """The id of a version that the gate refused, kept with the gate's reason; the champion stays.

        Refusing it once more for the same reason and figures changes nothing.  What is raised is that of `promote`.
        """
        version, measured = parts.evaluated()

        def work(alias: Alias | None, held: Held) -> str:
            if alias and alias.version == version:
                raise RegistryError(f"{self.place}: version {version} is the champion; roll back to refuse it")
            if measured.gate.decision != "refuse":
                raise RegistryError(f"version {version}: the gate did not refuse it: {measured.gate.reason}")
            self._storage.store(version, parts, held)
            self._storage.keep(held)
            decision = Decision.of_gate("refused", version, measured)
            about = [earlier for earlier in self._decisions(alias) if earlier.version == version]
            if not about or replace(about[-1], at=decision.at) != decision:
                self._record(decision)
            return version

        return self._change(work)

    def promote_existing(self, version: str, *, reason: str = "promoted by hand") -> str:
        """The id of a stored version, which is the champion now, whatever the gate said of it.

        Raises:
            RegistryError: There is no such version.
            ArtifactError: It is damaged.
        """

        def work(alias: Alias | None, held: Held) -> str:
            found = self.version(version)
            if alias and alias.version == version:
                log.info("%s: version %s is the champion already", self.place, version)
                return version
            self._verify(found, held)
            self._switch(alias, Decision.by_hand("promoted", found, reason), held)
            return version

        return self._change(work)

    def rollback(self, *, reason: str = "rolled back by hand") -> str:
        """The id of the champion before this one, which is the champion again.

        Raises:
            RegistryError: There is no champion, or it is the first.
            ArtifactError: The previous champion is damaged.
        """

        def work(alias: Alias | None, held: Held) -> str:
            if alias is None or not alias.previous:
                raise RegistryError(f"{self.place}: there is no champion before {alias.version if alias else 'any'}")
            *before, target = alias.previous
            found = self.version(target)
            self._verify(found, held)
            decision = Decision.by_hand("rolled_back", found, reason)
            self._decide(Alias(target, before, decision), held)
            return target

        return self._change(work)

    def prune(self, *, keep: int | None, days: int | None = None, dry_run: bool = False) -> list[PruneDecision]:
        """Removes versions by count and age; what becomes of each version, in the order of the places.

        Never removed are the champion, the version that `rollback` goes back to, and the one that the latest decision
        is about.  They take the first of the `keep` places, then former champions, then refused versions, then
        undecided ones, of each kind the latest first.  A version without a place goes unless it is younger than `days`.
        `rollback` skips the champions that are gone.  Their lines of the history stay.

        Args:
            keep: How many versions stay; None for all.
            days: Versions that were decided about less than so many days ago (undecided ones: stored) stay beyond that.
            dry_run: Whether nothing is removed.

        Raises:
            RegistryError: The champion is not known for sure, or a version cannot be removed.
        """
        if dry_run or not self._storage.exists():
            return self._pruning(self._alias()).decide(keep, days)

        def work(alias: Alias | None, held: Held) -> list[PruneDecision]:
            decided = self._pruning(alias).decide(keep, days)
            goes = [each.version.id for each in reversed(decided) if not each.stays]
            stays = {each.version.id for each in decided if each.stays}
            self._storage.remove(goes, alias.with_only(stays) if alias and goes else None, held)
            return decided

        decided = self._change(work)
        for each in decided:
            if not each.stays:
                log.info("%s: removed version %s: %s", self.place, each.version.id, each.reason)
        return decided

    def keep_to(self, retention: RetentionSettings) -> None:
        """Prunes as the settings say; the decision before it stands also where that fails, and the log says why."""
        try:
            self.prune(keep=retention.keep, days=retention.days)
        except RegistryError as error:
            log.warning("%s: no old version was removed, see to it and run `two-tower registry prune`: %s",
                        self.place, error)  # fmt: skip

    def _pruning(self, alias: Alias | None) -> Pruning:
        stored = self._storage.stored()
        return Pruning(self.place, alias, self._decisions(alias), self._versions(alias, stored), stored)

    def _change(self, work: Callable[[Alias | None, Held], Result]) -> Result:
        """What `work` returns, done as one change: given the alias, anew where another change came between.

        The history is mended first, so that no decision is overtaken by the next before it stands there.
        """
        for tried in range(TRIES):
            time.sleep(random.uniform(0.0, min(tried, 10) / 10))
            try:
                with self._storage.changing() as held:
                    alias = self._parsed(held.content)
                    if alias:
                        self._record(alias.decision)
                    return work(alias, held)
            except ObjectChanged:
                log.info("%s: somebody else has changed the registry meanwhile: looking again", self.place)
        raise RegistryError(f"{self.place}: others have changed the registry {TRIES} times meanwhile; try again later")

    def _verify(self, version: Version, held: Held) -> None:
        try:
            version.verify()
        except ArtifactError:
            self._storage.still(held)  # or it may have been removed just now
            raise

    def _switch(self, alias: Alias | None, decision: Decision, held: Held) -> None:
        previous = [*alias.previous, alias.version] if alias else []
        self._decide(Alias(decision.version, previous, decision), held)

    def _decide(self, alias: Alias, held: Held) -> None:
        """Makes the alias the registry's, and adds its decision to the history."""
        try:
            self._storage.write_alias(asdict(alias), held)
        except ObjectChanged:
            # Ours, where the reply was lost and another change has followed: that one put it into the history.
            if alias.decision not in self.history():
                raise
        self._record(alias.decision)

    def _record(self, decision: Decision) -> None:
        """Adds the decision to the history, unless it stands there."""
        line = json.dumps(asdict(decision), sort_keys=True, ensure_ascii=False)
        while True:
            text, generation = self._storage.read_history()
            if line in text.splitlines():
                return
            try:
                self._storage.write_history(f"{text}{line}\n", generation)
                return
            except ObjectChanged:
                log.info("%s: somebody else has added a decision meanwhile: adding it again", self.place)

    def _alias(self) -> Alias | None:
        return self._parsed(self._storage.read_alias())

    def _parsed(self, content: bytes | None) -> Alias | None:
        return Alias.parse(content, self._file("champion.json"))

    def _decisions(self, alias: Alias | None) -> list[Decision]:
        try:
            lines = self._storage.read_history()[0].splitlines()
        except UnicodeDecodeError as error:
            raise RegistryError(f"{self._file('history.jsonl')}: not UTF-8 text: {error}; mend the file") from error
        decisions = decisions_in(lines, self._file("history.jsonl"))
        if alias and alias.decision not in decisions:  # killed between the two files
            decisions.append(alias.decision)
        return decisions

    def _versions(self, alias: Alias | None, stored: Mapping[str, datetime] | None = None) -> list[Version]:
        decisions = self._decisions(alias)
        order = {decision.version: number for number, decision in enumerate(decisions)}
        ids = self._storage.stored() if stored is None else stored
        return [
            described(id_, self._storage.place_of(id_), alias, [each for each in decisions if each.version == id_])
            for id_ in sorted(ids, key=lambda id_: (-order.get(id_, -1), id_))
        ]

    def _file(self, name: str) -> str:
        return below(self.place, name)
