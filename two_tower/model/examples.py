"""Training examples from the prepared sequences, made batch by batch: a query's history is read only when needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import ROLES, Float32, Int32, Int64
from two_tower.errors import TrainingError
from two_tower.features import FittedFeature

Encoded = dict[str, Int32 | Float32]
"""Encoded features `[rows, width]` by name."""


@dataclass(frozen=True)
class Batch:
    """A batch of positives and of the queries that they belong to; a basket's items share one query."""

    history: Int32
    """`[queries, items]` item numbers, oldest first, padded with -1 at the end."""
    user: Int32
    """`[queries]` user numbers, -1 for none."""
    context: Encoded
    """`[queries, width]` by name."""
    rows: Int32
    """`[batch]`: the query that each positive belongs to."""
    positives: Int32
    """`[batch]` item numbers."""
    weights: Float32
    """`[batch]`."""


@dataclass(frozen=True)
class Examples:
    """The training sequences, one after the other, and the queries in them.

    A query is a run of events of one user that see the same past and the same context, such as a basket.  Where
    histories have no order, every positive is a query of its own.
    """

    items: Int32
    """`[events]` item numbers."""
    weights: Float32
    """`[events]`."""
    first: Int64
    """`[queries]`: the event that the query's positives begin at."""
    last: Int64
    """`[queries]`: the event after its last positive."""
    shown: Int32
    """`[shown]` item numbers: the events whose roles histories show."""
    seen_from: Int64
    """`[queries]`: the first entry of `shown` in its history."""
    seen_to: Int64
    """`[queries]`: the entry of `shown` after its history."""
    without_own: bool
    """Whether the history has no order and holds the query's one positive, which has to be taken out."""
    user: Int32
    """`[queries]`."""
    context: Encoded
    """`[queries, width]` by name."""

    def batches(self, batch_size: int, *, rng: np.random.Generator) -> Iterator[Batch]:
        """The queries in random order, cut so that a batch has about `batch_size` positives."""
        order = rng.permutation(len(self.first))
        ends = np.cumsum((self.last - self.first)[order])
        cuts = np.searchsorted(ends, np.arange(batch_size, ends[-1], batch_size), side="left") + 1
        for queries in np.split(order, np.unique(cuts)):
            if len(queries):
                yield self.batch(queries)

    def batch_count(self, batch_size: int) -> int:
        """About how many batches there are."""
        return max(1, round(int((self.last - self.first).sum()) / batch_size))

    def positives(self) -> tuple[Int32, Int64]:
        """The query and the event of every positive."""
        return _ranges(self.first, self.last)

    def batch(self, queries: Int64) -> Batch:
        """The batch of the given queries."""
        rows, events = _ranges(self.first[queries], self.last[queries])
        return Batch(
            history=self._history(queries),
            user=self.user[queries],
            context={name: values[queries] for name, values in self.context.items()},
            rows=rows,
            positives=self.items[events],
            weights=self.weights[events],
        )

    def _history(self, queries: Int64) -> Int32:
        lengths = self.seen_to[queries] - self.seen_from[queries]
        rows, events = _ranges(self.seen_from[queries], self.seen_to[queries])
        history = np.full((len(queries), int(lengths.max(initial=0))), -1, dtype=np.int32)
        history[rows, events - self.seen_from[queries][rows]] = self.shown[events]
        if self.without_own:
            history = np.where(history == self.items[self.first[queries], None], -1, history)
            history = np.take_along_axis(history, np.argsort(history < 0, axis=1, kind="stable"), axis=1)
        return history


def load_examples(
    prepared: ArtifactReader, context: Mapping[str, FittedFeature], *, shape: str, history_length: int
) -> Examples:
    """The training examples of the prepared data, from its `sequences` or its `pairs` (`data.examples.shape`).

    Raises:
        TrainingError: There is none.
    """
    table = prepared.table("pairs" if shape == "pairs" else "train").combine_chunks()
    if shape == "pairs":
        examples = _from_pairs(table, context)
    else:
        roles = [ROLES.index(role) for role in prepared.manifest.config["query"]["history_roles"]]
        examples = _from_sequences(table, context, history_length=history_length, history_roles=roles)
    if not len(examples.first):
        raise TrainingError(
            f"{prepared.folder}: no event precedes the validation window, so there is nothing to train on"
        )
    return examples


def _from_sequences(
    table: pa.Table, context: Mapping[str, FittedFeature], *, history_length: int, history_roles: list[int]
) -> Examples:
    """The queries in the sequences, less the events that are neither targets nor in a history."""
    lengths = _lengths(table["items"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    target, visible = _flat(table["targets"]), _flat(table["visible"])
    encoded = {name: feature.encode(_flat_arrow(table[f"context.{name}"])) for name, feature in context.items()}
    shown = np.isin(_flat(table["roles"]), history_roles)
    before = np.concatenate([[0], np.cumsum(shown)])
    start = (np.cumsum(lengths) - lengths)[row]
    unordered = visible < 0
    stop = np.where(unordered, start + lengths[row], start + visible)
    new = np.ones(len(row), dtype=bool)
    new[1:] = (row[1:] != row[:-1]) | (visible[1:] != visible[:-1]) | (target[1:] != target[:-1]) | unordered[1:]
    for values in encoded.values():
        new[1:] |= (values[1:] != values[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(row))
    first, last = first[target[first]], last[target[first]]
    seen_from, seen_to = before[start[first]], before[stop[first]]
    items = _flat(table["items"])
    return Examples(
        items=items,
        weights=_flat(table["weights"]),
        first=first,
        last=last,
        shown=items[shown],
        seen_from=np.maximum(seen_from, seen_to - history_length),
        seen_to=seen_to,
        without_own=bool(unordered.any()),
        user=np.asarray(table["user"], dtype=np.int32)[row[first]],
        context={name: values[first] for name, values in encoded.items()},
    )


def _from_pairs(table: pa.Table, context: Mapping[str, FittedFeature]) -> Examples:
    """A query a row: its history lies ready."""
    lengths = _lengths(table["history"])
    ends = np.cumsum(lengths)
    rows = np.arange(len(lengths))
    return Examples(
        items=table["item"].to_numpy(),
        weights=table["weight"].to_numpy(),
        first=rows,
        last=rows + 1,
        shown=_flat(table["history"]),
        seen_from=ends - lengths,
        seen_to=ends,
        without_own=False,
        user=table["user"].to_numpy(),
        context={name: feature.encode(table[f"context.{name}"]) for name, feature in context.items()},
    )


def padded_lists(column: pa.ChunkedArray, *, length: int) -> Int32:
    """Lists of item numbers as `[rows, items]`: each list's last `length` entries, padded with -1 at the end."""
    lengths = _lengths(column)
    ends = np.cumsum(lengths)
    kept = np.minimum(lengths, length)
    rows, entries = _ranges(ends - kept, ends)
    padded = np.full((len(lengths), int(kept.max(initial=0))), -1, dtype=np.int32)
    padded[rows, entries - (ends - kept)[rows]] = _flat(column)[entries]
    return padded


def _ranges(first: Int64, last: Int64) -> tuple[Int32, Int64]:
    """The numbers of all half-open ranges one after the other, and the range that each comes from."""
    lengths = last - first
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return rows, np.arange(len(rows)) + (first - (np.cumsum(lengths) - lengths))[rows]


def _lengths(column: pa.ChunkedArray) -> Int64:
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0), dtype=np.int64)


def _flat_arrow(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(column)


def _flat(column: pa.ChunkedArray) -> Any:
    return _flat_arrow(column).to_numpy()
