"""The folder for what the launcher of a Beam pipeline and its workers hand to each other."""

from __future__ import annotations

import fnmatch
import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from two_tower.artifacts import Lineage
from two_tower.config import BeamSettings


def work_of(beam: BeamSettings, out: Path) -> Work:
    """The work folder of the step that writes the artefact `out`: in `beam.work`, or else a hidden one beside it.

    In a `beam.work` that runs share, each has one of its own, and a retry has that of the try that it repeats: it is
    named after the run and the step, or after the artefact's path where the run is not known.
    """
    if not beam.work:
        return Work(str(out.parent / f".{out.name}.work"))
    lineage = Lineage.of_process()
    mine = f"{lineage.run_id}/{lineage.step}" if lineage.run_id else str(out.absolute())
    return Work(f"{beam.work.rstrip('/')}/{out.name}-{zlib.crc32(mine.encode()):08x}.work")


def located(path: str) -> tuple[str, Any]:
    """The path as `pyarrow.parquet` takes it, with the file system that it lies in: None for this machine's."""
    if "://" not in path:
        return path, None
    import fsspec

    # Other processes write there too, so a listing is old as soon as it is made.
    filesystem, inside = fsspec.core.url_to_fs(path, use_listings_cache=False)
    return inside, filesystem


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

    def tables(self, pattern: str) -> Iterator[pa.Table]:
        """The tables of the Arrow files whose names the pattern meets, in the order of the names."""
        return map(self.read, self.names(pattern))

    def reports(self, stage: str) -> list[dict[str, Any]]:
        """What every piece of a stage has counted, in the order of the files' names."""
        return [self.read_json(name) for name in self.names(f"{stage}-*.json")]

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

    def put(self, source: Path, name: str) -> str:
        """Copies a local file into the folder; its path or URL there."""
        if not self.is_remote:
            path = Path(self.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        else:
            self._filesystem().put_file(str(source), self._remote(name))
        return f"{self.root.rstrip('/')}/{name}"

    def bring(self, name: str, target: Path) -> None:
        """Copies a folder in it to a new local one."""
        if not self.is_remote:
            shutil.copytree(f"{self.root}/{name}", target)
            return
        folder, filesystem = self._located()
        top = f"{folder.rstrip('/')}/{name}/"
        for path in filesystem.find(top):
            local = target / path.removeprefix(top)
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(path, str(local))

    def take(self, name: str, target: Path) -> None:
        """Moves a file to a local path."""
        if not self.is_remote:
            shutil.move(f"{self.root}/{name}", target)
            return
        self._filesystem().get_file(self._remote(name), str(target))

    def make(self) -> None:
        """Makes the folder, empty; a store has none until something lies in it."""
        self.remove()
        if not self.is_remote:
            Path(self.root).mkdir(parents=True)

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
        return self._located()[1]

    def _remote(self, name: str) -> str:
        return f"{self._located()[0].rstrip('/')}/{name}".rstrip("/")

    def _located(self) -> tuple[str, Any]:
        return located(self.root)
