"""What the same user took before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from two_tower.artifacts import open_artifact
from two_tower.contracts import Float32, Int32, Retrieved, Retriever, RetrieverSettings
from two_tower.retrievers.events import Events, events_before
from two_tower.retrievers.half_life import decay, name_with_half_life
from two_tower.retrievers.popularity import candidate_table, recent_order
from two_tower.settings import Duration

if TYPE_CHECKING:
    import pyarrow as pa

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
        return name_with_half_life(self.type, self.half_life)

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        order, counts = recent_order(candidate_table(prepared), split=split)
        events = events_before(open_artifact(prepared, "prepared_data"), split=split)
        return PersonalRanking(events, padding=order, items=len(counts), half_life=self.half_life)


class PersonalRanking:
    """Ranks a user's own items, then everything else in one order."""

    def __init__(self, events: Events, *, padding: Int32, items: int, half_life: timedelta | None) -> None:
        """`padding`: every available item, best first; `items`: how many there are."""
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
        each = decay(times.max(initial=0) - times, self.half_life)
        weights = np.bincount(inverse, weights=each, minlength=len(items))
        latest = np.full(len(items), np.iinfo(np.int64).min)
        np.maximum.at(latest, inverse, times)
        order = np.lexsort((self._place[items], -latest, -weights))
        return items[order], weights[order].astype(np.float32)

    def _padding_scores(self, items: Int32) -> Float32:
        """Falling scores in [-1, 0): below those of every own item."""
        return (-(self._place[items] + 1) / len(self.padding)).astype(np.float32)
