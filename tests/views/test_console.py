"""The table of figures at the end of a run: which metrics, which systems, and what fits into a console."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pipelines.views.console import metrics_table
from two_tower.metrics_file import Evaluation

NAMES = [f"{name}@{k}" for name in ("recall", "hit_rate", "mrr", "ndcg") for k in (10, 100, 1000)]


def system(value: float, **more: Any) -> dict[str, Any]:
    """A system whose every figure is the value, with an interval of 0.01 around it."""
    figure = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {"queries": 28_404, "metrics": dict.fromkeys(NAMES, figure), **more}


METRICS: dict[str, Any] = {
    "queries": 28_404, "candidates": 92_348, "confidence": 0.95, "ks": [10, 100, 1000],
    "shown": ["recall@10", "recall@100", "ndcg@10"], "repeats": None,
    "systems": {
        "two_tower": system(0.5),
        "two_tower_exact": system(0.4, queries=5000, end_to_end={"metrics": system(0.39)["metrics"]}),
        "popularity": system(0.1),
    },
}  # fmt: skip


def lines(*, width: int = 160, **changes: Any) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(metrics_table(Evaluation.model_validate({**METRICS, **changes}), width=width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def header(**changes: Any) -> list[str]:
    return [name.strip() for name in lines(**changes)[2].strip("┃ ").split("┃")]


def test_every_system_has_recall_at_every_k_and_what_else_is_shown() -> None:
    assert header() == ["system", "recall@10", "recall@100", "recall@1000", "ndcg@10"]
    (ours,) = [line for line in lines() if line.startswith("│ two_tower  ")]
    assert ours.count("0.5000 [0.4900, 0.5100]") == 3 and ours.endswith("│  0.5000 │")
    assert any(line.startswith("│ popularity ") for line in lines())
    assert header(shown=["mrr@1000", "recall@10"]) == ["system", *NAMES[:3], "mrr@1000"]


def test_an_evaluation_that_names_no_metrics_shows_the_usual_ones_at_the_nearest_k() -> None:
    assert header(shown=None)[-1] == "ndcg@10"
    assert header(shown=None, ks=[5, 500]) == ["system", "recall@5", "recall@500", "ndcg@5"]


def test_a_system_of_other_queries_says_so_and_has_a_row_of_the_same_ones_below() -> None:
    marked = [line.split("│")[1].strip() for line in lines() if line.startswith("│ two_tower")]
    assert marked == ["two_tower", "two_tower_exact (5,000 of 28,404 queries)", "two_tower (the same 5,000 queries)"]
    (beside,) = [line for line in lines() if "the same 5,000" in line]
    assert "0.3900" in beside
    everywhere = {**METRICS["systems"], "two_tower_exact": system(0.4)}
    assert not [line for line in lines(systems=everywhere) if "queries)" in line]


@pytest.mark.parametrize(
    ("width", "inline", "interval"), [(160, True, True), (120, True, True), (80, False, True), (60, False, False)]
)
def test_a_narrow_console_moves_the_intervals_and_then_drops_them(width: int, inline: bool, interval: bool) -> None:
    text = "\n".join(lines(width=width))
    assert ("0.5000 [0.4900, 0.5100]" in text) == inline
    assert ("[0.4900, 0.5100]" in text) == interval == ("95 % intervals" in text)
    assert text.count("0.5000") == 4 and "…" not in text and all(len(line) <= width for line in text.splitlines())


REPEATS = {"counted": "miss", "queries": 2_027, "of_queries": 30_431, "relevant": 2_027, "of_relevant": 30_431}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2,027 of 30,431 queries ask only for items that the user has had; they count as misses "
             "(evaluation.repeats: leave_out leaves them out)."),
        ({"counted": "leave_out"}, "the user has had; they are left out (evaluation.repeats: miss counts them as "
                                   "misses)."),
        ({"relevant": 3_000, "of_relevant": 90_000},
         "3,000 of 90,000 relevant items are items that the user has had, and 2,027 of 30,431 queries ask for nothing "
         "else; they count"),
        ({"queries": 0, "relevant": 7}, "7 of 30,431 relevant items are items that the user has had; they count as"),
    ],
)  # fmt: skip
def test_what_the_user_has_had_is_counted_below_the_table(changes: dict[str, Any], said: str) -> None:
    text = " ".join(lines(width=400, repeats=REPEATS | changes))
    assert said in text


def test_without_repeats_nothing_is_said_of_them() -> None:
    for repeats in (None, REPEATS | {"queries": 0, "relevant": 0}):
        assert "the user has had" not in " ".join(lines(repeats=repeats))
