"""The cheapest search that keeps what the configuration's target asks for, found on real queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.contracts import Float32
from two_tower.index.base import Effort, SearchIndex
from two_tower.index.exact import search_among
from two_tower.index.measure import latency, share_found
from two_tower.progress import Progress

if TYPE_CHECKING:
    from two_tower.config import IndexTargetSettings

log = logging.getLogger("two_tower")

TUNING_QUERIES = 1000
"""Most queries that recall is measured on."""
SURELY = 2.0
"""Standard errors by which the measured recall has to be above the target: the queries are a sample."""
REORDER = (1, 1.5, 2, 3, 5, 7, 10, 14, 20, 30, 50)
"""Candidates that are ranked by their vectors, as multiples of the target's K."""
LEAVES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.6)
"""Shares of the tree's leaves."""
TIMED, TIMED_CHOSEN = 100, 1000
"""Single queries whose time is taken: of every setting, and of the chosen one."""


@dataclass(frozen=True)
class Point:
    """One way to search, and what it gave."""

    effort: Effort | None
    """None for an exact search."""
    recall: float
    error: float
    """The standard error of the recall, which is a mean over queries."""
    latency_ms: dict[str, float]
    """`p50`, `p95` and `p99` of a single query on one thread."""

    def reaches(self, recall: float) -> bool:
        """Whether the recall is surely at least this much."""
        return self.recall - SURELY * self.error >= recall or self.recall == 1


@dataclass
class MeasuredSetting:
    """What `tune` found, for the manifest, the report and the log."""

    target: IndexTargetSettings
    queries: int
    k: int
    """The target's, or as many as there are items."""
    points: list[Point] = field(default_factory=list)
    chosen: Point | None = None

    def unmet(self) -> list[str]:
        """What of the target the chosen setting does not keep; nothing if it keeps all."""
        found: list[str] = []
        if self.chosen is None:  # there are no items
            return found
        if not self.chosen.reaches(self.target.recall):
            margin = f"{self.chosen.recall:.4f} ± {SURELY * self.chosen.error:.4f}"
            found.append(f"recall@{self.target.k} {margin}, {self.target.recall:g} asked for at the lower end")
        p99 = self.chosen.latency_ms["p99"]
        if self.target.p99_ms is not None and p99 > self.target.p99_ms:
            found.append(f"p99 {p99:.3f} ms, {self.target.p99_ms:g} ms asked for")
        return found

    def closeness(self) -> tuple[bool, float]:
        """The greater, the closer to the target: its recall first, then speed; without its recall, recall."""
        if self.chosen is None:
            return True, 0.0
        reached = self.chosen.reaches(self.target.recall)
        return reached, -self.chosen.latency_ms["p99"] if reached else self.chosen.recall

    def facts(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return {
            "queries": self.queries,
            "k": self.k,
            "points": [asdict(point) for point in self.points],
            "chosen": asdict(self.chosen) if self.chosen else None,
            "unmet": self.unmet(),
        }


def tune(index: SearchIndex, vectors: Float32, queries: Float32, target: IndexTargetSettings) -> MeasuredSetting:
    """Sets the index to the fastest search that has the target's recall, else to the one with the highest recall.

    Args:
        index: Built from `vectors`.
        vectors: `[items, dim]`.
        queries: `[queries, dim]` of real queries, none of which is used to measure the finished version.
        target: What is asked for.
    """
    k = min(target.k, len(index))
    measured = MeasuredSetting(target, len(queries), k)
    if not k:
        return measured
    best = search_among(vectors, queries, k)[1]
    progress = Progress("choosing how to search", total=len(_leaves(index)), unit="shares of the leaves")
    for leaves in _leaves(index):
        for effort in _efforts(index, k, leaves):
            measured.points.append(_measure(index, vectors, queries, best, effort, timed=TIMED))
            if measured.points[-1].reaches(target.recall):
                break  # scoring more of them again only costs time
        progress.advance(1)
    chosen = _choice(measured.points, target)
    if chosen.effort is not None:
        index.set_effort(chosen.effort)
    measured.chosen = _measure(index, vectors, queries, best, chosen.effort, timed=TIMED_CHOSEN)
    return measured


def _leaves(index: SearchIndex) -> Sequence[float]:
    return LEAVES if index.has_tree else (1.0,)


def _efforts(index: SearchIndex, k: int, leaves: float) -> list[Effort | None]:
    """The efforts to try with a share of the leaves, the cheapest first; None alone where the index knows none."""
    if not index.approximate:
        return [None]
    reorder = [min(len(index), round(factor * k)) for factor in REORDER]
    return [Effort(k=k, reorder=among, leaves_to_search=leaves) for among in sorted(set(reorder))]


def _measure(
    index: SearchIndex, vectors: Float32, queries: Float32, best: Float32, effort: Effort | None, *, timed: int
) -> Point:
    """The recall of all queries and the latency of some."""
    if effort is not None:
        index.set_effort(effort)
    k = best.shape[1]
    rows = index.search(queries, k)[0]
    scores = np.where(rows >= 0, np.einsum("qd,qkd->qk", queries, vectors[rows]), np.float32(-np.inf))
    found = share_found(best, scores)
    error = float(found.std() / np.sqrt(len(found)))
    return Point(
        effort, float(found.mean()), error, latency(lambda query: index.search(query, k), queries, timed=timed)
    )


def _choice(points: list[Point], target: IndexTargetSettings) -> Point:
    good = [point for point in points if point.reaches(target.recall)]
    if good:
        return min(good, key=lambda point: point.latency_ms["p50"])
    return max(points, key=lambda point: (point.recall, -point.latency_ms["p50"]))
