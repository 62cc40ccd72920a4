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
        data_root: A folder, local or a URL; `data` in the working directory if not given.

    Raises:
        DataError: A path is not there or cannot be listed, or holds no file of a known format, or files of several
            formats.
    """
    given = [data_root or "data", os.environ.get("TWO_TOWER_DATA")]
    roots = [_joined(_normalised(root), dataset) for root in given if root]
    tables = {"interactions": config_data.interactions, "items": config_data.items, "users": config_data.users}
    return {
        name: _resolve(source, key=f"data.{name}", roots=roots, dataset=dataset) if source else []
        for name, source in tables.items()
    }


def _resolve(source: Source, *, key: str, roots: list[str], dataset: str) -> list[SourceFile]:
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


def _find(pattern: str, source: Source, *, key: str, roots: list[str], dataset: str) -> Iterable[SourceFile]:
    """The files of one path of the configuration."""
    pattern = _normalised(pattern)
    is_whole = "://" in pattern or Path(pattern).is_absolute()
    places = [pattern] if is_whole else [_joined(root, pattern) for root in roots]
    looked_in = " and ".join(place if "://" in place else str(Path(place).absolute()) for place in places)
    files, folder = next((hit for hit in map(_list, places) if hit is not None), (None, False))
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


def _normalised(path: str) -> str:
    """The path, with `gs://` in place of the mount of buckets that other machines do not have."""
    return f"gs://{path.removeprefix('/gcs/')}" if path.startswith("/gcs/") else path


def _joined(root: str, path: str) -> str:
    """A path below a folder or a URL."""
    return f"{root.rstrip('/')}/{path}" if "://" in root else str(Path(root) / path)


def _list(place: str) -> tuple[list[SourceFile], bool] | None:
    """The files at a path, a glob or a folder, and whether it is a folder; None if nothing is there."""
    return _list_remote(place) if "://" in place else _list_local(Path(place))


def _list_local(place: Path) -> tuple[list[SourceFile], bool] | None:
    """`_list` of a local path."""
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


def _list_remote(url: str) -> tuple[list[SourceFile], bool] | None:
    """`_list` of a URL; a store has no folders, so whatever is no single file counts as one.

    Raises:
        DataError: The store cannot be asked.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        listed = filesystem.glob(path, detail=True) if has_magic(path) else filesystem.find(path, detail=True)
    except FileNotFoundError as error:
        bucket = url.split("/")[2]
        raise DataError(f"{url}: cannot list it: there is no bucket {bucket}") from error
    except Exception as error:  # each kind of store has its own
        raise DataError(f"{url}: cannot list it: {denied(error) or error}") from error
    files = []
    for name, facts in listed.items():
        inside = "" if has_magic(path) else name.removeprefix(path).strip("/")
        if facts["type"] == "file" and not _is_hidden(inside):
            files.append(_describe_remote(filesystem.unstrip_protocol(name), facts))
    return (files, [*listed] != [path]) if files else None


def denied(error: BaseException) -> str:
    """What to do about an error that says that a store's permissions do not suffice; empty for other errors."""
    text = str(error)
    if getattr(error, "code", None) in (401, 403) or text.startswith("Forbidden") or isinstance(error, PermissionError):
        return f"permission denied; the account of this step needs roles/storage.objectViewer on the bucket ({text})"
    return ""


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
