"""The reference of every key, docs/configuration.md, written from the models.

`python -m two_tower.config.reference FILE` writes it, with `--check` it says whether the file is current.  It is made
of the JSON Schema that `two-tower config schema` prints, so that a page and an editor tell the same.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from two_tower.config.config import Config
from two_tower.config.environment import Environment
from two_tower.config.wording import default_of, escaped, meanings_of, type_of
from two_tower.settings import Settings
from two_tower.steps import STEPS

Schema = dict[str, Any]

CHOICES = {
    "data.split": ("Splits", "split"),
    "data.items.features.NAME": ("Feature types", "feature"),
    "model.history": ("History encoders", "encoder"),
    "training.loss": ("Losses", "loss"),
    "evaluation.baselines.N": ("Baselines", "baseline"),
    "evaluation.gate.N": ("Gate checks", "check"),
}
"""Where a key takes one of several kinds of settings: the heading of all the kinds, and what one of them is called."""

INTRODUCTION = """\
# Every key

What a data set's file may say (`configs/NAME.yaml`), and what an environment file may. `two-tower config check FILE`
looks at a file; a wrong key is named with its line and the nearest valid one. `two-tower config show FILE` prints it
with its defaults, `two-tower config schema` is for an editor. This page is written from the models, by
`python -m two_tower.config.reference docs/configuration.md`.

- A key is written with dots, as `--set` takes it: `--set training.epochs=3`. In it NAME stands for a name that you
  give, STEP for a step of the pipeline, N for a place in a list, from 0.
- A key that is **required** is so where its section stands. Where the default is `null`, nothing is set, and `null` may
  be written. A section without a default is made of its keys' defaults.
- `auto` is chosen once the data is known ([training.md](training.md#what-auto-chooses), or as the key says).
- A duration is a whole number and its unit: `30s`, `15m`, `12h`, `14d` or `2w`.
- Of a number's bounds those from 10⁹ on are left out.
"""


def reference() -> str:
    """The page."""
    files = [
        _File("The configuration", Config, "", "One data set's file. [data.md](data.md) goes through one."),
        _File(
            "The environment file",
            Environment,
            "env.",
            "Where and when the pipeline runs: `--env FILE`. [vertex.md](vertex.md), [kubeflow.md](kubeflow.md) and "
            "[scheduling.md](scheduling.md) go through one each.",
        ),
    ]
    page = _Page(files)
    return "\n".join([INTRODUCTION, page.contents(), *page.parts()])


@dataclass
class _File:
    """A kind of file, by the model of all that it holds."""

    title: str
    model: type[Settings]
    prefix: str
    """What its anchors begin with."""
    about: str
    schema: Schema = field(init=False)

    def __post_init__(self) -> None:
        self.schema = self.model.model_json_schema()


@dataclass
class _Section:
    """One model, with all the places where it stands."""

    file: _File
    model: str
    """Its name in the schema, empty for the whole file."""
    places: list[str]

    @property
    def anchor(self) -> str:
        return f"{self.file.prefix}{self.places[0]}"

    @property
    def schema(self) -> Schema:
        found: Schema = self.file.schema["$defs"][self.model] if self.model else self.file.schema
        return found

    @property
    def is_at_the_top(self) -> bool:
        """Whether its key is one of the file's own."""
        return bool(self.model) and "." not in re.sub(r"\.(NAME|STEP)$", "", self.places[0])


class _Page:
    """The sections in the order of the files, each model once, and the kinds that a key may choose from."""

    def __init__(self, files: list[_File]) -> None:
        self.files = files
        self.sections: dict[str, _Section] = {}
        self.choices: dict[str, list[_Section]] = {}
        self.chosen: dict[tuple[str, ...], str] = {}
        for file in files:
            self._add(_Section(file, "", [""]), "")

    def contents(self) -> str:
        """Links to all sections, a line each for the files and the kinds."""
        lines = []
        for file in self.files:
            sections = [_link(section) for section in self._of(file) if section.is_at_the_top]
            lines.append(f"- [{file.title}](#{_slug(file.title)}): {', '.join(sections)}")
            if file is self.files[0]:
                for place, kinds in self.choices.items():
                    title = CHOICES[place][0]
                    names = [_code_link(_kind(one), f"{_slug(title)}.{_kind(one)}") for one in kinds]
                    lines.append(f"- [{title}](#{_slug(title)}): {', '.join(names)}")
        return "\n".join(_filled(line, indent="  ") for line in lines) + "\n"

    def parts(self) -> Iterator[str]:
        """The page's parts: a file's sections, and after the first file's the kinds."""
        for file in self.files:
            yield f"## {file.title}\n\n{file.about}\n"
            yield from map(self._shown, self._of(file))
            if file is self.files[0]:
                for place, kinds in self.choices.items():
                    yield from self._shown_choice(place, kinds)

    def _of(self, file: _File) -> list[_Section]:
        return [section for section in self.sections.values() if section.file is file]

    def _add(self, section: _Section, place: str) -> None:
        """Adds a section and those below it; one that stands elsewhere already gets another place."""
        if known := self.sections.get(section.model):
            known.places += [one for one in section.places if one not in known.places]
            return
        self.sections[section.model or section.file.title] = section
        for key, value in section.schema["properties"].items():
            for name, inner in _inner(value, f"{place}.{key}".lstrip(".")):
                if isinstance(name, tuple):
                    self._choose(section.file, name, inner)
                else:
                    self._add(_Section(section.file, name, [inner]), inner)

    def _choose(self, file: _File, models: tuple[str, ...], place: str) -> None:
        """Adds the kinds that stand at a place, once."""
        if models not in self.chosen:
            self.chosen[models] = place
            self.choices[place] = [_Section(file, name, [place]) for name in models]

    def _shown(self, section: _Section) -> str:
        if not section.model:
            return _table(section, "", self._type) + "\n"
        title = section.places[0]
        lines = [f'### <a id="{section.anchor}"></a>{title}', "", *_paragraphs(section.schema["description"])]
        if others := section.places[1:]:
            lines += [f"The same keys stand below {_listed([f'`{other}`' for other in others])}.", ""]
        return "\n".join([*lines, _table(section, f"{title}.", self._type), ""])

    def _shown_choice(self, place: str, kinds: list[_Section]) -> Iterator[str]:
        title, one = CHOICES[place]
        yield f"## {title}\n\nThe kinds of {one} for {_listed(self._places(place))}, by their `type`.\n"
        common = _common(kinds)
        if common:
            yield f"Each kind takes:\n\n{_table(kinds[0], '', self._type, only=common, anchor=_slug(title))}\n"
        for kind in kinds:
            anchor = f"{_slug(title)}.{_kind(kind)}"
            head = [f'### <a id="{anchor}"></a>type: {_kind(kind)}', "", *_paragraphs(kind.schema["description"])]
            own = [key for key in kind.schema["properties"] if key not in (*common, "type")]
            table = [_table(kind, "", self._type, only=own, anchor=anchor), ""] if own else []
            yield "\n".join([*head, *table])

    def _places(self, place: str) -> list[str]:
        """Every key that takes the kinds of this one."""
        same = {models for models, first in self.chosen.items() if first == place}
        found: list[str] = []
        for section in self.sections.values():
            for key, value in section.schema["properties"].items():
                above = f"{section.places[0]}." if section.model else ""
                found += [f"`{inner}`" for name, inner in _inner(value, f"{above}{key}") if name in same]
        return found

    def _type(self, value: Schema) -> str:
        """A key's type, in which sections and kinds are links."""
        links = {name: f"[section](#{section.anchor})" for name, section in self.sections.items()}
        for models, place in self.chosen.items():
            title, one = CHOICES[place]
            links[",".join(models)] = f"[{one}](#{_slug(title)})"
        return type_of(value, links)


def _inner(value: Schema, place: str) -> Iterator[tuple[str | tuple[str, ...], str]]:
    """The models below a key, each with its place: a name, or the names of those that `type` chooses from."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], place
    elif "discriminator" in value:
        yield tuple(one["$ref"].rpartition("/")[2] for one in value["oneOf"]), place
    else:
        for one in value.get("anyOf") or value.get("oneOf") or []:
            yield from _inner(one, place)
    if isinstance(value.get("items"), dict):
        yield from _inner(value["items"], f"{place}.N")
    of_steps = set(STEPS).issubset(value.get("propertyNames", {}).get("enum", []))
    for one in (value.get("additionalProperties"), *value.get("patternProperties", {}).values()):
        if isinstance(one, dict):
            yield from _inner(one, f"{place}.{'STEP' if of_steps else 'NAME'}")


def _common(kinds: list[_Section]) -> list[str]:
    """The keys that every kind has, and has alike."""
    first, *others = [kind.schema["properties"] for kind in kinds]
    return [key for key, value in first.items() if all(other.get(key) == value for other in others)]


def _table(
    section: _Section,
    prefix: str,
    typed: Callable[[Schema], str],
    *,
    only: list[str] | None = None,
    anchor: str | None = None,
) -> str:
    """The keys of a section, a row each."""
    rows = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    meanings = meanings_of(section.model or section.file.model.__name__, section.schema, section.file.schema)
    for key, value in section.schema["properties"].items():
        if only is not None and key not in only:
            continue
        at = f"{anchor}.{key}" if anchor else f"{section.file.prefix}{prefix}{key}"
        kind, default = typed(value), default_of(value)
        shown = _code_link(f"{prefix}{key}", at) if f"(#{at})" in kind else _target(f"{prefix}{key}", at)
        required = "**required**" if key in section.schema.get("required", ()) else default
        rows.append(f"| {shown} | {kind} | {required} | {meanings[key]} |")
    return "\n".join(rows)


def _target(key: str, anchor: str) -> str:
    """A key that links can point to, and that is a link to itself, to be copied."""
    return f'<a id="{anchor}" href="#{anchor}"><code>{key}</code></a>'


def _code_link(text: str, anchor: str) -> str:
    return f"[`{text}`](#{anchor})"


def _link(section: _Section) -> str:
    return _code_link(section.places[0], section.anchor)


def _kind(section: _Section) -> str:
    kind: str = section.schema["properties"]["type"]["const"]
    return kind


def _slug(title: str) -> str:
    """The anchor that a heading has by itself."""
    return title.lower().replace(" ", "-")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def _paragraphs(text: str) -> list[str]:
    """A docstring's paragraphs, each with an empty line behind."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [_filled(escaped(" ".join(paragraph.split()))), ""]
    return lines


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Writes the page, or with `--check` ends with 1 where the file is not what would be written."""
    parser = argparse.ArgumentParser(prog="python -m two_tower.config.reference", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the file is current")
    given = parser.parse_args()
    if not given.check:
        given.file.write_text(reference(), encoding="utf-8")
    elif not given.file.is_file() or given.file.read_text(encoding="utf-8") != reference():
        sys.exit(f"{given.file} is not current; {sys.executable} -m two_tower.config.reference {given.file} renews it")


if __name__ == "__main__":
    main()
