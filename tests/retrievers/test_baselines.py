"""Popularity, recent popularity and personal frequency against counting by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from random_artefacts import DAY, RECENT, TEST_FROM, VALIDATION_FROM, Log, random_log, write_prepared

from two_tower.artifacts import open_artifact
from two_tower.config import EvaluationSettings
from two_tower.contracts import Retrieved, Retriever
from two_tower.padding import padded

ITEMS, USERS = 60, 30
CUTOFF = {"validation": VALIDATION_FROM, "test": TEST_FROM}
SPLITS = ("validation", "test")


@pytest.fixture(scope="module")
def log() -> Log:
    return random_log(users=USERS, items=ITEMS - 10, events=2500)  # the last ten items are never taken


@pytest.fixture(scope="module")
def prepared(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Histories long enough to show the whole validation window, but not the whole past.
    return write_prepared(tmp_path_factory.mktemp("prepared"), log, items=ITEMS, history_length=25)


def baseline(prepared: Path, split: Literal["validation", "test"], **settings: object) -> Retriever:
    return EvaluationSettings.model_validate({"baselines": [settings]}).baselines[0].build(str(prepared), split=split)


def queries(prepared: Path, split: str) -> pa.Table:
    return open_artifact(prepared, "prepared_data").table(split)


def counts(log: Log, start: int, end: int) -> list[int]:
    found = Counter(item for _, item, time in log if start <= time < end)
    return [found[item] for item in range(ITEMS)]


def recent_order(log: Log, cutoff: int) -> list[int]:
    recent, all_time = counts(log, cutoff - RECENT, cutoff), counts(log, 0, cutoff)
    return sorted(range(ITEMS), key=lambda item: (-recent[item], -all_time[item], item))


def assert_well_formed(found: Retrieved, *, k: int, allowed: int) -> None:
    assert found.items.shape == found.scores.shape and found.items.shape[1] == k
    assert found.items.dtype == np.int32 and found.scores.dtype == np.float32
    n = min(k, allowed)
    assert (found.items[:, :n] >= 0).all() and (found.items[:, n:] == -1).all()
    assert np.isfinite(found.scores[:, :n]).all() and (found.scores[:, n:] == -np.inf).all()
    assert all(len(set(row)) == n for row in found.items[:, :n].tolist())
    assert (np.diff(found.scores[:, :n], axis=1) <= 0).all()


@pytest.mark.parametrize("split", SPLITS)
def test_popularity_counts_everything_before_the_cut_off(prepared: Path, log: Log, split: str) -> None:
    found = baseline(prepared, split, type="popularity").retrieve(queries(prepared, split), ITEMS + 5)
    assert_well_formed(found, k=ITEMS + 5, allowed=ITEMS)
    by_hand = counts(log, 0, CUTOFF[split])
    order = sorted(range(ITEMS), key=lambda item: (-by_hand[item], item))
    assert (found.items[:, :ITEMS] == order).all()
    assert found.scores[0, :3].tolist() == [by_hand[item] for item in order[:3]]


@pytest.mark.parametrize("split", SPLITS)
def test_recent_popularity_counts_the_recent_window(prepared: Path, log: Log, split: str) -> None:
    found = baseline(prepared, split, type="recent_popularity").retrieve(queries(prepared, split), ITEMS)
    assert_well_formed(found, k=ITEMS, allowed=ITEMS)
    assert (found.items == recent_order(log, CUTOFF[split])).all()


def personal_order(log: Log, user: int, cutoff: int, half_life: float | None) -> list[int]:
    weights: Counter[int] = Counter()
    latest = {}
    for who, item, time in log:
        if who == user and time < cutoff:
            weights[item] += 1 if half_life is None else 0.5 ** ((cutoff - time) / half_life)
            latest[item] = time
    popular = recent_order(log, cutoff)
    own = sorted(weights, key=lambda item: (-weights[item], -latest[item], popular.index(item)))
    return own + [item for item in popular if item not in weights]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("half_life", [None, "14d"])
def test_personal_frequency_by_hand(prepared: Path, log: Log, split: str, half_life: str | None) -> None:
    asked = queries(prepared, split)
    found = baseline(prepared, split, type="personal_frequency", half_life=half_life).retrieve(asked, ITEMS)
    assert_well_formed(found, k=ITEMS, allowed=ITEMS)
    for row, user in enumerate(asked["user"].to_pylist()):
        assert found.items[row].tolist() == personal_order(log, user, CUTOFF[split], 14 * DAY if half_life else None)


def test_validation_events_that_no_history_shows_count_once(tmp_path: Path) -> None:
    early, late = VALIDATION_FROM + DAY, VALIDATION_FROM + 2 * DAY
    log = [(0, 1, DAY), (0, 1, 2 * DAY), (0, 3, early), (0, 3, early + 1), (0, 2, late), (0, 0, TEST_FROM)]
    prepared = write_prepared(tmp_path / "prepared", log, items=5, history_length=1)
    found = baseline(prepared, "test", type="personal_frequency").retrieve(queries(prepared, "test"), 3)
    assert found.items.tolist() == [[1, 2, 3]]
    assert found.scores.tolist() == [[2, 1, 1]]


def test_a_query_without_a_user_gets_recent_popularity(prepared: Path, log: Log) -> None:
    asked = queries(prepared, "test").slice(0, 2)
    asked = asked.set_column(0, "user", pa.array([-1, USERS + 100], pa.int32()))
    found = baseline(prepared, "test", type="personal_frequency").retrieve(asked, 10)
    assert (found.items == recent_order(log, TEST_FROM)[:10]).all()


@pytest.mark.parametrize("kind", ["popularity", "recent_popularity", "personal_frequency"])
@pytest.mark.parametrize("k", [1, 20, ITEMS])
def test_exclusions_leave_the_same_order_without_the_forbidden(prepared: Path, kind: str, k: int) -> None:
    asked = queries(prepared, "test")
    retriever = baseline(prepared, "test", type=kind)
    full, seen = retriever.retrieve(asked, ITEMS).items.tolist(), asked["seen"].to_pylist()
    found = retriever.retrieve(asked, k, exclude=padded(asked["seen"]))
    for row, forbidden in enumerate(seen):
        expected = [item for item in full[row] if item not in forbidden][:k]
        assert found.items[row].tolist() == expected + [-1] * (k - len(expected))


def test_no_query_gives_no_row(prepared: Path) -> None:
    for kind in ("popularity", "recent_popularity", "personal_frequency"):
        assert baseline(prepared, "test", type=kind).retrieve(queries(prepared, "test").slice(0, 0), 5).items.shape == (
            0,
            5,
        )


def test_names_tell_half_lives_apart() -> None:
    settings = [{"type": "personal_frequency"}, {"type": "personal_frequency", "half_life": "28d"}]
    names = [each.name for each in EvaluationSettings.model_validate({"baselines": settings}).baselines]
    assert names == ["personal_frequency", "personal_frequency_28d"]
