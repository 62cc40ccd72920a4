"""The project's metadata, as pyproject.toml has it."""

import re
import tomllib
from pathlib import Path
from typing import Any

PROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def requirements_of(extra: str) -> list[str]:
    """The requirements of an extra, those of the extras that it names included."""
    found = []
    for requirement in PROJECT["optional-dependencies"][extra]:
        named = re.fullmatch(r"two-tower\[(.+)\]", requirement)
        found += [each for name in named[1].split(",") for each in requirements_of(name)] if named else [requirement]
    return found


def package_of(requirement: str) -> str:
    """The name of the package that a requirement asks for."""
    return re.match(r"[\w.-]+", requirement)[0]
