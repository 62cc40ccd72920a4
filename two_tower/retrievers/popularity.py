"""What most people took, over all time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from two_tower.artifacts import open_artifact
from two_tower.contracts import Int32, Int64, Retriever, RetrieverSettings
from two_tower.retrievers.fixed_order import FixedOrder

if TYPE_CHECKING:
    import pyarrow as pa


class Popularity(RetrieverSettings):
    """The items with the most events before the cut-off; equal counts in the order of their numbers (oldest first)."""

    type: Literal["popularity"] = "popularity"

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        items = candidate_table(prepared)
        counts = event_counts(items, split=split)
        order = only_available(items, np.argsort(-counts, kind="stable").astype(np.int32))
        return FixedOrder(order, counts[order].astype(np.float32), items=len(counts))


def candidate_table(prepared: str) -> pa.Table:
    """The candidate table's counts and `available`, from the prepared data at the path `prepared`."""
    names = ["train_count", "validation_count", "recent_count_validation", "recent_count_test", "available"]
    return open_artifact(prepared, "prepared_data").table("items.parquet", names)


def only_available(items: pa.Table, order: Int32) -> Int32:
    """The item numbers of `order` that may be retrieved, by the candidate table."""
    available: Int32 = order[items["available"].to_numpy()[order]]
    return available


def event_counts(items: pa.Table, *, split: Literal["validation", "test"]) -> Int64:
    """How many events each item of the candidate table has before the cut-off of the split, `[items]`."""
    counts: Int64 = items["train_count"].to_numpy()
    return counts + items["validation_count"].to_numpy() if split == "test" else counts


def recent_order(items: pa.Table, *, split: Literal["validation", "test"]) -> tuple[Int32, Int64]:
    """The available items by events in the recent window before the cut-off, then by all events.

    Returns:
        The item numbers, best first, and the recent counts of all items, `[items]`.
    """
    recent: Int64 = items[f"recent_count_{split}"].to_numpy()
    order = np.lexsort((-event_counts(items, split=split), -recent)).astype(np.int32)
    return only_available(items, order), recent
