"""How one system is measured, by hand and against an independent library."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from two_tower.evaluation.measure import curve_points, list_diversity


def test_diversity_is_the_mean_cosine_distance_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    items = np.stack([rng.permutation(50)[:8] for _ in range(20)]).astype(np.int32)
    items[3, 5:] = -1
    found = list_diversity(items, directions)
    for row, list_ in zip(found, items, strict=True):
        assert row == pytest.approx(pdist(vectors[list_[list_ >= 0]], "cosine").mean(), abs=1e-5)


def test_diversity_of_edges() -> None:
    directions = np.array([[1, 0], [1, 0], [-1, 0]], dtype=np.float32)
    found = list_diversity(np.array([[0, 1], [0, 2], [0, -1], [-1, -1]], dtype=np.int32), directions)
    assert found[:2].tolist() == pytest.approx([0, 2]) and np.isnan(found[2:]).all()


def test_points_of_the_curve() -> None:
    assert curve_points(100) == [1, 2, 5, 10, 20, 50, 100]
    assert curve_points(30) == [1, 2, 5, 10, 20, 30]
