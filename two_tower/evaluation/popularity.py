"""How popular what is recommended is, against what is consumed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from two_tower.contracts import Float64, Int32, Int64

GROUPS = ("head", "middle", "tail")
HEAD, MIDDLE, TAIL = range(len(GROUPS))


class ItemPopularity:
    """The items in three groups, each but the last with a third of the training events.

    Sorted by their training events (equal counts by number), the items up to the one that completes the first third
    of all events are the head, those up to the one that completes the second third the middle, the others, never seen
    ones included, the tail.
    """

    def __init__(self, train_count: Int64) -> None:
        """`train_count` `[items]`: each item's training events."""
        self.train_count = train_count
        order = np.argsort(-train_count, kind="stable")
        counts = train_count[order]
        before, total = np.cumsum(counts) - counts, int(counts.sum())
        self.group: Int64 = np.empty(len(counts), dtype=np.int64)
        """`[items]`: 0 for the head, 1 for the middle, 2 for the tail."""
        self.group[order] = (3 * before >= total).astype(np.int64) + (3 * before >= 2 * total)

    @cached_property
    def log_count(self) -> Float64:
        """`[items]`: the natural logarithm of 1 + the training events."""
        return np.log1p(self.train_count)

    @cached_property
    def surprise(self) -> Float64:
        """`[items]`: the bits of -log2 of an item's share of the training events, each item counted once more."""
        total = self.train_count.sum() + len(self.train_count)
        bits: Float64 = -np.log2((self.train_count + 1) / total)
        return bits

    def sizes(self) -> dict[str, int]:
        """How many items each group has."""
        return dict(zip(GROUPS, np.bincount(self.group, minlength=3).tolist(), strict=True))


class Taken:
    """A count of the items in many lists."""

    def __init__(self, items: int) -> None:
        self.times: Int64 = np.zeros(items, dtype=np.int64)
        """`[items]`: how often each was taken."""

    def add(self, items: Int32 | Int64) -> None:
        """Counts item numbers of any shape, -1 for none."""
        self.times += np.bincount(items[items >= 0], minlength=len(self.times))

    def described(self, popularity: ItemPopularity, *, candidates: int) -> dict[str, float | None]:
        """How popular what was taken is, and how evenly it is spread.

        `head`, `middle` and `tail`: the groups' shares; `log_count`: the mean of log(1 + training events); `novelty`:
        the mean of `ItemPopularity.surprise` (Zhou et al., "Solving the apparent diversity-accuracy dilemma of
        recommender systems", 2010); `gini`: the Gini coefficient of how often each of the `candidates` was taken, 0
        where all were equally often, near 1 where it was always the same.  These are None where nothing was taken.
        `coverage`: the share of the `candidates` that was taken at all, None without candidates.
        """
        total = int(self.times.sum())
        coverage = {"coverage": np.count_nonzero(self.times) / candidates if candidates else None}
        if not total:
            return {**dict.fromkeys((*GROUPS, "log_count", "novelty", "gini")), **coverage}
        shares = np.bincount(popularity.group, weights=self.times, minlength=3) / total
        means = {
            "log_count": float(self.times @ popularity.log_count / total),
            "novelty": float(self.times @ popularity.surprise / total),
        }
        return {
            **dict(zip(GROUPS, shares.tolist(), strict=True)),
            **means,
            "gini": _gini(self.times, candidates=candidates),
            **coverage,
        }


def _gini(times: Int64, *, candidates: int) -> float:
    """The Gini coefficient of how often each of the candidates was taken (the items that were, and zeros)."""
    taken = np.sort(times[times > 0])
    size = max(candidates, len(taken))
    places = np.arange(size - len(taken) + 1, size + 1)
    return float(2 * (places @ taken) / (size * taken.sum()) - (size + 1) / size)


class TakenByK:
    """What stands in the first K places of many rankings, for several K."""

    def __init__(self, items: int, *, ks: Sequence[int]) -> None:
        self._by_k = {k: Taken(items) for k in ks}

    def add(self, ranked: Int32) -> None:
        """Counts rankings `[queries, n]`, padded with -1."""
        for k, taken in self._by_k.items():
            taken.add(ranked[:, :k])

    def described(self, popularity: ItemPopularity, *, candidates: int) -> dict[str, float | None]:
        """As `Taken.described`, by names such as `tail@10`."""
        return {
            f"{name}@{k}": value
            for k, taken in self._by_k.items()
            for name, value in taken.described(popularity, candidates=candidates).items()
        }
