"""How well and how fast the index searches, apart from the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from two_tower.contracts import Float32
from two_tower.index import ExactIndex, SearchIndex, latency, share_found
from two_tower.metrics_file import IndexFigures

KS = (10, 100)
TIMED = 200
"""Single queries whose time is taken."""


def index_quality(index: SearchIndex, exact: ExactIndex | None, vectors: Float32) -> IndexFigures:
    """The recall of the index at 10 and at 100 (None without `exact`), and its latency.

    Recall is the share of the exact search's first K that the index finds.  Latency is that of one query after the
    other for their first 100, on one thread.

    Args:
        index: The index.
        exact: Exact search over the vectors that the index was built from, in the same order.
        vectors: Query embeddings float32 `[queries, dim]` of real queries.
    """
    recalls: Mapping[int, float | None] = dict.fromkeys(KS) if exact is None else _recalls(index, exact, vectors)
    times = latency(lambda query: index.search(query, max(KS)), vectors, timed=TIMED)
    return IndexFigures.of(index.kind, recalls, times)


def _recalls(index: SearchIndex, exact: ExactIndex, vectors: Float32) -> dict[int, float]:
    best = exact.search(vectors, max(KS))[1]
    rows = index.search(vectors, max(KS))[0]
    if len(exact):
        scores = np.einsum("qd,qkd->qk", vectors, exact.vectors[rows])
    else:
        scores = np.zeros(rows.shape, dtype=np.float32)
    scores = np.where(rows >= 0, scores, -np.inf)
    reachable = {k: min(k, len(exact)) for k in KS}
    return {k: float(share_found(best[:, :n], scores[:, :n]).mean()) for k, n in reachable.items()}
