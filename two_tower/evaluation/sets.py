"""One set of items a query, as sorted keys: membership of whole blocks without a Python loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from two_tower.contracts import Bool, Int32, Int64

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ItemSets:
    """A set of item numbers for each query of a block, such as its relevant items."""

    keys: Int64
    """`query * items + item` of every member, `[members]`, ascending."""
    queries: int
    items: int
    """How many items there are; item numbers are below it."""

    @classmethod
    def from_lists(cls, column: pa.ChunkedArray, *, items: int) -> ItemSets:
        """The sets of a `list<int32>` column whose lists are ascending and distinct."""
        import pyarrow.compute as pc

        parents = pc.list_parent_indices(column).to_numpy().astype(np.int64)
        return cls(parents * items + pc.list_flatten(column).to_numpy(), len(column), items)

    @property
    def members(self) -> Int64:
        """The item numbers of all sets, `[members]`."""
        return self.keys % max(self.items, 1)

    @property
    def sizes(self) -> Int64:
        """How many items each set has, `[queries]`."""
        return np.bincount(self.keys // max(self.items, 1), minlength=self.queries).astype(np.int64)

    def contain(self, items: Int32, *, among: Bool | None = None) -> Bool:
        """Which of `[queries, n]` item numbers (-1 for none) are in their query's set.

        `among` `[queries, n]` marks those that may be, where that is known; the others are not looked up.
        """
        found = items >= 0 if among is None else among.copy()
        rows, columns = np.nonzero(found)
        found[rows, columns] = self._hold(rows * self.items + items[rows, columns])
        return found

    def where(self, keep: Bool) -> ItemSets:
        """The sets less the members for which `keep` `[members]` is false."""
        return ItemSets(self.keys[keep], self.queries, self.items)

    def intersection(self, other: ItemSets) -> ItemSets:
        """What both sets of each query have."""
        return self.where(other._hold(self.keys))

    def difference(self, other: ItemSets) -> ItemSets:
        """What the other set of each query has not."""
        return self.where(~other._hold(self.keys))

    def _hold(self, keys: Int64) -> Bool:
        if not len(self.keys):
            return np.zeros(keys.shape, dtype=np.bool_)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: Bool = self.keys[place] == keys
        return found
