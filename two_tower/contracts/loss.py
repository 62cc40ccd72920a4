"""A loss: a training objective over query embeddings and the candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

from two_tower.contracts.arrays import Float32
from two_tower.settings import Settings


class Loss(Settings, ABC):
    """A training objective over query embeddings and the candidates."""

    type: str

    @abstractmethod
    def build(self, context: LossContext) -> Any:
        """A callable `(queries float32 [n, dim], batch: LossBatch) -> scalar`, which TensorFlow calls in every step.

        `context.candidates(item_numbers)` embeds candidates inside the same graph.
        """


class LossBatch(NamedTuple):
    """What a loss is told about a batch of `n` queries; TensorFlow tensors.

    Positive `i` belongs to the query `rows[i]`: the items of one basket share a query, which need not be scored again
    for each of them.
    """

    rows: Any
    """int32 `[batch]`: the query that each positive belongs to."""
    positives: Any
    """int32 `[batch]` item numbers."""
    weights: Any
    """float32 `[batch]`, at least one above 0."""
    known_rows: Any
    """int32 `[known]`: the query of each known positive."""
    known: Any
    """int32 `[known]` item numbers that are no negatives of the query `known_rows`: its own positives, and where the
    configuration says so the user's other items."""
    mined: Any
    """int32 `[n, hard]` negatives of each query that the model ranked high, -1 for none; `hard` is 0 without mining."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may use of the model that it trains."""

    candidates: Any
    """Callable int32 `[n]` item numbers -> float32 `[n, dim]` embeddings, differentiable."""
    item_count: int
    sampling_probability: Float32
    """`[items]`: each item's share of the training positives (the logQ of an in-batch negative)."""
    temperature: Any
    """A float, or a scalar variable where it is learned: use it inside the loss, not in `build`."""
    seed: int
