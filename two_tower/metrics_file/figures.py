"""Figures, and the systems that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Number = int | float
"""A number as it was written: 1 stays 1, and 1.0 stays 1.0."""
Metrics = dict[str, "Figure"]
"""Figures by metric, such as `recall@100`."""


class Stored(BaseModel):
    """A part of metrics.json.

    Whatever release wrote the file, it can be read, and is the same when it is written again: unknown keys are kept,
    and what was missing has a default here and stays missing there.
    """

    model_config = ConfigDict(frozen=True, extra="allow", validate_by_name=True, validate_by_alias=True)

    def to_json(self) -> dict[str, Any]:
        """What the file holds of it."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Figure(Stored):
    """A mean over queries, with the ends of its interval."""

    value: Number
    low: Number | None = None
    high: Number | None = None

    def __str__(self) -> str:
        """Such as `0.2825 [0.2724, 0.2920]`."""
        return f"{self.value:.4f}" + self.interval_text(" ")

    def interval_text(self, before: str = "") -> str:
        """The interval in brackets behind some text; nothing at all without one."""
        return "" if self.low is None or self.high is None else f"{before}[{self.low:.4f}, {self.high:.4f}]"


class Difference(Stored):
    """The two towers' figure less another system's, paired by query, with the ends of its interval."""

    difference: Number
    low: Number
    high: Number
    probability_better: Number = Field(description="The share of the resamples in which ours is strictly larger.")


class Curve(Stored):
    """Mean recall by K."""

    k: list[int] = []
    recall: list[Number] = []


class System(Stored):
    """What a system reached, and what it is."""

    kind: str | None = Field(None, description="`challenger`, `exact`, `baseline` or `champion`; not in slices.")
    queries: int | None = Field(None, description="Those that it was measured on.")
    metrics: Metrics = {}
    curve: Curve | None = None
    end_to_end: System | None = Field(
        None, description="The two towers on the queries of a system that was measured on fewer than all."
    )

    def of_kind(self, kind: str) -> System:
        """The same figures under another kind."""
        return self.model_copy(update={"kind": kind})

    def by_k(self, metric: str) -> dict[int, Figure]:
        """The figures of a metric, such as `recall`, by K."""
        names = {name: name.rpartition("@") for name in self.metrics}
        found = {int(k): self.metrics[name] for name, (of, _, k) in names.items() if of == metric}
        return dict(sorted(found.items()))

    @property
    def recall(self) -> dict[int, Figure]:
        """Found relevant items ÷ all relevant items of the query, by K."""
        return self.by_k("recall")

    @property
    def hit_rate(self) -> dict[int, Figure]:
        """The share of queries with at least one found item, by K."""
        return self.by_k("hit_rate")

    @property
    def precision(self) -> dict[int, Figure]:
        """Found relevant items ÷ K, by K."""
        return self.by_k("precision")

    @property
    def mrr(self) -> dict[int, Figure]:
        """1 ÷ the rank of the first found item, by K."""
        return self.by_k("mrr")

    @property
    def ndcg(self) -> dict[int, Figure]:
        """Found items discounted by the logarithm of their rank, by K."""
        return self.by_k("ndcg")

    @property
    def map(self) -> dict[int, Figure]:
        """Precision at the rank of each found item, summed, ÷ all relevant items of the query, by K."""
        return self.by_k("map")


class Compared(Stored):
    """Systems on the same relevant items: all of them, or those of a slice."""

    queries: int = 0
    systems: dict[str, System] = {}
    comparisons: dict[str, dict[str, Difference]] = Field(
        {}, description="The two towers less a baseline or the champion, by system and metric."
    )

    def figure(self, system: str, metric: str) -> Figure | None:
        """A system's figure; None where it was not measured."""
        found = self.systems.get(system)
        return found.metrics.get(metric) if found else None

    def difference(self, system: str, metric: str) -> Difference | None:
        """The two towers' figure less the system's; None where they were not compared."""
        return self.comparisons.get(system, {}).get(metric)


def values_of(metrics: Mapping[str, Figure]) -> dict[str, Number]:
    """The values alone."""
    return {name: figure.value for name, figure in metrics.items()}
