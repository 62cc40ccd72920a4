"""What most people took, over all time."""

from __future__ import annotations

from typing import Literal

import numpy as np

from two_tower.artifacts import open_artifact
from two_tower.contracts import Int32, Int64, Retriever, RetrieverSettings
from two_tower.retrievers.fixed_order import FixedOrder


class Popularity(RetrieverSettings):
    """The items with the most events before the cut-off; equal counts in the order of their numbers (oldest first)."""

    type: Literal["popularity"] = "popularity"

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        counts = event_counts(prepared, split=split)
        order = only_available(prepared, np.argsort(-counts, kind="stable").astype(np.int32))
        return FixedOrder(order, counts[order].astype(np.float32), items=len(counts))


def only_available(prepared: str, order: Int32) -> Int32:
    """The item numbers of `order` that may be retrieved."""
    items = open_artifact(prepared, "prepared_data").table("items.parquet", ["available"])
    available: Int32 = order[items["available"].to_numpy()[order]]
    return available


def event_counts(prepared: str, *, split: Literal["validation", "test"]) -> Int64:
    """How many events each item has before the cut-off of the split, `[items]`."""
    items = open_artifact(prepared, "prepared_data").table("items.parquet", ["train_count", "validation_count"])
    counts: Int64 = items["train_count"].to_numpy()
    return counts + items["validation_count"].to_numpy() if split == "test" else counts


def recent_order(prepared: str, *, split: Literal["validation", "test"]) -> tuple[Int32, Int64]:
    """The available items by events in the recent window before the cut-off, then by all events.

    Returns:
        The item numbers, best first, and the recent counts of all items, `[items]`.
    """
    column = f"recent_count_{split}"
    recent: Int64 = open_artifact(prepared, "prepared_data").table("items.parquet", [column])[column].to_numpy()
    order = np.lexsort((-event_counts(prepared, split=split), -recent)).astype(np.int32)
    return only_available(prepared, order), recent
