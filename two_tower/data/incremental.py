"""What an earlier preparation of the same logs has left for the next one, and whether it can be used."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import polars as pl
import pyarrow as pa

from two_tower.artifacts import ArtifactReader, Place, open_artifact
from two_tower.config import DataSettings
from two_tower.data.prepared import KIND
from two_tower.data.shards import Earlier
from two_tower.data.sources import SourceFile
from two_tower.data.work import Work
from two_tower.errors import ArtifactError
from two_tower.profile import Sketch
from two_tower.progress import log

STATE = "state.json"
FACTS = ("path", "bytes", "generation")


@dataclass(frozen=True)
class EarlierRun:
    """An earlier preparation whose files are all among today's."""

    reader: ArtifactReader
    state: dict[str, Any]
    files: tuple[int, ...]
    """The number that each of the earlier files has now."""

    @cached_property
    def events(self) -> Earlier:
        """The checked events by shard."""
        names = [name for name in self.reader.manifest.files if name.startswith("events/")]
        return Earlier(
            {int(name.rpartition("-")[2].split(".")[0]): str(self.reader.path(name)) for name in names}, self.files
        )

    @property
    def filtered(self) -> Counter[str]:
        """The rows that were filtered out, by filter."""
        return Counter(self.state["filtered"])

    @property
    def noted(self) -> Counter[str]:
        """What was noted of the earlier files' rows."""
        return Counter(self.state["noted"])

    @property
    def sketch(self) -> Sketch:
        """What the columns of the earlier files hold."""
        return Sketch.read(self.reader.path("sketch.parquet"))

    @cached_property
    def bad(self) -> pa.Table:
        """The rows that were set aside, with today's file numbers."""
        table = self.reader.table("set_aside.parquet")
        numbers = dict(zip(display_names([file["path"] for file in self.state["files"]]), self.files, strict=True))
        files = pa.array([numbers[name] for name in table["file"].to_pylist()], pa.int32())
        return table.set_column(table.column_names.index("file"), "file", files)


def display_names(paths: list[str]) -> list[str]:
    """The paths relative to the folder that all of them share."""
    folder = os.path.commonpath([str(PurePath(path).parent) for path in paths])
    return [os.path.relpath(path, folder) for path in paths]


def state_of(
    sources: dict[str, list[SourceFile]], *, read: int, filtered: Counter[str], noted: Counter[str]
) -> dict[str, Any]:
    """What `find_earlier` and the next preparation need to know, for `STATE`."""
    return {
        "files": _facts(sources["interactions"]),
        "tables": {name: _facts(sources[name]) for name in ("items", "users")},
        "polars": pl.__version__,
        "read": read,
        "filtered": dict(sorted(filtered.items())),
        "noted": dict(sorted(noted.items())),
    }


def find_earlier(previous: Place | None, sources: dict[str, list[SourceFile]], data: DataSettings) -> EarlierRun | None:
    """The earlier preparation in the folder `previous`, or None where everything has to be read; the log says why."""
    if previous is None or not data.incremental:
        return None
    try:
        return _usable(open_artifact(previous, KIND), sources, data)
    except (ArtifactError, FileNotFoundError, _Unusable) as reason:
        log.info("prepare_data: all files are read, not only the new ones: %s", reason)
        return None


def choose_earlier(folders: list[str], sources: dict[str, list[SourceFile]]) -> str:
    """The first of these earlier preparations whose files are some of today's, but not all; empty if there is none.

    One of *all* of today's files is passed over, so that a repeated run gets the answer that it got the first time.
    The folders may be local or URLs.
    """
    today = {_key(file) for file in sources["interactions"]}
    for folder in folders:
        try:
            files = Work(folder).read_json(STATE)["files"]
        except (OSError, ValueError):
            continue
        if {_key(file) for file in files} < today:
            return folder
    return ""


class _Unusable(Exception):
    """Why an earlier preparation cannot be gone on from."""


def _usable(reader: ArtifactReader, sources: dict[str, list[SourceFile]], data: DataSettings) -> EarlierRun:
    """The earlier preparation, checked."""
    state = reader.json(STATE)
    if reader.manifest.config != data.model_dump(mode="json"):
        raise _Unusable("the data settings have changed")
    if state["polars"] != pl.__version__:  # its hashes, which find duplicates, differ between versions
        raise _Unusable(f"it was made with polars {state['polars']}, this is {pl.__version__}")
    unknown = {"items": data.items, "users": data.users}
    for name, table in unknown.items():
        if table is not None and table.unknown == "set_aside" and state["tables"][name] != _facts(sources[name]):
            raise _Unusable(f"the table of the {name} has changed, by which rows are set aside")
    if reader.json("summary.json")["rows"]["set_aside"].get("future_time"):
        raise _Unusable("rows were set aside as from the future, which today may be past")
    places = {_key(file): number for number, file in enumerate(sources["interactions"])}
    files = tuple(places.get(_key(file), -1) for file in state["files"])
    if -1 in files:
        raise _Unusable(f"{state['files'][files.index(-1)]['path']} is gone or has changed")
    return EarlierRun(reader, state, files)


def _key(file: SourceFile) -> tuple[Any, ...]:
    return tuple(file[name] for name in FACTS)


def _facts(files: list[SourceFile]) -> list[dict[str, Any]]:
    return [{name: file[name] for name in FACTS} for file in files]
