"""Drift: by hand on small numbers, none between equal data, and found where it was put."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from two_tower.profile import describe, sketch
from two_tower.profile.drift import FLOOR, compare_profiles, jensen_shannon, stability_index

START = date(2024, 1, 1)  # a Monday


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(11)


def described(frame: pl.DataFrame) -> dict[str, Any]:
    hashes = {name: frame[name].hash(seed=3).to_numpy() for name in frame.columns}
    keys = np.random.default_rng(1).integers(0, 2**64, frame.height, dtype=np.uint64)
    return describe(sketch(frame, hashes=hashes, keys=keys))


def per_day(counts: list[int], start: date = START) -> dict[str, Any]:
    days = [(start + timedelta(days=number)).isoformat() for number in range(len(counts))]
    return {"day": days, "events": counts, "users": counts, "items": counts}


def document(days: dict[str, Any] | None = None, **tables: pl.DataFrame) -> dict[str, Any]:
    return {"tables": {name: described(frame) for name, frame in tables.items()}, "per_day": days or per_day([5] * 7)}


def column(old: Any, new: Any, **arguments: Any) -> dict[str, Any]:
    """The comparison of one column with the old and the new values."""
    found = compare_profiles(
        document(interactions=pl.DataFrame({"a": old})), document(interactions=pl.DataFrame({"a": new})), **arguments
    )
    assert found == json.loads(json.dumps(found, allow_nan=False))
    return found["columns"]["interactions.a"]


def test_the_stability_index_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert stability_index(p, q) == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert stability_index(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(
        0.5 * math.log(2) + (0.5 - FLOOR) * math.log(0.5 / FLOOR)
    )
    assert stability_index(p, p) == 0.0


def test_the_jensen_shannon_distance_by_hand() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(p, q) == 1.0
    half = np.array([0.5, 0.5])
    divergence = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert jensen_shannon(p, half) == pytest.approx(math.sqrt(divergence))
    assert jensen_shannon(half, half) == 0.0


VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=200),
    st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), min_size=1, max_size=200),
    st.lists(st.one_of(st.none(), st.text(max_size=2)), min_size=1, max_size=200),
)


@settings(deadline=None, max_examples=60)
@given(values=VALUES)
def test_equal_data_has_no_drift(values: list[Any]) -> None:
    found = column(values, values)
    if found["verdict"] != "not_compared":
        assert (found["psi"], found["js"], found["missing_change"], found["verdict"]) == (0.0, 0.0, 0.0, "none")


@settings(deadline=None, max_examples=60)
@given(old=VALUES, new=VALUES)
def test_any_two_columns_can_be_compared(old: list[Any], new: list[Any]) -> None:
    found = column(old, new)
    if found["verdict"] != "not_compared":
        assert found["psi"] >= 0
        assert 0 <= found["js"] <= 1


def test_equal_documents_differ_in_nothing(random: np.random.Generator) -> None:
    frame = pl.DataFrame({"a": random.normal(size=5000), "b": ["x", "y"] * 2500})
    one = document(interactions=frame, items=frame) | {"features": described(frame)}
    found = compare_profiles(one, one)
    assert {name: about["psi"] for name, about in found["columns"].items()} == dict.fromkeys(
        ["features.a", "features.b", "interactions.a", "interactions.b", "items.a", "items.b"], 0.0
    )
    assert (found["schema"], found["largest"]) == ([], {})
    assert found["volume"]["ratio"] == 1.0
    assert not found["volume"]["unusual_days"] and not found["volume"]["missing_days"]


def test_shares_of_categories_by_hand() -> None:
    found = column(["x"] * 500 + ["y"] * 500, ["x"] * 250 + ["y"] * 750)
    assert found["psi"] == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert found["verdict"] == "large"
    assert column(["x"] * 500 + ["y"] * 500, ["x"] * 320 + ["y"] * 680)["verdict"] == "moderate"
    assert column(["x"] * 500 + ["y"] * 500, ["z"] * 1000)["verdict"] == "large"


def test_missing_values_are_a_bin() -> None:
    found = column(["x"] * 900 + [None] * 100, ["x"] * 500 + [None] * 500)
    assert found["missing_change"] == pytest.approx(0.4)
    assert found["psi"] == pytest.approx(0.4 * math.log(0.9 / 0.5) + 0.4 * math.log(5))
    assert found["verdict"] == "large"
    assert "from 10.0% to 50.0%" in found["reason"]


@pytest.mark.parametrize(
    ("shift", "scale", "verdict"),
    [(0.0, 1.0, "none"), (0.4, 1.0, "moderate"), (1.0, 1.0, "large"), (0.0, 3.0, "large"), (50.0, 1.0, "large")],
)
def test_a_shift_of_numbers(random: np.random.Generator, shift: float, scale: float, verdict: str) -> None:
    # The index of two normal distributions a shift apart is near shift^2 (the symmetric Kullback-Leibler divergence).
    found = column(random.normal(size=20_000), random.normal(shift, scale, size=20_000))
    assert found["verdict"] == verdict
    if scale == 1 and shift < 1:
        assert found["psi"] == pytest.approx(shift**2, abs=0.03)


def test_numeric_text_is_compared_as_numbers(random: np.random.Generator) -> None:
    old, new = random.normal(size=5000), random.normal(size=5000) + 3
    assert column([str(one) for one in old], [str(one) for one in new])["verdict"] == "large"
    assert column([str(one) for one in old], old)["psi"] == 0.0


def test_point_masses(random: np.random.Generator) -> None:
    rest = random.uniform(1, 2, 4000)
    half = np.concatenate([np.zeros(4000), rest])
    assert column(half, np.concatenate([np.zeros(4200), rest]))["verdict"] == "none"
    few = column(half, np.concatenate([np.zeros(800), rest, rest[:3200]]))  # 50 % zeros become 10 %
    assert few["psi"] == pytest.approx(0.4 * math.log(5) + 0.4 * math.log(0.9 / 0.5), rel=0.05)
    # Nearly all values are 5: only a bin of its own tells lower values from it.
    fives = np.concatenate([np.full(7900, 5.0), random.uniform(0, 10, 100)])
    assert column(fives, np.concatenate([np.full(4000, 5.0), random.uniform(0, 5, 4000)]))["verdict"] == "large"
    assert column(np.full(100, 5.0), np.full(100, 6.0))["verdict"] == "large"


def test_the_edge_of_the_top_values_is_no_drift(random: np.random.Generator) -> None:
    """With thousands of equally frequent values, the samples' 50 most frequent ones are others each time."""
    old, new = ([f"v{one}" for one in random.integers(0, 2000, 20_000)] for _ in range(2))
    assert column(old, new)["verdict"] == "none"


def test_few_rows_differ_by_chance(random: np.random.Generator) -> None:
    verdicts = set()
    for _ in range(50):
        found = column(random.normal(size=60), random.normal(size=60))
        verdicts.add(found["verdict"])
    assert verdicts == {"none"}
    assert column(random.normal(size=60), random.normal(3, 1, size=60))["verdict"] == "large"


def test_what_is_not_compared() -> None:
    ids = [f"id{number}" for number in range(1000)]
    assert column(ids, ids)["verdict"] == "not_compared"
    assert column(list(range(1000)), list(range(1000)))["verdict"] == "not_compared"
    assert column([START] * 10, [START] * 10)["reason"] == "Times move on."
    assert column([1, 1], [2, 2], skip={"interactions.a": "Seconds."})["reason"] == "Seconds."
    assert column(pl.Series([], dtype=pl.Int64), [1, 1])["reason"] == "The old table has no rows."
    assert column([None, None], [None, None])["verdict"] == "none"


def test_an_all_null_column(random: np.random.Generator) -> None:
    values = random.normal(size=1000)
    nulls = [None] * 1000
    assert column(values, nulls)["verdict"] == column(nulls, values)["verdict"] == "large"


def test_the_schema() -> None:
    old = document(items=pl.DataFrame({"a": [1], "b": [1], "c": ["x"]}))
    new = document(items=pl.DataFrame({"a": [1], "b": ["1"], "d": [1.0]}), users=pl.DataFrame({"e": ["x"]}))
    assert compare_profiles(old, new)["schema"] == [
        {"column": "items.b", "change": "type", "from": "Int64", "to": "String"},
        {"column": "items.c", "change": "removed", "from": "String", "to": None},
        {"column": "items.d", "change": "added", "from": None, "to": "Float64"},
        {"column": "users.e", "change": "added", "from": None, "to": "String"},
    ]


def test_the_largest_drift_is_named() -> None:
    old = document(items=pl.DataFrame({"a": ["x", "y"] * 500, "b": ["x", "y"] * 500}))
    new = document(items=pl.DataFrame({"a": ["x", "y", "y", "y"] * 250, "b": ["y"] * 1000}))
    largest = compare_profiles(old, new)["largest"]
    assert (largest["column"], largest["verdict"]) == ("items.b", "large")


def volume(old: list[int], new: list[int], start: date | None = None) -> dict[str, Any]:
    after = START + timedelta(days=len(old)) if start is None else start
    empty = pl.DataFrame({"a": ["x"]})
    found = compare_profiles(document(per_day(old), items=empty), document(per_day(new, after), items=empty))
    return found["volume"]


WEEK = [100, 110, 90, 100, 105, 400, 500]


def test_days_are_expected_like_those_of_their_weekday() -> None:
    found = volume(WEEK * 4, WEEK)
    assert found["ratio"] == 1.0
    assert not found["unusual_days"] and not found["missing_days"]
    monday = volume(WEEK * 4, [500, *WEEK[1:]])["unusual_days"]
    assert [(one["day"], one["events"], one["expected"]) for one in monday] == [("2024-01-29", 500, 100.0)]
    assert monday[0]["z"] == pytest.approx(400 / 10)  # no deviation so far: the root of 100


def test_with_few_weeks_days_are_expected_like_all() -> None:
    old = [100, 120, 80, 110, 90]  # the median 100, the median absolute deviation 10
    found = volume(old, [200])["unusual_days"]
    assert found == [{"day": "2024-01-06", "events": 200, "expected": 100.0, "z": pytest.approx(100 / 14.826)}]
    assert not volume(old, [129])["unusual_days"]


def test_days_without_events() -> None:
    found = volume(WEEK * 4, [100, 0, 90], start=START + timedelta(days=30))  # two days between are missing, too
    assert found["missing_days"] == ["2024-01-29", "2024-01-30", "2024-02-01"]
    closed = [100, 100, 100, 100, 100, 100, 0]
    assert volume(closed * 4, closed)["missing_days"] == []


def test_new_data_that_repeats_the_old_days_is_judged_by_the_later_ones() -> None:
    found = volume(WEEK * 4, [*WEEK * 4, 10, 110], start=START)
    assert found["mean_after"] == 60.0
    assert [one["day"] for one in found["unusual_days"]] == ["2024-01-29"]


def test_no_days() -> None:
    assert volume([], [])["ratio"] is None
    assert volume([], [5])["unusual_days"] == []
    assert volume([5], [])["mean_after"] == 0.0
