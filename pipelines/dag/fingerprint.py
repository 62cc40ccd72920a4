"""A fingerprint of the code that a step uses, so that caching notices a changed line and ignores the others.

KFP's cache key sees a component's own source but not the library that it imports.  So every cached step gets, as an
input, the hash of the project's modules that its body reaches through imports, followed symbol by symbol through a
room's `__init__.pyi`, plus the modules of the plug-ins (feature types, loss, baselines, checks) that the step's
configuration selects.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("two_tower", "components")

NOT_COUNTED = ("two_tower.config", "two_tower.settings", "two_tower.errors", "two_tower.extras", "two_tower.progress")
"""Modules whose effect on a result is an input already (the settings), or that have none."""


def fingerprint(module: str, *, sections: Iterable[Any] = ()) -> str:
    """Sixteen hexadecimal digits of the source that `module` and the plug-ins in `sections` reach."""
    reached: set[str] = set()
    waiting = [module, *plugin_modules(sections)]
    while waiting:
        current = waiting.pop()
        if current in reached or any(current == name or current.startswith(f"{name}.") for name in NOT_COUNTED):
            continue
        reached.add(current)
        waiting.extend(_imports(current))
    digest = hashlib.sha256()
    for name in sorted(reached):
        file = _file_of(name)
        if file is not None:
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def plugin_modules(value: Any) -> Iterator[str]:
    """The modules that define the settings found anywhere inside `value`, apart from the configuration's own."""
    if isinstance(value, BaseModel):
        yield type(value).__module__
        for name in type(value).model_fields:
            yield from plugin_modules(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from plugin_modules(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from plugin_modules(item)


def _file_of(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The project's modules that a module imports anywhere in its source."""
    file = _file_of(module)
    if file is None:
        return ()
    found = list(_stub(module).values())  # a room that is imported as a whole reaches all of its doors
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _is_ours(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            found += [_module_of(node.module, alias.name) for alias in node.names]
    return tuple(found)


def _module_of(package: str, name: str) -> str:
    """The module that `from package import name` reads."""
    if _file_of(f"{package}.{name}") is not None:
        return f"{package}.{name}"
    return _stub(package).get(name, package)


@cache
def _stub(package: str) -> dict[str, str]:
    """For every name that a room exports through its stub, the module that defines it."""
    stub = ROOT.joinpath(*package.split("."), "__init__.pyi")
    if not stub.is_file():
        return {}
    return {
        alias.name: f"{package}.{node.module}"
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in PROJECT
