"""The systems of an evaluation in the report's order, their metrics, and what a paired difference says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from two_tower.evaluation import table_rows
from two_tower.metrics_file import Difference, Evaluation, Figure, System
from two_tower.report import plots

METRICS = {
    "recall": ("Recall", "found relevant items ÷ all relevant items of the query"),
    "hit_rate": ("Hit rate", "share of queries with at least one found item"),
    "precision": ("Precision", "found relevant items ÷ K"),
    "mrr": ("MRR", "1 ÷ rank of the first found item, 0 without one"),
    "ndcg": ("NDCG", "found items discounted by the logarithm of their rank"),
    "map": ("MAP", "precision at the rank of each found item, summed, ÷ all relevant items of the query"),
}
KINDS = {
    "challenger": "this run, query tower and index",
    "exact": "this run, exact search",
    "end_to_end": "this run, query tower and index",
    "before_refit": "trained without the validation events, exact search",
    "champion": "serving now",
    "baseline": "baseline",
}


@dataclass(frozen=True)
class Cell:
    """A figure in a table; nothing at all where it was not measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False
    """Of its column."""
    words: str | None = None
    """What the paired difference says."""

    @classmethod
    def of(cls, figure: Figure | None, *, words: str | None = None) -> Cell:
        """The cell of a figure."""
        return cls(figure.value, figure.low, figure.high, words=words) if figure else cls(words=words)


@dataclass(frozen=True)
class ComparedTo:
    """A paired difference, and what it says of the two towers."""

    name: str
    """Of the other system."""
    difference: float
    low: float
    high: float
    probability_better: float
    tone: str
    words: str

    @classmethod
    def of(cls, name: str, found: Difference) -> ComparedTo:
        """That with the system of this name."""
        tone, words = compared_words(found)
        return cls(name, found.difference, found.low, found.high, found.probability_better, tone, words)


def k_of(key: str) -> int:
    """The K of a key such as `recall@100`."""
    return int(key.rpartition("@")[2])


def ks_of(keys: Iterable[str]) -> list[int]:
    """The distinct K of some keys, ascending."""
    return sorted({k_of(key) for key in keys})


def metric_title(key: str) -> str:
    """`Recall@100` for `recall@100`."""
    name, at, k = key.partition("@")
    return f"{METRICS.get(name, (name.replace('_', ' '), ''))[0]}{at}{k}"


def kind_of(system: System) -> str:
    """What a system is, in words."""
    kind = system.kind or "baseline"
    return KINDS.get(kind, kind)


def ordered_systems(evaluation: Evaluation, systems: Mapping[str, System] | None = None) -> dict[str, System]:
    """The systems, or others instead: this run, its exact search, the champion, then the rest by falling recall."""
    kinds = list(KINDS)

    def order(item: tuple[str, System]) -> tuple[int, float]:
        system = item[1]
        place = kinds.index(system.kind) if system.kind in kinds else len(kinds)
        return place, -(Cell.of(system.metrics.get(evaluation.main_metric)).value or 0)

    return dict(sorted((evaluation.systems if systems is None else systems).items(), key=order))


def rows_of(evaluation: Evaluation) -> dict[str, System]:
    """The ordered systems, and what stands beside them, by what they are called in tables and pictures."""
    return dict(table_rows(evaluation, systems=ordered_systems(evaluation)))


def first_of_kind(systems: Mapping[str, System], kind: str) -> str | None:
    """The first system of a kind: of the baselines, where the systems are ordered, the best."""
    return next((name for name, system in systems.items() if system.kind == kind), None)


def without_champion(evaluation: Evaluation) -> str | None:
    """Why no champion is among the systems, None where one is."""
    if first_of_kind(evaluation.systems, "champion"):
        return None
    if evaluation.champion is None:
        return "There is no champion to compare with."
    if evaluation.champion == evaluation.version:
        return "The version is the champion itself."
    return "The champion could not be evaluated."


def series_of(systems: Mapping[str, System]) -> dict[str, plots.Series]:
    """The style of each system in every picture."""
    return plots.system_series({name: system.kind or "baseline" for name, system in systems.items()})


def compared_words(difference: Difference) -> tuple[str, str]:
    """What a paired difference says of the two towers: its tone, and the word."""
    if difference.low > 0:
        return "good", "better"
    return ("bad", "worse") if difference.high < 0 else ("neutral", "unclear")
