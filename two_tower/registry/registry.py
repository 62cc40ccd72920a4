"""The registry: versions that never change, and one alias, `champion.json`, that says which of them serves.

Whatever is written becomes visible in one rename, under a lock; so a reader, or whoever comes after a killed
process, sees the registry before or after a change, never in between.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from two_tower.artifacts import (
    MANIFEST,
    content_hash,
    locked,
    open_artifact,
    read_manifest,
    replace_file,
    sync_folder,
    write_json,
)
from two_tower.config import Retention
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry.version import PARTS, SERVED, Status, Version, store_version, version_id

log = logging.getLogger("two_tower")


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
        self.folder = Path(root) / name
        self._versions = self.folder / "versions"
        self._champion = self.folder / "champion.json"
        self._history = self.folder / "history.jsonl"

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

    def warm_start(self) -> Path | None:
        """The champion's `trained_towers`, to start a training from; None where there are none, and the log says so."""
        champion = self.champion()
        if champion is None:
            log.info("%s: no champion yet to start from: training starts fresh", self.folder)
            return None
        if champion.trained_towers is None:
            log.info(
                "%s: the champion %s was stored without its trained towers: training starts fresh",
                self.folder, champion.id,
            )  # fmt: skip
        return champion.trained_towers

    def version(self, version: str) -> Version:
        """The version with this id.

        Raises:
            RegistryError: There is none; the message lists those there are.
        """
        found = {each.id: each for each in self.versions()}
        if version not in found:
            raise RegistryError(f"{self.folder}: no version {version!r}; there are: {', '.join(found) or 'none'}")
        return found[version]

    def versions(self) -> list[Version]:
        """All versions, the latest decision first."""
        alias = self._alias()
        decisions = self.history()
        order = {decision.version: number for number, decision in enumerate(decisions)}
        ids = [path.parent.name for path in self._versions.glob(f"[!.]*/{MANIFEST}")]
        return [
            self._describe(id_, alias, [decision for decision in decisions if decision.version == id_])
            for id_ in sorted(ids, key=lambda id_: (-order.get(id_, -1), id_))
        ]

    def history(self) -> list[Decision]:
        """All decisions, oldest first.

        Raises:
            RegistryError: A line of `history.jsonl` cannot be read.
        """
        decisions = []
        text = self._history.read_text(encoding="utf-8") if self._history.exists() else ""
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                decisions.append(Decision(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RegistryError(f"{self._history}:{number}: not a decision: {error}; remove the line") from error
        alias = self._alias()
        if alias and alias.decision not in decisions:  # killed between the two files
            decisions.append(alias.decision)
        return decisions

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

        Raises:
            RegistryError: The artefacts do not belong together, the gate refused them, the evaluation is of
                another version, or the champion is no longer the one they were compared with.
            ArtifactError: An artefact is incomplete or damaged, or the disk is full.
        """
        folders = [Path(folder) for folder in (query_tower, candidate_tower, index, evaluation, trained_towers)]
        parts = dict(zip(PARTS, folders, strict=True))
        version, metrics = _evaluated(parts, Path(prepared))
        if metrics["gate"]["decision"] == "refuse":
            raise RegistryError(f"version {version}: the gate refused it: {metrics['gate']['reason']}")
        with self._changing():
            alias = self._alias()
            current = alias.version if alias else None
            if current == version:
                log.info("%s: version %s is the champion already", self.folder, version)
                return version
            if current != metrics["champion"]:
                raise RegistryError(
                    f"{self.folder}: version {version} was compared with the champion {metrics['champion']}, but the "
                    f"champion is {current} now; run again to compare with that"
                )
            self._store(version, parts, prepared=Path(prepared), config=config)
            self._switch(alias, _decision("promoted", version, metrics))
        return version

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
    ) -> str:
        """The id of a version that the gate refused, kept with the gate's reason; the champion stays.

        Refusing it once more for the same reason and figures changes nothing.  The arguments and what is raised are
        those of `promote`.
        """
        folders = [Path(folder) for folder in (query_tower, candidate_tower, index, evaluation, trained_towers)]
        parts = dict(zip(PARTS, folders, strict=True))
        version, metrics = _evaluated(parts, Path(prepared))
        with self._changing():
            alias = self._alias()
            if alias and alias.version == version:
                raise RegistryError(f"{self.folder}: version {version} is the champion; roll back to refuse it")
            if metrics["gate"]["decision"] != "refuse":
                raise RegistryError(f"version {version}: the gate did not refuse it: {metrics['gate']['reason']}")
            self._store(version, parts, prepared=Path(prepared), config=config)
            decision = _decision("refused", version, metrics)
            about = [earlier for earlier in self.history() if earlier.version == version]
            if not about or replace(about[-1], at=decision.at) != decision:
                self._record(decision)
        return version

    def promote_existing(self, version: str, *, reason: str = "promoted by hand") -> str:
        """The id of a stored version, which is the champion now, whatever the gate said of it.

        Raises:
            RegistryError: There is no such version.
            ArtifactError: It is damaged.
        """
        with self._changing():
            alias = self._alias()
            found = self.version(version)
            if alias and alias.version == version:
                log.info("%s: version %s is the champion already", self.folder, version)
                return version
            found.verify()
            self._switch(alias, Decision("promoted", version, _now(), reason, dict(found.metrics or {})))
        return version

    def rollback(self, *, reason: str = "rolled back by hand") -> str:
        """The id of the champion before this one, which is the champion again.

        Raises:
            RegistryError: There is no champion, or it is the first.
            ArtifactError: The previous champion is damaged.
        """
        with self._changing():
            alias = self._alias()
            if alias is None or not alias.previous:
                raise RegistryError(f"{self.folder}: there is no champion before {alias.version if alias else 'any'}")
            *before, target = alias.previous
            found = self.version(target)
            found.verify()
            decision = Decision("rolled_back", target, _now(), reason, dict(found.metrics or {}))
            self._write_alias(_Alias(target, before, decision))
            self._record(decision)
        return target

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
        if dry_run or not self._versions.exists():
            return self._fates(keep, days)
        with self._changing():
            fates = self._fates(keep, days)
            self._remove([fate.version.id for fate in reversed(fates) if not fate.stays])
        for fate in fates:
            if not fate.stays:
                log.info("%s: removed version %s: %s", self.folder, fate.version.id, fate.reason)
        return fates

    def keep_to(self, retention: Retention) -> None:
        """Prunes as the settings say; the decision before it stands also where that fails, and the log says why."""
        try:
            self.prune(keep=retention.keep, days=retention.days)
        except RegistryError as error:
            log.warning("%s: no old version was removed, see to it and run `two-tower registry prune`: %s",
                        self.folder, error)  # fmt: skip

    def _fates(self, keep: int | None, days: int | None) -> list[Fate]:
        versions = self.versions()
        certain = self._never_removed(versions)
        ranks = {"champion": 0, "former": 1, "refused": 2, "undecided": 3}
        ranked = sorted(versions, key=lambda version: (version.id not in certain, ranks[version.status]))
        with_place = {version.id for version in ranked[:keep]}
        fates = []
        for version in ranked:
            if version.id in certain:
                fates.append(Fate(version, True, certain[version.id]))
            elif version.id in with_place:
                fates.append(Fate(version, True, "all are kept" if keep is None else f"within the {keep} that stay"))
            elif days is not None and self._decided_or_stored(version) > datetime.now(UTC) - timedelta(days=days):
                fates.append(Fate(version, True, f"younger than {days} days"))
            else:
                age = "" if days is None else f", and not younger than {days} days"
                fates.append(Fate(version, False, f"beyond the {keep} that stay{age}"))
        return fates

    def _never_removed(self, versions: list[Version]) -> dict[str, str]:
        """Why a version is never removed, by id.

        Raises:
            RegistryError: The champion is not stored, or nothing says which of the versions it is.
        """
        alias = self._alias()
        stored = {version.id for version in versions}
        if alias is None and any(decision.event != "refused" for decision in self.history()):
            raise RegistryError(
                f"{self._champion}: missing, although there was a champion, so nothing is removed; promote the version "
                "that serves with `two-tower registry promote`"
            )
        if alias and alias.version not in stored:
            raise RegistryError(
                f"{self.folder}: the champion {alias.version} is not among the versions, so nothing is removed; "
                "promote another with `two-tower registry promote`"
            )
        certain = {version.id: "the latest decision is about it" for version in versions[:1] if version.decided_at}
        if alias:
            reachable = [each for each in alias.previous if each in stored and each != alias.version]
            certain |= dict.fromkeys(reachable[-1:], "the champion before this one")
            certain[alias.version] = "the champion"
        return certain

    def _decided_or_stored(self, version: Version) -> datetime:
        """When the latest decision about a version was made; of an undecided one, when it was stored."""
        if version.decided_at is None:
            return datetime.fromtimestamp((version.folder / MANIFEST).stat().st_mtime, UTC)
        try:
            return datetime.fromisoformat(version.decided_at).astimezone(UTC)
        except ValueError as error:
            raise RegistryError(
                f"{self._history}: version {version.id} was decided about at {version.decided_at!r}, which is no time; "
                "mend the line"
            ) from error

    def _remove(self, ids: list[str]) -> None:
        """Removes versions: first from the alias, then from sight, then from the disk."""
        if not ids:
            return
        alias = self._alias()
        if alias:
            there = [each for each in alias.previous if each not in ids and (self._versions / each).exists()]
            there = [each for each, after in pairwise([*there, alias.version]) if each != after]
            if there != alias.previous:
                self._write_alias(replace(alias, previous=there))
        for id_ in ids:
            (self._versions / id_).replace(self._versions / f".tmp-{id_}-{os.getpid()}")
        sync_folder(self._versions)
        self._clear()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Holds the registry's lock, with what a killed process left behind mended."""
        try:
            self._versions.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                self._mend()
                yield
        except OSError as error:
            raise RegistryError(
                f"{error.filename or self.folder}: cannot change the registry: {error.strerror or error}; it is as "
                "it was, or as it was to become"
            ) from error

    def _mend(self) -> None:
        self._clear()
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        alias = self._alias()
        if alias:
            self._record(alias.decision)

    def _clear(self) -> None:
        """Deletes the hidden folders: versions that were not finished, replaced or removed."""
        for leftover in self._versions.glob(".tmp-*"):
            shutil.rmtree(leftover)

    def _store(self, version: str, parts: Mapping[str, Path], *, prepared: Path, config: dict[str, Any]) -> None:
        """Puts the version into the registry, unless it is there, whole, already."""
        target = self._versions / version
        if target.exists():
            try:
                Version(version, target, "undecided").verify()
                return
            except ArtifactError as error:
                log.warning("%s; storing the version anew", error)
        temporary = self._versions / f".tmp-{version}-{os.getpid()}"
        store_version(target, parts, prepared=prepared, config=config, temporary=temporary)
        sync_folder(self._versions)
        sync_folder(self.folder)

    def _switch(self, alias: _Alias | None, decision: Decision) -> None:
        previous = [*alias.previous, alias.version] if alias else []
        self._write_alias(_Alias(decision.version, previous, decision))
        self._record(decision)

    def _write_alias(self, alias: _Alias) -> None:
        write_json(self._champion, asdict(alias))

    def _record(self, decision: Decision) -> None:
        """Adds the decision to the history, unless it stands there."""
        text = self._history.read_text(encoding="utf-8") if self._history.exists() else ""
        line = json.dumps(asdict(decision), sort_keys=True, ensure_ascii=False)
        if line not in text.splitlines():
            replace_file(self._history, f"{text}{line}\n".encode())

    def _alias(self) -> _Alias | None:
        try:
            content = json.loads(self._champion.read_text(encoding="utf-8"))
            return _Alias(content["version"], content["previous"], Decision(**content["decision"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RegistryError(f"{self._champion}: not a readable alias: {error!r}") from error

    def _describe(self, id_: str, alias: _Alias | None, decisions: list[Decision]) -> Version:
        folder = self._versions / id_
        status: Status = "undecided"
        if alias and id_ == alias.version:
            status = "champion"
        elif (alias and id_ in alias.previous) or any(decision.event == "promoted" for decision in decisions):
            status = "former"
        elif decisions:
            status = "refused"
        if not decisions:
            return Version(id_, folder, status)
        latest = decisions[-1]
        return Version(id_, folder, status, decided_at=latest.at, reason=latest.reason, metrics=latest.metrics)


def _evaluated(parts: Mapping[str, Path], prepared: Path) -> tuple[str, dict[str, Any]]:
    """The version id of the parts and the metrics that their evaluation holds."""
    version = version_id(*(parts[part] for part in SERVED))
    made_from = read_manifest(parts["candidate_tower"], "candidate_tower").made_from
    for kind, folder in (("prepared_data", prepared), ("trained_towers", parts["trained_towers"])):
        if made_from.get(kind) != content_hash(folder):
            raise RegistryError(
                f"{folder} and {parts['candidate_tower']} do not belong together: the tower was made from the "
                f"{kind} {made_from.get(kind)}, this is {content_hash(folder)}; use one run's outputs"
            )
    metrics: dict[str, Any] = open_artifact(parts["evaluation"], "evaluation").json("metrics.json")
    if metrics["version"] != version:
        raise RegistryError(
            f"{parts['evaluation']} and {parts['query_tower']} do not belong together: the evaluation is of version "
            f"{metrics['version']}, the towers and the index are version {version}; use one run's outputs"
        )
    return version, metrics


def _decision(event: Literal["promoted", "refused"], version: str, metrics: dict[str, Any]) -> Decision:
    challenger = metrics["systems"].get("two_tower", {"metrics": {}})
    figures = {name: figure["value"] for name, figure in challenger["metrics"].items()}
    return Decision(event, version, _now(), metrics["gate"]["reason"], figures)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
