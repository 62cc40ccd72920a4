"""What most people took lately."""

from __future__ import annotations

from typing import Literal

import numpy as np

from two_tower.contracts import Retriever, RetrieverSettings
from two_tower.retrievers.fixed_order import FixedOrder
from two_tower.retrievers.popularity import candidate_table, recent_order


class RecentPopularity(RetrieverSettings):
    """The items with the most events in the `data.recent` window before the cut-off, then by all events."""

    type: Literal["recent_popularity"] = "recent_popularity"

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        order, counts = recent_order(candidate_table(prepared), split=split)
        return FixedOrder(order, counts[order].astype(np.float32), items=len(counts))
