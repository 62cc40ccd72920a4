"""What each user took before a split's cut-off, as events and as a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import ROLES, DataSizes, Int32, Int64
from two_tower.padding import list_lengths, list_values
from two_tower.retrievers.half_life import decay

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

POSITIVE = ROLES.index("positive")
Counts = Literal["binary", "log", "linear"]
LEAST = 1e-6
"""What the oldest events still weigh under a short half-life: in float32 their products must not become nothing."""


@dataclass(frozen=True)
class Events:
    """Events of known users, in the order of the user numbers; all `[events]`."""

    users: Int32
    items: Int32
    times: Int64


def events_before(reader: ArtifactReader, *, split: Literal["validation", "test"]) -> Events:
    """The positive events before the split's cut-off: those of training, for the test also the validation window's.

    The prepared data keeps no sequence of the validation window.  Of it are found the events that the test queries'
    histories show, and one event, at the cut-off, of each further item.
    """
    events = _training_events(reader)
    return _joined(events, _validation_events(reader, events)) if split == "test" else events


def data_sizes(reader: ArtifactReader, *, split: Literal["validation", "test"]) -> DataSizes:
    """How much of the `prepared_data` artefact a retriever is fitted on that answers the split's queries."""
    return sizes_of(events_before(reader, split=split), reader)


def sizes_of(events: Events, reader: ArtifactReader) -> DataSizes:
    """How much these events of the `prepared_data` artefact are."""
    users, items = len(np.unique(events.users)), len(np.unique(events.items))
    return DataSizes(users, items, len(events.items), timed=reader.manifest.extra.get("order", "time") == "time")


@dataclass(frozen=True)
class Interactions:
    """Users' items with weights: the sum of the events of a user and an item, each `0.5 ** (age / half_life)`.

    An event's age is counted from the user's latest one.  Of the sum `s`, `linear` takes `s` and `log` takes
    `log2(1 + s)`; `binary` takes the latest event alone, 1 without a half-life.
    """

    items: int
    counts: Counts = "binary"
    half_life: timedelta | None = None

    def matrix(self, events: Events, *, users: int) -> csr_matrix:
        """The weights float32 `[users, items]` of what was taken, at least `LEAST`; columns ascend in each row."""
        from scipy.sparse import csr_matrix

        keys, inverse = np.unique(_pairs(events.users, events.items), return_inverse=True)
        weights = np.zeros(len(keys))
        if self.counts == "binary":
            np.maximum.at(weights, inverse, self._decay(events, users=users))
        else:
            np.add.at(weights, inverse, self._decay(events, users=users))
        if self.counts == "log":
            weights = np.log2(1 + weights)
        rows, columns = keys >> 32, keys & 0xFFFFFFFF
        starts = np.searchsorted(rows, np.arange(users + 1))
        values = np.maximum(weights, LEAST).astype(np.float32)
        return csr_matrix((values, columns, starts), shape=(users, self.items))

    def of_histories(self, queries: pa.Table) -> csr_matrix:
        """The weights float32 `[queries, items]` of what the queries themselves show."""
        rows = np.repeat(np.arange(len(queries), dtype=np.int32), list_lengths(queries["history"]))
        positive = list_values(queries["history_roles"]) == POSITIVE
        items, times = list_values(queries["history"])[positive], list_values(queries["history_times"])[positive]
        return self.matrix(Events(rows[positive], items, times), users=len(queries))

    def _decay(self, events: Events, *, users: int) -> npt.NDArray[np.float64]:
        latest = np.full(users, np.iinfo(np.int64).min)
        np.maximum.at(latest, events.users, events.times)
        return decay(latest[events.users] - events.times, self.half_life)


class Pasts:
    """The past of any query: its user's events, or its own history where the user has none."""

    def __init__(self, events: Events, interactions: Interactions) -> None:
        self._interactions = interactions
        self.matrix = interactions.matrix(events, users=int(events.users.max(initial=-1)) + 1)
        """float32 `[users, items]`."""
        self._rows = _with_empty_row(self.matrix)

    def of(self, queries: pa.Table) -> tuple[csr_matrix, Int32]:
        """The weights float32 `[queries, items]` of the queries' pasts, and their users: -1 where without events."""
        nobody = self._rows.shape[0] - 1
        numbers = queries["user"].to_numpy()
        numbers = np.where((numbers >= 0) & (numbers < nobody), numbers, nobody)
        known = np.diff(self._rows.indptr)[numbers] > 0
        past = self._rows[numbers]
        if not known.all():  # such as users outside the k-core, of whom training has no sequence
            strangers = np.flatnonzero(~known)
            place = np.full(len(known), len(strangers))
            place[strangers] = np.arange(len(strangers))
            past = past + _with_empty_row(self._interactions.of_histories(queries.take(strangers)))[place]
        return past, np.where(known, numbers, -1).astype(np.int32)


def _with_empty_row(matrix: csr_matrix) -> csr_matrix:
    """The matrix with one more row, which stands for whoever has none."""
    from scipy.sparse import csr_matrix

    starts = np.append(matrix.indptr, matrix.indptr[-1])
    return csr_matrix((matrix.data, matrix.indices, starts), shape=(len(starts) - 1, matrix.shape[1]))


def _training_events(reader: ArtifactReader) -> Events:
    table = reader.table("train", ["user", "items", "times", "roles"])
    users = np.repeat(table["user"].to_numpy(), list_lengths(table["items"]))
    positive = list_values(table["roles"]) == POSITIVE
    kept = np.flatnonzero(positive & (users >= 0))  # without a user it is nobody's past
    order = kept[np.argsort(users[kept], kind="stable")]
    return Events(users[order], list_values(table["items"])[order], list_values(table["times"])[order])


def _validation_events(reader: ArtifactReader, training: Events) -> Events:
    """The events of the validation window, as far as the test queries and the validation queries show them."""
    test = reader.table("test", ["user", "history", "history_times", "history_roles"])
    positive = list_values(test["history_roles"]) == POSITIVE
    users = np.repeat(test["user"].to_numpy(), list_lengths(test["history"]))[positive]
    items, times = list_values(test["history"])[positive], list_values(test["history_times"])[positive]
    last = np.full(int(max(users.max(initial=-1), training.users.max(initial=-1))) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, training.users, training.times)
    later = (users >= 0) & (times > last[users])
    shown = Events(users[later], items[later], times[later])
    rest = _unshown(reader.table("validation", ["user", "relevant", "cutoff"]), shown)
    return _joined(shown, rest)


def _unshown(validation: pa.Table, shown: Events) -> Events:
    """One event, at the cut-off, of each item that a user took in the validation window and `shown` lacks."""
    lengths = list_lengths(validation["relevant"])
    users = np.repeat(validation["user"].to_numpy(), lengths)
    items, times = list_values(validation["relevant"]), np.repeat(validation["cutoff"].to_numpy(), lengths)
    missing = (users >= 0) & ~np.isin(_pairs(users, items), _pairs(shown.users, shown.items))
    return Events(users[missing], items[missing], times[missing])


def _joined(first: Events, second: Events) -> Events:
    users = np.concatenate([first.users, second.users])
    order = np.argsort(users, kind="stable")
    items, times = np.concatenate([first.items, second.items]), np.concatenate([first.times, second.times])
    return Events(users[order], items[order], times[order])


def _pairs(users: Int32, items: Int32) -> Int64:
    return (users.astype(np.int64) << 32) + items
