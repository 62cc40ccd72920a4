"""Splits by order where events share a moment: who sees whom, and what is asked for."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from prepared_logs import DAY, START, Row, by_ids, run_rows

from two_tower.artifacts import open_artifact
from two_tower.data import Prepared
from two_tower.data.splits import TEST, TRAIN, VALIDATION, Windows, assign, last_drawn
from two_tower.errors import DataError
from two_tower.model.example_tables import load_examples

BASKETS = 4
BASKET = 3
MOMENTS = {"time": lambda basket: START + basket * DAY, "order": lambda basket: basket}


def baskets(users: int = 30, moment: str = "time") -> list[Row]:
    """Baskets of three items each, a basket's rows sorted by item as an export has them."""
    random = Random(5)
    log: list[Row] = []
    for user in range(users):
        items = random.sample(range(10, 99), BASKETS * BASKET)
        for basket in range(BASKETS):
            bought = sorted(items[BASKET * basket :][:BASKET])
            log += [{"user": f"u{user}", "item": f"i{item}", moment: MOMENTS[moment](basket)} for item in bought]
    return log


def prepare_baskets(folder: Path, log: list[Row], *, moment: str = "time", k: int = 1, **changes: Any) -> Prepared:
    ties = changes.pop("ties", "apart")
    split = {"type": "leave_last_k", "k": k, "ties": ties} if k > 1 else {"type": "leave_last_out", "ties": ties}
    columns = {"user": "user", "item": "item", moment: moment}
    return run_rows(folder, log, log={"columns": columns}, split=split, **changes)


def basket_of(log: list[Row], user: str, moment: int) -> set[str]:
    return {row["item"] for row in log if row["user"] == user and moment in row.values()}


def test_in_the_order_of_the_file_a_query_sees_the_rest_of_its_basket_and_is_counted(tmp_path: Path) -> None:
    log = baskets()
    prepared = prepare_baskets(tmp_path, log, ties="order")
    for user, query in by_ids(prepared)["test"].items():
        (target,) = query["relevant"]
        rest = basket_of(log, user, query["cutoff"]) - {target}
        assert target > max(rest) and rest <= query["seen"]
    assert prepared.summary["tied"] == {"validation": 30, "test": 30}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ties_apart_hide_the_targets_own_moment(tmp_path: Path, moment: str) -> None:
    log = baskets(moment=moment)
    prepared = prepare_baskets(tmp_path, log, moment=moment, examples={"shape": "pairs"})
    found, places = by_ids(prepared), []
    for split, earlier in (("validation", 2), ("test", 3)):
        for user, query in found[split].items():
            basket = basket_of(log, user, query["cutoff"])
            (target,) = query["relevant"]
            places.append(sorted(basket).index(target))
            past = [row["item"] for row in log if row["user"] == user][: earlier * BASKET]
            assert [item for item, _, _ in query["history"]] == past  # the whole validation basket for the test
            assert query["seen"] == set(past) and target in basket
        assert len(found[split]) == 30
    assert min(np.bincount(places)) > 10  # of 60: a hash draws, not the order
    assert prepared.summary["tied"] == {"validation": 0, "test": 0}
    assert prepared.summary["events"] == {"train": 180, "validation": 90, "test": 90}
    for entries in found["train"].values():
        assert [visible for _, _, _, visible, *_ in entries] == [0, 0, 0, 3, 3, 3]
    for pairs in found["pairs"].values():
        assert all(time < pair[1] for pair in pairs for _, time, _ in pair[-1])


@pytest.mark.parametrize("shape", ["sequences", "pairs"])
def test_training_shows_no_positive_the_rest_of_its_basket(tmp_path: Path, shape: str) -> None:
    log = baskets()
    prepared = prepare_baskets(tmp_path, log, examples={"shape": shape})
    items, users = prepared.items(["item_id"])["item_id"].to_pylist(), prepared.users()["user_id"].to_pylist()
    basket_at = {(row["user"], row["item"]): (row["time"] - START) // DAY for row in log}
    examples = load_examples(open_artifact(prepared.folder, "prepared_data"), {}, history_length=50, unordered_groups=2)
    positives = 0
    for batch in examples.batches(64, rng=np.random.default_rng(0), sequences=False):
        for query, item in zip(batch.rows, batch.positives, strict=True):
            user = users[batch.user[query]]
            seen = [basket_at[user, items[other]] for other in batch.history[query] if other >= 0]
            assert seen == [0] * BASKET * basket_at[user, items[item]]
            positives += 1
    assert positives == 180


def test_the_order_of_a_basket_in_the_file_changes_no_target(tmp_path: Path) -> None:
    log = baskets()
    shuffled = Random(1).sample(log, len(log))
    one, other = (by_ids(prepare_baskets(tmp_path / name, rows)) for name, rows in (("a", log), ("b", shuffled)))
    for split in ("validation", "test"):
        for user, query in one[split].items():
            for name in ("relevant", "seen", "cutoff"):
                assert query[name] == other[split][user][name]


def test_k_targets_are_the_latest_and_a_hash_draws_the_others_in_the_moment_before(tmp_path: Path) -> None:
    log = [row for row in baskets() if row["time"] < START + 3 * DAY or row["item"] < "i50"]
    prepared = prepare_baskets(tmp_path, log, k=2)
    for user, query in by_ids(prepared)["test"].items():
        newest = basket_of(log, user, START + 3 * DAY)
        assert len(query["relevant"]) == 2 and len(query["relevant"] & newest) == min(2, len(newest))
        assert query["seen"].isdisjoint(basket_of(log, user, query["cutoff"]))


@pytest.mark.parametrize("ties", ["order", "apart"])
def test_who_has_not_three_moments_is_trained_on_only(tmp_path: Path, ties: str) -> None:
    few = [row | {"user": "few"} for row in baskets(1) if row["time"] < START + 2 * DAY]
    found = by_ids(prepare_baskets(tmp_path, [*baskets(), *few], ties=ties))
    assert ("few" in found["test"]) == ("few" in found["validation"]) == (ties == "order")
    assert len(found["train"]["few"]) == (4 if ties == "order" else 6)


def test_where_nobody_has_three_moments_the_error_says_so(tmp_path: Path) -> None:
    log = [row for row in baskets() if row["time"] < START + 2 * DAY]
    with pytest.raises(DataError, match=r"no user has 3 positive events in three moments or more, .* ties: order"):
        prepare_baskets(tmp_path, log)


T, V, X = TRAIN, VALIDATION, TEST


@pytest.mark.parametrize(
    ("moments", "positive", "k", "order", "apart"),
    [
        ([1, 2, 3], "+++", 1, [T, V, X], [T, V, X]),
        ([1, 1, 1], "+++", 1, [T, V, X], [T, T, T]),
        ([1, 2, 2], "+++", 1, [T, V, X], [T, T, T]),
        ([1, 2, 2, 3, 3], "+++++", 1, [T, T, T, V, X], [T, V, V, X, X]),
        ([1, 1, 2, 2, 2], "+-+-+", 1, [T, T, V, V, X], [T, T, T, T, T]),
        ([1, 2, 2, 3, 3, 3], "+-+-+-", 1, [T, T, V, V, X, X], [T, V, V, X, X, X]),
        ([1, 2, 3, 4, 4], "+++++", 2, [T, V, V, X, X], [T, V, V, X, X]),
        ([1, 2, 3, 3, 4], "+++++", 2, [T, V, V, X, X], [T, T, T, T, T]),
        ([1, 2, 3, 4, 4, 5], "++++++", 2, [T, T, V, V, X, X], [T, V, V, X, X, X]),
        ([1, 2], "--", 1, [T, T], [T, T]),
    ],
)
def test_where_the_windows_begin(moments: list[int], positive: str, k: int, order: list[int], apart: list[int]) -> None:
    """Of a user between two others whose events have the same moments."""
    time = np.array([*moments, *moments, *moments])
    wanted = np.array([sign == "+" for sign in "-" * len(moments) + positive + "-" * len(moments)])
    starts = np.arange(4) * len(moments)
    for expected, ties in ((order, False), (apart, True)):
        windows = Windows(end=9, recent=9, targets=k, apart=ties)
        found = assign(time, wanted, starts, windows).reshape(3, -1)
        assert found.tolist() == [[T] * len(moments), expected, [T] * len(moments)]


def test_of_each_list_the_latest_are_drawn() -> None:
    rows, of = np.array([3, 4, 5, 8, 9]), np.array([1, 1, 1, 7, 7])
    time, draw = np.array([1, 2, 2, 5, 5]), np.array([0.1, 0.9, 0.2, 0.4, 0.3])
    for k, expected in ((1, [5, 9]), (2, [5, 4, 9, 8]), (3, [5, 4, 3, 9, 8])):
        assert last_drawn(rows, of=of, time=time, draw=draw, k=k).tolist() == expected
    assert not len(last_drawn(rows[:0], of=of[:0], time=time[:0], draw=draw[:0], k=1))
