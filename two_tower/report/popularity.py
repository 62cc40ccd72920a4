"""The long tail: how popular, how even and how varied what is recommended is, against what is consumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import ArtifactReader
from two_tower.report import plots
from two_tower.report.systems import kind_of, ordered_systems
from two_tower.report.values import share

_GROUPS = ("head", "middle", "tail")
_FIGURES = (*_GROUPS, "log_count", "novelty", "coverage", "gini", "diversity")


def popularity_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is recommended in the first places and what is consumed, by the items' popularity; None if not measured."""
    found = metrics.get("popularity")
    if not found:
        return None
    k = min(metrics["ks"], key=lambda k: abs(math.log(k / 10)))  # what a person gets to see
    rows = [{"name": "consumed", "what": "the relevant items", **{key: found["consumed"].get(key) for key in _FIGURES}}]
    for name, system in ordered_systems(metrics).items():
        measured = found["recommended"].get(name)
        if measured and system.get("kind") != "exact":
            figures = {key: measured.get(f"{key}@{k}") for key in _FIGURES}
            rows.append({"name": name, "kind": system.get("kind"), "what": kind_of(system), **figures})
    shares = {row["name"]: [row[group] or 0.0 for group in _GROUPS] for row in rows}
    return {"k": k, "rows": rows, "items": found["items"], "picture": plots.popularity_shares(shares)}


def long_tail_section(data: ArtifactReader) -> dict[str, Any] | None:
    """How the training events spread over the items; None where there are none."""
    counts = data.table("items.parquet", columns=["train_count"])["train_count"].fill_null(0).to_numpy()
    descending = -np.sort(-counts)
    if not descending.any():
        return None
    return {"sentence": _tail_sentence(descending), "picture": plots.long_tail(descending)}


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
