"""Objects and folders on Cloud Storage.

A store has no rename, so a folder is committed by its manifest, which is put there last, and a small file that several
writers change (an alias) is written under a precondition: only if it still has the generation that the writer has read.
The client comes from `google-cloud-storage`, which retries what is safe to repeat and checks what it transfers.
"""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from two_tower.artifacts.files import crc32c_of
from two_tower.errors import ArtifactError
from two_tower.extras import naming_extras

SCHEME = "gs://"
MOUNT = "/gcs/"
TRANSFERS = 8
"""Files that are on their way at the same time."""
ABSENT = 0
"""The generation of an object that is not there."""

needs_client = naming_extras("a place on gs://", "gcs")


class ObjectChanged(Exception):
    """An object has not the generation that its writer has read: somebody else was quicker."""


@dataclass(frozen=True)
class ObjectFacts:
    """What the store says of an object."""

    bytes: int
    crc32c: str
    """Eight hexadecimal digits, as in a manifest."""
    generation: int
    updated: datetime
    """When it was written."""


def is_remote(path: str | Path) -> bool:
    """Whether a path lies on Cloud Storage."""
    return normalised(path).startswith(SCHEME)


def normalised(path: str | Path) -> str:
    """The path, with `gs://` in place of the mount that some runners show buckets under."""
    text = str(path)
    return f"{SCHEME}{text.removeprefix(MOUNT)}" if text.startswith(MOUNT) else text


def below(folder: str, name: str) -> str:
    """The path of `name` in a folder, local or remote."""
    return f"{folder.rstrip('/')}/{name}"


@needs_client
def read_object(uri: str) -> tuple[bytes, int] | None:
    """An object's content and its generation; None if it is not there.

    Raises:
        ArtifactError: The bucket cannot be read.
    """
    from google.api_core.exceptions import NotFound

    with _explained(uri, "read"):
        try:
            blob = _blob(uri)
            content = blob.download_as_bytes()
            return content, int(blob.generation)
        except NotFound:
            return None


@needs_client
def write_object(uri: str, content: bytes, *, generation: int | None = None) -> int:
    """Writes an object as a whole; the generation that it has now.

    Args:
        uri: `gs://bucket/name`.
        content: All of it.
        generation: The generation that it has to have still; `ABSENT` for none, None for any.

    Raises:
        ObjectChanged: It has another generation, and another content than this one.
        ArtifactError: The bucket cannot be written.
    """
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud.storage.retry import DEFAULT_RETRY

    with _explained(uri, "write"):
        try:
            blob = _blob(uri)
            blob.upload_from_string(
                content, content_type=_type_of(uri), if_generation_match=generation, retry=DEFAULT_RETRY
            )
            return int(blob.generation)
        except PreconditionFailed as error:
            found = read_object(uri)
            if found is None or found[0] != content:  # it is ours where the reply to an earlier try was lost
                raise ObjectChanged(uri) from error
            return found[1]


def list_objects(folder: str) -> dict[str, int]:
    """The sizes in bytes of a folder's objects, by their names below it; empty if there is none.

    Raises:
        ArtifactError: The bucket cannot be read.
    """
    return {name: facts.bytes for name, facts in describe_objects(folder).items()}


@needs_client
def describe_objects(folder: str) -> dict[str, ObjectFacts]:
    """What the store says of a folder's objects, by their names below it; empty if there is none.

    Raises:
        ArtifactError: The bucket cannot be read.
    """
    with _explained(folder, "list"):
        bucket, prefix = _split(f"{folder.rstrip('/')}/")
        found = _client().list_blobs(bucket, prefix=prefix)
        return {blob.name.removeprefix(prefix): _facts(blob) for blob in found if not blob.name.endswith("/")}


@needs_client
def list_folders(folder: str) -> list[str]:
    """The names of the folders in a folder, sorted.

    Raises:
        ArtifactError: The bucket cannot be read.
    """
    with _explained(folder, "list"):
        bucket, prefix = _split(f"{folder.rstrip('/')}/")
        pages = _client().list_blobs(bucket, prefix=prefix, delimiter="/")
        for _ in pages:
            pass  # the folders are known once all pages have been seen
        return sorted(name.removeprefix(prefix).rstrip("/") for name in pages.prefixes)


@needs_client
def remove_objects(folder: str, names: Iterable[str] | Mapping[str, int]) -> None:
    """Removes objects of a folder; one that is gone already is no error.

    Args:
        folder: The folder.
        names: The objects' names below it; as a mapping to generations, only those that still have theirs.

    Raises:
        ArtifactError: The bucket cannot be written.
    """
    from google.api_core.exceptions import NotFound, PreconditionFailed
    from google.cloud.storage.retry import DEFAULT_RETRY

    generations = names if isinstance(names, Mapping) else {}

    def remove(name: str) -> None:
        uri = below(folder, name)
        with _explained(uri, "remove"), contextlib.suppress(NotFound, PreconditionFailed):
            _blob(uri).delete(if_generation_match=generations.get(name), retry=DEFAULT_RETRY)

    _for_each(remove, names)


@needs_client
def download(folder: str, names: Iterable[str], target: Path) -> None:
    """Brings objects of a folder to the local folder `target`.

    Raises:
        ArtifactError: One is missing, or the bucket cannot be read, or the disk is full.
    """

    def bring(name: str) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(below(folder, name), "read"):
            _blob(below(folder, name)).download_to_filename(str(path))

    _for_each(bring, names)


@needs_client
def upload(source: Path, names: Iterable[str], folder: str, *, generation: int | None = None) -> None:
    """Puts files of the local folder `source` into a folder of a bucket.

    Args:
        source: The local folder.
        names: The files' names below it, and the objects' below `folder`.
        folder: The folder of the bucket.
        generation: The generation that each object has to have still; `ABSENT` for none, None for any.

    Raises:
        ObjectChanged: An object has another generation, and another content than the file.
        ArtifactError: The bucket cannot be written.
    """
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud.storage.retry import DEFAULT_RETRY

    def put(name: str) -> None:
        uri, path = below(folder, name), source / name
        with _explained(uri, "write"):
            try:
                # The same file under the same name: to repeat it after a lost reply does no harm.
                _blob(uri).upload_from_filename(
                    str(path),
                    content_type=_type_of(name),
                    if_generation_match=generation,
                    checksum="crc32c",
                    retry=DEFAULT_RETRY,
                )
            except PreconditionFailed as error:
                there = _client().bucket(_split(uri)[0]).get_blob(_split(uri)[1])
                if there is None or _facts(there).crc32c != crc32c_of(path):
                    raise ObjectChanged(uri) from error

    _for_each(put, names)


def _for_each(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="bucket") as pool:
        for _ in pool.map(work, names):
            pass


@functools.cache
def _client() -> Any:
    """The client; with STORAGE_EMULATOR_HOST one that talks to an emulator."""
    from google.cloud.storage import Client

    return Client()


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = normalised(uri).removeprefix(SCHEME).partition("/")
    return bucket, name


def _blob(uri: str) -> Any:
    bucket, name = _split(uri)
    return _client().bucket(bucket).blob(name)


def _facts(blob: Any) -> ObjectFacts:
    return ObjectFacts(blob.size, base64.b64decode(blob.crc32c or "").hex(), int(blob.generation or 0), blob.updated)


def _type_of(name: str) -> str:
    """What a browser is told the object is: reports and pictures are to be looked at where they lie."""
    endings = {"html": "text/html; charset=utf-8", "json": "application/json", "svg": "image/svg+xml"}
    return endings.get(name.rpartition(".")[2], "application/octet-stream")


@contextlib.contextmanager
def _explained(uri: str, what: str) -> Iterator[None]:
    """Turns what the client raises into an error that names the object and says what to do."""
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, PreconditionFailed, Unauthorized
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except PreconditionFailed:
        raise
    except NotFound as error:
        raise ArtifactError(f"{uri}: cannot {what} it: there is no such object or bucket") from error
    except (Forbidden, Unauthorized) as error:
        raise ArtifactError(
            f"{uri}: cannot {what} it: permission denied; the service account of this step needs "
            f"roles/storage.objectAdmin on the bucket ({getattr(error, 'message', error)})"
        ) from error
    except GoogleAuthError as error:
        raise ArtifactError(
            f"{uri}: cannot {what} it: no valid credentials ({error}); `gcloud auth application-default login` makes "
            "them"
        ) from error
    except (GoogleAPIError, OSError) as error:
        raise ArtifactError(f"{uri}: cannot {what} it: {error}") from error
