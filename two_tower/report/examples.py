"""Example queries, with what was taken afterwards and what is recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from two_tower.artifacts import ArtifactReader
from two_tower.report.values import flat, readable

_MOST_EXAMPLES = 30
_MOST_HISTORY = 10
_MOST_RELEVANT = 30
_MOST_RECOMMENDED = 20


@dataclass(frozen=True)
class Item:
    """An item as text."""

    id: str
    display: list[str]
    """What people know it by."""
    score: float | None = None
    hit: bool = False


@dataclass(frozen=True)
class Example:
    """A query, with the first of what was taken before and after it, and of what is recommended."""

    query: dict[str, str]
    history: list[Item]
    history_length: int
    relevant: list[Item]
    relevant_length: int
    recommended: list[Item]
    recommended_length: int
    hits: int


def display_columns(data: ArtifactReader) -> list[str]:
    """The display columns in the configuration's order, which JSON with sorted keys has lost."""
    names = pq.read_schema(data.path("items.parquet")).names
    return [name.removeprefix("display.") for name in names if name.startswith("display.")]


def examples_section(evaluation: ArtifactReader, *, display: Sequence[str]) -> list[Example]:
    """The example queries of the evaluation, as far as it holds any."""
    if "examples.json" not in evaluation.manifest.files:
        return []
    return [_example(example, display=display) for example in evaluation.json("examples.json")[:_MOST_EXAMPLES]]


def _example(example: Mapping[str, Any], *, display: Sequence[str]) -> Example:
    recommended = [readable_item(item, display=display) for item in example.get("recommended", [])]
    hits = {item.id for item in recommended if item.hit}
    relevant = [readable_item(item, display=display) for item in example.get("relevant", [])]
    relevant = [replace(item, hit=item.id in hits) for item in relevant]
    history = [readable_item(item, display=display) for item in reversed(example.get("history", []))]
    query = flat(example.get("query", {}))
    first = sorted(query, key=lambda key: (key != "user_id", key == "cutoff"))  # the user, what was asked, when
    relevant.sort(key=lambda item: not item.hit)
    return Example(
        query={key: readable(query[key]) for key in first if query[key] not in (None, "", [])},
        history=history[:_MOST_HISTORY],
        history_length=len(history),
        relevant=relevant[:_MOST_RELEVANT],
        relevant_length=len(relevant),
        recommended=recommended[:_MOST_RECOMMENDED],
        recommended_length=len(recommended),
        hits=len(hits),
    )


def readable_item(item: Mapping[str, Any], *, display: Sequence[str]) -> Item:
    """An item of examples.json or space.json as text: its id, its display columns, its score, whether it is a hit."""
    given = {key.removeprefix("display."): value for key, value in flat(item).items()}
    order = [*(name for name in display if name in given), *(name for name in given if name not in display)]
    shown = {name: given[name] for name in order if name not in ("item_id", "score", "hit")}
    return Item(
        id=str(item.get("item_id")),
        display=[readable(value) for value in shown.values() if value not in (None, "")],
        score=item.get("score"),
        hit=bool(item.get("hit")),
    )
