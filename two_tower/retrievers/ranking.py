"""Ranked candidates less those that must not be returned."""

from __future__ import annotations

import numpy as np

from two_tower.contracts import Bool, Float32, Int32, Int64, Retrieved


def excluded(items: Int32, exclude: Int32 | None, *, count: int) -> Bool:
    """Which of the item numbers `[queries, n]` stand in the query's row of `exclude` `[queries, m]`.

    Args:
        items: Item numbers, -1 for none.
        exclude: Item numbers padded with -1, or None.
        count: How many items there are.
    """
    forbidden = np.zeros(items.shape, dtype=np.bool_)
    if exclude is None or not exclude.size:
        return forbidden
    marks = np.zeros(count + 1, dtype=np.bool_)  # the last one is that of the padding, -1
    for row, numbers in enumerate(exclude):
        marks[numbers] = True
        marks[-1] = False
        forbidden[row] = marks[items[row]]
        marks[numbers] = False
    return forbidden


def exclusions(exclude: Int32 | None, *, queries: int) -> Int64:
    """How many items are excluded for each query, `[queries]`."""
    if exclude is None:
        return np.zeros(queries, dtype=np.int64)
    counts: Int64 = np.sum(exclude >= 0, axis=1, dtype=np.int64)
    return counts


def first_kept(items: Int32, scores: Float32, keep: Bool, k: int) -> Retrieved:
    """The first `k` candidates of each query for which `keep` is true; -1 and -inf behind them.

    Args:
        items: `[queries, n]`, best first.
        scores: `[queries, n]`.
        keep: `[queries, n]`.
        k: How many.
    """
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, axis=1)
    chosen = np.where(kept, np.take_along_axis(items, order, axis=1), np.int32(-1))
    values = np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
    missing = ((0, 0), (0, k - order.shape[1]))
    return Retrieved(
        np.pad(chosen, missing, constant_values=-1), np.pad(values, missing, constant_values=np.float32(-np.inf))
    )


def best(values: Float32, k: int) -> Int64:
    """The places of the `k` largest of the values `[n]`, the largest first, equal ones in their order."""
    among = np.arange(len(values))
    if k < len(values):
        among = np.flatnonzero(values >= np.partition(values, len(values) - k)[len(values) - k])
    return among[np.argsort(-values[among], kind="stable")[:k]]
