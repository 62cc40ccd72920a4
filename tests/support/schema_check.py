"""As much of JSON Schema as pydantic writes, to hold files against a schema without a further dependency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = {"$defs", "$schema", "title", "description", "default", "examples", "discriminator"}


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str = "") -> Iterator[str]:
    """What of `value` the schema does not allow, one text each.

    Raises:
        NotImplementedError: The schema uses a keyword that is not known here.
    """
    for keyword, rule in schema.items():
        if keyword in NOTES:
            continue
        if keyword not in CHECKS:
            raise NotImplementedError(keyword)
        yield from CHECKS[keyword](value, rule, schema, root, place)


def _ref(value: Any, rule: str, schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    yield from violations(value, root["$defs"][rule.removeprefix("#/$defs/")], root, place)


def _type(value: Any, rule: str, schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    if not isinstance(value, TYPES[rule]) or (isinstance(value, bool) and rule in ("integer", "number")):
        yield f"{place}: {value!r} is no {rule}"


def _properties(
    value: Any, rule: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], place: str
) -> Iterator[str]:
    for name in set(value) & set(rule) if isinstance(value, dict) else ():
        yield from violations(value[name], rule[name], root, f"{place}.{name}")


def _additional(value: Any, rule: Any, schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    for name in set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else ():
        if rule is False:
            yield f"{place}.{name}: unknown key"
        elif isinstance(rule, dict):
            yield from violations(value[name], rule, root, f"{place}.{name}")


def _pattern_properties(
    value: Any, rule: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], place: str
) -> Iterator[str]:
    for pattern, inner in rule.items():
        for name in value if isinstance(value, dict) else ():
            if re.search(pattern, name):
                yield from violations(value[name], inner, root, f"{place}.{name}")


def _property_names(
    value: Any, rule: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], place: str
) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        yield from violations(name, rule, root, f"{place}.{name}")


def _required(value: Any, rule: list[str], schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{place}.{name}: missing" for name in rule if name not in value)


def _items(value: Any, rule: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
    for number, each in enumerate(value) if isinstance(value, list) else ():
        yield from violations(each, rule, root, f"{place}.{number}")


def _one_of(
    value: Any, rule: list[dict[str, Any]], schema: dict[str, Any], root: dict[str, Any], place: str
) -> Iterator[str]:
    fitting = sum(not list(violations(value, option, root, place)) for option in rule)
    if fitting != 1:
        yield f"{place}: {value!r} fits {fitting} of the options"


def _any_of(
    value: Any, rule: list[dict[str, Any]], schema: dict[str, Any], root: dict[str, Any], place: str
) -> Iterator[str]:
    if all(list(violations(value, option, root, place)) for option in rule):
        yield f"{place}: {value!r} fits none of the options"


def _simple(allowed: Any) -> Any:
    def check(value: Any, rule: Any, schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[str]:
        if not allowed(value, rule):
            yield f"{place}: {value!r} breaks {rule!r}"

    return check


def _number(compare: Any) -> Any:
    return _simple(lambda value, rule: not isinstance(value, (int, float)) or compare(value, rule))


CHECKS = {
    "$ref": _ref,
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "patternProperties": _pattern_properties,
    "propertyNames": _property_names,
    "required": _required,
    "items": _items,
    "oneOf": _one_of,
    "anyOf": _any_of,
    "const": _simple(lambda value, rule: value == rule),
    "enum": _simple(lambda value, rule: value in rule),
    "pattern": _simple(lambda value, rule: not isinstance(value, str) or re.search(rule, value)),
    "format": _simple(lambda value, rule: {"date": date.fromisoformat}[rule](value)),
    "minLength": _simple(lambda value, rule: not isinstance(value, str) or len(value) >= rule),
    "maxLength": _simple(lambda value, rule: not isinstance(value, str) or len(value) <= rule),
    "minItems": _simple(lambda value, rule: not isinstance(value, list) or len(value) >= rule),
    "minimum": _number(lambda value, rule: value >= rule),
    "maximum": _number(lambda value, rule: value <= rule),
    "exclusiveMinimum": _number(lambda value, rule: value > rule),
    "exclusiveMaximum": _number(lambda value, rule: value < rule),
}
