"""A registry in a local folder: a lock lets one change it at a time, and whatever is written shows in one rename."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from two_tower.artifacts import MANIFEST, locked, replace_file, sync_folder, write_json
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry.parts import VersionParts
from two_tower.registry.storage import Held
from two_tower.registry.version import verify_version

log = logging.getLogger("two_tower")


class LocalStorage:
    """A `Storage` on this machine's disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = folder / "versions"
        self._champion = folder / "champion.json"
        self._history = folder / "history.jsonl"

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def exists(self) -> bool:
        """Whether the folder is there."""
        return self._versions.exists()

    @contextlib.contextmanager
    def changing(self) -> Iterator[Held]:
        """Holds the registry's lock, with what a killed process left behind removed."""
        try:
            self._versions.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                self._clear()
                for leftover in self.folder.glob(".*.tmp"):
                    leftover.unlink()
                yield Held(self.read_alias())
        except OSError as error:
            raise RegistryError(
                f"{error.filename or self.folder}: cannot change the registry: {error.strerror or error}; it is as "
                "it was, or as it was to become"
            ) from error

    def read_alias(self) -> bytes | None:
        """`champion.json`, or None where there is none."""
        try:
            return self._champion.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"{self._champion}: not a readable alias: {error!r}") from error

    def write_alias(self, alias: Mapping[str, Any], held: Held) -> None:
        """Replaces `champion.json`; the lock says that it is what is held."""
        write_json(self._champion, alias)

    def read_history(self) -> tuple[str, int]:
        """`history.jsonl`."""
        return self._history.read_text(encoding="utf-8") if self._history.exists() else "", 0

    def write_history(self, text: str, generation: int) -> None:
        """Replaces `history.jsonl`; the lock says that it is what was read."""
        replace_file(self._history, text.encode())

    def stored(self) -> dict[str, datetime]:
        """When the manifest of each version was written, by id."""
        found = {}
        for path in self._versions.glob(f"[!.]*/{MANIFEST}"):
            with contextlib.suppress(FileNotFoundError):  # removed since it was found
                found[path.parent.name] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return found

    def place_of(self, version: str) -> str:
        """The version's folder."""
        return str(self._versions / version)

    def store(self, version: str, parts: VersionParts, held: Held) -> None:
        """Puts a version there, unless it is there, whole, already."""
        target = self._versions / version
        if target.exists():
            try:
                verify_version(target)
                return
            except ArtifactError as error:
                log.warning("%s; storing the version anew", error)
        temporary = self._hidden(version)
        parts.store(temporary)
        if target.exists():  # damaged, or it would be used as it is
            target.replace(temporary.with_name(f"{temporary.name}-damaged"))
        temporary.replace(target)
        sync_folder(self._versions)
        sync_folder(self.folder)

    def still(self, held: Held) -> None:
        """Nothing: the lock says so."""

    def keep(self, held: Held) -> None:
        """Nothing: nobody else could remove a version while the lock is held."""

    def remove(self, versions: list[str], alias: Mapping[str, Any] | None, held: Held) -> None:
        """Removes versions: first from the alias, then from sight, then from the disk."""
        if alias:
            self.write_alias(alias, held)
        for version in versions:
            (self._versions / version).replace(self._hidden(version))
        if versions:
            sync_folder(self._versions)
            self._clear()

    def _hidden(self, version: str) -> Path:
        return self._versions / f".tmp-{version}-{os.getpid()}"

    def _clear(self) -> None:
        """Deletes the hidden folders: versions that were not finished, replaced or removed."""
        for leftover in self._versions.glob(".tmp-*"):
            shutil.rmtree(leftover)
