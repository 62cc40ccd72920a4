"""The loss that suits the size of the catalogue."""

from __future__ import annotations

from typing import Any, Literal

from two_tower.contracts import Loss, LossContext
from two_tower.model.losses.full_softmax import FullSoftmax
from two_tower.model.losses.sampled_softmax import SampledSoftmax

MOST_ITEMS = 50_000
"""Up to so many items a softmax over the whole catalogue costs little more than a sampled one."""


class Auto(Loss):
    """Softmax over the whole catalogue up to 50,000 items, over sampled negatives above."""

    type: Literal["auto"] = "auto"

    def build(self, context: LossContext) -> Any:
        """The loss of the two that fits."""
        return (FullSoftmax() if context.item_count <= MOST_ITEMS else SampledSoftmax()).build(context)
