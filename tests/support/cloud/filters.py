"""Lists: filter expressions (AIP-160, as far as the clients send them), order, pages, read masks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cloud.errors import invalid

TOKEN = re.compile(r"""\s*(\(|\)|!=|<=|>=|=|<|>|:|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s()=!<>:"']+)""")
OPERATORS = ("=", "!=", "<", ">", "<=", ">=", ":")
Predicate = Callable[[Mapping[str, Any]], bool]


def parse_filter(text: str, *, fields: Iterable[str]) -> Predicate:
    """Whether a resource (its fields in snake case) matches the expression.

    Knows AND, OR, NOT, parentheses, the comparisons, `labels.key`, wildcards and `:*`, as the service documents it.
    """
    tokens, position = [], 0
    while text[position:].strip():
        found = TOKEN.match(text, position)
        if not found:
            raise invalid(f"Invalid filter {text!r} at {position}.")
        tokens.append(found[1])
        position = found.end()
    if not tokens:
        return lambda resource: True
    parser = _Parser(tokens, text, frozenset(fields))
    predicate = parser.either()
    if parser.tokens:
        raise invalid(f"Invalid filter {text!r} near {parser.tokens[0]!r}.")
    return predicate


class _Parser:
    def __init__(self, tokens: list[str], text: str, fields: frozenset[str]) -> None:
        self.tokens, self.text, self.fields = tokens, text, fields

    def take(self) -> str:
        if not self.tokens:
            raise invalid(f"Invalid filter {self.text!r}: it ends too early.")
        return self.tokens.pop(0)

    def either(self) -> Predicate:
        parts = [self.both()]
        while self.tokens and self.tokens[0] == "OR":
            self.take()
            parts.append(self.both())
        return lambda resource: any(part(resource) for part in parts)

    def both(self) -> Predicate:
        parts = [self.one()]
        while self.tokens and self.tokens[0] == "AND":
            self.take()
            parts.append(self.one())
        return lambda resource: all(part(resource) for part in parts)

    def one(self) -> Predicate:
        token = self.take()
        if token == "NOT":
            inner = self.one()
            return lambda resource: not inner(resource)
        if token == "(":
            inner = self.either()
            if self.take() != ")":
                raise invalid(f"Invalid filter {self.text!r}: missing ')'.")
            return inner
        return self.comparison(_snake(token))

    def comparison(self, name: str) -> Predicate:
        operator = self.take()
        value = self.value()
        field, _, key = name.partition(".")
        if operator not in OPERATORS or (field if field == "labels" else name) not in self.fields:
            raise invalid(f"Invalid filter {self.text!r}: {name}{operator} is not supported.")

        def matches(resource: Mapping[str, Any]) -> bool:
            found = (resource.get("labels") or {}).get(key) if field == "labels" else resource.get(name)
            return _compare(found, operator, value)

        return matches

    def value(self) -> str:
        token = self.take()
        while self.tokens and self.tokens[0] == ":" and token[0] not in "\"'":  # a time without quotes
            token += self.take() + self.take()
        return re.sub(r"\\(.)", r"\1", token[1:-1]) if token[0] in "\"'" else token


def _snake(name: str) -> str:
    head, dot, key = name.partition(".")
    snake = re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found[1].lower(), head)
    return f"{snake}{dot}{key}"


def _compare(found: Any, operator: str, value: str) -> bool:
    if operator == ":":
        return found is not None and fnmatch.fnmatchcase(str(found), value)
    if isinstance(found, datetime):
        wanted: Any = datetime.fromisoformat(value)
        wanted = wanted if wanted.tzinfo else wanted.replace(tzinfo=UTC)
    else:
        found, wanted = found if found is None else str(found), value
    if operator in ("=", "!="):
        return (found == wanted) == (operator == "=")
    if found is None:
        return False
    return {"<": found < wanted, ">": found > wanted, "<=": found <= wanted, ">=": found >= wanted}[operator]


def ordered(resources: list[Any], order_by: str, *, key: Callable[[Any, str], Any]) -> list[Any]:
    """The resources in the order asked for; newest first without one."""
    for part in reversed((order_by or "create_time desc").split(",")):
        name, _, direction = part.strip().partition(" ")
        resources = sorted(
            resources, key=lambda resource, name=name: key(resource, _snake(name)), reverse=direction.strip() == "desc"
        )
    return resources


def page(resources: list[Any], size: int, token: str, *, default: int = 100) -> tuple[list[Any], str]:
    """One page of a list and the token of the next."""
    start = int(token or 0)
    end = start + (size or default)
    return resources[start:end], str(end) if end < len(resources) else ""
