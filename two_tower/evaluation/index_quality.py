"""How well and how fast the index searches, apart from the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from two_tower.contracts import Float32
from two_tower.index import ExactIndex, SearchIndex, latency, share_found

KS = (10, 100)
TIMED = 200
"""Single queries whose time is taken."""


def index_quality(index: SearchIndex, exact: ExactIndex | None, vectors: Float32) -> dict[str, Any]:
    """The `index` section of metrics.json: `kind`, `recall@10`, `recall@100` (None without `exact`) and `latency_ms`.

    Recall is the share of the exact search's first K that the index finds.  Latency is that of one query after the
    other for their first 100, on one thread.

    Args:
        index: The index.
        exact: Exact search over the vectors that the index was built from, in the same order.
        vectors: Query embeddings float32 `[queries, dim]` of real queries.
    """
    figures: dict[str, Any] = {"kind": index.kind}
    for k in KS:
        figures[f"recall@{k}"] = None
    if exact is not None:
        figures |= _recalls(index, exact, vectors)
    figures["latency_ms"] = latency(lambda query: index.search(query, max(KS)), vectors, timed=TIMED)
    return figures


def _recalls(index: SearchIndex, exact: ExactIndex, vectors: Float32) -> dict[str, float]:
    best = exact.search(vectors, max(KS))[1]
    rows = index.search(vectors, max(KS))[0]
    if len(exact):
        scores = np.einsum("qd,qkd->qk", vectors, exact.vectors[rows])
    else:
        scores = np.zeros(rows.shape, dtype=np.float32)
    scores = np.where(rows >= 0, scores, -np.inf)
    reachable = {k: min(k, len(exact)) for k in KS}
    return {f"recall@{k}": float(share_found(best[:, :n], scores[:, :n]).mean()) for k, n in reachable.items()}
