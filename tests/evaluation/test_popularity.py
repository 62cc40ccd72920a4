"""Popularity groups and what was taken, by hand."""

import numpy as np
import pytest

from two_tower.evaluation.popularity import ItemPopularity, Taken, TakenByK


def test_groups_hold_a_third_of_the_training_events_each() -> None:
    # By count: 8, 4, 3, 3, 2, 1, 0 (21 events): 8 completes the first 7, 8 + 4 + 3 the first 14.
    popularity = ItemPopularity(np.array([3, 0, 8, 1, 4, 3, 2]))
    assert popularity.group.tolist() == [1, 2, 0, 2, 1, 2, 2]
    assert popularity.sizes() == {"head": 1, "middle": 2, "tail": 4}


def test_an_item_that_ends_a_third_exactly_is_its_last() -> None:
    assert ItemPopularity(np.array([2, 2, 2])).group.tolist() == [0, 1, 2]
    assert ItemPopularity(np.array([9, 1, 1])).group.tolist() == [0, 2, 2]  # it completes both thirds, none is between


def test_without_training_events_everything_is_tail() -> None:
    assert ItemPopularity(np.zeros(3, dtype=np.int64)).sizes() == {"head": 0, "middle": 0, "tail": 3}
    assert ItemPopularity(np.zeros(0, dtype=np.int64)).sizes() == {"head": 0, "middle": 0, "tail": 0}


def test_shares_mean_and_coverage_of_what_was_taken() -> None:
    popularity = ItemPopularity(np.array([2, 2, 2, 0]))
    taken = Taken(4)
    taken.add(np.array([[0, 1, -1], [0, 3, -1]], dtype=np.int32))
    assert taken.described(popularity, candidates=4) == {
        "head": 0.5, "middle": 0.25, "tail": 0.25, "log_count": pytest.approx(0.75 * np.log(3)), "coverage": 0.75,
        "novelty": pytest.approx(-(0.75 * np.log2(0.3) + 0.25 * np.log2(0.1))), "gini": pytest.approx(0.375),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_that_of_its_definition(seed: int) -> None:
    times = np.random.default_rng(seed).integers(0, 9, size=40)
    taken = Taken(len(times))
    taken.add(np.repeat(np.arange(len(times)), times))
    expected = np.abs(times[:, None] - times).sum() / (2 * len(times) * times.sum())
    found = taken.described(ItemPopularity(np.ones(len(times), dtype=np.int64)), candidates=len(times))
    assert found["gini"] == pytest.approx(expected)


def test_gini_of_even_and_of_lonely_recommendations() -> None:
    popularity = ItemPopularity(np.ones(4, dtype=np.int64))
    even, lonely = Taken(4), Taken(4)
    even.add(np.arange(4))
    lonely.add(np.zeros(7, dtype=np.int64))
    assert even.described(popularity, candidates=4)["gini"] == pytest.approx(0)
    assert lonely.described(popularity, candidates=4)["gini"] == pytest.approx(0.75)


def test_each_k_counts_its_first_places() -> None:
    popularity = ItemPopularity(np.array([2, 2, 2, 0]))
    taken = TakenByK(4, ks=[1, 3])
    for ranked in ([[0, 1, 2]], [[0, 3, -1]]):  # two blocks
        taken.add(np.array(ranked, dtype=np.int32))
    found = taken.described(popularity, candidates=5)
    assert (found["head@1"], found["tail@1"], found["coverage@1"]) == (1, 0, 0.2)
    assert (found["head@3"], found["middle@3"], found["tail@3"], found["coverage@3"]) == (0.4, 0.2, 0.4, 0.8)


def test_nothing_taken_has_no_shares() -> None:
    described = Taken(2).described(ItemPopularity(np.array([1, 1])), candidates=2)
    assert described == {"head": None, "middle": None, "tail": None, "log_count": None, "novelty": None, "gini": None,
                         "coverage": 0}  # fmt: skip
