"""A fingerprint of the code that a step uses, so that caching notices a changed line and ignores the others.

KFP's cache key sees a component's own source but not the library that it imports.  So every cached step gets, as an
input, the hash of the project's modules that its body reaches through imports, plus the modules of the plug-ins
(feature types, loss, baselines, checks) that the step's configuration selects.  A name of a package's door, its
`__init__.pyi`, is followed to the module that defines it: `from two_tower.model import train` and `tt.train` after
`import two_tower as tt` reach that module, not all that the package offers.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("two_tower", "components")

NOT_COUNTED = (
    "two_tower.config", "two_tower.settings", "two_tower.steps", "two_tower.errors", "two_tower.extras",
    "two_tower.progress",
    "components.child_process", "components.ending", "components.step_log",
)  # fmt: skip
"""Modules whose effect on a result is an input already (the settings), or that have none (lines, processes' ends)."""


def fingerprint(module: str, *, sections: Iterable[Any] = ()) -> str:
    """Sixteen hexadecimal digits of the source that `module` and the plug-ins in `sections` reach."""
    digest = hashlib.sha256()
    for name, file in modules_reached(module, sections=sections).items():
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def modules_reached(module: str, *, sections: Iterable[Any] = ()) -> dict[str, Path]:
    """The files of the modules that `module` and the plug-ins in `sections` reach, themselves included, by name.

    Raises:
        FileNotFoundError: There is no such module.
    """
    if _file_of(module) is None:
        raise FileNotFoundError(f"{module}: no such module below {ROOT}")
    reached: dict[str, Path] = {}
    waiting = [module, *plugin_modules(sections)]
    while waiting:
        current = waiting.pop()
        file = _file_of(current)
        if file is not None and current not in reached and _is_counted(current):
            reached[current] = file
            waiting.extend(_imports(current))
    return dict(sorted(reached.items()))


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


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in PROJECT


def _is_counted(module: str) -> bool:
    return not any(module == name or module.startswith(f"{name}.") for name in NOT_COUNTED)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The project's modules that a module imports anywhere in its source, less what is there for types alone."""
    file = _file_of(module)
    if file is None:
        return ()
    tree = _WithoutTypes().visit(ast.parse(file.read_text(encoding="utf-8")))
    found = _Imports()
    found.visit(tree)
    found.follow_attributes(tree)
    return tuple(dict.fromkeys(found.modules))


class _WithoutTypes(ast.NodeTransformer):
    """Leaves out what stands below `if TYPE_CHECKING`, which never runs."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


class _Imports(ast.NodeVisitor):
    """Collects the modules that a source imports, and the names that it gives to modules."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.bound: dict[str, str] = {}
        """The modules that are imported as such, by their names in the source; what is used of them is looked up."""

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if _is_ours(alias.name):
                self.bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                self.modules += [] if _door(alias.name) else [alias.name]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module is None or not _is_ours(node.module):
            return
        for alias in node.names:
            defining, rest = _follow(node.module, [alias.name])
            if alias.name == "*":
                self.modules += _whole(node.module)
            elif rest:
                self.modules.append(defining)
            else:
                self.bound[alias.asname or alias.name] = defining
                self.modules += [] if _door(defining) else [defining]

    def follow_attributes(self, tree: ast.AST) -> None:
        """Adds the modules that define what is used of the modules that have names here."""
        for chain in _chains(tree):
            if chain[0] in self.bound:
                defining, rest = _follow(self.bound[chain[0]], chain[1:])
                self.modules += [defining] if rest else _whole(defining)


def _chains(node: ast.AST) -> Iterator[list[str]]:
    """Every name that is read, with the attributes that are read of it: `a.b.c()` is [a, b, c]."""
    names: list[str] = []
    inner = node
    while isinstance(inner, ast.Attribute):
        names.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield [inner.id, *names]
        return
    for child in ast.iter_child_nodes(inner):
        yield from _chains(child)


def _follow(module: str, names: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The module that attributes of a module lead to, through doors and packages, and those that it defines itself."""
    while names:
        first, *rest = names
        at_the_door = _door(module).get(first)
        if at_the_door is not None:
            module, names = at_the_door[0], [*at_the_door[1], *rest]
        elif _file_of(f"{module}.{first}") is not None:
            module, names = f"{module}.{first}", rest
        else:
            break
    return module, names


def _whole(module: str) -> list[str]:
    """The module, or all that define what its door offers."""
    return [_follow(module, [name])[0] for name in _door(module)] or [module]


@cache
def _door(package: str) -> dict[str, tuple[str, list[str]]]:
    """For every name that a package exports through its stub, the module it is taken from, and its name there."""
    stub = ROOT.joinpath(*package.split("."), "__init__.pyi")
    if not stub.is_file():
        return {}
    found = {}
    for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                taken = (f"{package}.{node.module}", [alias.name]) if node.module else (f"{package}.{alias.name}", [])
                found[alias.asname or alias.name] = taken
    return found
