"""How sure a mean over queries is: the bootstrap (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from two_tower.contracts import Float64
from two_tower.metrics_file import Difference

BLOCK = 1 << 22
"""How many resampled queries are held at once."""


def resampled_means(values: npt.NDArray[np.floating], *, samples: int, seed: int) -> Float64:
    """The means `[samples, columns]` of the columns over queries drawn with replacement.

    Each sample draws the same queries for all columns, so that the difference of two columns is a paired one.

    Args:
        values: `[queries, columns]`, at least one query.
        samples: How often the queries are drawn.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    queries = len(values)
    size = max(1, BLOCK // queries)
    means = []
    for start in range(0, samples, size):
        block = min(size, samples - start)
        drawn = rng.integers(0, queries, size=(block, queries)) + queries * np.arange(block)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=block * queries).reshape(block, queries)
        means.append(times.astype(np.float64) @ values / queries)
    return np.concatenate(means)


def interval(means: Float64, *, confidence: float) -> tuple[Float64, Float64]:
    """The percentile interval's ends `[columns]`, given the resampled means `[samples, columns]`."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def paired_difference(ours: Float64, theirs: Float64, *, difference: float, confidence: float) -> Difference:
    """The difference of two columns of `resampled_means`, with its interval.

    Args:
        ours: `[samples]`.
        theirs: `[samples]`, of the same draws.
        difference: Ours less theirs on the queries themselves.
        confidence: Such as 0.95.
    """
    differences = ours - theirs
    low, high = interval(differences, confidence=confidence)
    better = np.mean(differences > 0)
    return Difference(difference=float(difference), low=float(low), high=float(high), probability_better=float(better))
