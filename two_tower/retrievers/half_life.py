"""Events that weigh less the older they are."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt

from two_tower.contracts import Int64


def decay(ages: Int64, half_life: timedelta | None) -> npt.NDArray[np.float64]:
    """The weights float64 `[events]` of events of these ages in microseconds; 1 without a half-life."""
    if half_life is None:
        return np.ones(len(ages))
    weights: npt.NDArray[np.float64] = np.exp2(-ages / (half_life / timedelta(microseconds=1)))
    return weights


def name_with_half_life(type: str, half_life: timedelta | None) -> str:
    """A retriever's name: its type, and the half-life in days where there is one."""
    return type if half_life is None else f"{type}_{half_life / timedelta(days=1):g}d"
