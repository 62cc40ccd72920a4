"""Arrow IPC files, which the stages hand to each other."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa


def write_arrow(table: pa.Table, path: str | Path) -> None:
    """Writes the table as an Arrow IPC file, uncompressed, so that it can be mapped into memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: str | Path) -> pa.Table:
    """The table of an Arrow IPC file, mapped into memory."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
