"""Commands, paths and ids as a person would type them."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

DEFAULT_WORKDIR = Path("runs")
T = TypeVar("T")


def command_line(*arguments: str | Path, **options: str | Path | Sequence[str] | None) -> str:
    """`two-tower ARGUMENTS --OPTION VALUE …`, quoted so that a shell hands on every value as it is.

    Options that are None are left out, `workdir` also where it is the default; a list stands for an option that is
    given several times.
    """
    words = [_program(), *(_operand(argument) for argument in arguments)]
    for name, value in options.items():
        if value is None or (name == "workdir" and Path(str(value)).resolve() == DEFAULT_WORKDIR.resolve()):
            continue
        for one in [value] if isinstance(value, (str, Path)) else value:
            words += _option(f"--{name}", one)
    return shlex.join(words)


def shown(path: str | Path | None) -> str:
    """A path relative to here where that is shorter; nothing for None."""
    if path is None:
        return ""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def meant(given: str, entries: Iterable[T], id_of: Callable[[T], str]) -> list[T]:
    """The entries with this id, or else those whose ids begin so.

    Nothing, such as an empty variable of a shell, means none, although every id begins with it.
    """
    begin = [entry for entry in entries if given and id_of(entry).startswith(given)]
    return [entry for entry in begin if id_of(entry) == given] or begin


def _program() -> str:
    """This command's name where it is on the PATH, else its path."""
    return "two-tower" if shutil.which("two-tower") else shown(Path(sys.executable).parent / "two-tower")


def _operand(argument: str | Path) -> str:
    """An argument that is no option, whatever it begins with."""
    if isinstance(argument, str):
        return argument
    return f"./{text}" if (text := shown(argument)).startswith("-") else text


def _option(name: str, value: str | Path) -> Iterator[str]:
    """An option's words; one word where the value looks like an option itself."""
    text = shown(value) if isinstance(value, Path) else value
    yield from [f"{name}={text}"] if text.startswith("-") else [name, text]
