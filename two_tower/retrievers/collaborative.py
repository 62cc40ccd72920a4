"""What retrievers that learn from a users x items matrix share: fitting data, blocks of queries, padding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import Field

from two_tower.artifacts import open_artifact
from two_tower.contracts import Bool, DataSizes, Float32, Int32, Retrieved, Retriever, RetrieverSettings
from two_tower.errors import DataError
from two_tower.retrievers.events import Counts, Interactions, Pasts, events_before, sizes_of
from two_tower.retrievers.fixed_order import FixedOrder
from two_tower.retrievers.half_life import name_with_half_life
from two_tower.retrievers.popularity import candidate_table, recent_order
from two_tower.retrievers.ranking import best
from two_tower.settings import Duration

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix

BLOCK = 512
"""Queries that are scored together, at most."""
CELLS = 2**24
"""Scores that are held at a time: 64 MiB."""


class Scorer(Protocol):
    """A fitted model."""

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        """The scores float32 `[queries, items]`; -inf where the model has none.

        Args:
            past: The weights float32 `[queries, items]` of what the queries' users took.
            users: `[queries]` rows of the matrix that the model was fitted on, -1 for none.
        """


class Collaborative(RetrieverSettings, ABC):
    """A retriever that is fitted on the users x items matrix of the events before the cut-off.

    Behind the items with a score, or alone where a query has no past, stands recent popularity.
    """

    @abstractmethod
    def fit(self, matrix: csr_matrix) -> Scorer:
        """The model of the weights float32 `[users, items]`, of which at least one is stored.

        Raises:
            DataError: The matrix cannot be inverted.
            TrainingError: The model's vectors became NaN.
        """

    def interactions(self, items: int) -> Interactions:
        """How events become weights; here 1 for whatever was taken."""
        return Interactions(items)

    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        reader = open_artifact(prepared, "prepared_data")
        events = events_before(reader, split=split)
        if why := self.refuses(sizes_of(events, reader)):
            raise DataError(f"{self.name}: {why}")
        order, recent = recent_order(candidate_table(prepared), split=split)
        pasts = Pasts(events, self.interactions(len(recent)))
        if not pasts.matrix.nnz:
            return FixedOrder(order, recent[order].astype(np.float32), items=len(recent))
        return CollaborativeRanking(pasts, self.fit(pasts.matrix), padding=order)


class Weighted(Collaborative, ABC):
    """A retriever for which it matters how often, and how lately, something was taken."""

    counts: Counts = Field("binary", description="What n events of a user and an item weigh: 1, log2(1 + n), or n.")
    half_life: Duration | None = Field(
        None,
        description="An event weighs half when the user's latest is this much later; without it all weigh the same.",
    )

    @property
    def name(self) -> str:
        return name_with_half_life(self.type, self.half_life)

    def refuses(self, sizes: DataSizes) -> str | None:
        if self.half_life is not None and not sizes.timed:
            return "half_life needs logs with times (data.interactions.columns.time)"
        return None

    def interactions(self, items: int) -> Interactions:
        return Interactions(items, self.counts, self.half_life)


class CollaborativeRanking:
    """Ranks by a fitted model's scores, equal ones by the padding's order, then the padding."""

    def __init__(self, pasts: Pasts, scorer: Scorer, *, padding: Int32) -> None:
        """`padding`: every available item, best first."""
        self.pasts, self.scorer, self.padding = pasts, scorer, padding
        users, items = pasts.matrix.shape
        self._block = min(BLOCK, max(1, CELLS // max(users, items)))  # user_user compares with every user
        self._taken: Bool = np.diff(pasts.matrix.tocsc().indptr) > 0

    def retrieve(self, queries: pa.Table, k: int, *, exclude: Int32 | None = None) -> Retrieved:
        """The best scored items and then the padding, less the exclusions."""
        found = np.full((len(queries), k), -1, dtype=np.int32)
        values = np.full((len(queries), k), -np.inf, dtype=np.float32)
        forbidden = np.zeros(len(self._taken) + 1, dtype=np.bool_)  # the last one is that of the exclusions' -1
        for start in range(0, len(queries), self._block):
            scores = self._scores(queries.slice(start, self._block))
            for row, each in enumerate(scores, start):
                out = exclude[row] if exclude is not None else self.padding[:0]
                forbidden[out] = True
                items, own = self._ranked(each, ~forbidden[self.padding], k)
                forbidden[out] = False
                found[row, : len(items)], values[row, : len(items)] = items, own
        return Retrieved(found, values)

    def _scores(self, queries: pa.Table) -> Float32:
        """The scores `[queries, items]`, -inf where only the padding speaks for an item."""
        past, users = self.pasts.of(queries)
        scores = self.scorer(past, users)
        scores[np.diff(past.indptr) == 0] = -np.inf
        scores[:, ~self._taken] = -np.inf  # what nobody took has a score by chance only, as where it began
        return scores

    def _ranked(self, scores: Float32, allowed: Bool, k: int) -> tuple[Int32, Float32]:
        """At most `k` items with falling scores; `allowed` in the order of the padding."""
        scores = scores[self.padding]
        scored = np.flatnonzero(allowed & (scores > -np.inf))
        scored = scored[best(scores[scored], k)]
        further = allowed.copy()
        further[scored] = False
        rest = np.flatnonzero(further)[: k - len(scored)]
        floor = min(0, scores[scored].min(initial=0))
        behind = floor - (rest + 1) / len(self.padding)
        return self.padding[np.concatenate([scored, rest])], np.concatenate([scores[scored], behind]).astype(np.float32)
