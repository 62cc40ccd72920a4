"""Slices: parts of the queries, or of their relevant items, on which the systems are compared apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import Bool
from two_tower.errors import ConfigError
from two_tower.evaluation.popularity import GROUPS, ItemPopularity
from two_tower.evaluation.queries import Queries, QueryBlock
from two_tower.evaluation.sets import ItemSets
from two_tower.features import holds_categories

if TYPE_CHECKING:
    import pyarrow as pa

MOST_VALUES = 10
"""Of a column's values the most frequent ones have slices."""
HISTORY = {"history 1-5": (1, 5), "history 6-20": (6, 20), "history 21+": (21, None)}
"""Slices by the events in a query's history: the fewest and the most."""
ITEM_PREFIXES = ("feature.", "attribute.", "display.")


@dataclass(frozen=True)
class Slice:
    """What a slice is called, and what it is one of."""

    group: str
    label: str


class Slices:
    """The slices of some queries over the candidates of a prepared data set."""

    def __init__(
        self, data: ArtifactReader, queries: Queries, popularity: ItemPopularity, *, columns: Sequence[str]
    ) -> None:
        """The built-in slices, and one for each frequent value of the `columns`.

        Args:
            data: The `prepared_data` artefact.
            queries: The queries that are measured.
            popularity: Of the candidates.
            columns: Such as `user.country`, `context.device` or `item.category`.

        Raises:
            ConfigError: There is no such column, or it holds no categories.
        """
        self._popularity = popularity
        new = queries.new_users()
        self.queries: dict[str, Bool] = {"returning_users": ~new, "new_users": new}
        """Of each slice of queries, whether a query belongs to it: `[queries]`."""
        self.about = {
            "returning_users": Slice("users", "returning users"),
            "new_users": Slice("users", "new users"),
            "repeated": Slice("items", "repeated"),
            "new_to_user": Slice("items", "new to the user"),
            "warm_new_to_user": Slice("items", "new to the user, with a training event"),
            "cold_items": Slice("items", "cold items"),
            **{name: Slice("items", f"{name} items") for name in GROUPS},
        }
        self._item_values: dict[str, Bool] = {}
        lengths = queries.history_lengths()
        for name, (fewest, most) in HISTORY.items():
            self.queries[name] = (lengths >= fewest) & (lengths <= most if most else True)
            self.about[name] = Slice("history", f"{fewest} to {most} events" if most else f"{fewest} events or more")
        for column in columns:
            masks = self.queries if _side(column) == "query" else self._item_values
            for value, mask in _values(_column(column, data, queries), column).items():
                masks[f"{column}={value}"] = mask
                self.about[f"{column}={value}"] = Slice(column, value)

    def subsets(self, block: QueryBlock) -> dict[str, ItemSets]:
        """The relevant items of each slice of items."""
        members = block.relevant.members
        trained = self._popularity.train_count[members] > 0
        group = self._popularity.group[members]
        return {
            "repeated": block.relevant.intersection(block.seen),
            "new_to_user": block.relevant.difference(block.seen),
            "warm_new_to_user": block.relevant.where(trained).difference(block.seen),
            "cold_items": block.relevant.where(~trained),
            **{name: block.relevant.where(group == number) for number, name in enumerate(GROUPS)},
            **{name: block.relevant.where(mask[members]) for name, mask in self._item_values.items()},
        }


def _side(column: str) -> str:
    return "item" if column.startswith("item.") else "query"


def _column(column: str, data: ArtifactReader, queries: Queries) -> pa.ChunkedArray:
    """The values of a column, one a query or one a candidate."""
    import pyarrow.parquet as pq

    if _side(column) == "query":
        names = [name for name in queries.columns if name.startswith(("user.", "context."))]
        if column in names:
            return queries.column(column)
    else:
        there = pq.read_schema(data.path("items.parquet")).names
        names = [f"item.{name.partition('.')[2]}" for name in there if name.startswith(ITEM_PREFIXES)]
        for prefix in ITEM_PREFIXES:
            if (name := prefix + column.removeprefix("item.")) in there:
                return data.table("items.parquet", [name])[name]
    known = ", ".join(dict.fromkeys(names)) or "none"
    raise ConfigError(f"evaluation.slices: the prepared data has no column {column!r}; there are: {known}")


def _values(values: pa.ChunkedArray, column: str) -> dict[str, Bool]:
    """The most frequent values of a column, with a mask `[rows]` of the rows that have each; of lists, among others.

    Raises:
        ConfigError: The column holds numbers with a fraction or the like, no categories.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, parents = len(values), None
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        parents, values = pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values)
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not holds_categories(kind):
        raise ConfigError(f"evaluation.slices: {column} is of the type {kind}; slices are made of categories")
    texts = pc.fill_null(values.cast(kind).cast(pa.string()), "")
    counted = sorted((-row["counts"], row["values"]) for row in pc.value_counts(texts).to_pylist() if row["values"])
    masks = {}
    for _, value in counted[:MOST_VALUES]:
        equal = np.asarray(pc.equal(texts, value))
        if parents is not None:
            equal = np.bincount(parents[equal], minlength=rows) > 0
        masks[value] = equal
    return masks
