"""The registry: versions that never change, and one alias, `champion.json`, that says which of them serves.

The rules are here; how a change becomes visible as a whole, and two changes are kept apart, depends on where the
registry lies: `local` or `on_bucket`.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from two_tower.artifacts import (
    ObjectChanged,
    below,
    content_hash,
    is_remote,
    list_folders,
    read_manifest,
)
from two_tower.config import RetentionSettings
from two_tower.errors import ArtifactError, RegistryError
from two_tower.metrics_file import CHALLENGER, Evaluation, values_of
from two_tower.registry.local import LocalStorage
from two_tower.registry.on_bucket import BucketStorage
from two_tower.registry.storage import Held, Storage
from two_tower.registry.version import PARTS, SERVED, Status, Version, version_id

log = logging.getLogger("two_tower")

TRIES = 100
"""So often a change begins again that others have overtaken."""

Result = TypeVar("Result")


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


@dataclass(frozen=True)
class Fate:
    """What pruning does with one version."""

    version: Version
    stays: bool
    reason: str
    """Why, in a few words."""


@dataclass(frozen=True)
class _Alias:
    """The content of `champion.json`, complete in itself: the history is written after it and mended from it."""

    version: str
    previous: list[str]
    """The champions before it, oldest first; what `rollback` goes back to. Each of them is stored."""
    decision: Decision


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

    def promote(
        self,
        *,
        query_tower: str | Path,
        candidate_tower: str | Path,
        index: str | Path,
        evaluation: str | Path,
        trained_towers: str | Path,
        prepared: str | Path,
        config: dict[str, Any],
        sources: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The id of the version made of these artefacts, which is the champion now.

        Nothing happens where it is the champion already.

        Args:
            query_tower: The exported query tower.
            candidate_tower: The exported candidate tower.
            index: The index of the candidates.
            evaluation: The evaluation of the three, with the gate's verdict.
            trained_towers: The weights that both towers were exported from, kept for the next training.
            prepared: The prepared data, whose candidate table is kept with the version.
            config: The run's whole configuration.
            sources: The interaction files of the run, so that a later one can tell what is new.

        Raises:
            RegistryError: The artefacts do not belong together, the gate refused them, the evaluation is of
                another version, or the champion is no longer the one they were compared with.
            ArtifactError: An artefact is incomplete or damaged, or the disk is full.
        """
        folders = [Path(folder) for folder in (query_tower, candidate_tower, index, evaluation, trained_towers)]
        parts = dict(zip(PARTS, folders, strict=True))
        version, measured = _evaluated(parts, Path(prepared))
        if measured.gate.decision == "refuse":
            raise RegistryError(f"version {version}: the gate refused it: {measured.gate.reason}")

        def work(alias: _Alias | None, held: Held) -> str:
            current = alias.version if alias else None
            if current == version:
                log.info("%s: version %s is the champion already", self.place, version)
                return version
            if current != measured.champion:
                raise RegistryError(
                    f"{self.place}: version {version} was compared with the champion {measured.champion}, but the "
                    f"champion is {current} now; run again to compare with that"
                )
            self._storage.store(version, parts, prepared=Path(prepared), config=config, sources=sources, held=held)
            self._switch(alias, _decision("promoted", version, measured), held)
            return version

        return self._change(work)

    def add_refused(
        self,
        *,
        query_tower: str | Path,
        candidate_tower: str | Path,
        index: str | Path,
        evaluation: str | Path,
        trained_towers: str | Path,
        prepared: str | Path,
        config: dict[str, Any],
        sources: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The id of a version that the gate refused, kept with the gate's reason; the champion stays.

        Refusing it once more for the same reason and figures changes nothing.  The arguments and what is raised are
        those of `promote`.
        """
        folders = [Path(folder) for folder in (query_tower, candidate_tower, index, evaluation, trained_towers)]
        parts = dict(zip(PARTS, folders, strict=True))
        version, measured = _evaluated(parts, Path(prepared))

        def work(alias: _Alias | None, held: Held) -> str:
            if alias and alias.version == version:
                raise RegistryError(f"{self.place}: version {version} is the champion; roll back to refuse it")
            if measured.gate.decision != "refuse":
                raise RegistryError(f"version {version}: the gate did not refuse it: {measured.gate.reason}")
            self._storage.store(version, parts, prepared=Path(prepared), config=config, sources=sources, held=held)
            self._storage.keep(held)
            decision = _decision("refused", version, measured)
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

        def work(alias: _Alias | None, held: Held) -> str:
            found = self.version(version)
            if alias and alias.version == version:
                log.info("%s: version %s is the champion already", self.place, version)
                return version
            self._verify(found, held)
            self._switch(alias, Decision("promoted", version, _now(), reason, dict(found.metrics or {})), held)
            return version

        return self._change(work)

    def rollback(self, *, reason: str = "rolled back by hand") -> str:
        """The id of the champion before this one, which is the champion again.

        Raises:
            RegistryError: There is no champion, or it is the first.
            ArtifactError: The previous champion is damaged.
        """

        def work(alias: _Alias | None, held: Held) -> str:
            if alias is None or not alias.previous:
                raise RegistryError(f"{self.place}: there is no champion before {alias.version if alias else 'any'}")
            *before, target = alias.previous
            found = self.version(target)
            self._verify(found, held)
            decision = Decision("rolled_back", target, _now(), reason, dict(found.metrics or {}))
            self._decide(_Alias(target, before, decision), held)
            return target

        return self._change(work)

    def prune(self, *, keep: int | None, days: int | None = None, dry_run: bool = False) -> list[Fate]:
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
            return self._fates(self._alias(), keep, days)

        def work(alias: _Alias | None, held: Held) -> list[Fate]:
            fates = self._fates(alias, keep, days)
            goes = [fate.version.id for fate in reversed(fates) if not fate.stays]
            stays = {fate.version.id for fate in fates if fate.stays}
            self._storage.remove(goes, _without(alias, stays) if goes else None, held)
            return fates

        fates = self._change(work)
        for fate in fates:
            if not fate.stays:
                log.info("%s: removed version %s: %s", self.place, fate.version.id, fate.reason)
        return fates

    def keep_to(self, retention: RetentionSettings) -> None:
        """Prunes as the settings say; the decision before it stands also where that fails, and the log says why."""
        try:
            self.prune(keep=retention.keep, days=retention.days)
        except RegistryError as error:
            log.warning("%s: no old version was removed, see to it and run `two-tower registry prune`: %s",
                        self.place, error)  # fmt: skip

    def _fates(self, alias: _Alias | None, keep: int | None, days: int | None) -> list[Fate]:
        stored = self._storage.stored()
        versions = self._versions(alias, stored)
        certain = self._never_removed(alias, versions)
        ranks = {"champion": 0, "former": 1, "refused": 2, "undecided": 3}
        ranked = sorted(versions, key=lambda version: (version.id not in certain, ranks[version.status]))
        with_place = {version.id for version in ranked[:keep]}
        fates = []
        for version in ranked:
            if version.id in certain:
                fates.append(Fate(version, True, certain[version.id]))
            elif version.id in with_place:
                fates.append(Fate(version, True, "all are kept" if keep is None else f"within the {keep} that stay"))
            elif days is not None and self._since(version, stored) > datetime.now(UTC) - timedelta(days=days):
                fates.append(Fate(version, True, f"younger than {days} days"))
            else:
                age = "" if days is None else f", and not younger than {days} days"
                fates.append(Fate(version, False, f"beyond the {keep} that stay{age}"))
        return fates

    def _never_removed(self, alias: _Alias | None, versions: list[Version]) -> dict[str, str]:
        """Why a version is never removed, by id.

        Raises:
            RegistryError: The champion is not stored, or nothing says which of the versions it is.
        """
        stored = {version.id for version in versions}
        if alias is None and any(decision.event != "refused" for decision in self._decisions(alias)):
            raise RegistryError(
                f"{self._file('champion.json')}: missing, although there was a champion, so nothing is removed; "
                "promote the version that serves with `two-tower registry promote`"
            )
        if alias and alias.version not in stored:
            raise RegistryError(
                f"{self.place}: the champion {alias.version} is not among the versions, so nothing is removed; "
                "promote another with `two-tower registry promote`"
            )
        certain = {version.id: "the latest decision is about it" for version in versions[:1] if version.decided_at}
        if alias:
            reachable = [each for each in alias.previous if each in stored and each != alias.version]
            certain |= dict.fromkeys(reachable[-1:], "the champion before this one")
            certain[alias.version] = "the champion"
        return certain

    def _since(self, version: Version, stored: Mapping[str, datetime]) -> datetime:
        """When the latest decision about a version was made; of an undecided one, when it was stored."""
        if version.decided_at is None:
            return stored[version.id]
        try:
            return datetime.fromisoformat(version.decided_at).astimezone(UTC)
        except ValueError as error:
            raise RegistryError(
                f"{self._file('history.jsonl')}: version {version.id} was decided about at {version.decided_at!r}, "
                "which is no time; mend the line"
            ) from error

    def _change(self, work: Callable[[_Alias | None, Held], Result]) -> Result:
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

    def _switch(self, alias: _Alias | None, decision: Decision, held: Held) -> None:
        previous = [*alias.previous, alias.version] if alias else []
        self._decide(_Alias(decision.version, previous, decision), held)

    def _decide(self, alias: _Alias, held: Held) -> None:
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

    def _alias(self) -> _Alias | None:
        return self._parsed(self._storage.read_alias())

    def _parsed(self, content: bytes | None) -> _Alias | None:
        """The alias in a `champion.json`, which may say that there is no champion yet."""
        if content is None:
            return None
        try:
            found = json.loads(content)
            if found["version"] is None:
                return None
            return _Alias(found["version"], found["previous"], Decision(**found["decision"]))
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(f"{self._file('champion.json')}: not a readable alias: {error!r}") from error

    def _decisions(self, alias: _Alias | None) -> list[Decision]:
        try:
            lines = self._storage.read_history()[0].splitlines()
        except UnicodeDecodeError as error:
            raise RegistryError(f"{self._file('history.jsonl')}: not UTF-8 text: {error}; mend the file") from error
        decisions = []
        for number, line in enumerate(lines, start=1):
            try:
                decisions.append(Decision(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RegistryError(
                    f"{self._file('history.jsonl')}:{number}: not a decision: {error}; remove the line"
                ) from error
        if alias and alias.decision not in decisions:  # killed between the two files
            decisions.append(alias.decision)
        return decisions

    def _versions(self, alias: _Alias | None, stored: Mapping[str, datetime] | None = None) -> list[Version]:
        decisions = self._decisions(alias)
        order = {decision.version: number for number, decision in enumerate(decisions)}
        ids = self._storage.stored() if stored is None else stored
        return [
            self._describe(id_, alias, [decision for decision in decisions if decision.version == id_])
            for id_ in sorted(ids, key=lambda id_: (-order.get(id_, -1), id_))
        ]

    def _describe(self, id_: str, alias: _Alias | None, decisions: list[Decision]) -> Version:
        place = self._storage.place_of(id_)
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

    def _file(self, name: str) -> str:
        return below(self.place, name)


def list_registries(root: str | Path) -> list[Registry]:
    """The registries in a local folder or, as gs://bucket/folder, on a bucket, by name."""
    if is_remote(root):
        return [Registry(root, name) for name in list_folders(str(root))]
    return [Registry(root, folder.name) for folder in sorted(Path(root).glob("*/"))]


def _without(alias: _Alias | None, stays: set[str]) -> dict[str, Any] | None:
    """The alias as it is to be once only these versions are left; None where it is that already."""
    if alias is None:
        return None
    there = [each for each in alias.previous if each in stays]
    there = [each for each, after in pairwise([*there, alias.version]) if each != after]
    return None if there == alias.previous else asdict(replace(alias, previous=there))


def _evaluated(parts: Mapping[str, Path], prepared: Path) -> tuple[str, Evaluation]:
    """The version id of the parts and what their evaluation holds."""
    version = version_id(*(parts[part] for part in SERVED))
    made_from = read_manifest(parts["candidate_tower"], "candidate_tower").made_from
    for kind, folder in (("prepared_data", prepared), ("trained_towers", parts["trained_towers"])):
        if made_from.get(kind) != content_hash(folder):
            raise RegistryError(
                f"{folder} and {parts['candidate_tower']} do not belong together: the tower was made from the "
                f"{kind} {made_from.get(kind)}, this is {content_hash(folder)}; use one run's outputs"
            )
    evaluation = Evaluation.open(parts["evaluation"])
    if evaluation.version != version:
        raise RegistryError(
            f"{parts['evaluation']} and {parts['query_tower']} do not belong together: the evaluation is of version "
            f"{evaluation.version}, the towers and the index are version {version}; use one run's outputs"
        )
    return version, evaluation


def _decision(event: Literal["promoted", "refused"], version: str, evaluation: Evaluation) -> Decision:
    challenger = evaluation.systems.get(CHALLENGER)
    figures = values_of(challenger.metrics) if challenger else {}
    return Decision(event, version, _now(), evaluation.gate.reason, figures)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
