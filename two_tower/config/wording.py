"""How the reference words what a JSON Schema says of a key: its type, its default, its meaning."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from two_tower.settings import Settings
from two_tower.steps import STEPS

Schema = dict[str, Any]

UNBOUNDED = 10**9
"""A bound that is no smaller is only there because some library counts no further."""
DURATION = r"^\d+\s*[smhdw]$"
NAMES = {"boolean": "true or false", "scalar": "any scalar"}


def type_of(value: Schema, links: Mapping[str, str]) -> str:
    """A key's type in words; `links` are those of the models, by their names in the schema."""
    if "$ref" in value:
        return links[_name(value)]
    if "discriminator" in value:
        return links[",".join(map(_name, value["oneOf"]))]
    if "const" in value or "enum" in value:
        return _one_of([f"`{one}`" for one in value.get("enum", [value.get("const")])])
    if kinds := value.get("anyOf", value.get("oneOf")):
        return _any_of(kinds, value, links)
    kind = value.get("type")
    if kind == "array":
        size = f" ({value['minItems']} or more)" if "minItems" in value else ""
        return f"list{size}: {type_of(value['items'], links)}" if value["items"] else f"list{size}"
    if kind == "object":
        return _mapping(value, links)
    if kind in ("integer", "number"):
        return " ".join([{"integer": "whole number", "number": "number"}[kind], *_bounds(value)])
    if kind == "string":
        return _text(value)
    return NAMES.get(kind or "", "any value")


def default_of(value: Schema) -> str:
    """The default as it is written in a file; nothing where it is a section's, whose keys have their own."""
    if "default" not in value or "$ref" in value or (isinstance(value["default"], dict) and _is_section(value)):
        return ""
    written = yaml.safe_dump(value["default"], default_flow_style=True, width=1000)
    return f"`{written.strip().removesuffix('...').strip()}`"


def meanings_of(model: str, schema: Schema, whole: Schema) -> dict[str, str]:
    """What each key of a model means: its description, its docstring in the code, or what its section is about."""
    docstrings = _docstrings(model)
    found = {}
    for key, value in schema["properties"].items():
        section = next((whole["$defs"][name]["description"] for name in _sections(value)), "")
        text = value.get("description") or docstrings.get(key) or section.partition("\n\n")[0]
        found[key] = " ".join(escaped(" ".join(text.split())).split() + _form(value))
    return found


def escaped(text: str) -> str:
    """The text for a page in Markdown: what stands between backticks stays, but for bars, which would end a cell."""
    parts = text.split("`")
    for number, part in enumerate(parts):
        if number % 2 == 0:
            part = part.replace("\\", "\\\\").replace("<", "&lt;").replace("*", "\\*")
        parts[number] = part.replace("|", "\\|")
    return re.sub(r"\bdocs/(\w+\.md)", r"[\1](\1)", "`".join(parts))


def _docstrings(model: str) -> dict[str, str]:
    """The texts below the fields of a settings class, those of its bases included."""
    classes = [one for one in _all_settings(Settings) if one.__name__ == model]
    found: dict[str, str] = {}
    for base in reversed(classes[0].__mro__ if classes else ()):
        if issubclass(base, Settings) and base is not Settings:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            for one, below in zip(body.body, body.body[1:], strict=False):
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr):
                    found[one.target.id] = ast.literal_eval(below.value)
    return found


def _all_settings(base: type[Settings]) -> list[type[Settings]]:
    """Every settings class of the library."""
    below = [inner for one in base.__subclasses__() for inner in (one, *_all_settings(one))]
    return [one for one in below if one.__module__.startswith("two_tower.")]


def _name(value: Schema) -> str:
    name: str = value["$ref"].rpartition("/")[2]
    return name


def _sections(value: Schema) -> list[str]:
    """The models that a key holds, itself or in a list or mapping."""
    held = [value, *value.get("anyOf", []), value.get("items"), value.get("additionalProperties")]
    return [_name(one) for one in held if isinstance(one, dict) and "$ref" in one]


def _is_section(value: Schema) -> bool:
    return any("$ref" in one for one in value.get("anyOf", []))


def _any_of(kinds: list[Schema], value: Schema, links: Mapping[str, str]) -> str:
    """The types between which a key may choose; null is not named where it is the default."""
    is_unset = "default" in value and value["default"] is None
    if {"string", "number", "boolean"} <= {one.get("type") for one in kinds}:
        kinds = [{"type": "scalar"}, *(one for one in kinds if one.get("type") not in ("string", "number", "boolean"))]
    if {"type": "integer"} in kinds and {"type": "number"} in kinds:
        kinds = [one for one in kinds if one != {"type": "integer"}]
    flat = [inner for one in kinds for inner in (one["anyOf"] if set(one) == {"anyOf"} else [one])]
    named = [one for one in flat if not (is_unset and one == {"type": "null"})]
    named.sort(key=lambda one: (one == {"type": "null"}, "const" in one))
    return _one_of([name for one in named for name in _alternatives(one, links)])


def _alternatives(kind: Schema, links: Mapping[str, str]) -> list[str]:
    names = {"null": ["`null`"], "boolean": ["true", "false"]}
    return names.get(kind.get("type", "")) or [type_of(kind, links)]


def _one_of(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else names[0]


def _mapping(value: Schema, links: Mapping[str, str]) -> str:
    """A mapping's type: what its keys are, where they are known, and its values' type."""
    names = value.get("propertyNames", {}).get("enum", [])
    by = " by step" if {*STEPS} <= {*names} else f" by {_one_of([f'`{name}`' for name in names])}" if names else ""
    inner = [value.get("additionalProperties"), *value.get("patternProperties", {}).values()]
    values = [type_of(one, links) for one in inner if isinstance(one, dict)]
    return f"mapping{by}: {values[0]}" if values else f"mapping{by}"


def _bounds(value: Schema) -> list[str]:
    """The bounds of a number in words, none where there is none to mention."""
    low, above = value.get("minimum"), value.get("exclusiveMinimum")
    high, below = (_mentioned(value.get(name)) for name in ("maximum", "exclusiveMaximum"))
    if low is not None and high is not None:
        return [f"({_number(low)} to {_number(high)})"]
    ends = {"above": above, "from": low, "below": below, "at most": high}
    said = [f"{word} {_number(end)}" for word, end in ends.items() if end is not None]
    return [f"({', '.join(said)})"] if said else []


def _mentioned(bound: float | None) -> float | None:
    return bound if bound is not None and bound < UNBOUNDED else None


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}".replace("e-0", "e-")


def _text(value: Schema) -> str:
    if value.get("pattern") == DURATION:
        return "duration"
    examples = [f"`{one}`" for one in value.get("examples", [])]
    return f"text such as {_one_of(examples)}" if examples else "text"


def _form(value: Schema) -> list[str]:
    """The pattern that a text has to match, where nothing else shows what it looks like."""
    for one in (value, *value.get("anyOf", [])):
        pattern = one.get("pattern")
        if pattern and pattern != DURATION and "examples" not in one and not re.search(r"[()]", pattern):
            return [f"Form: `{escaped(f'`{pattern}`')[1:-1]}`."]
    return []
