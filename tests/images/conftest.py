"""The Dockerfile, read into stages, and its stages run outside a container."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.build import IMAGE_OF

ROOT = Path(__file__).parents[2]


@dataclass
class Instruction:
    """One instruction: `COPY --from=beam a b` has the name COPY, the flag `from` and the value `a b`."""

    name: str
    value: str
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The value's words: of an array, or as a shell would split it."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


class Dockerfile:
    """A Dockerfile's stages, with variables where they stand; no here-documents, no parser directives."""

    def __init__(self, text: str) -> None:
        self.arguments: dict[str, str] = {}
        """The defaults of the arguments before the first stage."""
        self.stages: dict[str, Stage] = {}
        lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        current: Stage | None = None
        for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
            if not line.strip():
                continue
            name, _, rest = line.strip().partition(" ")
            flags = {}
            while match := re.match(r"--([a-z-]+)(?:=(\S+))?\s+", rest):
                flags[match[1]] = match[2] or ""
                rest = rest[match.end() :]
            instruction = Instruction(name.upper(), rest.strip(), flags)
            if instruction.name == "FROM":
                base, _, alias = instruction.value.partition(" AS ")
                current = self.stages.setdefault(alias, Stage(alias, base))
                assert alias and not current.instructions, f"a stage without a name of its own: {line}"
            elif current is None:
                assert instruction.name == "ARG", line
                self.arguments.update([instruction.value.split("=", 1)])
            else:
                current.instructions.append(instruction)

    def lineage(self, stage: str) -> list[Stage]:
        """The stage and those that it is built on, the first one first."""
        found = self.stages[stage]
        return [*(self.lineage(found.base) if found.base in self.stages else []), found]

    def instructions(self, stage: str, *names: str) -> list[Instruction]:
        """The instructions of the stage and of those that it is built on; with `names` only these."""
        every = [each for stage in self.lineage(stage) for each in stage.instructions]
        return [each for each in every if not names or each.name in names]

    def base(self, stage: str) -> str:
        """The image that the stage is built on in the end."""
        return expanded(self.lineage(stage)[0].base, self.arguments)

    def variables(self, stage: str, **given: str) -> dict[str, str]:
        """The stage's environment variables and build arguments, in `given` or by default."""
        values = dict(given)
        for each in self.instructions(stage, "ARG", "ENV"):
            for word in each.words:
                name, _, value = word.partition("=")
                if each.name == "ENV" or name not in values:
                    values[name] = expanded(value, values)
        return values


def expanded(text: str, variables: dict[str, str]) -> str:
    """The text with `$NAME` and `${NAME}` replaced."""
    return re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda match: variables.get(match[1], ""), text)


class Sandbox:
    """A folder in place of a container's root, in which a stage's instructions are run.

    The folders that the Dockerfile makes lie in it; all else is this machine's, the Python of the base image too.
    """

    OWN = re.compile(r"(?<![\w./])/(opt|build|wheels|home/step)\b")
    QUICK = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink", "UV_NO_CACHE": "0"}
    """What only makes the image smaller or its start faster is left out."""

    def __init__(self, dockerfile: Dockerfile, folder: Path) -> None:
        self.dockerfile, self.folder = dockerfile, folder
        self.done: set[str] = set()
        self.python = folder / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nexec {sys._base_executable} "$@"\n')
        self.python.chmod(0o755)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "UV_"))
        } | {"CC": "false", "CXX": "false"}  # the base image has no compiler

    @property
    def venv(self) -> Path:
        return self.folder / "opt" / "venv"

    def inside(self, text: str) -> str:
        return self.OWN.sub(lambda match: f"{self.folder}/{match[1]}", text)

    def variables(self, stage: str) -> dict[str, str]:
        """The stage's environment variables."""
        values = self.dockerfile.variables(stage, PATH="SYSTEM")
        path = f"{self.python.parent}{os.pathsep}{os.defpath}"
        return {name: self.inside(value).replace("SYSTEM", path) for name, value in values.items()}

    def build(self, stage: str) -> None:
        """Runs the stage, those that it is built on, and those that it copies from: in this one folder, each once."""
        found = self.dockerfile.stages[stage]
        if stage in self.done:
            return
        self.done.add(stage)
        if found.base in self.dockerfile.stages:
            self.build(found.base)
        where = self.folder / "build"
        for each in found.instructions:
            if each.name == "WORKDIR":
                where = Path(self.inside(each.value))
                where.mkdir(parents=True, exist_ok=True)
            elif each.name == "COPY" and "from" in each.flags:
                self.build(each.flags["from"])  # the paths are equal on both sides
            elif each.name == "COPY":
                self._copy(each.words, where)
            elif each.name == "RUN":
                self.run(each.value, stage, where)

    def run(self, command: str, stage: str, where: Path) -> str:
        """Runs a command as the stage would; what it printed."""
        result = subprocess.run(
            ["sh", "-eu", "-c", self.inside(command)], env={**self.environment, **self.variables(stage), **self.QUICK},
            cwd=where, capture_output=True, text=True, timeout=540,
        )  # fmt: skip
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def _copy(self, words: list[str], where: Path) -> None:
        *sources, target = words
        for source in sources:
            to = where / target / (source if target.endswith("/") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copyfile(ROOT / source, to)


def sent_to_the_builder(path: str, ignored: str) -> bool:
    """Whether `.dockerignore` with the text `ignored` lets a path of the top folder through; the last match counts."""
    sent = True
    for line in ignored.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch.fnmatch(path, pattern.removeprefix("!")):
            sent = pattern.startswith("!")
    return sent


@pytest.fixture(scope="session")
def read_dockerfile() -> type[Dockerfile]:
    return Dockerfile


@pytest.fixture(scope="session")
def dockerfile() -> Dockerfile:
    return Dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def images(dockerfile, tmp_path_factory) -> dict[str, Sandbox]:
    """The environment of every image target, made as the Dockerfile says."""
    made = {}
    for target in sorted(set(IMAGE_OF.values())):
        made[target] = Sandbox(dockerfile, tmp_path_factory.mktemp("images") / target)
        stage = next(
            each.flags["from"] for each in dockerfile.instructions(target, "COPY") if each.words[-1] == "/opt/venv"
        )
        made[target].build(stage)
    return made


@pytest.fixture(scope="session")
def installs(images) -> dict[str, Path]:
    """The programs of fresh environments by what is installed: the project's wheel alone, or with an extra."""
    builder, made = images["prep"], {}
    (wheel,) = (builder.folder / "wheels").glob("*.whl")
    for name in ("base", "serve", "pipelines"):
        venv, extra = builder.folder / "installs" / name, "" if name == "base" else f"[{name}]"
        install = f"uv pip install --python {venv} --constraint requirements.lock 'two-tower{extra} @ file://{wheel}'"
        builder.run(
            f"uv venv --quiet --python {builder.python} {venv} && {install}", "builder", wheel.parents[1] / "build"
        )
        made[name] = venv / "bin"
    return made


@pytest.fixture(scope="session")
def is_sent():
    return sent_to_the_builder
