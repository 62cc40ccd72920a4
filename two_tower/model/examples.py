"""Training examples, dealt out batch by batch: a query's history is read only when needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from two_tower.contracts import Float32, Int32, Int64
from two_tower.padding import padded_ranges, ranges

ALIKE = 8192
"""Among how many queries or sequences, drawn at random, those of like length are put together."""

Encoded = dict[str, Int32 | Float32]
"""Encoded features `[rows, width]` by name."""


@dataclass(frozen=True)
class TrainingBatch:
    """A batch of positives and of the queries that they belong to; a basket's items share one query."""

    history: Int32
    """`[histories, items]` item numbers, oldest first, padded with -1 at the end."""
    places: Int32 | None
    """`[queries, 2]`: the row of `history` that holds each query's past, and the position of its newest item there
    (-1 for an empty past); None where each query has a row of its own."""
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
    known_rows: Int32
    """`[known]`: the query of each item that is no negative for it."""
    known: Int32
    """`[known]` item numbers."""
    keys: Int64
    """`[queries]`: what stays the same of each query from epoch to epoch, its number or its user's sequence."""


@dataclass(frozen=True)
class Examples:
    """The training sequences, one after the other, and the queries in them.

    A query is a run of events of one user that see the same past and the same context, such as a basket.  Where
    the query tower reads no history, it is all events of a user in one context.
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
    start: Int64
    """`[queries]`: the first entry of `shown` of the same sequence."""
    seen_from: Int64
    """`[queries]`: the first entry of `shown` in its history."""
    seen_to: Int64
    """`[queries]`: the entry of `shown` after its history."""
    user: Int32
    """`[queries]`."""
    context: Encoded
    """`[queries, width]` by name."""
    history_length: int

    @property
    def keys(self) -> int:
        """How many different `TrainingBatch.keys` there are."""
        return len(self.first)

    def batches(
        self, batch_size: int, *, rng: np.random.Generator, sequences: bool, whole_user: bool = False
    ) -> Iterator[TrainingBatch]:
        """The queries in random order, cut so that a batch has about `batch_size` positives.

        Args:
            batch_size: How many.
            rng: Of the order, and of the places where long sequences are cut.
            sequences: Whether queries of one sequence come together and share the row of its history.  A sequence
                longer than a history is cut into pieces, at other places in each epoch; a query then sees its past
                from the piece's begin on.
            whole_user: Whether all positives of a query's user are known, not only its own.
        """
        pieces = self._pieces(rng) if sequences else None
        groups = np.arange(len(self.first)) if pieces is None else pieces.of_query
        by_group = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups, weights=self.last - self.first)
        ends_of_group = np.cumsum(np.bincount(groups))
        lengths = self.seen_to - self.seen_from if pieces is None else pieces.end - pieces.begin
        for chosen in _batched(sizes, lengths, batch_size, rng=rng):
            starts = ends_of_group[chosen - 1] * (chosen > 0)
            row, places = ranges(starts, ends_of_group[chosen])
            queries = by_group[places]
            yield self._batch(queries, None if pieces is None else pieces.take(chosen, row), whole_user=whole_user)

    def positives(self) -> tuple[Int32, Int64]:
        """The query and the event of every positive."""
        return ranges(self.first, self.last)

    def _batch(self, queries: Int64, pieces: Pieces | None, *, whole_user: bool) -> TrainingBatch:
        rows, events = ranges(self.first[queries], self.last[queries])
        if pieces is None:
            history, places = padded_ranges(self.shown, self.seen_from[queries], self.seen_to[queries]), None
        else:
            history = padded_ranges(self.shown, pieces.begin, pieces.end)
            position = self.seen_to[queries] - pieces.begin[pieces.of_query] - 1
            places = np.stack([pieces.of_query, position], axis=1).astype(np.int32)
        known_rows, known = (rows, events) if not whole_user else self._of_user(queries)
        return TrainingBatch(
            history=history,
            places=places,
            user=self.user[queries],
            context={name: values[queries] for name, values in self.context.items()},
            rows=rows,
            positives=self.items[events],
            weights=self.weights[events],
            known_rows=known_rows,
            known=self.items[known],
            keys=queries,
        )

    def _of_user(self, queries: Int64) -> tuple[Int32, Int64]:
        """All positives of the queries' users."""
        by_user, begin, end = self._by_user
        row, place = ranges(begin[queries], end[queries])
        of, events = ranges(self.first[by_user[place]], self.last[by_user[place]])
        return row[of], events

    @cached_property
    def _by_user(self) -> tuple[Int64, Int64, Int64]:
        """The queries sorted by user, and for each query where those of its user begin and end there."""
        owner = np.where(self.user < 0, -1 - np.arange(len(self.user)), self.user)  # a missing user is nobody else
        by_user = np.argsort(owner, kind="stable")
        begin = np.searchsorted(owner[by_user], owner, side="left")
        return by_user, begin, np.searchsorted(owner[by_user], owner, side="right")

    @cached_property
    def _sequence(self) -> Int64:
        """`[queries]`: the number of each query's sequence."""
        new = (np.diff(self.user, prepend=-2) != 0) | (self.user < 0) | (np.diff(self.start, prepend=-1) != 0)
        return np.cumsum(new) - 1

    def _pieces(self, rng: np.random.Generator) -> Pieces:
        """The sequences' `shown` entries, cut into pieces of at most `history_length`."""
        sequence, length = self._sequence, self.history_length
        reach = np.zeros(sequence[-1] + 1, dtype=np.int64)
        np.maximum.at(reach, sequence, self.seen_to - self.start)
        shift = np.where(reach > length, rng.integers(0, length, len(reach)), 0)[sequence]
        seen = self.seen_to - self.start
        number = np.maximum(-(-(seen + shift) // length), 1)
        _, first, piece = np.unique(
            sequence * (reach.max() // length + 3) + number, return_index=True, return_inverse=True
        )
        begin = (self.start + np.maximum((number - 1) * length - shift, 0))[first]
        end = begin.copy()
        np.maximum.at(end, piece, self.seen_to)
        return Pieces(of_query=piece.astype(np.int32), begin=begin, end=end)


@dataclass(frozen=True)
class Pieces:
    """Parts of sequences that are read in one pass."""

    of_query: Int32
    """`[queries]`: the piece of each query."""
    begin: Int64
    """`[pieces]`: its first entry of `shown`."""
    end: Int64
    """`[pieces]`: the entry after its last."""

    def take(self, pieces: Int64, of_query: Int32) -> Pieces:
        """The given pieces, numbered from 0."""
        return Pieces(of_query=of_query, begin=self.begin[pieces], end=self.end[pieces])


@dataclass(frozen=True)
class UnorderedExamples:
    """Sequences without an order: in every epoch each user's items are dealt into groups anew.

    A query predicts one group from the others, so every item is a positive once an epoch and in a history otherwise.
    """

    items: Int32
    """`[events]` item numbers."""
    weights: Float32
    """`[events]`."""
    ends: Int64
    """`[sequences]`: the event after each sequence's last."""
    user: Int32
    """`[sequences]`."""
    context: Encoded
    """`[sequences, width]` by name."""
    groups: int
    history_length: int

    @property
    def keys(self) -> int:
        """How many different `TrainingBatch.keys` there are."""
        return len(self.ends)

    def batches(
        self, batch_size: int, *, rng: np.random.Generator, sequences: bool, whole_user: bool = False
    ) -> Iterator[TrainingBatch]:
        """As `Examples.batches`; a query always has a history of its own."""
        starts = np.append(0, self.ends[:-1])
        lengths = self.ends - starts
        row = np.repeat(np.arange(len(lengths)), lengths)
        deal = np.lexsort((rng.random(len(row)), row))  # each sequence shuffled
        group = (np.arange(len(row)) - starts[row]) % self.groups
        for chosen in _batched(lengths, np.minimum(lengths, self.history_length), batch_size, rng=rng):
            yield self._batch(chosen, starts[chosen], deal, group, whole_user=whole_user)

    def positives(self) -> tuple[Int32, Int64]:
        """The sequence and the event of every positive."""
        return ranges(np.append(0, self.ends[:-1]), self.ends)

    def _batch(self, chosen: Int64, starts: Int64, deal: Int64, group: Int64, *, whole_user: bool) -> TrainingBatch:
        of, places = ranges(starts, self.ends[chosen])
        used = np.minimum(self.ends[chosen] - starts, self.groups)  # as many queries as there are groups with items
        offset = np.cumsum(used) - used
        rows = (offset[of] + group[places]).astype(np.int32)
        events = deal[places]
        sequence = np.repeat(np.arange(len(chosen)), used)
        row, at = ranges(starts[sequence], self.ends[chosen][sequence])
        other = group[at] != (np.arange(len(sequence)) - offset[sequence])[row]
        row, history = row[other], self.items[deal[at[other]]]
        counts = np.bincount(row, minlength=len(sequence))
        stop = np.cumsum(counts)
        matrix = padded_ranges(history, np.maximum(stop - counts, stop - self.history_length), stop)
        known_rows, known = (row.astype(np.int32), history) if whole_user else (rows[:0], history[:0])
        return TrainingBatch(
            history=matrix,
            places=None,
            user=self.user[chosen][sequence],
            context={name: values[chosen][sequence] for name, values in self.context.items()},
            rows=rows,
            positives=self.items[events],
            weights=self.weights[events],
            known_rows=np.concatenate([rows, known_rows]),
            known=np.concatenate([self.items[events], known]),
            keys=chosen[sequence],
        )


def _batched(sizes: Int64, lengths: Int64, batch_size: int, *, rng: np.random.Generator) -> Iterator[Int64]:
    """All groups in random order, some at a time with about `batch_size` positives together.

    A batch is as wide as its longest history, so groups of like length come together; which ones, and when, is random.

    Args:
        sizes: `[groups]`, how many positives each has.
        lengths: `[groups]`, of their histories.
        batch_size: How many positives.
        rng: Of the order.
    """
    order = rng.permutation(len(sizes))
    order = order[np.lexsort((lengths[order], np.arange(len(order)) // ALIKE))]
    ends = np.cumsum(sizes[order])
    cuts = np.searchsorted(ends, np.arange(batch_size, ends[-1], batch_size), side="left") + 1
    batches = [chosen for chosen in np.split(order, np.unique(cuts)) if len(chosen)]
    for number in rng.permutation(len(batches)):
        yield batches[number]
