"""From the configuration's sources to a sorted list of files with sizes and generations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from glob import escape, glob, has_magic
from pathlib import Path, PurePath
from typing import Any

from two_tower.config import DataSettings, SourceSettings
from two_tower.data.bigquery import export_table
from two_tower.errors import DataError
from two_tower.progress import log

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


def resolve_sources(
    config_data: DataSettings, *, dataset: str, data_root: str | None = None
) -> dict[str, list[SourceFile]]:
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


def _resolve(source: SourceSettings, *, key: str, roots: list[str], dataset: str) -> list[SourceFile]:
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
    return _each_once([found[path] for path in sorted(found)], key)


def _each_once(files: list[SourceFile], key: str) -> list[SourceFile]:
    """The files less those that a link leads to as well; each stays under the path at which it really lies."""
    places: dict[str, list[SourceFile]] = {}
    for file in files:
        place = file["path"] if "://" in file["path"] else os.path.realpath(file["path"])
        places.setdefault(place, []).append(file)
    if twice := [same for same in places.values() if len(same) > 1]:
        first, second, *_ = (file["path"] for file in twice[0])
        log.info("%s.path: %d files are there by several paths, such as %s and %s; each is read once",
                 key, len(twice), first, second)  # fmt: skip
    kept = [next((file for file in same if file["path"] == place), same[0]) for place, same in places.items()]
    return sorted(kept, key=lambda file: str(file["path"]))


def _find(pattern: str, source: SourceSettings, *, key: str, roots: list[str], dataset: str) -> Iterable[SourceFile]:
    """The files of one path of the configuration."""
    pattern = _normalised(pattern)
    is_whole = "://" in pattern or Path(pattern).is_absolute()
    above = [""] if is_whole else roots
    places = [_joined(root, pattern) for root in above]
    looked_in = " and ".join(place if "://" in place else str(Path(place).absolute()) for place in places)
    hits = (_list(root, pattern) for root in above)
    files, folder = next((hit for hit in hits if hit is not None), (None, False))
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
        if unknown:
            log.info("%s.path: passed over %d files of no known format, such as %s", key, len(unknown), unknown[0])
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


def _is_hidden(names: Iterable[str]) -> bool:
    return any(name.startswith((".", "_")) for name in names)


def _normalised(path: str) -> str:
    """The path, with `gs://` in place of the mount of buckets that other machines do not have."""
    return f"gs://{path.removeprefix('/gcs/')}" if path.startswith("/gcs/") else path


def _joined(root: str, path: str) -> str:
    """A path below a folder or a URL."""
    return f"{root.rstrip('/')}/{path}" if root else path


def _list(root: str, pattern: str) -> tuple[list[SourceFile], bool] | None:
    """The files at a path, a glob or a folder below `root`, and whether it is a folder; None if nothing is there."""
    is_url = "://" in _joined(root, pattern)
    return _list_remote(root, pattern) if is_url else _list_local(root, pattern)


def _as_written(root: str, pattern: str, is_there: Callable[[str], bool]) -> tuple[str, list[str]]:
    """The path as far as it is there as it is written, and the names of the pattern behind it.

    What is there under its very name is no pattern, whatever its name could be read as; `root` never is one.
    """
    place, names = root.rstrip("/"), pattern.split("/")
    for number, name in enumerate(names):
        further = f"{place}/{name}" if root or number else name
        if has_magic(name) and not is_there(further):
            return place, names[number:]
        place = further
    return place, []


def _list_local(root: str, pattern: str) -> tuple[list[SourceFile], bool] | None:
    """`_list` of a local path."""
    written, names = _as_written(root, pattern, os.path.lexists)
    place = Path(written or "/")
    if names:
        files = [_describe(path) for path in _matching(place, names)]
        return (files, False) if files else None
    if place.is_dir():
        return [_describe(path) for path in _files_below(place)], True
    return ([_describe(place)], False) if place.is_file() else None


def _matching(place: Path, pattern: Sequence[str]) -> Iterator[Path]:
    """The files below a folder that a pattern meets; its first `**` stands for what `_files_below` gives."""
    if "**" not in pattern:
        yield from _files_met(place, pattern)
        return
    first = pattern.index("**")
    for folder in _globbed(place, pattern[:first]):
        if folder.is_dir():
            inside = _files_below(folder)
            yield from (path for path in inside if _meets(path.relative_to(folder).parts, pattern[first:]))


def _files_met(place: Path, pattern: Sequence[str]) -> list[Path]:
    """The files that a pattern without `**` meets."""
    met = _globbed(place, pattern)
    files = [path for path in met if path.is_file()]
    folders = [str(path) for path in met if path.is_dir() and not _is_hidden([path.name])]
    _say_unread(str(place.joinpath(*pattern)), folders, alone=not files)
    return files


def _say_unread(pattern: str, folders: Sequence[str], *, alone: bool) -> None:
    """Says that the folders that a glob without `**` meets are not read.

    Raises:
        DataError: It meets folders alone.
    """
    remedy = f"{pattern}/** reads what is in them"
    if folders and alone:
        raise DataError(f"{pattern}: meets folders alone, such as {folders[0]}; {remedy}")
    if folders:
        log.warning("%s: passed over %d folders, such as %s; %s", pattern, len(folders), folders[0], remedy)


def _globbed(place: Path, pattern: Sequence[str]) -> list[Path]:
    """What a pattern without `**` meets below a folder; the folder itself where there is none."""
    found = glob("/".join(pattern), root_dir=place)  # noqa: PTH207 (Path.glob takes names that begin with a dot)
    paths = [place / name for name in found] if pattern else [place]
    for path in paths:
        _refuse_dangling(path)
    return paths


def _meets(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names of a path meet those of a pattern, in which `**` stands for any number of folders."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return len(pattern) == 1 or any(_meets(names[skipped:], pattern[1:]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _meets(names[1:], pattern[1:])


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files in a folder and its subfolders, also those that are links, less what is hidden.

    Args:
        folder: The folder.
        above: Where the folders that led to it really lie.

    Raises:
        DataError: A link leads nowhere, or to a folder that it is in; a folder cannot be listed.
    """
    above = (*above, folder.resolve())
    try:
        inside = sorted(path for path in folder.iterdir() if not _is_hidden([path.name]))
    except OSError as error:
        raise DataError(f"{folder}: cannot list it: {error.strerror}") from error
    for path in inside:
        _refuse_dangling(path)
        if path.is_dir():
            if path.is_symlink():
                _refuse_cycle(path, above)
            yield from _files_below(path, above)
        elif path.is_file():
            yield path


def _refuse_dangling(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: a link to {path.readlink()}, which is not there; mend or remove it")


def _refuse_cycle(link: Path, above: Iterable[Path]) -> None:
    """Raises a DataError if one of the folders that led to a link is the folder that it leads to, or lies in it."""
    target = link.resolve()
    if any(folder.is_relative_to(target) for folder in above):
        raise DataError(f"{link}: a link to {target}, the folder that it is in; remove the link")


def _describe(path: Path) -> SourceFile:
    """A local file; its generation is its time of modification."""
    facts = path.stat()
    return {
        "path": str(path.absolute()),
        "bytes": facts.st_size,
        "generation": str(facts.st_mtime_ns),
        "modified": facts.st_mtime_ns // 1000,
    }


def _list_remote(root: str, pattern: str) -> tuple[list[SourceFile], bool] | None:
    """`_list` of a URL; a store has no folders, so whatever is no single file counts as one.

    Raises:
        DataError: The store cannot be asked.
    """
    import fsspec

    url = _joined(root, pattern)
    try:
        filesystem, _ = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        place, names = _as_written(root, pattern, lambda path: filesystem.isdir(path) or filesystem.isfile(path))
        path = filesystem._strip_protocol(place)
        if names:
            listed = filesystem.glob("/".join([escape(path), *names]), detail=True)
        else:
            listed = filesystem.find(path, detail=True)
    except FileNotFoundError as error:
        bucket = url.split("/")[2]
        raise DataError(f"{url}: cannot list it: there is no bucket {bucket}") from error
    except Exception as error:  # each kind of store has its own
        raise DataError(f"{url}: cannot list it: {denied(error) or error}") from error
    files = []
    for name, facts in listed.items():
        inside = name.removeprefix(path).strip("/").split("/")
        if names:  # as of a local folder, what `**` stands for is not hidden
            inside = inside[names.index("**") :] if "**" in names else []
        if facts["type"] == "file" and not _is_hidden(inside):
            files.append(_describe_remote(filesystem.unstrip_protocol(name), facts))
    if names and "**" not in names:
        met = [name for name, facts in listed.items() if facts["type"] == "directory"]
        folders = [filesystem.unstrip_protocol(name) for name in met if not _is_hidden([PurePath(name).name])]
        _say_unread(url, folders, alone=not files)
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
