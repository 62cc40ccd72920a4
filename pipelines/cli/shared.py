"""What several commands begin with: the configuration, the console, the place and the version that are meant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command_lines import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from two_tower.config import Config, Environment
    from two_tower.registry import Registry, Version


def load(config: Path, overrides: list[str] | None = None) -> Config:
    """The configuration of a file, with what `--set` replaces."""
    from two_tower.config import load_config

    return load_config(config, overrides or ())


def make_console() -> Console:
    """A console that prints texts as they are, to where standard output leads now."""
    from rich.console import Console

    # Bound, since standard output is redirected while kfp.local runs. A log has no width of its own.
    return Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False
    )


def service_of(env: Path, backend: str | None) -> tuple[Environment, str]:
    """An environment and which of its services is meant."""
    from pipelines.remote.commands import kind_of
    from two_tower.config import load_environment

    environment = load_environment(env)
    return environment, kind_of(environment, backend)


def registry_root(workdir: Path, env: Path | None) -> str:
    """Where the registries are: in the working folder, or where the environment has them."""
    if env is None:
        return str(workdir.resolve() / "registry")
    from pipelines.remote.submission import places

    environment, kind = service_of(env, None)
    return places(environment, kind)[1]


def champion_of(config: Path, workdir: Path, env: Path | None) -> Version:
    """The champion of a configuration.

    Raises:
        RegistryError: It has none yet.
    """
    from two_tower.errors import RegistryError
    from two_tower.registry import Registry

    root = registry_root(workdir, env)
    registry = Registry(root, load(config).name)
    champion = registry.champion()
    if champion is None:
        makes = command_line("submit", config, env=env) if env else command_line("run", config, workdir=workdir)
        raise RegistryError(f"{registry.name} has no champion in {root} yet; `{makes}` makes one")
    return champion


def stored_version(
    version: str, workdir: Path, env: Path | None, *, name: str | None = None
) -> tuple[Registry, Version]:
    """The version that is meant in the working folder or the environment, of one configuration or any; its registry."""
    from two_tower.registry import find_version

    lists = command_line("registry", "list", workdir=workdir, env=env)
    return find_version(registry_root(workdir, env), version, name=name, lists=lists)


def pairs(texts: list[str], option: str) -> list[tuple[str, str]]:
    """The names and values of texts `NAME=VALUE`.

    Raises:
        ConfigError: One is no such text; the message names the option.
    """
    from two_tower.errors import ConfigError

    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {text!r}: expected NAME=VALUE")
        found.append((key, value))
    return found


def from_yaml(text: str, option: str) -> Any:
    """What YAML takes an option's value for.

    Raises:
        ConfigError: It is no YAML; the message names the option.
    """
    import yaml

    from two_tower.errors import ConfigError

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as 2024-02-31, or thousands of digits
        raise ConfigError(f"{option}: not valid YAML: {error}") from error


def require_text(text: str) -> None:
    """Refuses what the command line has of bytes that are no text, which no id and no feature holds.

    Raises:
        ConfigError: It is none.
    """
    from two_tower.errors import ConfigError

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r}: not UTF-8 text") from error
