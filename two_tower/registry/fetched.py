"""A version on a bucket, as far as this process needs it: its manifest, and copies of single parts.

The copies lie in a temporary folder of the process and are removed when it ends.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from two_tower.artifacts import (
    MANIFEST,
    Manifest,
    below,
    crc32c_of,
    describe_objects,
    download,
    normalised,
    process_folder,
    read_manifest,
    read_object,
    replace_file,
)
from two_tower.errors import ArtifactError

VERSION_KIND = "retrieval_version"

_lock = threading.RLock()


def manifest_on_bucket(place: str) -> Manifest:
    """The manifest of the version at `place`.

    Raises:
        ArtifactError: There is none, or it cannot be read.
    """
    return _look(place)[1]


def bring_version(place: str, part: str = "") -> Path:
    """The local copy of a version on a bucket, or of one of its folders or files.

    What is here already is not brought again; what comes is checked by size and crc32c.

    Raises:
        ArtifactError: A file is missing or differs, the bucket cannot be read, or the disk is full.
    """
    with _lock:
        folder, manifest = _look(place)
        wanted = [name for name in manifest.files if part in ("", name) or name.startswith(f"{part}/")]
        names = [name for name in wanted if not (folder / name).exists()]
        coming = folder.with_name(f".{folder.name}")
        try:
            shutil.rmtree(coming, ignore_errors=True)
            download(place, names, coming)
            for name in names:
                facts = manifest.files[name]
                if (coming / name).stat().st_size != facts["bytes"] or crc32c_of(coming / name) != facts["crc32c"]:
                    raise _differs(place, name)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (coming / name).replace(folder / name)
        except OSError as error:
            raise ArtifactError(f"{folder}: cannot bring {place} here: {error.strerror or error}") from error
        return folder / part


def verify_on_bucket(place: str) -> None:
    """Compares the manifest of a version with the sizes and checksums that the store has of the objects.

    Raises:
        ArtifactError: An object is missing or differs; the message names it.
    """
    manifest = manifest_on_bucket(place)
    there = describe_objects(place)
    for name, facts in manifest.files.items():
        if name not in there:
            raise ArtifactError(
                f"{below(place, name)}: missing, although the manifest lists it; make the {VERSION_KIND} again"
            )
        if there[name].bytes != facts["bytes"] or there[name].crc32c != facts["crc32c"]:
            raise _differs(place, name)


def _look(place: str) -> tuple[Path, Manifest]:
    """The local folder for a version's files, in which its manifest is, and the manifest.

    It is looked up every time: a version that was removed and stored again gets another folder.
    """
    place = normalised(place).rstrip("/")
    found = read_object(below(place, MANIFEST))
    if found is None:
        raise ArtifactError(f"{place}: no {MANIFEST} here, so this is no complete {VERSION_KIND}; make it again")
    key = hashlib.sha256(f"{place} {found[1]}".encode()).hexdigest()[:16]
    # As in a local registry, the name of the configuration is that of the folder around `versions`.
    folder = process_folder("two-tower-versions-").joinpath(key, *place.split("/")[-3:])
    try:
        with _lock:
            if not (folder / MANIFEST).exists():
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(folder / MANIFEST, found[0])
        return folder, read_manifest(folder, VERSION_KIND)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot bring {place} here: {error.strerror or error}") from error
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(folder), place)) from error


def _differs(place: str, name: str) -> ArtifactError:
    return ArtifactError(f"{below(place, name)}: differs from what the manifest lists; make the {VERSION_KIND} again")
