"""The bootstrap against what theory says."""

from __future__ import annotations

import numpy as np
import pytest

from two_tower.evaluation import confidence
from two_tower.evaluation.confidence import interval, paired_difference, resampled_means


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).random((2000, 1))
    low, high = interval(resampled_means(values, samples=4000, seed=1), confidence=0.95)
    error = values.std() / np.sqrt(2000)
    assert low[0] == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high[0] == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        values = (rng.random((200, 1)) < 0.3).astype(np.float32)
        low, high = interval(resampled_means(values, samples=400, seed=seed), confidence=0.9)
        covered += low[0] <= 0.3 <= high[0]
    assert 0.84 <= covered / 300 <= 0.95


def test_the_same_seed_gives_the_same_samples_whatever_the_columns() -> None:
    values = np.random.default_rng(0).random((50, 3))
    means = resampled_means(values, samples=100, seed=7)
    np.testing.assert_allclose(resampled_means(values[:, 1:2], samples=100, seed=7)[:, 0], means[:, 1])
    assert not np.array_equal(resampled_means(values, samples=100, seed=8), means)


def test_large_sets_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence, "BLOCK", 100)
    means = resampled_means(np.ones((30, 2)), samples=10, seed=0)
    assert means.shape == (10, 2) and (means == 1).all()


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random(500)
    ours = theirs + 0.02 + 0.01 * rng.normal(size=500)
    means = resampled_means(np.stack([ours, theirs], axis=1), samples=1000, seed=0)
    found = paired_difference(means[:, 0], means[:, 1], difference=ours.mean() - theirs.mean(), confidence=0.95)
    assert found.difference == pytest.approx(0.02, abs=0.002)
    assert 0.015 < found.low < found.difference < found.high < 0.025
    assert found.probability_better == 1


def test_equal_systems_are_never_better() -> None:
    means = resampled_means(np.random.default_rng(0).random((20, 1)), samples=200, seed=0)[:, 0]
    assert paired_difference(means, means, difference=0.0, confidence=0.95).to_json() == {
        "difference": 0.0, "low": 0.0, "high": 0.0, "probability_better": 0.0
    }  # fmt: skip
