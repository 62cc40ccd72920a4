"""Registries and versions, found as a person names them."""

from __future__ import annotations

from pathlib import Path

from two_tower.artifacts import below, is_remote, list_folders
from two_tower.errors import RegistryError
from two_tower.registry.registry import Registry
from two_tower.registry.version import Version

CHAMPION = "champion"
"""What stands for the id of the version that serves."""


def list_registries(root: str | Path) -> list[Registry]:
    """The registries in a local folder or, as gs://bucket/folder, on a bucket, by name."""
    if is_remote(root):
        return [Registry(root, name) for name in list_folders(str(root))]
    return [Registry(root, folder.name) for folder in sorted(Path(root).glob("*/"))]


def find_version(
    root: str | Path, version: str, *, name: str | None = None, lists: str = "two-tower registry list"
) -> tuple[Registry, Version]:
    """The version that `version` names, and its registry.

    Args:
        root: Where the registries are: a local folder or a gs:// URI.
        version: An id or the beginning of one; among the versions of one configuration also `champion`.
        name: The configuration whose registry is meant; without it, all of them are searched.
        lists: The command that lists the versions, for the message.

    Raises:
        RegistryError: None is called so, or several are; the message says where to look instead.
    """
    if name is not None:
        registry = Registry(root, name)
        return registry, _of_one(registry, root, version)
    stored = [(registry, each) for registry in list_registries(root) for each in registry.versions()]
    found = [pair for pair in stored if pair[1].id == version] or [pair for pair in stored if _begins(pair[1], version)]
    if len(found) != 1:
        problem = "no stored version starts with" if not found else "several stored versions start with"
        raise RegistryError(f"{problem} {version!r}; `{lists}` shows them")
    return found[0]


def _of_one(registry: Registry, root: str | Path, version: str) -> Version:
    """The version of the registry, which lies in `root`."""
    if version == CHAMPION:
        champion = registry.champion()
        if champion is None:
            makes = "submit" if is_remote(root) else "run"
            raise RegistryError(f"{registry.place}: there is no champion yet; `two-tower {makes}` makes one")
        return champion
    stored = registry.versions()
    begin = [each for each in stored if each.id.startswith(version)]
    found = [each for each in begin if each.id == version] or begin
    if len(found) == 1 and version:  # every id begins with nothing, which stands for none
        return found[0]
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise RegistryError(f"{registry.place}: several versions start with {version!r}: {ids}")
    others = (other for other in list_registries(root) if version and other.name != registry.name)
    elsewhere = next((other for other in others if any(_begins(each, version) for each in other.versions())), None)
    if elsewhere is not None:
        raise RegistryError(
            f"{registry.place}: no version {version!r}; {below(str(root), elsewhere.name)} has it, the configuration "
            f"is called {registry.name}: give the configuration of {elsewhere.name}, or --set name={elsewhere.name}"
        )
    ids = ", ".join(each.id for each in stored) or "none"
    raise RegistryError(f"{registry.place}: no version {version!r}; there are: {ids}")


def _begins(version: Version, beginning: str) -> bool:
    """Whether the version's id begins so; every id begins with nothing, which stands for none."""
    return bool(beginning) and version.id.startswith(beginning)
