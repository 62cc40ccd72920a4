"""The checks on slices, on what is recommended, and on what a version is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from two_tower.config import EvaluationSettings
from two_tower.config.plugins import AnyCheck
from two_tower.contracts import SLICES, GateCheck
from two_tower.evaluation import run_gate
from two_tower.evaluation.figures import RANKING, RECOMMENDED
from two_tower.evaluation.slices import Slices
from two_tower.metrics_file import CheckResult, Evaluation
from two_tower.settings import members


def _compared(difference: float, error: float) -> dict[str, Any]:
    low, high = difference - 1.96 * error, difference + 1.96 * error
    better = float(difference > 0)
    return {"recall@100": {"difference": difference, "low": low, "high": high, "probability_better": better}}


METRICS: dict[str, Any] = {
    "queries": 500,
    "smallest_slice": 50,
    "confidence": 0.95,
    "version": "new",
    "champion": "old",
    "champion_error": None,
    "candidates": 950,
    "champion_candidates": 1000,
    "window": None,
    "systems": {
        "two_tower": {"metrics": {"recall@100": {"value": 0.3}, "map@10": {"value": 0.02}}},
        "popularity": {"metrics": {"recall@100": {"value": 0.2}}},
    },
    "comparisons": {"champion": _compared(0.01, 0.002), "popularity": _compared(0.1, 0.01)},
    "slices": {
        "tail": {
            "queries": 200,
            "too_small": False,
            "systems": {"two_tower": {"metrics": {"recall@100": {"value": 0.05}}}},
            "comparisons": {"champion": _compared(-0.2, 0.01), "popularity": _compared(-0.1, 0.01)},
        },
        "user.country=FR": {
            "queries": 12,
            "too_small": True,
            "systems": {"two_tower": {"metrics": {"recall@100": {"value": 0.9}}}},
            "comparisons": {},
        },
    },
    "popularity": {
        "recommended": {
            "two_tower": {"coverage@100": 0.4, "novelty@100": 11.5, "gini@100": 0.8, "diversity@100": None},
            "popularity": {"coverage@100": 0.01, "gini@100": 0.99},
        }
    },
    "index": {"kind": "scann", "latency_ms": {"p50": 0.2, "p95": 0.4, "p99": 0.75}},
    "days": {"missing": ["2026-01-03"], "low": ["2026-01-08", "2026-01-09"]},
}


def verdict(settings: dict[str, Any], **changes: Any) -> CheckResult:
    """The verdict through the gate, which turns what cannot be judged into one."""
    check = TypeAdapter(AnyCheck).validate_python(settings)
    return run_gate([check], Evaluation.model_validate(METRICS | changes)).checks[1]


@pytest.mark.parametrize(
    ("settings", "status", "value", "name"),
    [
        ({"type": "minimum", "metric": "map@10", "at_least": 0.02}, "passed", 0.02, "map@10 >= 0.02"),
        ({"type": "minimum", "metric": "coverage@100", "at_least": 0.5}, "failed", 0.4, "coverage@100 >= 0.5"),
        ({"type": "minimum", "metric": "novelty@100", "at_least": 11}, "passed", 11.5, "novelty@100 >= 11"),
        ({"type": "maximum", "metric": "recall@100", "at_most": 0.9}, "passed", 0.3, "recall@100 <= 0.9"),
        ({"type": "maximum", "metric": "recall@100", "at_most": 0.29}, "failed", 0.3, "recall@100 <= 0.29"),
        ({"type": "maximum", "metric": "gini@100", "at_most": 0.9}, "passed", 0.8, "gini@100 <= 0.9"),
        (
            {"type": "maximum", "metric": "gini@100", "system": "popularity", "at_most": 0.9},
            "failed", 0.99, "gini@100 of popularity <= 0.9",
        ),
        (
            {"type": "minimum", "metric": "recall@100", "slice": "tail", "at_least": 0.1},
            "failed", 0.05, "recall@100 on tail >= 0.1",
        ),
        (
            {"type": "maximum", "metric": "recall@100", "slice": "tail", "at_most": 0.1},
            "passed", 0.05, "recall@100 on tail <= 0.1",
        ),
        (
            {"type": "better_than_baseline", "metric": "recall@100", "baseline": "popularity", "slice": "tail"},
            "failed", pytest.approx(-0.1196), "recall@100 on tail above popularity",
        ),
        (
            {"type": "not_worse_than_champion", "metric": "recall@100", "margin": 0.1},
            "passed", pytest.approx(1), "recall@100 not worse than champion by more than 0.1",
        ),
        (
            {"type": "not_worse_than_champion", "metric": "recall@100", "margin": 0.1, "slice": "tail"},
            "failed", pytest.approx(0, abs=1e-9), "recall@100 on tail not worse than champion by more than 0.1",
        ),
        ({"type": "enough_queries", "at_least": 200, "slice": "tail"}, "passed", 200, "queries on tail >= 200"),
        (
            {"type": "enough_queries", "at_least": 30, "slice": "user.country=FR"},
            "failed", 12, "queries on user.country=FR >= 30",
        ),
        ({"type": "latency", "at_most_ms": 0.75}, "passed", 0.75, "p99 latency <= 0.75 ms"),
        ({"type": "latency", "percentile": "p50", "at_most_ms": 0.1}, "failed", 0.2, "p50 latency <= 0.1 ms"),
        ({"type": "candidates", "at_least": 950}, "passed", 950, "candidates >= 950"),
        ({"type": "candidates", "at_least": 1000}, "failed", 950, "candidates >= 1,000"),
        ({"type": "candidates", "of_champion": 0.95}, "passed", 950, "candidates >= 0.95 of the champion's"),
        ({"type": "candidates", "of_champion": 0.96}, "failed", 950, "candidates >= 0.96 of the champion's"),
        (
            {"type": "candidates", "at_least": 10, "of_champion": 0.96},
            "failed", 950, "candidates >= 10 and 0.96 of the champion's",
        ),
        ({"type": "data_complete"}, "failed", 3, "missing or low days <= 0"),
        ({"type": "data_complete", "at_most": 3}, "passed", 3, "missing or low days <= 3"),
        ({"type": "data_complete", "low": False}, "failed", 1, "missing days <= 0"),
        ({"type": "data_complete", "low": False, "closed": ["2026-01-03"]}, "passed", 0, "missing days <= 0"),
    ],
)  # fmt: skip
def test_checks(settings: dict[str, Any], status: str, value: float, name: str) -> None:
    found = verdict(settings)
    assert (found.status, found.value, found.name) == (status, value, name)
    assert found.threshold is not None and found.blocking and found.reason.endswith(".")
    assert not verdict({**settings, "blocking": False}).blocking


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "minimum", "metric": "recall@100", "at_least": 0.1},
        {"type": "maximum", "metric": "recall@100", "at_most": 0.1},
        {"type": "better_than_baseline", "metric": "recall@100", "baseline": "popularity"},
        {"type": "not_worse_than_champion", "metric": "recall@100"},
    ],
)
def test_a_small_slice_has_no_verdict_and_an_unknown_one_has_failed(settings: dict[str, Any]) -> None:
    small = verdict({**settings, "slice": "user.country=FR"})
    assert small.status == "skipped" and "on user.country=FR" in small.name
    assert small.reason == (
        "There is no verdict: the slice user.country=FR holds 12 queries, and evaluation.smallest_slice asks for 50."
    )
    unknown = verdict({**settings, "slice": "user.country=SE"})
    assert unknown.status == "failed"
    assert "there is no slice 'user.country=SE'; measured: tail, user.country=FR" in unknown.reason


def test_what_is_too_good_says_what_to_look_for() -> None:
    assert "what the model knows of the test window" in verdict(
        {"type": "maximum", "metric": "recall@100", "at_most": 0.2}
    ).reason  # fmt: skip
    assert verdict({"type": "maximum", "metric": "gini@100", "at_most": 0.7}).reason == "gini@100 is 0.8000, above 0.7."


def test_a_figure_without_a_value_has_not_been_measured() -> None:
    found = verdict({"type": "minimum", "metric": "diversity@100", "at_least": 0.1})
    assert found.status == "failed" and "diversity@100 of two_tower has no value" in found.reason


def test_candidates_and_the_champion() -> None:
    share = {"type": "candidates", "of_champion": 0.9}
    assert verdict(share, champion=None).status == "skipped"
    assert verdict(share, champion="new", champion_candidates=None).status == "skipped"
    assert verdict({**share, "at_least": 951}, champion=None).status == "failed"
    assert verdict({**share, "at_least": 950}, champion=None).status == "passed"
    unreadable = verdict(share, champion_candidates=None, champion_error="no manifest.json here")
    assert unreadable.status == "failed" and "no manifest.json here" in unreadable.reason


def test_days() -> None:
    assert verdict({"type": "data_complete"}).reason == (
        "No events on 2026-01-03 and less than half of the usual events on 2026-01-08, 2026-01-09."
    )
    low = verdict({"type": "data_complete"}, days={"missing": [], "low": ["2026-01-08"]})
    assert low.reason == "Less than half of the usual events on 2026-01-08."
    many = {"missing": [f"2026-01-{day:02}" for day in range(1, 11)], "low": []}
    assert verdict({"type": "data_complete"}, days=many).reason.endswith("2026-01-05 and 5 more days.")
    assert verdict({"type": "data_complete"}, days={"missing": [], "low": []}).status == "passed"
    assert verdict({"type": "data_complete"}, days=None).status == "skipped"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "candidates"}, "give at_least, of_champion or both"),
        ({"type": "minimum", "metric": "recall@10", "at_least": 1.5}, "at_least: recall@10 is never above 1"),
        ({"type": "maximum", "metric": "gini@10", "at_most": 2}, "at_most: gini@10 is never above 1"),
        ({"type": "minimum", "metric": "diversity@1000", "at_least": 0.1}, "diversity is measured up to K = 100"),
        (
            {"type": "minimum", "metric": "ndcg@10", "slice": "tail", "at_least": 0.1},
            "only recall is measured by slice, not ndcg@10",
        ),
        (
            {"type": "maximum", "metric": "coverage@10", "slice": "tail", "at_most": 0.1},
            "only recall is measured by slice, not coverage@10",
        ),
        (
            {"type": "not_worse_than_champion", "metric": "mrr@10", "slice": "tail"},
            "only recall is measured by slice, not mrr@10",
        ),
        (
            {"type": "better_than_baseline", "metric": "mrr@10", "slice": "tail", "baseline": "popularity"},
            "only recall is measured by slice, not mrr@10",
        ),
        ({"type": "not_worse_than_champion", "metric": "gini@10"}, "String should match pattern"),
        ({"type": "latency", "percentile": "p90", "at_most_ms": 1}, "Input should be 'p50', 'p95' or 'p99'"),
    ],
)
def test_settings_that_can_hold_for_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        TypeAdapter(AnyCheck).validate_python(settings)


class NoQueries:
    """As much of the queries as the built-in slices ask for."""

    def new_users(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.zeros(0, dtype=np.bool_)

    def history_lengths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.zeros(0, dtype=np.int64)


def test_the_configuration_knows_the_slices_that_are_measured() -> None:
    measured = Slices(None, NoQueries(), None, columns=[])  # type: ignore[arg-type]
    assert sorted(measured.about) == sorted(SLICES)


def test_the_page_on_the_gate_describes_every_check_and_is_right_about_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\nevaluation:\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(EvaluationSettings.model_validate(yaml.safe_load(example)).gate) == 13
    described = [yaml.safe_load(text) for text in re.findall(r"^\| `(\{type: .*?\})` \|", page, re.MULTILINE)]
    found = TypeAdapter(list[AnyCheck]).validate_python(described)
    assert sorted(check.type for check in found) == [
        member.model_fields["type"].default for member in members("two_tower.evaluation.checks", GateCheck)
    ]
    assert not [name for name in (*SLICES, *RANKING, *RECOMMENDED) if f"`{name}`" not in page]
