"""A registry on a bucket, where there is no lock and no rename: every change is decided by one write of the alias.

A change reads `champion.json` with its generation, does its work, and writes the file under the precondition that it
still has that generation; whoever was overtaken begins again.  What makes that enough:

- An object of a version is only ever created where there is none, never replaced.
- Whoever removes objects lists them first, with their generations, and writes the list into the alias under
  `removing`; only then are they removed, and only those generations.
- So no object goes that a change relies on, unless the alias changed since the change began, and then it begins again:
  with the removal, which a killed process may have left half done.
- A manifest is uploaded last and removed first: a version that can be seen is whole.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from two_tower.artifacts import (
    ABSENT,
    MANIFEST,
    ObjectChanged,
    ObjectFacts,
    below,
    crc32c_of,
    describe_objects,
    normalised,
    read_object,
    remove_objects,
    upload,
    write_object,
)
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry.parts import VersionParts
from two_tower.registry.storage import Held
from two_tower.registry.version import verify_version

log = logging.getLogger("two_tower")

LEFTOVERS_STAY = timedelta(days=1)
"""Objects of a version without a manifest may be those of a run that is uploading now, unless they are older."""
NOBODY: dict[str, Any] = {"version": None, "previous": [], "decision": None}
"""The alias before the first promotion, where there has to be one."""

Removal = dict[str, dict[str, int]]
"""Generations of objects, by name, by version."""


class BucketStorage:
    """A `Storage` on Cloud Storage."""

    def __init__(self, place: str) -> None:
        self._place = normalised(place)
        self._versions = below(self._place, "versions")
        self._champion = below(self._place, "champion.json")
        self._history = below(self._place, "history.jsonl")

    @property
    def place(self) -> str:
        """The folder's URI."""
        return self._place

    def exists(self) -> bool:
        """True: to ask costs as much as to look."""
        return True

    @contextlib.contextmanager
    def changing(self) -> Iterator[Held]:
        """The alias and its generation, with the removal that a killed process left half done finished."""
        with _explained():
            held = self._finish(self._hold())
        yield held

    def read_alias(self) -> bytes | None:
        """`champion.json`, or None where there is none."""
        with _explained():
            return self._hold().content

    def write_alias(self, alias: Mapping[str, Any], held: Held) -> None:
        """Replaces `champion.json`, if it still is what is held."""
        with _explained():
            self._write(alias, {}, held)

    def read_history(self) -> tuple[str, int]:
        """`history.jsonl` and its generation."""
        with _explained():
            content, generation = read_object(self._history) or (b"", ABSENT)
        return content.decode(), generation

    def write_history(self, text: str, generation: int) -> None:
        """Replaces `history.jsonl`, if it still has the generation."""
        with _explained():
            write_object(self._history, text.encode(), generation=generation)

    def stored(self) -> dict[str, datetime]:
        """When the manifest of each version was written, by id."""
        return {version: there[MANIFEST].updated for version, there in self._objects().items() if MANIFEST in there}

    def place_of(self, version: str) -> str:
        """The URI of the version's folder."""
        return below(self._versions, version)

    def store(self, version: str, parts: VersionParts, held: Held) -> None:
        """Uploads what is not there yet of a version, its manifest last, unless it is there, whole, already."""
        place = self.place_of(version)
        with _explained():
            there = describe_objects(place)
        if MANIFEST in there:
            try:
                verify_version(place)
                return
            except ArtifactError as error:
                log.warning("%s; storing the version anew", error)
        with tempfile.TemporaryDirectory(prefix="two-tower-version-") as temporary:
            folder = Path(temporary) / version
            parts.store(folder, link=True)
            names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
            names.remove(MANIFEST)
            # Neither a manifest of other files is of use, nor what is so old that it may be removed just now.
            young = datetime.now(UTC) - LEFTOVERS_STAY / 2
            same = {
                name
                for name in names
                if name in there and there[name].updated > young and there[name].crc32c == crc32c_of(folder / name)
            }
            wrong = {name: facts.generation for name, facts in there.items() if name not in same}
            with _explained():
                if wrong:
                    self._write(_alias_in(held), {version: wrong}, held)
                    raise ObjectChanged(place)  # to begin again with their removal
                upload(folder, [name for name in names if name not in same], place, generation=ABSENT)
                self.still(held)  # or what was there already may be gone since
                upload(folder, [MANIFEST], place, generation=ABSENT)

    def still(self, held: Held) -> None:
        """Compares the generation of `champion.json` with that which is held."""
        with _explained():
            if self._hold().generation != held.generation:
                raise ObjectChanged(self._champion)

    def keep(self, held: Held) -> None:
        """Writes the alias as it is, so that whoever decided to remove a version before has to look again."""
        with _explained():
            self._write(_alias_in(held), {}, held)

    def remove(self, versions: list[str], alias: Mapping[str, Any] | None, held: Held) -> None:
        """Removes versions, and what killed uploads left long ago: from the alias, from sight, then their objects."""
        objects = self._objects()
        removal: Removal = {
            version: {name: facts.generation for name, facts in there.items()}
            for version, there in objects.items()
            if version in versions or _left_over(there)
        }
        if not removal and alias is None:
            return
        with _explained():
            held = self._write(alias or _alias_in(held), removal, held)
            with contextlib.suppress(ObjectChanged):  # somebody else has finished it
                self._finish(held)

    def _objects(self) -> dict[str, dict[str, ObjectFacts]]:
        """What there is of each version, by its id and the object's name below its folder."""
        found: dict[str, dict[str, ObjectFacts]] = {}
        with _explained():
            for name, facts in describe_objects(self._versions).items():
                version, _, inner = name.partition("/")
                if inner:
                    found.setdefault(version, {})[inner] = facts
        return found

    def _hold(self) -> Held:
        found = read_object(self._champion)
        return Held(*found) if found else Held(None, ABSENT)

    def _write(self, alias: Mapping[str, Any], removal: Removal, held: Held) -> Held:
        # The mark makes every content another one, so that a writer knows its own after a lost reply.
        marked = {**alias, "removing": removal, "change": uuid.uuid4().hex}
        content = f"{json.dumps(marked, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)}\n".encode()
        return Held(content, write_object(self._champion, content, generation=held.generation))

    def _finish(self, held: Held) -> Held:
        """Removes what the alias says is being removed, the manifests first; the alias that says so no more."""
        removal: Removal = _parsed(held).get("removing") or {}
        if not removal:
            return held
        generations = {
            f"{version}/{name}": generation for version, there in removal.items() for name, generation in there.items()
        }
        manifests = [f"{version}/{MANIFEST}" for version, there in removal.items() if MANIFEST in there]
        remove_objects(self._versions, {name: generations.pop(name) for name in manifests})
        remove_objects(self._versions, generations)
        return self._write(_alias_in(held), {}, held)


def _parsed(held: Held) -> dict[str, Any]:
    """The alias's fields; none where it cannot be read, which the registry will say when it reads it."""
    with contextlib.suppress(ValueError):
        content = json.loads(held.content or b"{}")
        if isinstance(content, dict):
            return content
    return {}


def _alias_in(held: Held) -> dict[str, Any]:
    """What the alias says besides what this module adds."""
    content = _parsed(held) or NOBODY
    return {name: value for name, value in content.items() if name not in ("removing", "change")}


def _left_over(there: Mapping[str, ObjectFacts]) -> bool:
    """Whether these objects of one version are what is left of an upload that was killed."""
    newest = max(facts.updated for facts in there.values())
    return MANIFEST not in there and newest < datetime.now(UTC) - LEFTOVERS_STAY


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns an error of the bucket into one of the registry."""
    try:
        yield
    except ArtifactError as error:
        raise RegistryError(f"{error}; the registry is as it was, or as it was to become") from error
