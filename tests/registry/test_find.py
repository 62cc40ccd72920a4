"""Which version is meant: by its id, the beginning of one, or as the champion."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_parts import make_parts, version_of

from pipelines.cli.registry import registry_promote
from two_tower.errors import RegistryError
from two_tower.registry import Registry, Version, find_version


def find(root: Path, name: str, version: str) -> Version:
    return find_version(root, version, name=name)[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry `shop` with two versions, the second of them the champion, and a registry `museum` with one."""
    folder = tmp_path_factory.mktemp("registry")
    for name, seeds in (("shop", "ab"), ("museum", "c")):
        champion = None
        for seed in seeds:
            champion = Registry(folder, name).promote(make_parts(folder / "parts" / seed, seed, champion=champion))
    return folder


def test_a_version_is_found_by_its_id_its_beginning_and_as_the_champion(root: Path) -> None:
    first, second = (version_of(make_parts(root / "parts" / seed, seed)) for seed in "ab")
    assert find(root, "shop", first).id == first
    assert find(root, "shop", first[:8]).id == first
    assert find(root, "shop", "champion").id == second
    with pytest.raises(RegistryError, match=f"several versions start with '': .*{second}, {first}"):
        find(root, "shop", "")


def test_an_empty_id_is_that_of_no_version_though_every_id_begins_so(root: Path) -> None:
    with pytest.raises(RegistryError, match=r"museum: no version ''; there are: [0-9a-f]{16}$"):
        find(root, "museum", "")


def test_an_empty_id_promotes_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").symlink_to(root)
    with pytest.raises(RegistryError, match="no stored version starts with ''"):
        registry_promote("", workdir=tmp_path)


def test_a_version_that_is_not_there_is_told_with_those_that_are(root: Path) -> None:
    with pytest.raises(RegistryError, match=r"shop: no version 'nothing'; there are: [0-9a-f]{16}, [0-9a-f]{16}$"):
        find(root, "shop", "nothing")
    with pytest.raises(RegistryError, match="there is no champion yet"):
        find(root, "nobody", "champion")


def test_a_version_of_another_configuration_is_told_where_it_is(root: Path) -> None:
    other = find(root, "museum", "champion").id
    with pytest.raises(RegistryError, match=r"museum has it, the configuration is called shop: .*--set name=museum"):
        find(root, "shop", other[:8])


def test_all_registries_are_searched_where_none_is_named(root: Path) -> None:
    first, other = (version_of(make_parts(root / "parts" / seed, seed)) for seed in "ac")
    for version, name in ((first, "shop"), (other, "museum"), (other[:8], "museum")):
        registry, found = find_version(root, version)
        assert registry.name == name and found.id.startswith(version)
    for wrong in ("", "nothing", "champion"):
        with pytest.raises(RegistryError, match=f"no stored version starts with '{wrong}'; `two-tower registry list`"):
            find_version(root, wrong)
