"""Copies of artefacts on a bucket for as long as this process lives; a local artefact is used where it lies."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from two_tower.artifacts.bucket import below, is_remote, normalised, read_object
from two_tower.artifacts.folder import MANIFEST
from two_tower.artifacts.staging import bring
from two_tower.errors import ArtifactError

Place = str | os.PathLike[str]
"""Where an artefact lies: a local folder, a gs:// URI or its /gcs/ spelling, or an opened artefact."""


def local_copy(place: Place) -> Path:
    """The local folder of the artefact at `place`; one on a bucket is brought here once and stays until the end.

    An artefact that was written anew meanwhile is brought anew.

    Raises:
        ArtifactError: It is not on the bucket.
    """
    text = os.fspath(place)
    if not is_remote(text):
        return Path(text)
    address = normalised(text).rstrip("/")
    found = read_object(below(address, MANIFEST))
    if found is None:
        raise ArtifactError(
            f"{address}: no {MANIFEST} here, so this is no complete artefact; run the step that makes it"
        )
    key = hashlib.sha256(f"{address} {found[1]}".encode()).hexdigest()[:16]
    folder = process_folder("two-tower-artefacts-") / key / address.rpartition("/")[2]
    if not folder.exists():
        coming = folder.with_name(f".{folder.name}")
        shutil.rmtree(coming, ignore_errors=True)  # what was cut off
        bring(address, coming)
        coming.rename(folder)
    return folder


def process_folder(prefix: str) -> Path:
    """A temporary folder that is removed when this process ends; a forked child gets one of its own."""
    return _folder_of(os.getpid(), prefix)


@functools.cache
def _folder_of(process: int, prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
