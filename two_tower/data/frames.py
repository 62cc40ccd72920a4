"""Tables in memory as the sources of a preparation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from two_tower.config import DataSettings, canonical_json, parse_section
from two_tower.data.sources import SourceFile
from two_tower.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class Frame(Protocol):
    """A table in memory: an Arrow table, or a data frame of pandas or polars."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The table's batches, as Arrow libraries hand them on."""


def with_frames(
    data: DataSettings | Mapping[str, Any], frames: Mapping[str, Frame | None], folder: Path
) -> tuple[DataSettings, dict[str, list[SourceFile]]]:
    """The `data` section and its sources, for tables that are written to `folder` as Parquet.

    Args:
        data: The section, whose sources the tables replace; as a mapping, the tables' sections need no `path`.
        frames: An Arrow table or a data frame of pandas or polars for `interactions`, `items` and `users`.
        folder: A local folder for the files.

    Raises:
        ConfigError: The section does not validate.
        DataError: There are no interactions, the section lacks a table that is given or has one that is not, or
            something given is no table.
    """
    given = {name: frame for name, frame in frames.items() if frame is not None}
    if "interactions" not in given:
        raise DataError("prepare: items or users are given as a table, interactions are not; give interactions=…")
    section = dict(data.model_dump(mode="json") if isinstance(data, DataSettings) else data)
    if others := [name for name in frames if name not in given and section.get(name) is not None]:
        raise DataError(f"prepare: data.{others[0]} is in the section, but no table: give {others[0]}=…")
    sources: dict[str, list[SourceFile]] = {name: [] for name in frames}
    for name, frame in given.items():
        if not isinstance(section.get(name, {}), Mapping) or (name not in section and name != "interactions"):
            raise DataError(
                f"prepare: a table of {name} is given, but the section data has no {name}: say what it holds"
            )
        section[name] = {**section.get(name, {}), "path": f"{name}.parquet", "bigquery": None, "format": "parquet"}
        sources[name] = [_written(frame, folder / f"{name}.parquet", name)]
    return parse_section(DataSettings, canonical_json(section)), sources


def _written(frame: Frame, path: Path, name: str) -> SourceFile:
    """The table as a Parquet file, and what a preparation is told of it."""
    import pyarrow.parquet as pq

    pq.write_table(_as_arrow(frame, name), path)
    found = path.stat()
    return {
        "path": str(path),
        "name": path.name,
        "format": "parquet",
        "bytes": found.st_size,
        "generation": str(found.st_mtime_ns),
        "modified": found.st_mtime_ns // 1000,
    }


def _as_arrow(frame: Frame, name: str) -> pa.Table:
    """An Arrow table of what is given; the index of a pandas data frame is left out."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if type(frame).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    raise DataError(f"prepare: {name}={type(frame).__name__} is neither an Arrow table nor a data frame")
