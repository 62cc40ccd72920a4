"""Ranking metrics over all candidates, one value a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from two_tower.contracts import RANKING, Bool, Float32, Int32, Int64
from two_tower.evaluation.sets import ItemSets


def ranking_metrics(hits: Bool, relevant: Int64, *, ks: Sequence[int]) -> dict[str, Float32]:
    """The metrics of each query by name, such as `recall@10`: float32 `[queries]`, NaN without a relevant item.

    - `recall@K`: relevant items among the first K / all relevant items of the query.
    - `hit_rate@K`: 1 where there is a relevant item among the first K, else 0.
    - `precision@K`: relevant items among the first K / K.
    - `mrr@K`: 1 / rank of the first relevant item, 0 where it is not among the first K (Voorhees, "The TREC-8
      Question Answering Track Report", 1999).
    - `ndcg@K`: the sum over relevant items among the first K of 1 / log2(rank + 1), divided by the largest possible
      sum (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with binary gains).
    - `map@K`: the sum over relevant items among the first K of the precision at their rank, divided by all relevant
      items of the query (average precision with a cut-off, as trec_eval's `map_cut`).

    Args:
        hits: `[queries, n]`, whether the candidate at each rank is relevant; ranks beyond `n` hold nothing.
        relevant: `[queries]`, how many relevant items each query has.
        ks: The values of K.
    """
    queries, depth = hits.shape
    widest = max(*ks, depth, int(relevant.max(initial=1)), 1)
    discounts = 1 / np.log2(np.arange(2, widest + 2))
    gains = np.pad(np.cumsum(hits * discounts[:depth], axis=1), ((0, 0), (1, 0)))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, widest + 1) if depth else np.full(queries, widest + 1)
    found = np.cumsum(hits, axis=1)
    precisions = np.pad(np.cumsum(hits * found / np.arange(1, depth + 1), axis=1), ((0, 0), (1, 0)))
    found = np.pad(found, ((0, 0), (1, 0)))
    values = {}
    for k in ks:
        at = min(k, depth)
        with np.errstate(invalid="ignore"):
            values[f"recall@{k}"] = found[:, at] / relevant
            values[f"ndcg@{k}"] = gains[:, at] / ideal[np.minimum(relevant, k)]
            values[f"map@{k}"] = precisions[:, at] / relevant
        values[f"precision@{k}"] = np.where(relevant > 0, found[:, at] / k, np.nan)
        values[f"hit_rate@{k}"] = np.where(relevant > 0, first <= k, np.nan)
        values[f"mrr@{k}"] = np.where(relevant > 0, np.where(first <= k, 1 / first, 0), np.nan)
    order = [f"{metric}@{k}" for metric in RANKING for k in ks]
    return {name: values[name].astype(np.float32) for name in order}


def recalls(hits: Bool, relevant: Int64, *, ks: Sequence[int]) -> dict[str, Float32]:
    """The part `recall@K` of `ranking_metrics`."""
    found = np.pad(np.cumsum(hits, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    with np.errstate(invalid="ignore"):
        return {f"recall@{k}": (found[:, min(k, hits.shape[1])] / relevant).astype(np.float32) for k in ks}


def first_hits(hits: Bool, items: Int32) -> Bool:
    """`hits` `[queries, n]` less those of an item that stands in the same list before."""
    rows, places = np.nonzero(hits)
    found = items[rows, places]
    keys = rows * (np.int64(found.max(initial=0)) + 1) + found
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    once = hits.copy()
    once[rows[~first], places[~first]] = False
    return once


def with_ties_against(hits: Bool, scores: Float32) -> Bool:
    """Which ranks hold a relevant item, `[queries, n]`, once every tie has been decided against the system.

    Among candidates of equal score the relevant ones are moved to the end.  The last of the `n + 1` candidates given
    is no rank of its own: where its score equals that of the one before, so may any number of candidates beyond, and
    the relevant ones of that last tie count as not found.

    Args:
        hits: `[queries, n + 1]`, whether the candidate at each place is relevant.
        scores: float32 `[queries, n + 1]`, falling; -inf where there is no candidate.
    """
    decided = hits[:, :-1].copy()
    tied = (scores[:, 1:] == scores[:, :-1]) & (scores[:, 1:] > -np.inf)
    rows = np.flatnonzero((tied & (hits[:, 1:] | hits[:, :-1])).any(axis=1))
    groups = np.pad(np.cumsum(~tied[rows], axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    order = np.argsort(2 * groups + hits[rows], axis=1, kind="stable")
    open_ended = tied[rows, -1:] & (groups == groups[:, -1:])
    decided[rows] = (np.take_along_axis(hits[rows], order, axis=1) & ~open_ended)[:, :-1]
    return decided


def ranks_with_ties_against(relevant: ItemSets, scores: Float32) -> Int64:
    """The ranks, from 1, of the relevant items among all candidates: `[members]`, in the order of `relevant.keys`.

    A relevant item stands behind every item that is not relevant and scores as high as it does.

    Args:
        relevant: The relevant items of each query.
        scores: float32 `[queries, items]`.
    """
    ranks = []
    for row, members in zip(scores, np.split(relevant.members, np.cumsum(relevant.sizes)[:-1]), strict=True):
        own = row[members]
        as_high = len(row) - np.searchsorted(np.sort(row), own)  # itself and other relevant items included
        among = np.empty(len(own), dtype=np.int64)
        among[np.argsort(-own, kind="stable")] = np.arange(1, len(own) + 1)
        relevant_as_high = len(own) - np.searchsorted(np.sort(own), own)
        ranks.append(as_high - relevant_as_high + among)
    return np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64)
