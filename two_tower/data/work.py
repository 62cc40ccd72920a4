"""The folder for what the stages of the preparation hand to each other."""

from __future__ import annotations

import fnmatch
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Work:
    """A folder of Arrow and JSON files, local or on a store that every worker reaches.

    A file's name depends on the unit or the shard alone: a repeated bundle writes the same file again.
    """

    root: str

    @property
    def is_remote(self) -> bool:
        """Whether the folder is a URL."""
        return "://" in self.root

    def write(self, name: str, table: pa.Table) -> None:
        """Writes the table as an Arrow IPC file, uncompressed, so that it can be mapped into memory."""
        with self.sink(name) as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def read(self, name: str) -> pa.Table:
        """The table of an Arrow IPC file, mapped into memory where it is local."""
        if not self.is_remote:
            with pa.memory_map(f"{self.root}/{name}") as source:
                return pa.ipc.open_file(source).read_all()
        return pa.ipc.open_file(pa.py_buffer(self._filesystem().cat_file(self._remote(name)))).read_all()

    def write_parquet(self, name: str, table: pa.Table) -> None:
        """Writes the table as a Parquet file, one row group."""
        import pyarrow.parquet as pq

        with self.sink(name) as sink:
            pq.write_table(table, sink, compression="zstd", row_group_size=max(1, table.num_rows))

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` as JSON."""
        with self.sink(name) as sink:
            sink.write(json.dumps(value).encode())

    def read_json(self, name: str) -> Any:
        """A JSON file's value."""
        with self.source(name) as source:
            return json.load(source)

    def source(self, name: str) -> Any:
        """A file, opened to be read."""
        return open(f"{self.root}/{name}", "rb") if not self.is_remote else self._filesystem().open(self._remote(name))

    def names(self, pattern: str) -> list[str]:
        """The names of the files in the folder itself that the pattern meets, sorted."""
        if not self.is_remote:
            return sorted(path.name for path in Path(self.root).glob(pattern))
        try:
            found = self._filesystem().ls(self._remote(""), detail=False, refresh=True)
        except FileNotFoundError:  # a store has no folder until something lies in it
            return []
        return sorted(fnmatch.filter((path.rpartition("/")[2] for path in found), pattern))

    def take(self, name: str, target: Path) -> None:
        """Moves a file to a local path."""
        if not self.is_remote:
            shutil.move(f"{self.root}/{name}", target)
            return
        self._filesystem().get_file(self._remote(name), str(target))

    def make(self) -> None:
        """Makes the folder, empty."""
        self.remove()
        if not self.is_remote:
            Path(self.root).mkdir(parents=True)
        else:
            self._filesystem().makedirs(self._remote(""), exist_ok=True)

    def remove(self) -> None:
        """Removes the folder, if it is there."""
        if not self.is_remote:
            shutil.rmtree(self.root, ignore_errors=True)
        elif self._filesystem().exists(self._remote("")):
            self._filesystem().rm(self._remote(""), recursive=True)

    def sink(self, name: str) -> Any:
        """A file, opened to be written; a store's object, unlike a local file, appears when it is closed."""
        if not self.is_remote:
            path = Path(self.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            return pa.OSFile(str(path), "wb")
        return self._filesystem().open(self._remote(name), "wb")

    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.core.url_to_fs(self.root)[0]

    def _remote(self, name: str) -> str:
        import fsspec

        return f"{fsspec.core.url_to_fs(self.root)[1].rstrip('/')}/{name}".rstrip("/")
