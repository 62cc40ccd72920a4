"""How much of an exact search an index finds, and how long a query takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from two_tower.contracts import Float32, Float64

WARM_UP = 20
"""Single queries searched before the clock counts."""


def share_found(best: Float32, found: Float32) -> Float64:
    """The share `[queries]` of an exact search's candidates that an index finds.

    A candidate that scores as high as the exact K-th, to float32 rounding, counts as one of them (Aumüller et al.,
    "ANN-Benchmarks", 2020).

    Args:
        best: The exact search's scores `[queries, k]`, falling.
        found: The true scores `[queries, k]` of what the index found, -inf for nothing.
    """
    if not best.shape[1]:
        return np.ones(len(best))
    rounding = 1e-6 * np.maximum(np.abs(best).max(axis=1), 1e-30)
    return np.asarray(np.mean(found >= (best[:, -1] - rounding)[:, None], axis=1))


def latency(search: Callable[[Float32], object], queries: Float32, *, timed: int) -> dict[str, float]:
    """The percentiles `p50`, `p95` and `p99`, in milliseconds, of the time that `search` takes for `[1, dim]`.

    Args:
        search: Called with one query after the other, first some whose time does not count.
        queries: `[queries, dim]`, at least one; taken again from the first where there are too few.
        timed: How many times are taken.
    """
    seconds = np.empty(WARM_UP + timed)
    for number in range(len(seconds)):
        query = queries[number % len(queries)][None]
        start = time.perf_counter()
        search(query)
        seconds[number] = time.perf_counter() - start
    p50, p95, p99 = np.percentile(seconds[WARM_UP:] * 1e3, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
