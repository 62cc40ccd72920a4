"""What the rules of a registry need of the place where it lies: a disk or a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from two_tower.registry.parts import VersionParts


@dataclass(frozen=True)
class Held:
    """The alias as a change has found it; what the change writes holds only while it is still that."""

    content: bytes | None
    """`champion.json`, or None where there is none."""
    generation: int = 0
    """What a bucket counts its contents by."""


class Storage(Protocol):
    """Versions, `champion.json` and `history.jsonl`, each as they are stored."""

    @property
    def place(self) -> str:
        """A local path or a gs:// URI."""

    def exists(self) -> bool:
        """Whether there may be anything to change."""

    def changing(self) -> AbstractContextManager[Held]:
        """The alias to decide by, with what a killed process left behind removed.

        Raises:
            ObjectChanged: Another change came between; begin again.
            RegistryError: The registry cannot be changed.
        """

    def read_alias(self) -> bytes | None:
        """`champion.json`, or None where there is none."""

    def write_alias(self, alias: Mapping[str, Any], held: Held) -> None:
        """Replaces `champion.json`, if it still is what is held.

        Raises:
            ObjectChanged: It is not; nothing was written.
        """

    def read_history(self) -> tuple[str, int]:
        """`history.jsonl` and its generation."""

    def write_history(self, text: str, generation: int) -> None:
        """Replaces `history.jsonl`, if it still has the generation.

        Raises:
            ObjectChanged: It has not; nothing was written.
        """

    def stored(self) -> dict[str, datetime]:
        """When each version that is there whole was stored, by id."""

    def place_of(self, version: str) -> str:
        """Where a version lies."""

    def store(self, version: str, parts: VersionParts, held: Held) -> None:
        """Puts a version there, unless it is there, whole, already.

        Raises:
            ObjectChanged: Another change came between; begin again.
            ArtifactError: A part is damaged, or the disk is full.
        """

    def still(self, held: Held) -> None:
        """Looks whether the alias is what is held.

        Raises:
            ObjectChanged: It is not; begin again.
        """

    def keep(self, held: Held) -> None:
        """Makes sure that no version was removed since the alias was read, where nothing else is to be written.

        Raises:
            ObjectChanged: One may have been; begin again.
        """

    def remove(self, versions: list[str], alias: Mapping[str, Any] | None, held: Held) -> None:
        """Writes an alias (None: as it is) and removes versions, each from sight first and then its files.

        Raises:
            ObjectChanged: The alias is not what is held any more; nothing was removed.
        """
