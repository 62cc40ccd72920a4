"""What the same user took before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from two_tower.artifacts import ArtifactReader, open_artifact
from two_tower.contracts import ROLES, Float32, Int32, Int64, Retrieved, Retriever, RetrieverSettings
from two_tower.retrievers.popularity import candidate_table, recent_order
from two_tower.settings import Duration

if TYPE_CHECKING:
    import pyarrow as pa

Split = Literal["validation", "test"]
POSITIVE = ROLES.index("positive")
NOWHERE = np.iinfo(np.int64).max
"""The place of an item that is not available."""


class PersonalFrequency(RetrieverSettings):
    """The items of the user's past by how often, then how lately they were taken; behind them recent popularity.

    The past is the user's whole training sequence; for the test split also what the queries show of the validation
    window: every event there among the query's latest `data.query.history_length`, and one event of each further item.
    """

    type: Literal["personal_frequency"] = "personal_frequency"
    half_life: Duration | None = Field(
        None, description="An event counts half after this long; without it all events count the same."
    )

    @property
    def name(self) -> str:
        return self.type if self.half_life is None else f"{self.type}_{self.half_life.total_seconds() / 86400:g}d"

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        half_life = None if self.half_life is None else self.half_life.total_seconds() * 1e6
        order, counts = recent_order(candidate_table(prepared), split=split)
        reader = open_artifact(prepared, "prepared_data")
        events = _training_events(reader)
        if split == "test":
            events = _joined(events, _validation_events(reader, events))
        return PersonalRanking(events, padding=order, items=len(counts), half_life=half_life)


@dataclass(frozen=True)
class Events:
    """Events of known users, in the order of the user numbers; all `[events]`."""

    users: Int32
    items: Int32
    times: Int64


class PersonalRanking:
    """Ranks a user's own items, then everything else in one order."""

    def __init__(self, events: Events, *, padding: Int32, items: int, half_life: float | None) -> None:
        """`padding`: every available item, best first; `items`: how many there are; `half_life` in microseconds."""
        self.events, self.padding, self.half_life = events, padding, half_life
        self._place = np.full(items, NOWHERE)
        self._place[padding] = np.arange(len(padding))

    def retrieve(self, queries: pa.Table, k: int, *, exclude: Int32 | None = None) -> Retrieved:
        """The user's items and then the padding, less the exclusions."""
        items = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        taken = np.zeros(len(self._place) + 1, dtype=np.bool_)  # the last one is that of the padding, -1
        for row, user in enumerate(queries["user"].to_numpy()):
            own, weights = self._own(user)
            forbidden = exclude[row] if exclude is not None else own[:0]
            taken[forbidden] = True
            allowed = ~taken[own] & (self._place[own] < NOWHERE)
            taken[own] = True
            further = self.padding[: k + len(own) + len(forbidden)]
            further = further[~taken[further]]
            taken[own] = taken[forbidden] = False
            found = np.concatenate([own[allowed], further])[:k]
            items[row, : len(found)] = found
            scores[row, : len(found)] = np.concatenate([weights[allowed], self._padding_scores(further)])[:k]
        return Retrieved(items, scores)

    def _own(self, user: int) -> tuple[Int32, Float32]:
        """The distinct items of a user's past, best first, and their positive weights."""
        start, stop = np.searchsorted(self.events.users, [user, user + 1]) if user >= 0 else (0, 0)
        times = self.events.times[start:stop]
        items, inverse = np.unique(self.events.items[start:stop], return_inverse=True)
        each = (
            np.ones(len(times)) if self.half_life is None else np.exp2((times - times.max(initial=0)) / self.half_life)
        )
        weights = np.bincount(inverse, weights=each, minlength=len(items))
        latest = np.full(len(items), np.iinfo(np.int64).min)
        np.maximum.at(latest, inverse, times)
        order = np.lexsort((self._place[items], -latest, -weights))
        return items[order], weights[order].astype(np.float32)

    def _padding_scores(self, items: Int32) -> Float32:
        """Falling scores in [-1, 0): below those of every own item."""
        return (-(self._place[items] + 1) / len(self.padding)).astype(np.float32)


def _training_events(reader: ArtifactReader) -> Events:
    table = reader.table("train", ["user", "items", "times", "roles"])
    users = np.repeat(table["user"].to_numpy(), _lengths(table["items"]))
    kept = np.flatnonzero((users >= 0) & (_flat(table["roles"]) == POSITIVE))  # without a user it is nobody's past
    order = kept[np.argsort(users[kept], kind="stable")]
    return Events(users[order], _flat(table["items"])[order], _flat(table["times"])[order])


def _validation_events(reader: ArtifactReader, training: Events) -> Events:
    """The events of the validation window, as far as the test queries and the validation queries show them."""
    test = reader.table("test", ["user", "history", "history_times", "history_roles"])
    positive = _flat(test["history_roles"]) == POSITIVE
    users = np.repeat(test["user"].to_numpy(), _lengths(test["history"]))[positive]
    items, times = _flat(test["history"])[positive], _flat(test["history_times"])[positive]
    last = np.full(int(max(users.max(initial=-1), training.users.max(initial=-1))) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, training.users, training.times)
    later = (users >= 0) & (times > last[users])
    shown = Events(users[later], items[later], times[later])
    rest = _unshown(reader.table("validation", ["user", "relevant", "cutoff"]), shown)
    return _joined(shown, rest)


def _unshown(validation: pa.Table, shown: Events) -> Events:
    """One event, at the cut-off, of each item that a user took in the validation window and `shown` lacks."""
    lengths = _lengths(validation["relevant"])
    users = np.repeat(validation["user"].to_numpy(), lengths)
    items, times = _flat(validation["relevant"]), np.repeat(validation["cutoff"].to_numpy(), lengths)
    missing = (users >= 0) & ~np.isin(_pairs(users, items), _pairs(shown.users, shown.items))
    return Events(users[missing], items[missing], times[missing])


def _joined(first: Events, second: Events) -> Events:
    users = np.concatenate([first.users, second.users])
    order = np.argsort(users, kind="stable")
    items, times = np.concatenate([first.items, second.items]), np.concatenate([first.times, second.times])
    return Events(users[order], items[order], times[order])


def _pairs(users: Int32, items: Int32) -> Int64:
    return (users.astype(np.int64) << 32) + items


def _lengths(column: pa.ChunkedArray) -> Int64:
    import pyarrow.compute as pc

    lengths: Int64 = pc.list_value_length(column).to_numpy().astype(np.int64)
    return lengths


def _flat(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    import pyarrow.compute as pc

    values: npt.NDArray[Any] = pc.list_flatten(column).to_numpy()
    return values
