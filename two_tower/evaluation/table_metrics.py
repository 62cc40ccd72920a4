"""What a table of systems shows, in a terminal or on a page: which metrics, a row for what, and what is said below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from two_tower.metrics_file import Evaluation, RepeatCounts, System, nearest_k

DEFAULT = {"recall": (10, 100), "ndcg": (10,)}
"""The metrics that are shown if none are asked for, with the K wanted of each."""


def default_shown(ks: Sequence[int]) -> list[str]:
    """The metrics of `DEFAULT`, each at the nearest K that there is."""
    names = [f"{name}@{nearest_k(ks, wanted)}" for name, wanteds in DEFAULT.items() for wanted in wanteds]
    return list(dict.fromkeys(names))


def shown_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics of an evaluation that a table shows: recall at every K, then the others of `evaluation.shown`."""
    recalls = [f"recall@{k}" for k in evaluation.ks]
    return list(dict.fromkeys([*recalls, *(evaluation.shown or default_shown(evaluation.ks))]))


def table_rows(evaluation: Evaluation, *, systems: Mapping[str, System] | None = None) -> Iterator[tuple[str, System]]:
    """The systems of an evaluation, and the towers before a refit, with what they are called in a table of figures.

    One that was measured on some of the queries says so, and the two towers' figures on the same ones follow.

    Args:
        evaluation: The evaluation.
        systems: Its systems in another order.
    """
    ordered = evaluation.systems if systems is None else systems
    ours = [name for name in ordered if name in ("two_tower", "two_tower_exact")]
    for name, system in ordered.items():
        sample = sample_in_words(system, queries=evaluation.queries)
        yield f"{name} ({sample})" if sample else name, system
        if system.end_to_end:
            yield f"two_tower (the same {system.queries:,} queries)", system.end_to_end.of_kind("end_to_end")
        if evaluation.before_refit and name == ours[-1]:
            yield "two_tower (before the refit)", evaluation.before_refit.of_kind("before_refit")


def sample_in_words(system: System, *, queries: int) -> str | None:
    """On how many of the `queries` a system was measured; None for all of them."""
    return None if system.queries in (None, queries) else f"{system.queries:,} of {queries:,} queries"


def repeats_in_words(found: RepeatCounts | None) -> str | None:
    """How much of what the queries ask for the user has had, and how it counts; None where that is nothing."""
    if not found or not found.relevant:
        return None
    queries = f"{found.queries:,} of {found.of_queries:,} queries ask"
    if found.relevant == found.queries:
        what = f"{queries} only for items that the user has had"
    else:
        items = f"{found.relevant:,} of {found.of_relevant:,} relevant items are items that the user has had"
        what = f"{items}, and {queries} for nothing else" if found.queries else items
    if found.counted == "miss":
        return f"{what}; they count as misses (evaluation.repeats: leave_out leaves them out)."
    return f"{what}; they are left out (evaluation.repeats: miss counts them as misses)."
