"""An artefact is a folder whose `manifest.json`, written last, says what is in it.

No manifest, no artefact: whatever a killed step left behind is refused by the reader and overwritten by the
retry.  The manifest carries no time of day and no path outside the folder, so equal content is equal bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from two_tower.artifacts.files import crc32c_of, sync_folder, write_json
from two_tower.artifacts.lineage import Lineage
from two_tower.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


class FileFacts(TypedDict):
    """What the manifest says of one file."""

    bytes: int
    crc32c: str


@dataclass
class Manifest:
    """What `manifest.json` says."""

    kind: str
    """Such as `prepared_data`; a reader that expects another kind refuses the folder."""
    config: dict[str, Any] = field(default_factory=dict)
    """The configuration section that the content was made with."""
    rows: dict[str, int] = field(default_factory=dict)
    """Row counts by name."""
    data_seen_until: int | None = None
    """The newest event, in microseconds since 1970 UTC, that the content has been made from."""
    made_from: dict[str, str] = field(default_factory=dict)
    """The content hashes of the artefacts that it was made from, by kind."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further facts of this kind of artefact."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Times and the like, which differ from one making to the next and do not count as content; under `lineage` the
    run, step and code commit that made it and the hash of `config`, where a run's step is at work."""
    files: dict[str, FileFacts] = field(default_factory=dict)
    """Size in bytes and crc32c of every file, by its path in the folder."""
    schema_version: int = SCHEMA_VERSION


class ArtifactWriter:
    """A folder being filled; set `rows`, `extra` and the like on `manifest` before the context ends."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def path(self, name: str) -> Path:
        """The path of a file of the artefact, its folder made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_table(self, name: str, table: pa.Table, *, row_group_rows: int | None = None) -> None:
        """Writes an Arrow table as Parquet; `manifest.rows` gets its row count under `name` without the ending.

        `row_group_rows` are the rows of a row group, the least that a reader of a part has to read.
        """
        import pyarrow.parquet as pq

        pq.write_table(table, self.path(name), compression="zstd", store_schema=True, row_group_size=row_group_rows)
        self.manifest.rows[name.removesuffix(".parquet")] = table.num_rows

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` as JSON with sorted keys."""
        write_json(self.path(name), value)


class ArtifactReader:
    """A complete artefact whose files have been checked against the manifest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def path(self, name: str) -> Path:
        """The path of a file (or folder) of the artefact.

        Raises:
            ArtifactError: The manifest lists no such file.
        """
        if name not in self.manifest.files and not any(file.startswith(f"{name}/") for file in self.manifest.files):
            raise ArtifactError(f"{self.folder}: this {self.manifest.kind} holds no {name!r}")
        return self.folder / name

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file of the artefact as an Arrow table."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path(name), columns=columns)

    def json(self, name: str) -> Any:
        """A JSON file of the artefact."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))


@contextlib.contextmanager
def write_artifact(folder: str | os.PathLike[str], kind: str, **facts: Any) -> Iterator[ArtifactWriter]:
    """Fills `folder` with an artefact of `kind`; its manifest is written when the context ends without an error.

    What the folder held before is removed, its manifest first.  After an error the unfinished content is removed
    too, so that a full disk leaves nothing half-written.  `facts` are the fields of `Manifest`.
    """
    folder = Path(folder)
    writer = ArtifactWriter(folder, Manifest(kind=kind, **facts))
    try:
        _empty(folder)
        yield writer
        _seal(folder, writer.manifest)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArtifactError(
            f"{error.filename or folder}: cannot write the {kind}: {error.strerror or error}"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def seal_artifact(folder: str | os.PathLike[str], kind: str, **facts: Any) -> None:
    """Makes an artefact of `kind` of a folder that was filled bit by bit, with all its files as they are.

    `facts` are the fields of `Manifest`.

    Raises:
        ArtifactError: A file cannot be read, or the manifest cannot be written; the files stay.
    """
    folder = Path(folder)
    try:
        _seal(folder, Manifest(kind=kind, **facts))
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or folder}: cannot finish the {kind}: {error.strerror or error}"
        ) from error


def open_artifact(folder: str | os.PathLike[str], kind: str, *, part: str | None = None) -> ArtifactReader:
    """The artefact of `kind` in `folder`, its files checked by size and crc32c.

    With `part`, one of its folders, the other folders' files are not looked at.

    Raises:
        ArtifactError: There is no manifest, the kind or the schema version is another, or a file is missing or
            differs; the message names it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, kind)
    for name, facts in manifest.files.items():
        if part is not None and "/" in name and not name.startswith(f"{part}/"):
            continue
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path}: missing, although the manifest lists it; make the {kind} again")
        if path.stat().st_size != facts["bytes"] or crc32c_of(path) != facts["crc32c"]:
            raise ArtifactError(f"{path}: differs from what the manifest lists; make the {kind} again")
    return ArtifactReader(folder, manifest)


def read_manifest(folder: str | os.PathLike[str], kind: str) -> Manifest:
    """The manifest of the artefact of `kind` in `folder`, whose files are not looked at.

    Raises:
        ArtifactError: There is no manifest, it cannot be read, or the kind or the schema version is another.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ArtifactError(
                f"{folder}: schema version {content['schema_version']}, this code reads {SCHEMA_VERSION}"
            )
        manifest = TypeAdapter(Manifest).validate_python(content)
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder}: no {MANIFEST} here, so this is no complete {kind}; make it again") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{folder / MANIFEST}: not a readable manifest: {error!r}") from error
    if manifest.kind != kind:
        raise ArtifactError(f"{folder}: this is a {manifest.kind}, expected a {kind}")
    return manifest


def content_hash(folder: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits that depend on the artefact's manifest, hence on the content of its files.

    What was measured does not count: equal content has an equal hash.
    """
    try:
        content = json.loads((Path(folder) / MANIFEST).read_bytes())
        content.pop("measured", None)
        return _hash(content)
    except OSError as error:
        raise ArtifactError(f"{folder}: no readable {MANIFEST} here: {error.strerror}; make it again") from error


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _empty(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _seal(folder: Path, manifest: Manifest) -> None:
    """Lists the folder's files in the manifest, makes them durable, and writes the manifest."""
    if lineage := Lineage.of_process().as_labels():
        manifest.measured["lineage"] = lineage | {"config": _hash(manifest.config)}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        manifest.files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "crc32c": crc32c_of(path)}
        _sync_file(path)
    for subfolder in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(subfolder)
    write_json(folder / MANIFEST, asdict(manifest))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
