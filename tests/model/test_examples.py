"""Training examples: baskets, histories and batches, by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from two_tower.artifacts import ArtifactReader, open_artifact, write_artifact
from two_tower.errors import TrainingError
from two_tower.features import FittedFeature
from two_tower.features.categorical import Categorical
from two_tower.model.example_tables import load_examples
from two_tower.model.examples import Examples, TrainingBatch, UnorderedExamples

SHOP = {"shop": FittedFeature("shop", Categorical(), {"vocabulary": ["a", "b"]})}
KINDS = {
    "user": pa.int32(),
    "items": pa.list_(pa.int32()),
    "times": pa.list_(pa.int64()),
    "weights": pa.list_(pa.float32()),
    "roles": pa.list_(pa.int8()),
    "visible": pa.list_(pa.int32()),
    "targets": pa.list_(pa.bool_()),
    "history": pa.list_(pa.int32()),
    "relevant": pa.list_(pa.int32()),
    "item": pa.int32(),
    "time": pa.int64(),
    "weight": pa.float32(),
}
HOUR = 3_600_000_000

SEQUENCES: dict[str, list[Any]] = {
    "user": [0, 2],
    "items": [[5, 6, 7, 5, 8, 9], [1, 2]],
    "times": [[0, 0, HOUR, HOUR, 2 * HOUR, 2 * HOUR], [HOUR, 4 * HOUR]],
    "weights": [[1.0, 1.0, 2.0, 1.0, 1.0, 1.0], [1.0, 3.0]],
    "roles": [[0, 0, 0, 0, 0, 0], [0, 0]],
    "visible": [[0, 0, 2, 2, 4, 4], [0, 1]],
    "targets": [[True] * 6, [True] * 2],
    "context.shop": [["a", "a", "a", "a", "b", "a"], ["b", None]],
}
UNORDERED = {"visible": [[-1] * 6, [-1] * 2]}
VALIDATION: dict[str, list[Any]] = {
    "user": [0, 1],
    "history": [[5, 6, 7, 5, 8, 9], []],
    "relevant": [[3, 4], [2]],
    "context.shop": ["b", "a"],
}


def table(rows: dict[str, list[Any]]) -> pa.Table:
    shops = pa.list_(pa.string()) if "items" in rows else pa.string()
    return pa.table({name: pa.array(values, KINDS.get(name, shops)) for name, values in rows.items()})


def prepared(
    folder: Path, rows: dict[str, list[Any]], *, pairs: dict[str, list[Any]] | None = None, time: str | None = "time"
) -> ArtifactReader:
    config = {
        "query": {"history_roles": ["positive"]},
        "examples": {"shape": "pairs" if pairs else "sequences"},
        "interactions": {"columns": {"time": time}},
    }
    with write_artifact(folder, "prepared_data", config=config) as artifact:
        for name, part in (("train", table(rows)), ("validation", table(VALIDATION)), ("pairs", table(pairs or {}))):
            pq.write_table(part, artifact.path(f"{name}/part-00000.parquet"))
    return open_artifact(folder, "prepared_data")


def load(
    folder: Path,
    *,
    history_length: int = 3,
    context: bool = False,
    time: str | None = "time",
    half_life: timedelta | None = None,
    user_balance: float = 0.0,
    refit: bool = False,
    groups: int = 2,
    whole_history: bool = False,
    **changes: list[Any],
) -> Any:
    return load_examples(
        prepared(folder, SEQUENCES | changes, time=time),
        SHOP if context else {},
        history_length=history_length,
        unordered_groups=groups,
        whole_history=whole_history,
        half_life=half_life,
        user_balance=user_balance,
        refit=refit,
    )


def everything(examples: Any, *, whole_user: bool = False) -> TrainingBatch:
    """All queries, each with its own history, in their order."""
    if isinstance(examples, Examples):
        return examples._batch(np.arange(len(examples.first)), None, whole_user=whole_user)
    (batch,) = examples.batches(10**6, rng=np.random.default_rng(0), sequences=False, whole_user=whole_user)
    return batch


def histories(batch: TrainingBatch) -> list[list[int]]:
    """The past of each query, without the padding."""
    if batch.places is None:
        return [[item for item in row if item >= 0] for row in batch.history.tolist()]
    found = [batch.history[row, : position + 1].tolist() for row, position in batch.places]
    assert all(item >= 0 for past in found for item in past)
    return found


def known_of(batch: TrainingBatch) -> list[set[int]]:
    return [set(batch.known[batch.known_rows == query].tolist()) for query in range(len(batch.keys))]


def random_sequences(rng: np.random.Generator, *, users: int = 30) -> dict[str, list[Any]]:
    """Users with 1 to 40 events in baskets, each event an item of its own."""
    rows: dict[str, list[Any]] = {name: [] for name in SEQUENCES}
    number = 0
    for user in range(users):
        length = int(rng.integers(1, 40))
        day = np.cumsum(rng.random(length) < 0.6)
        rows["user"].append(user)
        rows["items"].append(list(range(number, number + length)))
        rows["times"].append((day * HOUR).tolist())
        rows["weights"].append([1.0] * length)
        rows["roles"].append([0] * length)
        rows["visible"].append([int((day < today).sum()) for today in day])
        rows["targets"].append((rng.random(length) < 0.8).tolist())
        rows["context.shop"].append(["a"] * length)
        number += length
    return rows


def test_a_basket_is_one_query_and_sees_only_what_came_before_it(tmp_path: Path) -> None:
    batch = everything(load(tmp_path))
    assert batch.history.tolist() == [[-1, -1, -1], [5, 6, -1], [6, 7, 5], [-1, -1, -1], [1, -1, -1]]
    assert batch.rows.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    assert batch.positives.tolist() == [5, 6, 7, 5, 8, 9, 1, 2]
    assert batch.weights.tolist() == [1, 1, 2, 1, 1, 1, 1, 3]
    assert batch.user.tolist() == [0, 0, 0, 2, 2]


def test_another_context_is_another_query(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, context=True))
    assert batch.rows.tolist() == [0, 0, 1, 1, 2, 3, 4, 5]
    assert batch.context["shop"].tolist() == [[2], [2], [3], [2], [3], [0]]
    assert batch.history[2].tolist() == batch.history[3].tolist() == [6, 7, 5]


def test_without_a_history_a_user_is_one_query_a_context(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, history_length=0))
    assert batch.history.shape == (2, 0) and batch.user.tolist() == [0, 2]
    assert [sorted(batch.positives[batch.rows == query].tolist()) for query in (0, 1)] == [[5, 5, 6, 7, 8, 9], [1, 2]]
    batch = everything(load(tmp_path, history_length=0, context=True))
    found = {
        (int(batch.user[query]), int(batch.context["shop"][query, 0])): sorted(
            batch.positives[batch.rows == query].tolist()
        )
        for query in range(len(batch.user))
    }
    assert found == {(0, 2): [5, 5, 6, 7, 9], (0, 3): [8], (2, 3): [1], (2, 0): [2]} and len(batch.user) == 4
    assert batch.weights[batch.positives == 7].tolist() == [2] and batch.weights[batch.positives == 2].tolist() == [3]


def test_with_whole_histories_a_user_is_one_query_that_sees_everything(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, history_length=5, whole_history=True))
    assert histories(batch) == [[6, 7, 5, 8, 9], [1, 2]] and batch.user.tolist() == [0, 2]
    assert [sorted(batch.positives[batch.rows == query].tolist()) for query in (0, 1)] == [[5, 5, 6, 7, 8, 9], [1, 2]]


def test_without_users_each_event_is_a_query(tmp_path: Path) -> None:
    alone = {name: [[value] for row in values for value in row] for name, values in SEQUENCES.items() if name != "user"}
    rows = alone | {"user": [-1] * 8, "visible": [[0]] * 8}
    for length in (0, 3):
        batch = everything(load(tmp_path, history_length=length, **rows), whole_user=True)
        assert batch.rows.tolist() == list(range(8)) and batch.history.shape == (8, 0)
        assert known_of(batch) == [{item} for item in batch.positives.tolist()]


def test_only_targets_are_positives_and_the_others_stay_in_the_history(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, targets=[[False] * 3 + [True] * 3, [True] * 2]))
    assert batch.positives.tolist() == [5, 8, 9, 1, 2]
    assert batch.rows.tolist() == [0, 1, 1, 2, 3]
    assert batch.history[0].tolist() == [5, 6, -1]


def test_events_of_other_roles_are_neither_positives_nor_in_the_history(tmp_path: Path) -> None:
    roles = {"roles": [[0, 2, 0, 0, 0, 1], [2, 0]], "targets": [[True, False, True, True, True, False], [False, True]]}
    batch = everything(load(tmp_path, **roles))
    assert batch.positives.tolist() == [5, 7, 5, 8, 2]
    assert batch.rows.tolist() == [0, 1, 1, 2, 3]
    assert batch.history.tolist() == [[-1, -1, -1], [5, -1, -1], [5, 7, 5], [-1, -1, -1]]


def test_what_is_known_is_the_query_or_the_whole_user(tmp_path: Path) -> None:
    examples = load(tmp_path)
    assert known_of(everything(examples)) == [{5, 6}, {5, 7}, {8, 9}, {1}, {2}]
    assert known_of(everything(examples, whole_user=True)) == [{5, 6, 7, 8, 9}] * 3 + [{1, 2}] * 2
    for batch in examples.batches(2, rng=np.random.default_rng(0), sequences=True, whole_user=True):
        assert known_of(batch) == [{5, 6, 7, 8, 9} if user == 0 else {1, 2} for user in batch.user]


@pytest.mark.parametrize("sequences", [False, True])
def test_an_epoch_holds_every_positive_once_in_a_seeded_order(tmp_path: Path, sequences: bool) -> None:
    examples = load(tmp_path)

    def epoch(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [batch.positives.tolist() for batch in examples.batches(3, rng=rng, sequences=sequences)]

    assert epoch(1) == epoch(1)
    assert any(epoch(1) != epoch(seed) for seed in range(2, 6))
    assert sorted(item for batch in epoch(1) for item in batch) == [1, 2, 5, 5, 6, 7, 8, 9]
    assert sequences or all(len(batch) >= 3 for batch in epoch(1)[:-1])


@pytest.mark.parametrize("length", [1, 4, 9, 50])
def test_a_query_in_a_sequence_sees_its_own_past_or_the_end_of_it(tmp_path: Path, length: int) -> None:
    rows = random_sequences(np.random.default_rng(length))
    examples = load(tmp_path, history_length=length, **rows)
    own = histories(everything(examples))
    expected = np.concatenate(
        [np.array(row)[np.array(targets)] for row, targets in zip(rows["items"], rows["targets"], strict=True)]
    )
    cuts = []
    for seed in range(3):
        seen: dict[int, list[int]] = {}
        positives = []
        for batch in examples.batches(25, rng=np.random.default_rng(seed), sequences=True):
            assert batch.places is not None and batch.places.dtype == np.int32 and batch.history.shape[1] <= length
            assert sorted(set(batch.places[:, 0])) == list(range(len(batch.history)))
            seen |= dict(zip(batch.keys.tolist(), histories(batch), strict=True))
            positives.append(batch.positives)
            queries = batch.keys[batch.rows]
            assert (examples.user[queries] == batch.user[batch.rows]).all()
        assert sorted(np.concatenate(positives)) == sorted(expected)
        assert sorted(seen) == list(range(examples.keys))
        for query, past in enumerate(own):
            found = seen[query]
            assert found == past[len(past) - len(found) :] and bool(found) == bool(past)
            if len(rows["items"][examples.user[query]]) <= length:
                assert found == past
        cuts.append(seen)
    longer = any(len(row) > length + 1 for row in rows["items"])
    assert (cuts[0] != cuts[1] or cuts[0] != cuts[2]) == (longer and length > 1)


def test_long_sequences_are_read_to_full_length_now_and_then(tmp_path: Path) -> None:
    rows = {name: [values[0]] for name, values in random_sequences(np.random.default_rng(0), users=1).items()}
    count = 30
    rows |= {"items": [list(range(count))], "times": [[0] * count], "weights": [[1.0] * count], "roles": [[0] * count]}
    rows |= {"visible": [list(range(count))], "targets": [[True] * count], "context.shop": [["a"] * count]}
    examples = load(tmp_path, history_length=5, **rows)
    longest = np.zeros(count, dtype=int)
    for seed in range(40):
        for batch in examples.batches(10, rng=np.random.default_rng(seed), sequences=True):
            np.maximum.at(longest, batch.keys, [len(past) for past in histories(batch)])
    assert longest.tolist() == [min(place, 5) for place in range(count)]


def test_users_without_a_past_have_places_without_an_item(tmp_path: Path) -> None:
    first = {name: [row[:1] for row in values] for name, values in SEQUENCES.items() if name != "user"}
    examples = load(tmp_path, **first)
    (batch,) = examples.batches(100, rng=np.random.default_rng(0), sequences=True)
    assert batch.history.shape == (2, 0) and batch.places is not None
    assert sorted(batch.places.tolist()) == [[0, -1], [1, -1]]


@pytest.mark.parametrize("groups", [2, 3, 8])
def test_unordered_items_are_dealt_into_groups_that_predict_each_other(tmp_path: Path, groups: int) -> None:
    examples = load(tmp_path, groups=groups, history_length=50, **UNORDERED)
    assert isinstance(examples, UnorderedExamples)
    items = {0: {5, 6, 7, 8, 9}, 2: {1, 2}}
    dealt = []
    for seed in range(4):
        positives = []
        for batch in examples.batches(3, rng=np.random.default_rng(seed), sequences=False):
            positives += batch.positives.tolist()
            for query, past in enumerate(histories(batch)):
                own = batch.positives[batch.rows == query].tolist()
                assert own and not set(own) & set(past)
                assert {*own, *past} == items[batch.user[query]]
            for user in set(batch.user.tolist()):
                assert (batch.user == user).sum() == min(groups, len(items[user]))
            dealt.append(batch.positives.tolist())
        assert sorted(positives) == [1, 2, 5, 6, 7, 8, 9]
        whole = next(examples.batches(100, rng=np.random.default_rng(seed), sequences=False, whole_user=True))
        assert known_of(whole) == [items[user] for user in whole.user]
        own = next(examples.batches(100, rng=np.random.default_rng(seed), sequences=False))
        assert known_of(own) == [set(own.positives[own.rows == query]) for query in range(len(own.keys))]
    assert len({tuple(batch) for batch in dealt}) > 2
    assert examples.weights[examples.items == 5].tolist() == [2]  # bought twice


def test_an_unordered_history_is_no_longer_than_asked_for(tmp_path: Path) -> None:
    batch = everything(load(tmp_path, **UNORDERED))
    assert max(map(len, histories(batch))) == 3 == batch.history.shape[1]


def test_unordered_events_without_a_target_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to train on"):
        load(tmp_path, targets=[[False] * 6, [False] * 2], **UNORDERED)


def test_an_event_weighs_half_after_the_half_life(tmp_path: Path) -> None:
    weights = load(tmp_path, half_life=timedelta(hours=2)).weights
    ages = np.array([4, 4, 3, 3, 2, 2, 3, 0])
    np.testing.assert_allclose(weights, np.array([1, 1, 2, 1, 1, 1, 1, 3]) * 2.0 ** (-ages / 2), rtol=1e-6)
    assert weights.dtype == np.float32
    old = load(tmp_path, half_life=timedelta(seconds=1)).weights
    assert (old > 1e-36).all()  # smaller numbers are zeros to TensorFlow


def test_a_half_life_needs_times(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training\.half_life: the events have no time"):
        load(tmp_path, half_life=timedelta(hours=1), time=None)


@pytest.mark.parametrize(("balance", "first", "second"), [(0.5, 7**-0.5, 4**-0.5), (1.0, 1 / 7, 1 / 4)])
def test_heavy_users_weigh_less_if_balanced(tmp_path: Path, balance: float, first: float, second: float) -> None:
    weights = load(tmp_path, user_balance=balance).weights  # the first user has 7 in all, the second 4
    np.testing.assert_allclose(weights, np.multiply([1, 1, 2, 1, 1, 1, 1, 3], [*[first] * 6, *[second] * 2]), rtol=1e-6)
    assert weights.dtype == np.float32


def test_each_event_without_a_user_is_a_user_in_the_balance(tmp_path: Path) -> None:
    weights = load(tmp_path, user_balance=1.0, user=[-1, 2]).weights
    np.testing.assert_allclose(weights, [1, 1, 1, 1, 1, 1, 1 / 4, 3 / 4], rtol=1e-6)


def test_a_refit_balances_users_with_their_validation_items(tmp_path: Path) -> None:
    examples = load(tmp_path, user_balance=1.0, refit=True)
    rows, events = examples.positives()
    together = np.bincount(examples.user[rows], weights=examples.weights[events])
    np.testing.assert_allclose(together, [1, 1, 1], rtol=1e-6)


def test_a_refit_adds_the_validation_queries(tmp_path: Path) -> None:
    before, after = load(tmp_path, context=True), load(tmp_path, context=True, refit=True)
    batch = everything(after)
    assert after.keys == before.keys + 2
    assert batch.positives.tolist() == [5, 6, 7, 5, 8, 9, 1, 2, 3, 4, 2]
    assert batch.rows.tolist()[-3:] == [6, 6, 7] and batch.user.tolist()[-2:] == [0, 1]
    assert histories(batch)[-2:] == [[5, 8, 9], []]
    assert batch.context["shop"].tolist()[-2:] == [[3], [2]]
    assert batch.weights.tolist()[-3:] == [3, 3, 3]  # as the heaviest
    assert known_of(everything(after, whole_user=True))[-2:] == [{3, 4, 5, 6, 7, 8, 9}, {2}]
    seen = {}
    for part in after.batches(3, rng=np.random.default_rng(0), sequences=True):
        seen |= dict(zip(part.keys.tolist(), histories(part), strict=True))
    assert seen[6] == [5, 8, 9] and seen[7] == []


def test_a_refit_of_unordered_events_adds_items_to_their_users(tmp_path: Path) -> None:
    examples = load(tmp_path, context=True, refit=True, history_length=50, **UNORDERED)
    batch = everything(examples)
    items = {0: [3, 4, 5, 6, 7, 8, 9], 1: [2], 2: [1, 2]}
    shops = {0: 2, 1: 2, 2: 3}
    found: dict[int, list[int]] = {user: [] for user in items}
    for query, user in enumerate(batch.user.tolist()):
        found[user] += batch.positives[batch.rows == query].tolist()
        assert batch.context["shop"][query].tolist() == [shops[user]]
    assert {user: sorted(own) for user, own in found.items()} == items


@pytest.mark.parametrize("length", [0, 2])
def test_a_refit_works_with_every_length_of_history(tmp_path: Path, length: int) -> None:
    batch = everything(load(tmp_path, history_length=length, refit=True))
    assert batch.history.shape[1] == length
    assert sorted(batch.positives.tolist()) == [1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9]


def test_pairs_bring_their_history_along(tmp_path: Path) -> None:
    pairs = {
        "user": [0, 0, 4],
        "item": [7, 8, 2],
        "time": [0, HOUR, HOUR],
        "weight": [1.0, 2.0, 1.0],
        "history": [[], [3, 5, 7], [1]],
        "context.shop": ["a", "b", None],
    }
    examples = load_examples(
        prepared(tmp_path, SEQUENCES, pairs=pairs),
        SHOP,
        history_length=2,
        unordered_groups=2,
        half_life=timedelta(hours=1),
    )
    batch = everything(examples)
    assert batch.positives.tolist() == [7, 8, 2] and batch.rows.tolist() == [0, 1, 2]
    assert batch.history.tolist() == [[-1, -1], [5, 7], [1, -1]]
    assert batch.context["shop"].tolist() == [[2], [3], [0]]
    assert batch.weights.tolist() == [0.5, 2, 1] and batch.user.tolist() == [0, 0, 4]
    assert known_of(everything(examples, whole_user=True)) == [{7, 8}, {7, 8}, {2}]
    (together,) = examples.batches(100, rng=np.random.default_rng(0), sequences=True)
    own = dict(zip(together.keys.tolist(), histories(together), strict=True))
    assert own[0] == [] and own[2] == [1] and own[1] in ([5, 7], [7])


@pytest.mark.parametrize("items", [[], [[]]])
def test_nothing_to_train_on(tmp_path: Path, items: list[Any]) -> None:
    lists = dict.fromkeys(("items", "times", "weights", "roles", "visible", "targets", "context.shop"), items)
    with pytest.raises(TrainingError, match="nothing to train on"):
        load(tmp_path, user=[0] * len(items), **lists)


@pytest.mark.parametrize("length", [0, 3])
@pytest.mark.parametrize(
    "changes", [{"targets": [[False] * 6, [False] * 2]}, {"weights": [[0.0] * 6, [0.0] * 2]}], ids=["targets", "weight"]
)
def test_without_a_target_there_is_nothing_to_train_on(tmp_path: Path, changes: Any, length: int) -> None:
    with pytest.raises(TrainingError, match="nothing to train on"):
        load(tmp_path, history_length=length, **changes)


def test_batch_parts_have_the_types_that_the_losses_take(tmp_path: Path) -> None:
    for changes in ({}, UNORDERED):
        for whole_user in (False, True):
            for refit in (False, True):
                examples = load(tmp_path, refit=refit, half_life=timedelta(hours=1), **changes)
                for batch in examples.batches(2, rng=np.random.default_rng(0), sequences=True, whole_user=whole_user):
                    whole = (batch.history, batch.user, batch.rows, batch.positives, batch.known_rows, batch.known)
                    assert {part.dtype for part in whole} == {np.dtype(np.int32)}
                    assert batch.weights.dtype == np.float32
