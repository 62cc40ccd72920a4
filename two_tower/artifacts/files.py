"""Single files: written so that a crash leaves the old or the new content, never a part."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

log = logging.getLogger("two_tower")


def crc32c_of(path: str | Path) -> str:
    """The file's crc32c as eight hexadecimal digits."""
    checksum = google_crc32c.Checksum()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            checksum.update(block)
    return bytes(checksum.digest()).hex()


def replace_file(path: str | Path, content: bytes) -> None:
    """Writes `content` to `path` atomically and durably: a temporary file beside it, fsync, rename, fsync."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys, atomically; NaN is refused."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode())


def sync_folder(path: str | Path) -> None:
    """Makes renames and creations inside a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def plain_path(folder: str | Path) -> Iterator[str]:
    """A path to the folder for readers that take a path for a pattern, as TensorFlow's of variables does.

    Where the folder's own path could be read as a pattern it is that of a link, which goes with the context.
    """
    if not re.search(r"[*?\[\\]", str(folder)):
        yield str(folder)
        return
    with tempfile.TemporaryDirectory(prefix="two-tower-") as place:
        link = Path(place, "link")
        link.symlink_to(Path(folder).absolute())
        yield str(link)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Holds the exclusive lock file `path`, made where it is missing, waiting for whoever holds it now.

    The operating system drops the lock when its holder dies, so a killed process blocks nobody.
    """
    with Path(path).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waiting for another process", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
