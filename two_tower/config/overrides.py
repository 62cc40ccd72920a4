"""`--set KEY=VALUE`, and the `set` of an environment: single values of a configuration, replaced or added."""

from __future__ import annotations

from typing import Any

import yaml

from two_tower.config.scalars import Loader
from two_tower.errors import ConfigError


def apply_override(data: dict[str, Any], override: str) -> None:
    """Puts a `key=value` text into the content of a configuration; the key is a dotted path, the value is YAML.

    Raises:
        ConfigError: The text is not of that form, or there is no such place.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: expected key=value, such as training.epochs=3")
    try:
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    *parents, last = key.strip().split(".")
    target: Any = data
    for part in [*parents, last]:
        if isinstance(target, list) and not (part.isdigit() and int(part) < len(target)):
            raise ConfigError(f"--set {override!r}: {part!r} is not an index of a list of {len(target)}")
        if not isinstance(target, (dict, list)):
            raise ConfigError(f"--set {override!r}: there is nothing under {part!r} to set")
        if part is last:
            break
        if isinstance(target, dict) and target.get(part) is None:
            target[part] = {}
        target = target[int(part)] if isinstance(target, list) else target[part]
    target[int(last) if isinstance(target, list) else last] = value
