"""Recall by exact search, for early stopping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from two_tower.contracts import Float32, Int32

BLOCK = 512


def exact_recall(
    queries: Float32, candidates: Float32, relevant: Sequence[Int32], *, k: int, exclude: Int32 | None = None
) -> float:
    """Mean Recall@`k` over all candidates; ties count against us.

    A relevant item is found if it scores above the best candidate that is left out, the (k + 1)-th.

    Args:
        queries: `[queries, dim]`.
        candidates: `[items, dim]`, by item number.
        relevant: Each query's relevant item numbers, at least one.
        k: How many candidates count.
        exclude: `[queries, n]` item numbers that do not take part, padded with -1; relevant ones are missed.
    """
    last = len(candidates) - k - 1
    if last < 0 and exclude is None:
        return 1.0
    recalls = []
    table = tf.constant(candidates)
    for start in range(0, len(queries), BLOCK):
        scores = tf.matmul(queries[start : start + BLOCK], table, transpose_b=True).numpy()
        if exclude is not None:
            out = exclude[start : start + BLOCK]
            rows, columns = np.nonzero(out >= 0)
            scores[rows, out[rows, columns]] = -np.inf
        left_out = np.partition(scores, last, axis=1)[:, last] if last >= 0 else np.full(len(scores), -np.inf)
        for row, items in enumerate(relevant[start : start + BLOCK]):
            recalls.append(float((scores[row, items] > left_out[row]).mean()))
    return float(np.mean(recalls))
