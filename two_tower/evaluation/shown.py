"""What a table of systems shows, in a terminal or on a page: which metrics, a row for what, and what is said below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DEFAULT = {"recall": (10, 100), "ndcg": (10,)}
"""The metrics that are shown if none are asked for, with the K wanted of each."""


def nearest_k(ks: Sequence[int], wanted: int) -> int:
    """The K that is nearest to the wanted one, by their ratio."""
    return min(ks, key=lambda k: abs(math.log(k / wanted)))


def main_k(metrics: Mapping[str, Any]) -> int:
    """The K of the figures that stand alone: the one nearest to 100."""
    return nearest_k(metrics.get("ks") or [100], 100)


def default_shown(ks: Sequence[int]) -> list[str]:
    """The metrics of `DEFAULT`, each at the nearest K that there is."""
    names = [f"{name}@{nearest_k(ks, wanted)}" for name, wanteds in DEFAULT.items() for wanted in wanteds]
    return list(dict.fromkeys(names))


def shown_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics of a metrics.json that a table shows: recall at every K, then the others of `evaluation.shown`."""
    ks = metrics["ks"]
    recalls = [f"recall@{k}" for k in ks]
    return list(dict.fromkeys([*recalls, *(metrics.get("shown") or default_shown(ks))]))


def table_rows(
    metrics: Mapping[str, Any], *, systems: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The systems of a metrics.json, and the towers before a refit, with what they are called in a table of figures.

    One that was measured on some of the queries says so, and the two towers' figures on the same ones follow.

    Args:
        metrics: The content of metrics.json.
        systems: Its systems in another order.
    """
    queries, before_refit = metrics.get("queries", 0), metrics.get("before_refit")
    ordered = metrics.get("systems", {}) if systems is None else systems
    ours = [name for name in ordered if name in ("two_tower", "two_tower_exact")]
    for name, system in ordered.items():
        sample = sample_in_words(system, queries=queries)
        yield f"{name} ({sample})" if sample else name, system
        if beside := system.get("end_to_end"):
            yield f"two_tower (the same {system['queries']:,} queries)", {"kind": "end_to_end", **beside}
        if before_refit and name == ours[-1]:
            yield "two_tower (before the refit)", {"kind": "before_refit", **before_refit}


def sample_in_words(system: Mapping[str, Any], *, queries: int) -> str | None:
    """On how many of the `queries` a system was measured; None for all of them."""
    measured = system.get("queries", queries)
    return None if measured == queries else f"{measured:,} of {queries:,} queries"


def repeats_in_words(metrics: Mapping[str, Any]) -> str | None:
    """How much of what the queries ask for the user has had, and how it counts; None where that is nothing."""
    found = metrics.get("repeats")
    if not found or not found["relevant"]:
        return None
    queries = f"{found['queries']:,} of {found['of_queries']:,} queries ask"
    if found["relevant"] == found["queries"]:
        what = f"{queries} only for items that the user has had"
    else:
        items = f"{found['relevant']:,} of {found['of_relevant']:,} relevant items are items that the user has had"
        what = f"{items}, and {queries} for nothing else" if found["queries"] else items
    if found["counted"] == "miss":
        return f"{what}; they count as misses (evaluation.repeats: leave_out leaves them out)."
    return f"{what}; they are left out (evaluation.repeats: miss counts them as misses)."
