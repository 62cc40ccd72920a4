"""The systems of an evaluation in the report's order, their metrics, and what a paired difference says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from two_tower.evaluation import main_k as main_k, table_rows
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


def measured(value: Any) -> dict[str, Any]:
    """`{"value", "low", "high", "best"}` of a figure that may be given alone, with its interval, or not at all."""
    given = value if isinstance(value, Mapping) else {"value": value}
    return {"value": given.get("value"), "low": given.get("low"), "high": given.get("high"), "best": False}


def kind_of(system: Mapping[str, Any]) -> str:
    """What a system is, in words."""
    kind: str = system.get("kind", "baseline")
    return KINDS.get(kind, kind)


def ordered_systems(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The systems: this run, its exact search, the champion, then the others by falling recall."""
    kinds = list(KINDS)
    key = f"recall@{main_k(metrics)}"

    def order(item: tuple[str, Any]) -> tuple[int, float]:
        kind = item[1].get("kind")
        place = kinds.index(kind) if kind in kinds else len(kinds)
        return place, -(measured(item[1]["metrics"].get(key))["value"] or 0)

    return dict(sorted(metrics["systems"].items(), key=order))


def rows_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The ordered systems, and what stands beside them, by what they are called in tables and pictures."""
    return dict(table_rows(metrics, systems=ordered_systems(metrics)))


def first_of_kind(systems: Mapping[str, Any], kind: str) -> str | None:
    """The first system of a kind: of the baselines, where the systems are ordered, the best."""
    return next((name for name, system in systems.items() if system.get("kind") == kind), None)


def without_champion(metrics: Mapping[str, Any]) -> str | None:
    """Why no champion is among the systems, None where one is."""
    if first_of_kind(metrics["systems"], "champion"):
        return None
    if metrics.get("champion") is None:
        return "There is no champion to compare with."
    if metrics["champion"] == metrics.get("version"):
        return "The version is the champion itself."
    return "The champion could not be evaluated."


def series_of(systems: Mapping[str, Any]) -> dict[str, plots.Series]:
    """The style of each system in every picture."""
    return plots.system_series({name: system.get("kind", "baseline") for name, system in systems.items()})


def compared_words(difference: Mapping[str, float]) -> dict[str, str]:
    """What a paired difference says of the two towers."""
    if difference["low"] > 0:
        return {"tone": "good", "words": "better"}
    return {"tone": "bad", "words": "worse"} if difference["high"] < 0 else {"tone": "neutral", "words": "unclear"}
