"""How well and how fast the index searches, apart from the model."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from two_tower.contracts import Float32
from two_tower.index import ExactIndex, Index

KS = (10, 100)
WARM_UP, TIMED = 20, 200
"""Single queries searched before the clock counts, and those whose time is taken."""


def index_quality(index: Index, exact: ExactIndex, vectors: Float32) -> dict[str, Any]:
    """The `index` section of metrics.json: `kind`, `recall@10`, `recall@100` and `latency_ms`.

    Recall is the share of the exact search's first K that the index finds; a candidate that scores as high as the
    exact K-th, to float32 rounding, counts as one of them (Aumüller et al., "ANN-Benchmarks", 2020).  Latency is that
    of one query after the other for their first 100, on one thread.

    Args:
        index: The index.
        exact: Exact search over the vectors that the index was built from, in the same order.
        vectors: Query embeddings float32 `[queries, dim]` of real queries.
    """
    figures: dict[str, Any] = {"kind": index.kind}
    best = exact.search(vectors, max(KS))[1]
    rows = index.search(vectors, max(KS))[0]
    if len(exact):
        scores = np.einsum("qd,qkd->qk", vectors, exact.vectors[rows])
    else:
        scores = np.zeros(rows.shape, dtype=np.float32)
    scores = np.where(rows >= 0, scores, -np.inf)
    for k in KS:
        reachable = min(k, len(exact))
        figures[f"recall@{k}"] = _share_found(best[:, :reachable], scores[:, :reachable])
    figures["latency_ms"] = _latency(index, vectors)
    return figures


def _share_found(best: Float32, found: Float32) -> float:
    """The share of found scores `[queries, k]` that reach the last of the best scores `[queries, k]`."""
    if not best.size:
        return 1.0
    rounding = 1e-6 * np.maximum(np.abs(best).max(axis=1), 1e-30)
    return float(np.mean(found >= (best[:, -1] - rounding)[:, None]))


def _latency(index: Index, vectors: Float32) -> dict[str, float]:
    """Percentiles, in milliseconds, of the time to search one query."""
    seconds = []
    for number in range(WARM_UP + TIMED):
        query = vectors[number % len(vectors)][None]
        start = time.perf_counter()
        index.search(query, max(KS))
        seconds.append(time.perf_counter() - start)
    p50, p95, p99 = np.percentile(np.array(seconds[WARM_UP:]) * 1e3, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
