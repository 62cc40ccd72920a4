"""What is recommended, by ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from two_tower.contracts import Float32

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recommended:
    """The items recommended for one query, best first."""

    item_ids: list[str]
    scores: Float32
    unknown_history: list[str] = field(default_factory=list)
    """The history's items that the query tower does not know."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def to_arrow(self) -> pa.Table:
        """One row an item: `item_id` and `score`."""
        return pa.table({"item_id": pa.array(self.item_ids, pa.string()), "score": pa.array(self.scores, pa.float32())})

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow` as a data frame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame


@dataclass(frozen=True)
class RecommendedBatch:
    """The items recommended for several queries, in their order; `batch[0]` are those of the first."""

    item_ids: pa.ListArray
    """A list of strings a query, best first."""
    scores: pa.ListArray
    """A list of float32 a query."""
    reasons: list[str | None]
    """Why a query has no items (see `recommendations` in docs/artefacts.md); None where it has."""
    unknown_history: list[list[str]]
    """The items of each history that the query tower does not know."""

    @classmethod
    def joined(cls, batches: Sequence[RecommendedBatch]) -> RecommendedBatch:
        """The queries of some batches, one after the other."""
        return cls(
            pa.concat_arrays([pa.array([], pa.list_(pa.string())), *(batch.item_ids for batch in batches)]),
            pa.concat_arrays([pa.array([], pa.list_(pa.float32())), *(batch.scores for batch in batches)]),
            [reason for batch in batches for reason in batch.reasons],
            [items for batch in batches for items in batch.unknown_history],
        )

    def __repr__(self) -> str:
        without = sum(reason is not None for reason in self.reasons)
        less = f", {without:,} without items" if without else ""
        return f"RecommendedBatch({len(self):,} queries{less})"

    def __len__(self) -> int:
        return len(self.item_ids)

    def __getitem__(self, query: int) -> Recommended:
        scores = np.array(self.scores[query].values.to_numpy())
        return Recommended(self.item_ids[query].as_py(), scores, self.unknown_history[query])

    def __iter__(self) -> Iterator[Recommended]:
        return (self[query] for query in range(len(self)))

    def to_arrow(self) -> pa.Table:
        """One row a query and item: `query` (from 0), `rank` (from 1), `item_id` and `score`."""
        counts = np.diff(self.item_ids.offsets.to_numpy())
        begin = np.repeat(np.cumsum(counts) - counts, counts)
        return pa.table(
            {
                "query": np.repeat(np.arange(len(self)), counts),
                "rank": np.arange(len(begin)) - begin + 1,
                "item_id": self.item_ids.flatten(),
                "score": self.scores.flatten(),
            }
        )

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow` as a data frame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame


def some_of(items: Sequence[str], *, most: int = 5) -> str:
    """The first of some items, as a text that says how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"
