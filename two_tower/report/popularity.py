"""The long tail: how popular, how even and how varied what is recommended is, against what is consumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import ArtifactReader
from two_tower.metrics_file import Evaluation, nearest_k
from two_tower.report import plots
from two_tower.report.svg import Picture
from two_tower.report.systems import kind_of, ordered_systems
from two_tower.report.values import share

_GROUPS = ("head", "middle", "tail")
_FIGURES = (*_GROUPS, "log_count", "novelty", "coverage", "gini", "diversity")


@dataclass(frozen=True)
class PopularityRow:
    """What is consumed, or what a system recommends in the first places."""

    name: str
    what: str
    kind: str | None
    figures: dict[str, float | None]


@dataclass(frozen=True)
class PopularitySection:
    """What is recommended in the first places and what is consumed, by the items' popularity."""

    k: int
    rows: list[PopularityRow]
    items: dict[str, int]
    picture: Picture


def popularity_section(evaluation: Evaluation) -> PopularitySection | None:
    """What is recommended in the first places and what is consumed, by the items' popularity; None if not measured."""
    found = evaluation.popularity
    if not found:
        return None
    k = nearest_k(evaluation.ks, 10)  # what a person gets to see
    consumed = {key: found.consumed.get(key) for key in _FIGURES}
    rows = [PopularityRow("consumed", "the relevant items", None, consumed)]
    for name, system in ordered_systems(evaluation).items():
        measured = found.recommended.get(name)
        if measured and system.kind != "exact":
            figures = {key: measured.get(f"{key}@{k}") for key in _FIGURES}
            rows.append(PopularityRow(name, kind_of(system), system.kind, figures))
    shares = {row.name: [row.figures[group] or 0.0 for group in _GROUPS] for row in rows}
    return PopularitySection(k, rows, found.items, plots.popularity_shares(shares))


@dataclass(frozen=True)
class LongTailSection:
    """How the training events spread over the items."""

    sentence: str
    picture: Picture


def long_tail_section(data: ArtifactReader) -> LongTailSection | None:
    """How the training events spread over the items; None where there are none."""
    counts = data.table("items.parquet", columns=["train_count"])["train_count"].fill_null(0).to_numpy()
    descending = -np.sort(-counts)
    if not descending.any():
        return None
    return LongTailSection(_tail_sentence(descending), plots.long_tail(descending))


def _tail_sentence(counts: npt.NDArray[np.int64]) -> str:
    """How unevenly training events spread over items; `counts` is descending, `[items]`."""
    total = int(counts.sum())
    cumulative = np.cumsum(counts)
    head = max(1, round(len(counts) / 100))
    half = int(np.searchsorted(cumulative, total / 2)) + 1
    unseen = int((counts == 0).sum())
    return (
        f"The {head:,} most frequent items (1 % of {len(counts):,}) carry {share(cumulative[head - 1], total)} of "
        f"the training events, {half:,} items carry half of them, and {unseen:,} items have none."
    )
