"""Metrics against an independent library, and the tie rule by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import pytrec_eval
from hypothesis import given, settings, strategies as st

from two_tower.evaluation.metrics import first_hits, ranking_metrics, ranks_with_ties_against, with_ties_against
from two_tower.evaluation.sets import ItemSets


def sets_of(lists: list[list[int]], *, items: int) -> ItemSets:
    return ItemSets.from_lists(pa.chunked_array([pa.array(lists, pa.list_(pa.int32()))]), items=items)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_pytrec_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, items, depth, ks = 40, 300, 100, [1, 5, 10, 100]
    ranked = np.stack([rng.permutation(items)[:depth] for _ in range(queries)]).astype(np.int32)
    relevant = [sorted(rng.choice(items, size=rng.integers(1, 150), replace=False).tolist()) for _ in range(queries)]
    sets = sets_of(relevant, items=items)
    ours = ranking_metrics(sets.contain(ranked), sets.sizes, ks=ks)
    qrel = {str(q): {str(item): 1 for item in members} for q, members in enumerate(relevant)}
    names = {
        "recall": "recall_{k}", "hit_rate": "success_{k}", "precision": "P_{k}", "ndcg": "ndcg_cut_{k}",
        "map": "map_cut_{k}",
    }  # fmt: skip
    measures = {f"{name.split('_{')[0]}.{','.join(map(str, ks))}" for name in names.values()}
    run = {str(q): {str(item): float(depth - rank) for rank, item in enumerate(row)} for q, row in enumerate(ranked)}
    theirs = pytrec_eval.RelevanceEvaluator(qrel, measures).evaluate(run)
    for name, pattern in names.items():
        for k in ks:
            expected = [theirs[str(q)][pattern.format(k=k)] for q in range(queries)]
            np.testing.assert_allclose(ours[f"{name}@{k}"], expected, rtol=1e-6)
    for k in ks:
        cut = {q: dict(list(row.items())[:k]) for q, row in run.items()}
        found = pytrec_eval.RelevanceEvaluator(qrel, {"recip_rank"}).evaluate(cut)
        expected = [found[str(q)]["recip_rank"] for q in range(queries)]
        np.testing.assert_allclose(ours[f"mrr@{k}"], expected, rtol=1e-6)


def test_by_hand() -> None:
    relevant = sets_of([[1, 5], [0], [2, 3, 4]], items=6)
    ranked = np.array([[0, 1, 2], [1, 2, 3], [4, 3, -1]], np.int32)
    found = ranking_metrics(relevant.contain(ranked), relevant.sizes, ks=[1, 2, 10])
    log2 = np.log2
    assert found["recall@2"].tolist() == pytest.approx([0.5, 0, 2 / 3])
    assert found["hit_rate@1"].tolist() == [0, 0, 1]
    assert found["mrr@1"].tolist() == [0, 0, 1] and found["mrr@2"].tolist() == [0.5, 0, 1]
    assert found["precision@2"].tolist() == pytest.approx([0.5, 0, 1])
    assert found["precision@10"].tolist() == pytest.approx([0.1, 0, 0.2])
    assert found["map@10"].tolist() == pytest.approx([0.25, 0, (1 + 1) / 3])
    ideal3 = 1 + 1 / log2(3) + 0.5
    assert found["ndcg@10"].tolist() == pytest.approx([1 / log2(3) / (1 + 1 / log2(3)), 0, (1 + 1 / log2(3)) / ideal3])


def test_an_item_that_stands_twice_counts_once_at_its_first_place() -> None:
    relevant = sets_of([[1, 5], [0]], items=6)
    ranked = np.array([[1, 1, 5, 1], [3, 0, 0, -1]], np.int32)
    hits = first_hits(relevant.contain(ranked), ranked)
    assert hits.tolist() == [[True, False, True, False], [False, True, False, False]]
    found = ranking_metrics(hits, relevant.sizes, ks=[2, 4])
    assert found["recall@2"].tolist() == [0.5, 1] and found["recall@4"].tolist() == [1, 1]


def test_fewer_candidates_than_k() -> None:
    relevant = sets_of([[0, 1, 2]], items=3)
    found = ranking_metrics(relevant.contain(np.array([[2, 0, 1]], np.int32)), relevant.sizes, ks=[10])
    assert {name: values.tolist()[0] for name, values in found.items()} == {
        "recall@10": 1, "hit_rate@10": 1, "precision@10": pytest.approx(0.3), "mrr@10": 1, "ndcg@10": 1, "map@10": 1
    }  # fmt: skip


def test_edges() -> None:
    none = ranking_metrics(np.zeros((2, 0), bool), np.array([1, 0]), ks=[5])
    assert {name: values.tolist()[0] for name, values in none.items()} == {
        "recall@5": 0, "hit_rate@5": 0, "precision@5": 0, "mrr@5": 0, "ndcg@5": 0, "map@5": 0
    }  # fmt: skip
    assert all(np.isnan(values[1]) for values in none.values())
    assert ranking_metrics(np.zeros((0, 3), bool), np.zeros(0, np.int64), ks=[1])["recall@1"].shape == (0,)
    more = ranking_metrics(np.ones((1, 3), bool), np.array([3]), ks=[1000])
    assert more["recall@1000"].tolist() == more["ndcg@1000"].tolist() == [1]


def test_ties_count_against_the_system_by_hand() -> None:
    relevant = sets_of([[7]] * 5, items=10)
    items = np.array([[7, 1, 2, 3], [0, 7, 2, 3], [0, 1, 7, 3], [0, 1, 7, -1], [7, 1, 2, 3]], np.int32)
    scores = np.array(
        [
            [5, 5, 4, 3],  # first by chance: counts as second
            [5, 4, 4, 3],  # a tie inside: counts as third
            [5, 4, 4, 4],  # the tie goes on beyond the ranks: not found
            [5, 4, 4, -np.inf],  # there is nothing beyond: third
            [5, 4, 3, 3],  # the open tie does not concern the first rank
        ],
        np.float32,
    )
    hits = with_ties_against(relevant.contain(items), scores)
    assert hits.tolist() == [
        [False, True, False],
        [False, False, True],
        [False, False, False],
        [False, False, True],
        [True, False, False],
    ]


def test_ranks_with_ties_by_hand() -> None:
    relevant = sets_of([[0, 3], [2], [1, 2]], items=4)
    scores = np.array([[1, 1, 1, 2], [3, 2, 1, 0], [5, 5, 5, 5]], np.float32)
    assert ranks_with_ties_against(relevant, scores).tolist() == [4, 1, 3, 3, 4]


def test_a_constant_score_finds_nothing() -> None:
    relevant = sets_of([[0, 1, 2]], items=50)
    hits = with_ties_against(relevant.contain(np.arange(11, dtype=np.int32)[None]), np.ones((1, 11), np.float32))
    assert not hits.any()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_both_tie_rules_agree_on_all_candidates(data: st.DataObject) -> None:
    items, queries = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    members = st.lists(st.integers(0, items - 1), unique=True).map(sorted)
    relevant = sets_of(data.draw(st.lists(members, min_size=queries, max_size=queries)), items=items)
    values = st.lists(st.integers(0, 3), min_size=items, max_size=items)
    scores = np.array(data.draw(st.lists(values, min_size=queries, max_size=queries)), np.float32)
    order = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
    ranked = np.pad(np.take_along_axis(scores, order, axis=1), ((0, 0), (0, 1)), constant_values=-np.inf)
    hits = with_ties_against(relevant.contain(np.pad(order, ((0, 0), (0, 1)), constant_values=-1)), ranked)
    ranks = ranks_with_ties_against(relevant, scores)
    expected = np.zeros_like(hits)
    expected[relevant.keys // items, ranks - 1] = True
    np.testing.assert_array_equal(hits, expected)


@given(st.lists(st.tuples(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))), max_size=5))
def test_item_sets_are_sets(pairs: list[tuple[set[int], set[int]]]) -> None:
    first, second = (sets_of([sorted(pair[side]) for pair in pairs], items=10) for side in (0, 1))

    def members(sets: ItemSets) -> list[set[int]]:
        return [set(part.tolist()) for part in np.split(sets.members, np.cumsum(sets.sizes)[:-1])] if pairs else []

    assert members(first.intersection(second)) == [a & b for a, b in pairs]
    assert members(first.difference(second)) == [a - b for a, b in pairs]
    assert first.sizes.tolist() == [len(a) for a, _ in pairs]
    asked = np.tile(np.arange(-1, 10, dtype=np.int32), (len(pairs), 1))
    few = np.tile(np.arange(-1, 10) % 3 == 0, (len(pairs), 1))
    np.testing.assert_array_equal(first.contain(asked, among=few), first.contain(asked) & few)
    assert first.contain(asked).tolist() == [[item in a for item in range(-1, 10)] for a, _ in pairs]
