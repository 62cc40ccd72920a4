"""One system's figures on all queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from two_tower.contracts import Bool, Float32, Retriever
from two_tower.evaluation.metrics import ranking_metrics, recalls, with_ties_against
from two_tower.evaluation.popularity import TakenByK
from two_tower.evaluation.queries import Queries, QueryBlock
from two_tower.evaluation.sets import ItemSets
from two_tower.progress import Progress

Subsets = Callable[[QueryBlock], Mapping[str, ItemSets]]
"""The relevant items of a block's queries that fall into each slice."""


@dataclass(frozen=True)
class Measured:
    """What a system reached, query by query."""

    metrics: dict[str, Float32]
    """`[queries]` by name, such as `recall@100`."""
    curve: dict[int, float]
    """Mean recall by K."""
    slices: dict[str, dict[str, Float32]]
    """Recall on the relevant items in each slice alone, `[queries]` by name; NaN for queries without such items."""
    recommended: TakenByK
    """The items in the first K places, ties as the system broke them."""


def measure(
    name: str,
    retriever: Retriever,
    queries: Queries,
    *,
    ks: Sequence[int],
    ties_against: bool,
    subsets: Subsets = lambda block: {},
) -> Measured:
    """The figures of a retriever.

    Args:
        name: Of the system, for the progress lines.
        retriever: The system.
        queries: The queries.
        ks: The values of K.
        ties_against: Whether equal scores count against the system; if not, its order is taken as it is, since its
            scores need not tell all that it ranks by.
        subsets: The slices by relevant item.
    """
    depth = min(max(ks), queries.items)
    curve_ks = curve_points(max(ks))
    progress = Progress(f"evaluating {name}", total=len(queries), unit="queries")
    metrics, curves, slices = [], [], []
    recommended = TakenByK(queries.items, ks=ks)
    for block in queries.blocks():
        found = retriever.retrieve(block.table, depth + 1, exclude=block.exclude)
        decided = partial(with_ties_against, scores=found.scores) if ties_against else _without_last
        relevant = block.relevant.contain(found.items)
        hits = decided(relevant)
        metrics.append(ranking_metrics(hits, block.relevant.sizes, ks=ks))
        curves.append(recalls(hits, block.relevant.sizes, ks=curve_ks))
        slices.append(
            {
                slice_name: recalls(decided(subset.contain(found.items, among=relevant)), subset.sizes, ks=ks)
                for slice_name, subset in subsets(block).items()
            }
        )
        recommended.add(found.items[:, :depth])
        progress.advance(len(block.table))
    curve = _concatenated(curves)
    return Measured(
        metrics=_concatenated(metrics),
        curve={k: float(np.mean(curve[f"recall@{k}"], dtype=np.float64)) for k in curve_ks},
        slices={slice_name: _concatenated([block[slice_name] for block in slices]) for slice_name in slices[0]},
        recommended=recommended,
    )


def curve_points(largest: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 and so on up to the largest K, which is the last."""
    points = [step * 10**power for power in range(len(str(largest))) for step in (1, 2, 5)]
    return [*(point for point in points if point < largest), largest]


def _without_last(hits: Bool) -> Bool:
    """The ranks themselves, without the candidate behind them."""
    return hits[:, :-1]


def _concatenated(blocks: Sequence[Mapping[str, Float32]]) -> dict[str, Float32]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
