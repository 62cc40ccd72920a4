"""One system's figures on all queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from two_tower.contracts import Bool, Float32, Float64, Int32, Retriever
from two_tower.evaluation.metrics import first_hits, ranking_metrics, recalls, with_ties_against
from two_tower.evaluation.popularity import TakenByK
from two_tower.evaluation.queries import Queries, QueryBlock
from two_tower.evaluation.sets import ItemSets
from two_tower.progress import Progress

DIVERSITY_UP_TO = 100
"""The largest K for which the pairs of a list are compared."""
Subsets = Callable[[QueryBlock], Mapping[str, ItemSets]]
"""The relevant items of a block's queries that fall into each slice."""


@dataclass(frozen=True)
class Measured:
    """What a system reached, query by query."""

    metrics: dict[str, Float32]
    """`[queries]` by name, such as `recall@100`."""
    recall_by_rank: Float64
    """Mean recall at each K from 1 to the largest, `[depth]`."""
    slices: dict[str, dict[str, Float32]]
    """Recall on the relevant items in each slice alone, `[queries]` by name; NaN for queries without such items."""
    recommended: TakenByK
    """The items in the first K places, ties as the system broke them."""
    diversity: dict[int, float]
    """By K the mean `list_diversity`; without those K for which it was not measured."""

    @property
    def curve(self) -> dict[int, float]:
        """Mean recall by some K, evenly spread over a logarithmic axis."""
        depth = len(self.recall_by_rank)
        return {k: float(self.recall_by_rank[k - 1]) for k in curve_points(depth)}


def measure(
    name: str,
    retriever: Retriever,
    queries: Queries,
    *,
    ks: Sequence[int],
    ties_against: bool,
    subsets: Subsets = lambda block: {},
    directions: Float32 | None = None,
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
        directions: The candidates' embeddings `[items, dim]` at length 1, to tell how much alike the items of a list
            are; zeros for items without one.
    """
    depth = min(max(ks), queries.items)
    found_by_rank = np.zeros(max(ks))
    alike = [k for k in ks if k <= DIVERSITY_UP_TO]
    progress = Progress(f"evaluating {name}", total=len(queries), unit="queries")
    metrics, slices = [], []
    diversity: dict[int, list[Float64]] = {k: [] for k in alike}
    recommended = TakenByK(queries.items, ks=ks)
    for block in queries.blocks():
        found = retriever.retrieve(block.table, depth + 1, exclude=block.exclude)
        decided = partial(with_ties_against, scores=found.scores) if ties_against else _without_last
        relevant = first_hits(block.relevant.contain(found.items), found.items)
        hits = decided(relevant)
        metrics.append(ranking_metrics(hits, block.relevant.sizes, ks=ks))
        found_by_rank[:depth] += (hits / block.relevant.sizes[:, None]).sum(axis=0)
        slices.append(
            {
                slice_name: recalls(decided(subset.contain(found.items, among=relevant)), subset.sizes, ks=ks)
                for slice_name, subset in subsets(block).items()
            }
        )
        recommended.add(found.items[:, :depth])
        if directions is not None:
            for k in alike:
                diversity[k].append(list_diversity(found.items[:, :k], directions))
        progress.advance(len(block.table))
    lists = {k: np.concatenate(values) for k, values in diversity.items() if values}
    return Measured(
        metrics=_concatenated(metrics),
        recall_by_rank=np.cumsum(found_by_rank) / len(queries),
        slices={slice_name: _concatenated([block[slice_name] for block in slices]) for slice_name in slices[0]},
        recommended=recommended,
        diversity={k: float(np.nanmean(values)) for k, values in lists.items() if not np.isnan(values).all()},
    )


def list_diversity(items: Int32, directions: Float32) -> Float64:
    """1 - the mean cosine of the pairs in each list (Ziegler et al., "Improving Recommendation Lists Through Topic
    Diversification", 2005): `[queries]`, NaN for lists of fewer than two items.

    Args:
        items: The lists `[queries, n]`, padded with -1.
        directions: The items' embeddings at length 1, `[items, dim]`.
    """
    there = items >= 0
    counts = there.sum(axis=1)
    sums = (directions[np.maximum(items, 0)] * there[:, :, None]).sum(axis=1, dtype=np.float64)
    squares = np.einsum("qd,qd->q", sums, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A sum's squared length is that of all pairs of its members, each with itself among them.
        return np.where(counts > 1, 1 - (squares - counts) / (counts * (counts - 1)), np.nan)


def curve_points(largest: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 and so on up to the largest K, which is the last."""
    points = [step * 10**power for power in range(len(str(largest))) for step in (1, 2, 5)]
    return [*(point for point in points if point < largest), largest]


def _without_last(hits: Bool) -> Bool:
    """The ranks themselves, without the candidate behind them."""
    return hits[:, :-1]


def _concatenated(blocks: Sequence[Mapping[str, Float32]]) -> dict[str, Float32]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
