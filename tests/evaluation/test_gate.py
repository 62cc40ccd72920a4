"""The decision that the gate makes of its checks, and the checks on all queries."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from two_tower.config.plugins import AnyCheck
from two_tower.contracts import GateCheck
from two_tower.evaluation import run_gate
from two_tower.metrics_file import CheckResult, Evaluation, Gate

METRICS: dict[str, Any] = {
    "split": "test",
    "exclude_seen": False,
    "queries": 500,
    "confidence": 0.95,
    "version": "new",
    "champion": "old",
    "champion_error": None,
    "systems": {
        "two_tower": {"metrics": {"recall@100": {"value": 0.3}}},
        "two_tower_exact": {"metrics": {"recall@100": {"value": 0.31}}},
    },
    "comparisons": {
        "popularity": {
            "recall@100": {"difference": 0.05, "low": 0.01, "high": 0.09, "probability_better": 0.99},
        },
        "personal_frequency": {
            "recall@100": {"difference": 0.01, "low": -0.01, "high": 0.03, "probability_better": 0.85},
        },
        "champion": {"recall@100": {"difference": -0.01, "low": -0.02, "high": 0.0, "probability_better": 0.02}},
    },
    "window": {"start": 1_767_225_600.0, "seen_until": 1_767_225_599.5, "overlaps": False},
    "index": {"kind": "scann", "recall@10": 0.99, "recall@100": 0.97},
    "drift": {"largest": {"column": "interactions.amount", "psi": 0.2, "reason": "The index is 0.200."}},
}


def checks(*settings: dict[str, Any]) -> list[GateCheck]:
    return TypeAdapter(list[AnyCheck]).validate_python(list(settings))


def gate_of(wanted: list[GateCheck], metrics: dict[str, Any], *, default: bool = False) -> Gate:
    return run_gate(wanted, Evaluation.model_validate(metrics), default=default)


def verdict(settings: dict[str, Any], **changes: Any) -> CheckResult:
    return checks(settings)[0].check(Evaluation.model_validate({**METRICS, **changes}))


@pytest.mark.parametrize(
    ("settings", "status", "value", "threshold", "name"),
    [
        ({"type": "minimum", "metric": "recall@100", "at_least": 0.3}, "passed", 0.3, 0.3, "recall@100 >= 0.3"),
        ({"type": "minimum", "metric": "recall@100", "at_least": 0.301}, "failed", 0.3, 0.301, "recall@100 >= 0.301"),
        (
            {"type": "minimum", "metric": "recall@100", "system": "two_tower_exact", "at_least": 0.3},
            "passed", 0.31, 0.3, "recall@100 of two_tower_exact >= 0.3",
        ),
        (
            {"type": "better_than_baseline", "metric": "recall@100", "baseline": "popularity"},
            "passed", 0.01, 0, "recall@100 above popularity",
        ),
        (
            {"type": "better_than_baseline", "metric": "recall@100", "baseline": "personal_frequency"},
            "failed", -0.01, 0, "recall@100 above personal_frequency",
        ),
        (
            {"type": "better_than_baseline", "metric": "recall@100", "baseline": "personal_frequency",
             "probability": 0.8},
            "passed", 0.85, 0.8, "recall@100 above personal_frequency",
        ),
        ({"type": "index_recall", "at_least": 0.97}, "passed", 0.97, 0.97, "index recall@100 >= 0.97"),
        ({"type": "index_recall", "k": 10, "at_least": 0.995}, "failed", 0.99, 0.995, "index recall@10 >= 0.995"),
        ({"type": "enough_queries", "at_least": 500}, "passed", 500, 500, "queries >= 500"),
        ({"type": "enough_queries", "at_least": 501}, "failed", 500, 501, "queries >= 501"),
    ],
)  # fmt: skip
def test_checks(settings: dict[str, Any], status: str, value: float, threshold: float, name: str) -> None:
    found = verdict(settings)
    assert (found.status, found.value, found.threshold, found.name, found.blocking) == (
        status,
        value,
        threshold,
        name,
        True,
    )
    assert found.reason.endswith(".")


def test_index_recall_without_the_candidates_vectors() -> None:
    index = {"kind": "scann", "recall@10": None, "recall@100": None}
    assert verdict({"type": "index_recall", "at_least": 0.9}, index=index).status == "skipped"


def test_not_worse_than_champion() -> None:
    settings = {"type": "not_worse_than_champion", "metric": "recall@100"}
    # The difference is -0.01 with a standard error of 0.02 / (2 * 1.96): 1.96 errors above a loss of 0.02.
    assert verdict({**settings, "margin": 0.02}).value == pytest.approx(0.975, abs=1e-3)
    assert verdict({**settings, "margin": 0.02}).status == "passed"
    assert verdict({**settings, "margin": 0.02, "probability": 0.99}).status == "failed"
    assert verdict({**settings, "margin": 0.01}).value == pytest.approx(0.5)
    assert verdict({**settings, "margin": 0.01}).name == "recall@100 not worse than champion by more than 0.01"
    assert verdict(settings).status == "failed"
    same = {"champion": {"recall@100": {"difference": 0.0, "low": 0.0, "high": 0.0, "probability_better": 0.0}}}
    assert verdict(settings, comparisons=same).status == "passed"


def differs(difference: float, error: float) -> dict[str, Any]:
    """A comparison with the champion of this difference and standard error."""
    low, high = difference - 1.96 * error, difference + 1.96 * error
    found = {"difference": difference, "low": low, "high": high, "probability_better": 0.5}
    return {"champion": {"recall@100": found}}


@pytest.mark.parametrize(
    ("difference", "error", "probability", "margin", "status"),
    [
        (0.0, 0.01, 0.9, "0.0256 (2.6 standard errors)", "passed"),
        (-0.0127, 0.01, 0.9, "0.0256 (2.6 standard errors)", "passed"),
        (-0.0130, 0.01, 0.9, "0.0256 (2.6 standard errors)", "failed"),
        (-0.0127, 0.01, 0.95, "0.0293 (2.9 standard errors)", "passed"),
        (-0.0130, 0.01, 0.95, "0.0293 (2.9 standard errors)", "failed"),
        (-0.06, 0.05, 0.9, "0.1282 (2.6 standard errors)", "passed"),  # few queries: a wide margin, told in numbers
        (-0.01, 0.01, 0.05, "0.0000 (0.0 standard errors)", "passed"),  # never a gain that is asked for
        (0.0, 0.0, 0.9, "0.0000 (2.6 standard errors)", "passed"),
        (-0.001, 0.0, 0.9, "0.0000 (2.6 standard errors)", "failed"),
    ],
)
def test_an_automatic_margin_is_so_many_standard_errors_of_the_comparison(
    difference: float, error: float, probability: float, margin: str, status: str
) -> None:
    settings = {"type": "not_worse_than_champion", "metric": "recall@100", "margin": "auto"}
    found = verdict({**settings, "probability": probability}, comparisons=differs(difference, error))
    assert found.status == status and found.threshold == probability
    assert f"is not worse by more than {margin} with probability" in found.reason
    assert found.name == "recall@100 not worse than champion (auto margin)"


def test_not_worse_than_champion_without_one() -> None:
    settings = {"type": "not_worse_than_champion", "metric": "recall@100"}
    assert verdict(settings, champion=None).status == "skipped"
    assert verdict(settings, version="old").status == "skipped"
    unreadable = verdict(settings, champion_error="no manifest.json here")
    assert unreadable.status == "failed" and "no manifest.json here" in unreadable.reason


@pytest.mark.parametrize("metric", ["recall", "recall@0", "accuracy@10", "recall@10 "])
def test_a_metric_that_there_is_not_is_refused_by_the_config(metric: str) -> None:
    with pytest.raises(ValidationError):
        checks({"type": "minimum", "metric": metric, "at_least": 0.1})


def test_promote_when_all_blocking_checks_pass() -> None:
    gate = gate_of(
        checks(
            {"type": "enough_queries", "at_least": 1}, {"type": "enough_queries", "at_least": 999, "blocking": False}
        ),
        METRICS,
    )
    assert gate.decision == "promote"
    assert gate.reason == "The gate lets it through: 2 of 3 checks passed; advisory only: queries >= 999 failed."
    assert [check.status for check in gate.checks] == ["passed", "passed", "failed"]
    assert set(gate.checks[0].to_json()) == {"name", "status", "value", "threshold", "reason", "blocking"}


def test_refuse_when_a_blocking_check_fails() -> None:
    gate = gate_of(
        checks({"type": "enough_queries", "at_least": 999}, {"type": "index_recall", "at_least": 1}), METRICS
    )
    assert gate.decision == "refuse"
    assert gate.reason.startswith("Refused, since queries >= 999 failed: The test window holds 500 queries")
    assert "1 more blocking check" in gate.reason


def test_keep_when_the_version_is_the_champion() -> None:
    champion = {**METRICS, "version": "old"}
    assert gate_of(checks({"type": "enough_queries", "at_least": 1}), champion).decision == "keep"
    assert gate_of([], champion).decision == "keep"
    assert gate_of(checks({"type": "enough_queries", "at_least": 999}), champion).decision == "refuse"


def test_no_check_promotes_and_says_so() -> None:
    gate = gate_of([], METRICS)
    assert gate.decision == "promote" and gate.configured == "none"
    assert gate.reason == "The gate lets it through: no check is configured (gate: [])."
    assert [check.name for check in gate.checks] == ["test window after training"]


def test_the_default_gate_is_called_so() -> None:
    passing, failing = (checks({"type": "enough_queries", "at_least": least}) for least in (1, 999))
    gate = gate_of(passing, METRICS, default=True)
    assert gate.configured == "default"
    assert gate.reason == "The gate lets it through: 2 of 2 checks passed (the default gate)."
    gate = gate_of(passing, METRICS | {"version": "old"}, default=True)
    assert gate.reason == "The version is the champion already; 2 of 2 checks passed (the default gate)."
    assert gate_of(failing, METRICS, default=True).reason.startswith("Refused by the default gate, since queries >=")
    assert gate_of(failing, METRICS | {"queries": 0}, default=True).configured == "default"
    assert gate_of(passing, METRICS).configured == "listed"


def beaten(*, by: dict[str, float]) -> dict[str, Any]:
    """The metrics with baselines that are better beyond chance, given their recall@100."""
    metrics = copy.deepcopy(METRICS)
    for name, value in by.items():
        metrics["systems"][name] = {"metrics": {"recall@100": {"value": value}}}
        difference = 0.3 - value
        metrics["comparisons"][name] = {
            "recall@100": {
                "difference": difference,
                "low": difference - 0.01,
                "high": difference + 0.01,
                "probability_better": 0.0,
            }
        }
    return metrics


def test_a_baseline_that_is_better_beyond_chance_is_named_whatever_is_configured() -> None:
    word = "the baseline ease is better: recall@100 0.3400 against 0.3000"
    passing, failing = (checks({"type": "enough_queries", "at_least": least}) for least in (1, 999))
    metrics = beaten(by={"ease": 0.34, "ials": 0.305})
    assert gate_of([], metrics).reason == (f"The gate lets it through: no check is configured (gate: []); but {word}.")
    assert gate_of(passing, metrics).reason == f"The gate lets it through: 2 of 2 checks passed; but {word}."
    champion = gate_of(passing, metrics | {"version": "old"})
    assert champion.reason == f"The version is the champion already; 2 of 2 checks passed; but {word}."
    refused = gate_of(failing, metrics).reason
    assert refused.startswith("Refused, since queries >= 999 failed: ") and refused.endswith(f" Besides, {word}.")


def test_of_several_better_baselines_the_best_comes_first() -> None:
    reason = gate_of([], beaten(by={"ials": 0.32, "ease": 0.34})).reason
    assert reason.endswith("; but the baselines ease and ials are better: recall@100 0.3400 and 0.3200 against 0.3000.")
    reason = gate_of([], beaten(by={"bpr": 0.33, "ials": 0.32, "ease": 0.34})).reason
    assert "; but the baselines ease, bpr and ials are better: recall@100 0.3400, 0.3300 and 0.3200 against" in reason
    assert "better" not in gate_of([], METRICS).reason, "a better champion is no baseline"


def test_a_version_that_has_seen_the_test_window_is_refused_whatever_the_configuration_says() -> None:
    window = {"start": 1_767_225_600.0, "seen_until": 1_768_000_000.0, "overlaps": True}
    gate = gate_of([], METRICS | {"window": window})
    assert gate.decision == "refuse" and gate.checks[0].blocking
    assert gate.reason == (
        "Refused, since test window after training failed: The version was trained on events until 9 January 2026, "
        "23:06:40 UTC, and the test window begins on 1 January 2026, 00:00:00 UTC; take an earlier version or a later "
        "window."
    )
    champion = METRICS | {"window": window, "champion": "new"}
    assert gate_of([], champion).decision == "refuse"


@pytest.mark.parametrize(
    ("window", "status", "reason"),
    [
        (METRICS["window"], "passed", "until 31 December 2025, 23:59:59 UTC; the test window begins after"),
        (None, "skipped", "The split is not by time"),
        ({"start": None, "seen_until": 1.0, "overlaps": False}, "skipped", "It is not known"),
        ({"start": 1.0, "seen_until": None, "overlaps": False}, "skipped", "It is not known"),
    ],
)
def test_the_window_is_always_checked_first(window: dict[str, Any] | None, status: str, reason: str) -> None:
    gate = gate_of(checks({"type": "enough_queries", "at_least": 1}), METRICS | {"window": window})
    assert gate.decision == "promote"
    assert gate.checks[0].status == status and reason in gate.checks[0].reason


def test_without_a_query_there_is_one_clear_reason() -> None:
    empty = {"queries": 0, "systems": {}, "comparisons": {}, "slices": {}, "index": None, "window": None}
    wanted = checks({"type": "index_recall", "at_least": 0.9}, {"type": "enough_queries", "at_least": 1})
    for champion in (None, "old", "new"):
        gate = gate_of(wanted, METRICS | empty | {"champion": champion})
        assert gate.decision == "refuse"
        assert gate.reason == "Refused: The test window holds no query; make data.split.test longer."
        assert [check.status for check in gate.checks] == ["failed"]
    gate = gate_of(wanted, METRICS | empty | {"split": "validation", "exclude_seen": True})
    assert gate.reason == (
        "Refused: The validation window holds no query with a relevant item that is new to the user; make "
        "data.split.validation longer."
    )


def test_a_check_that_cannot_be_evaluated_has_failed() -> None:
    wrong = {"type": "minimum", "metric": "recall@50", "at_least": 0.1}
    gate = gate_of(
        checks(wrong, {"type": "better_than_baseline", "metric": "recall@100", "baseline": "oracle"}), METRICS
    )
    assert gate.decision == "refuse"
    assert gate.checks[1].name == "recall@50 >= 0.1"
    assert "no metric 'recall@50'; measured: recall@100" in gate.checks[1].reason
    assert "no system to compare with 'oracle'; measured: popularity" in gate.checks[2].reason
    assert gate_of(checks({**wrong, "blocking": False}), METRICS).decision == "promote"


class Explodes(GateCheck):
    type: str = "explodes"
    with_force: int = 3

    def check(self, evaluation: Evaluation) -> CheckResult:
        raise ZeroDivisionError


def test_an_error_in_a_check_decides_nothing_for_the_others() -> None:
    gate = gate_of([Explodes(), *checks({"type": "enough_queries", "at_least": 1})], METRICS)
    assert [check.status for check in gate.checks] == ["passed", "failed", "passed"]
    assert gate.decision == "refuse" and "ZeroDivisionError" in gate.reason
    assert gate.checks[1].name == "explodes with_force=3"  # what a check without a name of its own is called


def test_data_drift() -> None:
    (check,) = checks({"type": "data_drift", "at_most": 0.1})
    found = check.check(Evaluation.model_validate(METRICS))
    assert (found.status, found.value, found.threshold) == ("failed", 0.2, 0.1)
    assert found.reason == "interactions.amount: The index is 0.200."
    assert checks({"type": "data_drift"})[0].check(Evaluation.model_validate(METRICS)).status == "passed"
    assert check.check(Evaluation.model_validate(METRICS | {"drift": {"largest": {}}})).status == "passed"
    assert check.check(Evaluation.model_validate(METRICS | {"drift": None})).status == "skipped"
