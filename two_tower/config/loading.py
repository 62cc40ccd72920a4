"""Reading a configuration: YAML in, a validated `Config` out, errors with the line and the key's full path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from two_tower.config.config import Config
from two_tower.config.overrides import apply_override
from two_tower.config.scalars import Loader, Scalar
from two_tower.errors import ConfigError
from two_tower.settings import did_you_mean

ModelT = TypeVar("ModelT", bound=BaseModel)

CONDITION = re.compile(
    r"(?:^|\.)data\.(?:(?:interactions\.filters|items\.available)\.\d+\.value(?:\.\d+)?"
    r"|interactions\.ranges\..+\.(?:min|max))$"
)
"""The dotted keys, in a configuration or in the `set` of an environment, where a scalar is what stands in the file.

YAML takes `NO` for false, `1e6` for a text and `0120` for 80; what is meant only the column can tell.
"""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The validated configuration of a YAML file.

    Args:
        path: The YAML file.
        overrides: `key=value` texts that replace or add values; the key is a dotted path (`training.epochs=3`;
            a number selects a list's element), the value is read as YAML.

    Raises:
        ConfigError: The file cannot be read, is no YAML mapping, or does not validate.  The message names the
            file, the line and each wrong key's full path.
    """
    return load_settings(Config, path, overrides)


def load_settings(model: type[ModelT], path: str | Path, overrides: Iterable[str] = ()) -> ModelT:
    """The validated settings of a YAML file, as `load_config` reads a configuration; it raises the same."""
    path = Path(path)
    node, data = _read(path, overrides, model)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for loc, message in _explain(error, data):
            line = _line_of(node, loc)
            lines.append(f"{path}{f':{line}' if line else ''}: {'.'.join(map(str, loc)) or '(top)'}: {message}")
        raise ConfigError("\n".join(lines)) from error


def merged_yaml(path: str | Path, overrides: Iterable[str], *, config: Config, keys: Iterable[str]) -> str:
    """The content of a YAML file with `overrides` in, and with the settings at dotted `keys` as `config` has them.

    Comments and the section `tune` are lost.  Where the file leaves a whole section to its defaults, `config`'s stands
    there.
    """
    _, data = _read(Path(path), overrides, Config)
    data.pop("tune", None)
    for key in keys:
        *parents, last = key.split(".")
        target, full = data, config.model_dump(mode="json")
        for part in parents:
            full = full[part]
            target = target[part] if target.get(part) is not None else target.setdefault(part, full)
        target[last] = full[last]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _read(path: Path, overrides: Iterable[str], model: type[BaseModel]) -> tuple[yaml.Node | None, dict[str, Any]]:
    """A YAML file's nodes, for their lines, and its content with the overrides in."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.load(text, Loader=Loader)
        _refuse_duplicate_keys(node, path)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: an alias stands inside of what it refers to") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping with the keys {', '.join(model.model_fields)}")
    for override in overrides:
        apply_override(data, override)
    try:
        return node, _plain(data)
    except RecursionError as error:
        raise ConfigError(f"{path}: --set: an alias stands inside of what it refers to") from error


def _plain(value: Any, place: str = "") -> Any:
    """The content with plain scalars: the text as written where a condition stands, else what YAML takes it for."""
    if isinstance(value, Scalar):
        return value.text if CONDITION.search(place) else value.value
    if isinstance(value, list):
        return [_plain(inner, f"{place}.{number}") for number, inner in enumerate(value)]
    if isinstance(value, dict):
        return {name: _plain(inner, f"{place}.{name}") for name, inner in value.items()}
    return value


def parse_section(model: type[ModelT], text: str) -> ModelT:
    """The section that a step was handed as canonical JSON text.

    Raises:
        ConfigError: The text does not validate.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        section = model.__name__.removesuffix("Settings")
        raise ConfigError(f"{section} section: {error}") from error


def canonical_json(section: BaseModel | Sequence[Any] | dict[str, Any] | str | None) -> str:
    """The one JSON text of a section: sorted keys, no spaces, so that equal settings are equal cache keys."""
    value = section.model_dump(mode="json") if isinstance(section, BaseModel) else section
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _explain(error: ValidationError, data: Any) -> list[tuple[tuple[Any, ...], str]]:
    """Each error's place in the file (without the union tags that pydantic adds) and its message."""
    found = []
    for item in error.errors(include_url=False):
        loc = item["loc"]
        place: list[Any] = []
        value = data
        for i, part in enumerate(loc):
            stands_there = (
                part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
            )
            if stands_there:
                place.append(part)
                value = value[part]
            elif i == len(loc) - 1 and item["type"] == "missing":
                place.append(part)
        if item["type"] in ("unknown_key", "truth"):
            place.append(item["ctx"]["key"])
        if item["type"] == "tune":
            place += ["tune", item["ctx"]["key"]]
        if item["type"] == "no_attribute":
            place += ["index", "vector_search", item["ctx"]["key"]]
        if item["type"] == "no_slice":
            place += ["evaluation", "slices"]
        if item["type"].startswith("union_tag"):
            place.append("type")
        message = _message(item)
        if (tuple(place), message) not in found:
            found.append((tuple(place), message))
    return found


def _message(error: ErrorDetails) -> str:
    """What is wrong, in words of the configuration rather than of pydantic."""
    context = error.get("ctx", {})
    if error["type"] == "missing":
        return "this key is required"
    if error["type"] == "union_tag_not_found":
        return "this key is required, to tell which kind of settings this is"
    if error["type"] == "union_tag_invalid":
        known = re.findall(r"'([^']+)'", context["expected_tags"])
        return f"there is no {context['tag']!r}{did_you_mean(context['tag'], known)} (known: {', '.join(known)})"
    return error["msg"]


def _line_of(node: yaml.Node | None, loc: Sequence[Any]) -> int | None:
    """The line (from 1) of the deepest part of `loc` that stands in the file."""
    line = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_duplicate_keys(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{path}:{line}: the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
            _refuse_duplicate_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicate_keys(value, path)
