"""Some queries with their recommendations, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Retriever
from two_tower.evaluation.queries import Queries

if TYPE_CHECKING:
    import pyarrow as pa

RECOMMENDED = 10


def example_queries(
    retriever: Retriever, queries: Queries, items: pa.Table, *, count: int, seed: int
) -> list[dict[str, Any]]:
    """The content of examples.json: queries drawn at random, in the order of their rows.

    Args:
        retriever: Whose recommendations are shown.
        queries: The queries to draw from.
        items: The candidate table with `item_id` and the `display.` columns.
        count: How many queries.
        seed: Of the draw.
    """
    items = items.select([name for name in items.column_names if name == "item_id" or name.startswith("display.")])
    rng = np.random.default_rng(seed)
    block = queries.take(np.sort(rng.choice(len(queries), size=min(count, len(queries)), replace=False)))
    if not len(block.table):
        return []
    found = retriever.retrieve(block.table, min(RECOMMENDED, queries.items), exclude=block.exclude)
    hits = block.relevant.contain(found.items)
    relevant = np.split(block.relevant.members, np.cumsum(block.relevant.sizes)[:-1])
    examples = []
    for row, query in enumerate(block.table.to_pylist()):
        ranked = [rank for rank in range(found.items.shape[1]) if found.items[row, rank] >= 0]
        recommended = _described(items, found.items[row, ranked].tolist())
        for rank, entry in zip(ranked, recommended, strict=True):
            entry.update(score=float(found.scores[row, rank]), hit=bool(hits[row, rank]))
        examples.append(
            {
                "query": _readable_query(query),
                "history": _described(items, query["history"]),
                "relevant": _described(items, relevant[row].tolist()),
                "recommended": recommended,
            }
        )
    return examples


def _described(items: pa.Table, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Each item's id and display columns."""
    rows = items.take(np.fromiter(numbers, dtype=np.int64)).to_pylist()
    return [{name.removeprefix("display."): value for name, value in row.items()} for row in rows]


def _readable_query(query: dict[str, Any]) -> dict[str, Any]:
    """The user's id, the cut-off and the features, less what is missing or no text, number or short list of these."""
    shown = {"user_id": query["user_id"], "cutoff": query["cutoff"], "new_user": query["new_user"]}
    for part in ("user", "context"):
        features = {
            name.removeprefix(f"{part}."): _readable(value)
            for name, value in query.items()
            if name.startswith(f"{part}.")
        }
        shown[part] = {name: value for name, value in features.items() if value is not None}
    return {name: value for name, value in shown.items() if value not in (None, {})}


def _readable(value: Any) -> Any:
    """`value` for JSON, None where there is nothing to read in it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return None if any(isinstance(entry, float) for entry in value) else [str(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
