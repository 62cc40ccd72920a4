"""How often `not_worse_than_champion` passes, over simulated paired outcomes, against the rates that it promises."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from two_tower.evaluation.checks.not_worse_than_champion import NotWorseThanChampion
from two_tower.evaluation.confidence import paired_difference, resampled_means
from two_tower.metrics_file import Difference, Evaluation

OUTCOMES, QUERIES, SAMPLES = 200, 2000, 400
IN_MARGINS = (0.0, -1.0, -2.0)
"""The true differences, in margins."""
NORMAL = NormalDist()


def recalls(differences: list[float], *, queries: int, seed: int) -> npt.NDArray[np.float64]:
    """The recall of a champion and of challengers with these true differences from it: `[queries, 1 + challengers]`.

    A query has 1 to 10 relevant items and a difficulty of its own.  Two systems see most items alike, so that their
    outcomes are correlated.
    """
    rng = np.random.default_rng(seed)
    relevant = rng.integers(1, 11, size=(queries, 1)) > np.arange(10)
    ease = 0.15 + 0.7 * rng.beta(0.8, 1.2, size=(queries, 1))  # at least the largest difference from 0 and 1
    seen_by_champion = rng.random((queries, 10))
    seen_by_challenger = np.where(rng.random((queries, 10)) < 0.8, seen_by_champion, rng.random((queries, 10)))
    found = [seen_by_champion < ease, *(seen_by_challenger < ease + difference for difference in differences)]
    return np.stack([(hits & relevant).sum(axis=1) / relevant.sum(axis=1) for hits in found], axis=1)


def standard_errors(differences: list[float]) -> npt.NDArray[np.float64]:
    """The standard errors of the paired differences on `QUERIES` queries."""
    many = recalls(differences, queries=200_000, seed=0)
    errors: npt.NDArray[np.float64] = (many[:, 1:] - many[:, :1]).std(axis=0) / np.sqrt(QUERIES)
    return errors


@pytest.fixture(scope="module")
def cases() -> list[tuple[float, float]]:
    """Margins and probabilities: a sharp test, one on which many outcomes stand on the edge, and a strict one."""
    error = float(standard_errors([0.0])[0])
    return [(2.6 * error, 0.9), (0.5 * error, 0.6), (2.0 * error, 0.95)]


@pytest.fixture(scope="module")
def compared(cases: list[tuple[float, float]]) -> list[list[list[Difference]]]:
    """What was found in each of the outcomes, `[cases][true differences][outcomes]`."""
    differences = [margin * times for margin, _ in cases for times in IN_MARGINS]
    found: list[list[list[Difference]]] = [[[] for _ in IN_MARGINS] for _ in cases]
    for outcome in range(OUTCOMES):
        values = recalls(differences, queries=QUERIES, seed=1000 + outcome)
        means = resampled_means(values, samples=SAMPLES, seed=outcome)
        for place in range(len(differences)):
            case, true = divmod(place, len(IN_MARGINS))
            difference = values[:, 1 + place].mean() - values[:, 0].mean()
            paired = paired_difference(means[:, 1 + place], means[:, 0], difference=difference, confidence=0.95)
            found[case][true].append(paired)
    return found


@pytest.fixture(scope="module")
def passed(cases: list[tuple[float, float]], compared: list[list[list[Difference]]]) -> list[list[int]]:
    """How many of the outcomes passed, `[cases][true differences]`."""
    return [
        [passes(found, margin=margin, probability=probability) for found in by_difference]
        for (margin, probability), by_difference in zip(cases, compared, strict=True)
    ]


def passes(outcomes: list[Difference], **settings: Any) -> int:
    """How many of the outcomes a check with these settings lets through."""
    check = NotWorseThanChampion(metric="recall@100", **settings)
    return sum(check.check(evaluation(found)).status == "passed" for found in outcomes)


def evaluation(found: Difference) -> Evaluation:
    return Evaluation(
        version="new",
        champion="old",
        champion_error=None,
        confidence=0.95,
        comparisons={"champion": {"recall@100": found}},
    )


def test_the_outcomes_are_as_described() -> None:
    values = recalls([0.0, -0.05], queries=200_000, seed=1)
    assert values.min() == 0 and values.max() == 1
    np.testing.assert_allclose(values.mean(axis=0) - values[:, 0].mean(), [0, 0, -0.05], atol=0.002)
    assert 0.7 < np.corrcoef(values[:, 0], values[:, 1])[0, 1] < 0.95


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("true", range(3))
def test_it_passes_as_often_as_it_promises(
    case: int, true: int, cases: list[tuple[float, float]], passed: list[list[int]]
) -> None:
    """With the standard error s, a true difference d passes with probability Phi((d + margin) / s - z(probability))."""
    margin, probability = cases[case]
    difference = margin * IN_MARGINS[true]
    error = float(standard_errors([difference])[0])
    rate = NORMAL.cdf((difference + margin) / error - NORMAL.inv_cdf(probability))
    if IN_MARGINS[true] == -1.0:
        assert rate == pytest.approx(1 - probability)
    low, high = binom.interval(0.999, OUTCOMES, rate)
    assert low <= passed[case][true] <= high, f"{passed[case][true]} of {OUTCOMES} passed, {rate:.3f} promised"


def test_no_loss_passes_and_twice_the_margin_is_refused(passed: list[list[int]]) -> None:
    """With a margin of 2.6 standard errors and a probability of 0.9, nine in ten and all."""
    no_loss, at_margin, twice = passed[0]
    assert no_loss >= binom.ppf(0.0005, OUTCOMES, 0.9)
    assert at_margin <= binom.ppf(0.9995, OUTCOMES, 0.1)
    assert twice == 0


@pytest.mark.parametrize("probability", [0.8, 0.9, 0.95])
def test_with_an_automatic_margin_nine_in_ten_equals_pass_whatever_the_probability(
    probability: float, compared: list[list[list[Difference]]]
) -> None:
    """The losses are 2.6 and 5.2 standard errors: one in ten passes at the first, none at the second."""
    low, high = binom.interval(0.999, OUTCOMES, 0.9)
    no_loss, at_margin, twice = (passes(found, margin="auto", probability=probability) for found in compared[0])
    assert low <= no_loss <= high
    assert at_margin <= binom.ppf(0.9995, OUTCOMES, 0.1)
    assert twice == 0
