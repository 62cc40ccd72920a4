"""The same ranking for every query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from two_tower.contracts import Float32, Int32, Retrieved
from two_tower.retrievers.ranking import excluded, exclusions, first_kept

if TYPE_CHECKING:
    import pyarrow as pa


class FixedOrder:
    """Every query gets the same candidates in the same order, less its exclusions."""

    def __init__(self, order: Int32, scores: Float32, *, items: int) -> None:
        """`order` holds the numbers of the available items, best first, `scores` belong to it; `items` counts all."""
        self.order, self.scores, self.items = order, scores, items

    def retrieve(self, queries: pa.Table, k: int, *, exclude: Int32 | None = None) -> Retrieved:
        """The first `k` items of the order that are not excluded."""
        rows = len(queries)
        depth = min(len(self.order), k + int(exclusions(exclude, queries=rows).max(initial=0)))
        items = np.broadcast_to(self.order[:depth], (rows, depth))
        scores = np.broadcast_to(self.scores[:depth], (rows, depth))
        return first_kept(items, scores, ~excluded(items, exclude, count=self.items), k)
