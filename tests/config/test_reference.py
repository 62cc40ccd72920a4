"""docs/configuration.md: every key of the models, each with a meaning, and no link that leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from two_tower.config import Config, Environment
from two_tower.config.reference import reference
from two_tower.config.wording import default_of, escaped, type_of
from two_tower.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def rows() -> dict[str, list[str]]:
    """The cells behind each key's, by the place that links to the key lead to."""
    found = {}
    for line in reference().splitlines():
        key = re.match(r'\| (?:<a id="([^"]+)" |\[`[^`]+`\]\(#([^)]+)\))', line)
        if key:
            found[key[1] or key[2]] = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]
    return found


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "two_tower.config.reference", "--check", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_a_page_that_is_not_current_is_told_with_what_renews_it(tmp_path: Path) -> None:
    page = tmp_path / "configuration.md"
    missing = check(page)
    assert missing.returncode == 1
    command = f"{sys.executable} -m two_tower.config.reference {page}"
    assert missing.stderr == f"{page} is not current; {command} renews it\n"
    subprocess.run(command.split(), cwd=ROOT, check=True)
    assert (check(page).returncode, page.read_text(encoding="utf-8")) == (0, PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", [Config, Environment])
def test_every_key_of_every_model_has_a_row(model: type[Settings]) -> None:
    schema, there = model.model_json_schema(), [anchor.rpartition(".")[2] for anchor in rows()]
    for one in [schema, *schema["$defs"].values()]:
        assert set(one["properties"]) - {"type"} <= set(there)


def test_every_key_has_a_type_and_a_meaning() -> None:
    there = rows()
    assert len(there) > 250
    assert [key for key, (kind, _, meaning) in there.items() if not kind or not meaning] == []


def test_every_link_leads_somewhere() -> None:
    page = reference()
    headings = [title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", page, re.M)]
    anchors = [*re.findall(r'<a id="([^"]+)"', page), *headings]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\(#([^)]+)\)", page)) <= set(anchors)
    for file in re.findall(r"\]\((\w+\.md)[#)]", page):
        assert (PAGE.parent / file).is_file()


@pytest.mark.parametrize(
    ("anchor", "kind", "default"),
    [
        ("name", "text", "**required**"),
        ("data.recent", "duration", "`28d`"),
        ("data.interactions.max_rate.per", "duration", "`1d`"),
        ("training.epochs", "whole number (1 to 1,000,000) or `auto`", "`auto`"),
        ("model.item_bias", "true, false or `auto`", "`auto`"),
        ("model.history", "[encoder](#history-encoders), `auto` or `null`", "`auto`"),
        ("training.half_life", "duration, `auto` or `null`", "`auto`"),
        ("training.loss", "[loss](#losses)", "`{type: auto}`"),
        ("evaluation.ks", "list (1 or more): whole number (1 to 1,000,000)", "`[10, 100, 1000]`"),
        ("evaluation.gate", "list: [check](#gate-checks)", "`null`"),
        ("resources", "mapping by step: [section](#resources.STEP)", "`{}`"),
        ("splits.leave_last_k.k", "whole number (1 to 1,000,000)", "**required**"),
        ("feature-types.column", "text", "`null`"),
        ("feature-types.text.ngrams", "whole number (1 to 5)", "`1`"),
        ("gate-checks.minimum.metric", "text such as `recall@100` or `coverage@100`", "**required**"),
        ("env.vertex.project", "text", "**required**"),
        ("env.schedules.NAME.grace", "duration", "`1h`"),
    ],
)
def test_types_and_defaults_are_as_in_files(anchor: str, kind: str, default: str) -> None:
    assert rows()[anchor][:2] == [kind, default]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number (from 0, below 1)"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1e9}, "number (above 0)"),
        ({"type": "integer", "maximum": 2**31 - 1}, "whole number"),
        ({"type": "array", "items": {}, "minItems": 2}, "list (2 or more)"),
        ({"type": "object", "additionalProperties": True}, "mapping"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "text"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": "a"}, "text or `null`"),
    ],
)
def test_types_are_worded(value: dict[str, object], expected: str) -> None:
    assert type_of(value, {}) == expected


def test_a_cell_holds_what_would_end_it_or_be_taken_for_html() -> None:
    assert escaped("a | b, <b>, \\t, `c | <d>`; docs/data.md") == (
        "a \\| b, &lt;b>, \\\\t, `c \\| <d>`; [data.md](data.md)"
    )
    assert default_of({"default": {"type": "auto"}}) == "`{type: auto}`"
