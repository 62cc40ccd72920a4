"""Artefacts on a bucket while a step works on them: local copies of what it reads, uploads of what it has written.

A local artefact is used where it lies.  The step sees local folders in either case, so that models can be loaded and
files mapped into memory, and no mount is needed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from two_tower.artifacts.bucket import (
    below,
    download,
    is_remote,
    list_objects,
    normalised,
    read_object,
    remove_objects,
    upload,
    write_object,
)
from two_tower.artifacts.folder import MANIFEST
from two_tower.errors import ArtifactError

log = logging.getLogger("two_tower")


class Staging:
    """The local folders that stand for artefacts on a bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[str, Path] = {}
        self._read: dict[str, Path] = {}

    def read(self, place: str) -> str:
        """The local folder (or file) of an artefact, brought here where it lies on a bucket.

        Raises:
            ArtifactError: It is not there.
        """
        if not is_remote(place):
            return place
        if place not in self._read:
            target = self.folder / f"in-{len(self._read)}" / place.rstrip("/").rpartition("/")[2]
            bring(normalised(place), target)
            self._read[place] = target
        return str(self._read[place])

    def write(self, place: str) -> str:
        """The local path at which an artefact is to be written that belongs at `place`."""
        if not is_remote(place):
            return place
        if place not in self._written:
            target = self.folder / f"out-{len(self._written)}" / place.rstrip("/").rpartition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            self._written[place] = target
        return str(self._written[place])

    def upload(self) -> None:
        """Puts what has been written where it belongs."""
        for place, path in self._written.items():
            if path.is_dir():
                _put(path, normalised(place))
            elif path.is_file():
                write_object(normalised(place), path.read_bytes())


@contextlib.contextmanager
def staging() -> Iterator[Staging]:
    """A `Staging` whose outputs are uploaded when the context ends without an error; its local folders are removed."""
    folder = Path(tempfile.mkdtemp(prefix="two-tower-"))
    try:
        found = Staging(folder)
        yield found
        found.upload()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bring(place: str, target: Path) -> None:
    """Downloads an artefact's files, as its manifest lists them; of a place without a manifest, the single object."""
    found = read_object(below(place, MANIFEST))
    if found is not None:
        names = [*json.loads(found[0])["files"], MANIFEST]
        log.info("bringing %s files here from %s", f"{len(names):,}", place)
        download(place, names, target)
        return
    single = read_object(place)
    if single is None:
        raise ArtifactError(f"{place}: no {MANIFEST} here, so this is no complete artefact; run the step that makes it")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(single[0])


def _put(source: Path, place: str) -> None:
    """Uploads an artefact: the manifest that was there goes first, the new one comes last."""
    there = list_objects(place)
    if MANIFEST in there:
        remove_objects(place, [MANIFEST])
    names = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]
    contents = sorted(name for name in names if name != MANIFEST)
    log.info("putting %s files to %s", f"{len(names):,}", place)
    upload(source, contents, place)
    remove_objects(place, sorted(there.keys() - set(names)))
    upload(source, [name for name in names if name == MANIFEST], place)
