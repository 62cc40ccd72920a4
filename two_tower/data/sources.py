"""From the configuration's sources to a sorted list of files with sizes and generations."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from glob import glob, has_magic
from pathlib import Path, PurePath
from typing import Any

from two_tower.config import Data, Source
from two_tower.data.bigquery import export_table
from two_tower.errors import DataError

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
MADE_BY_COMMAND = ("complete_journey", "ml_100k", "synthetic", "text_search", "tiny")
"""The data sets that `two-tower data NAME` puts in place."""

SourceFile = dict[str, Any]
"""`path`, `name` (the path below the configured folder), `format`, `bytes`, `generation` (changes whenever the content
may have) and `modified` (microseconds)."""


def resolve_sources(config_data: Data, *, dataset: str, data_root: str | None = None) -> dict[str, list[SourceFile]]:
    """Every input file by table (`interactions`, `items`, `users`), each list in the order of the paths.

    Args:
        config_data: The configuration's `data` section.
        dataset: The folder in which relative paths are looked up, in `data_root` and then in $TWO_TOWER_DATA.
        data_root: `data` in the working directory if not given.

    Raises:
        DataError: A path is not there, or holds no file of a known format, or files of several formats.
    """
    roots = [Path(data_root or "data") / dataset]
    if os.environ.get("TWO_TOWER_DATA"):
        roots.append(Path(os.environ["TWO_TOWER_DATA"]) / dataset)
    tables = {"interactions": config_data.interactions, "items": config_data.items, "users": config_data.users}
    return {
        name: _resolve(source, key=f"data.{name}", roots=roots, dataset=dataset) if source else []
        for name, source in tables.items()
    }


def _resolve(source: Source, *, key: str, roots: list[Path], dataset: str) -> list[SourceFile]:
    """The files of one table."""
    if source.bigquery is not None:
        exported = export_table(**source.bigquery.model_dump(), key=f"{key}.bigquery")
        source = source.model_copy(update={"path": exported, "format": "parquet"})
    patterns = source.path if isinstance(source.path, list) else [source.path or ""]
    found: dict[str, SourceFile] = {}
    for pattern in patterns:
        for file in _find(pattern, source, key=key, roots=roots, dataset=dataset):
            found[file["path"]] = file
    if not found:
        raise DataError(f"{key}.path: the list is empty; name at least one file, glob or folder")
    formats = sorted({file["format"] for file in found.values()})
    if len(formats) > 1:
        examples = [next(path for path, file in found.items() if file["format"] == one) for one in formats]
        raise DataError(
            f"{key}.path: files of several formats ({', '.join(formats)}), such as {' and '.join(examples)}; "
            "narrow the path with a glob like '*.parquet'"
        )
    return [found[path] for path in sorted(found)]


def _find(pattern: str, source: Source, *, key: str, roots: list[Path], dataset: str) -> Iterable[SourceFile]:
    """The files of one path of the configuration."""
    pattern = f"gs://{pattern.removeprefix('/gcs/')}" if pattern.startswith("/gcs/") else pattern
    if "://" in pattern:
        files, looked_in, folder = _list_remote(pattern), pattern, True
    else:
        places = [Path(pattern)] if Path(pattern).is_absolute() else [root / pattern for root in roots]
        looked_in = " and ".join(str(place.absolute()) for place in places)
        files, folder = next((hit for hit in map(_list_local, places) if hit is not None), (None, False))
    if files is None:
        hint = f"; `two-tower data {dataset}` fetches or makes this data set" if dataset in MADE_BY_COMMAND else ""
        raise DataError(
            f"{key}.path: {pattern!r} is not there; looked in {looked_in}. Put the file there, set TWO_TOWER_DATA to "
            f"the folder that holds {dataset}/, or give an absolute path{hint}"
        )
    if source.format == "auto":
        known = [file for file in files if _format_of(file["path"])]
        if (unknown := [file["path"] for file in files if file not in known]) and not (folder and known):
            raise DataError(
                f"{key}.path: the ending of {unknown[0]} says no format (known: {', '.join(FORMATS)}, also with "
                f"{', '.join(COMPRESSIONS)}); rename the file or set {key}.format"
            )
        files = known
    if not files:
        raise DataError(f"{key}.path: the folder {looked_in} holds no data files")
    return [
        {
            **file,
            "name": _name_below(pattern, file["path"]),
            "format": _format_of(file["path"]) if source.format == "auto" else source.format,
        }
        for file in files
    ]


def _name_below(pattern: str, path: str) -> str:
    """The file's path below the configured folder, or its name where the configuration names the file or a glob."""
    _, below, name = path.rpartition(f"{pattern.rstrip('/')}/")
    return name if below else PurePath(path).name


def _format_of(path: str) -> str | None:
    """The format that a file name's ending says, or None."""
    name = path.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return FORMATS.get(PurePath(name).suffix)


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in Path(path).parts)


def _list_local(place: Path) -> tuple[list[SourceFile], bool] | None:
    """The files at a local path, a glob or a folder, and whether it is a folder; None if nothing is there."""
    if place.is_dir():
        inside = [path for path in place.rglob("*") if not _is_hidden(str(path.relative_to(place)))]
        if broken := [path for path in inside if path.is_symlink() and not path.exists()]:
            raise DataError(f"{broken[0]}: a link to {broken[0].readlink()}, which is not there; mend or remove it")
        return [_describe(path) for path in inside if path.is_file()], True
    if place.is_file():
        return [_describe(place)], False
    matches = [Path(match) for match in glob(str(place), recursive=True)]  # noqa: PTH207 (Path.glob takes no absolute one)
    files = [_describe(match) for match in matches if match.is_file()]
    return (files, False) if files else None


def _describe(path: Path) -> SourceFile:
    """A local file; its generation is its time of modification."""
    facts = path.stat()
    return {
        "path": str(path.absolute()),
        "bytes": facts.st_size,
        "generation": str(facts.st_mtime_ns),
        "modified": facts.st_mtime_ns // 1000,
    }


def _list_remote(pattern: str) -> list[SourceFile] | None:
    """The files at a remote path, a glob or a folder; None if nothing is there."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        listed = filesystem.glob(path, detail=True) if has_magic(path) else filesystem.find(path, detail=True)
    except (ImportError, OSError, ValueError) as error:
        raise DataError(f"{pattern}: cannot list it: {error}") from error
    files = []
    for name, facts in listed.items():
        inside = "" if has_magic(path) else name.removeprefix(path).strip("/")
        if facts["type"] == "file" and not _is_hidden(inside):
            files.append(_describe_remote(filesystem.unstrip_protocol(name), facts))
    return files or None


def _describe_remote(path: str, facts: dict[str, Any]) -> SourceFile:
    """A remote file; its generation is the store's own, else the time of its last change."""
    changed = facts.get("updated") or facts.get("mtime") or facts.get("LastModified") or facts.get("created") or 0
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed.replace("Z", "+00:00"))
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed)
    return {
        "path": path,
        "bytes": facts["size"],
        "generation": str(facts.get("generation") or facts.get("etag") or seconds),
        "modified": int(seconds * 1_000_000),
    }
