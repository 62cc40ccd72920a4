"""Sketches of tables: merged in any order they are the sketch of the whole, and their descriptions are right."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from two_tower.columns import UInt64
from two_tower.profile import Sketch, Sketcher, describe, kinds, merge, sketch, sketches


def digest(value: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "little")


def hashes_of(frame: pl.DataFrame) -> dict[str, UInt64]:
    return {name: np.array([digest(value) for value in frame[name].to_list()], np.uint64) for name in frame.columns}


def keys_of(rows: int, seed: int = 0) -> UInt64:
    return np.random.default_rng(seed).integers(0, 2**64, rows, dtype=np.uint64)


def sketched(frame: pl.DataFrame, keys: UInt64 | None = None) -> Sketch:
    return sketch(frame, hashes=hashes_of(frame), keys=keys_of(frame.height) if keys is None else keys)


def described(frame: pl.DataFrame) -> dict[str, Any]:
    found = describe(sketched(frame))
    return json.loads(json.dumps(found, allow_nan=False))


def written(one: Sketch, folder: Path) -> bytes:
    path = folder / "sketch.parquet"
    one.write(path)
    return path.read_bytes()


FLOATS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), float("-inf"), 1e308]))
ROWS = st.fixed_dictionaries(
    {
        "text": st.one_of(st.none(), st.sampled_from(["", "  ", "\u2003", "a", "é", "12", "x" * 300])),
        "float": FLOATS,
        "integer": st.one_of(st.none(), st.integers(-3, 3)),
        "list": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.sampled_from(["p", "q"])), max_size=3)),
        "struct": st.one_of(st.none(), st.fixed_dictionaries({"a": st.integers(0, 2)})),
        "time": st.one_of(st.none(), st.datetimes(datetime(1960, 1, 1), datetime(2030, 1, 1))),
        "binary": st.one_of(st.none(), st.binary(max_size=2)),
    }
)
SCHEMA = {
    "text": pl.String,
    "float": pl.Float64,
    "integer": pl.Int64,
    "list": pl.List(pl.String),
    "struct": pl.Struct({"a": pl.Int64}),
    "time": pl.Datetime("us"),
    "binary": pl.Binary,
}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.lists(ROWS, max_size=40))
def test_every_partition_and_order_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, rows: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(sketches, "SAMPLE", 8)
    monkeypatch.setattr(sketches, "DISTINCT", 5)
    monkeypatch.setattr(sketches, "_PIECES", 2)
    frame, keys = pl.DataFrame(rows, schema=SCHEMA), keys_of(len(rows))
    whole = sketched(frame, keys)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    bounds = list(zip([0, *cuts], [*cuts, len(rows)], strict=True))
    workers: dict[int, Sketcher] = {}
    for start, stop in data.draw(st.permutations(bounds)):
        batch = frame[start:stop]
        worker = workers.setdefault(data.draw(st.integers(0, 2)), Sketcher())
        worker.add(batch, hashes=hashes_of(batch), keys=keys[start:stop])
    parts = [worker.sketch() for worker in workers.values()]
    merged = merge([merge(parts[:1]), merge(parts[1:])])
    assert written(merged, tmp_path) == written(whole, tmp_path)
    assert written(Sketch.read(tmp_path / "sketch.parquet"), tmp_path) == written(whole, tmp_path)
    assert describe(merged) == describe(whole)
    json.dumps(describe(merged), allow_nan=False)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), cut=st.integers(0, 5))
def test_columns_of_different_types_merge_in_any_order(tmp_path: Path, order: list[int], cut: int) -> None:
    frames = [
        pl.DataFrame({"a": [1, 2]}),
        pl.DataFrame({"a": [1.0, 2.5]}),
        pl.DataFrame({"a": ["x", None]}),
        pl.DataFrame({"a": [[1, 2], []]}),
        pl.DataFrame({"b": [None, None]}),
    ]
    keys = keys_of(10)
    parts = [sketched(frame, keys[2 * number : 2 * number + 2]) for number, frame in enumerate(frames)]
    shuffled = [parts[number] for number in order]
    merged = merge([merge(shuffled[:cut]), merge(shuffled[cut:])])
    assert written(merged, tmp_path) == written(merge(parts), tmp_path)
    found = describe(merged)
    assert found["columns"]["a"]["type"] == "Float64 | Int64 | List(Int64) | String"
    assert found["columns"]["a"]["missing"] == 3  # one null and two rows without the column
    assert found["columns"]["a"]["top"][:2] == [["1", 3 / 7], ["2", 2 / 7]]
    assert found["columns"]["b"]["missing"] == 10
    assert found["columns"]["b"]["type"] == "Null"


def test_an_integer_block_and_a_float_block_are_one_column_of_numbers() -> None:
    parts = [
        sketched(pl.DataFrame({"a": [1, 2]}), keys_of(2)),
        sketched(pl.DataFrame({"a": [0.5]}), keys_of(1, seed=1)),
    ]
    found = describe(merge(parts))["columns"]["a"]
    assert (found["type"], found["min"], found["max"]) == ("Float64 | Int64", 0.5, 2)
    assert found["mean"] == pytest.approx(3.5 / 3)
    assert (found["quantiles"][0], found["quantiles"][50], found["quantiles"][100]) == (0.5, 1.0, 2.0)


@pytest.mark.parametrize("distinct", [5_000, 100_000, 1_000_000])
def test_many_distinct_values_are_estimated_within_a_tenth(distinct: int) -> None:
    values = np.arange(distinct, dtype=np.uint64)
    hashes = np.random.default_rng(3).permutation(keys_of(distinct, seed=5))
    sketcher = Sketcher()
    for start in range(0, distinct, 65_536):
        some = slice(start, start + 65_536)
        frame = pl.DataFrame({"a": values[some].astype(np.int64)})
        sketcher.add(frame, hashes={"a": hashes[some]}, keys=keys_of(frame.height, seed=start))
    found = describe(sketcher.sketch())["columns"]["a"]
    assert found["distinct"] == pytest.approx(distinct, rel=0.1)
    assert not found["distinct_exact"]


def test_few_distinct_values_are_counted() -> None:
    values = [f"v{number % 1023}" for number in range(5000)] + ["", None]
    found = described(pl.DataFrame({"a": values}))["columns"]["a"]
    assert (found["distinct"], found["distinct_exact"], found["missing"]) == (1023, True, 2)


@pytest.mark.parametrize(
    ("lists", "distinct"),
    [
        ([["a", "b"], ["b", "a"], ["b"], [], None, ["", None, "c"]], 3),
        (pl.Series([[1, 2], [2, 3], None], dtype=pl.Array(pl.Int64, 2)), 3),
        ([[float(n % 7), float(n % 5)] for n in range(99)], 7),
    ],
)
def test_of_lists_the_distinct_elements_are_counted(lists: Any, distinct: int) -> None:
    frame = pl.DataFrame({"a": lists})
    found = describe(merge([sketched(frame), sketched(frame.reverse())]))["columns"]["a"]
    assert (found["distinct"], found["distinct_exact"]) == (distinct, True)


def test_a_list_may_have_more_distinct_elements_than_there_are_rows() -> None:
    found = described(pl.DataFrame({"a": [list(range(n, n + 500)) for n in range(0, 5000, 500)]}))["columns"]["a"]
    assert found["distinct"] == pytest.approx(5000, rel=0.1) and not found["distinct_exact"]


def test_the_sample_is_the_rows_with_the_smallest_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "SAMPLE", 10)
    keys = keys_of(1000)
    sketcher = Sketcher()
    for start in range(0, 1000, 100):
        frame = pl.DataFrame({"a": list(range(start, start + 100))})
        sketcher.add(frame, hashes=hashes_of(frame), keys=keys[start : start + 100])
    sample = sketcher.sketch().sample
    assert sample["integer:a"].to_list() == np.argsort(keys)[:10].tolist()
    assert sample["key"].to_list() == np.sort(keys)[:10].tolist()


def test_numbers_are_described() -> None:
    found = described(pl.DataFrame({"a": [3.0, 1.0, None, 2.0, float("nan"), 3.0]}))
    assert (found["rows"], found["sample"]) == (6, 6)
    column = found["columns"]["a"]
    assert (column["type"], column["missing"], column["missing_share"]) == ("Float64", 2, 1 / 3)
    assert (column["min"], column["max"], column["mean"], column["distinct"]) == (1.0, 3.0, 2.25, 3)
    assert column["quantiles"] == np.quantile([1, 2, 3, 3], np.linspace(0, 1, 101)).tolist()
    assert column["top"] == [["3", 0.5], ["1", 0.25], ["2", 0.25]]
    assert column["other_share"] == 0.0


def test_infinities_are_values_but_measure_nothing() -> None:
    column = described(pl.DataFrame({"a": [float("inf"), 1.0, float("-inf"), 3.0], "b": [float("inf")] * 4}))["columns"]
    assert (column["a"]["min"], column["a"]["max"], column["a"]["mean"]) == (1.0, 3.0, 2.0)
    assert column["a"]["missing"] == 0
    assert dict(column["a"]["top"])["inf"] == 0.25
    assert column["b"]["quantiles"] is column["b"]["min"] is column["b"]["mean"] is None


def test_the_largest_numbers_do_not_overflow() -> None:
    column = described(pl.DataFrame({"a": [1.7e308, -1.7e308]}))["columns"]["a"]
    assert (column["min"], column["max"], column["mean"]) == (-1.7e308, 1.7e308, 0.0)


def test_text_of_numbers_is_measured() -> None:
    column = described(pl.DataFrame({"a": ["10", " 2.5 ", "", None, "-1e1"], "b": ["1", "2", "x", None, "3"]}))[
        "columns"
    ]
    assert (column["a"]["type"], column["a"]["missing"]) == ("String", 2)
    assert (column["a"]["min"], column["a"]["max"], column["a"]["quantiles"][50]) == (-10.0, 10.0, 2.5)
    assert column["b"]["quantiles"] is None


def test_times_are_microseconds() -> None:
    frame = pl.DataFrame(
        {
            "naive": [datetime(2024, 1, 1), datetime(2024, 1, 3), None],
            "zoned": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)] * 3).dt.convert_time_zone("Asia/Tokyo"),
            "day": [date(1969, 12, 31), date(1970, 1, 2), None],
            "nano": pl.Series([datetime(2024, 1, 1)] * 3).cast(pl.Datetime("ns")),
        }
    )
    columns = described(frame)["columns"]
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    day = 86_400_000_000
    assert (columns["naive"]["min"], columns["naive"]["max"]) == (start, start + 2 * day)
    assert columns["naive"]["quantiles"][50] == start + day
    assert isinstance(columns["naive"]["quantiles"][50], int)
    assert columns["zoned"]["min"] == columns["nano"]["min"] == start
    assert (columns["day"]["min"], columns["day"]["max"]) == (-day, day)


def test_other_types() -> None:
    frame = pl.DataFrame(
        {
            "flag": [True, False, None, True],
            "list": [[1, 2], [], None, [1, None]],
            "lists": [[[1]], [[1], [2]], None, []],
            "structs": [[{"a": 1}], None, [], [{"a": 1}]],
            "array": pl.Series([[1, 2], [3, 1], None, [1, 1]], dtype=pl.Array(pl.Int32, 2)),
            "binary": [b"\x00\xff", b"", None, b"\x00\xff"],
            "struct": [{"a": 1, "b": [date(2024, 1, 1)]}, None, {"a": None, "b": None}, None],
            "category": pl.Series(["x", "y", None, "x"], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.50"), None, Decimal("2.25"), Decimal("1.50")]),
            "big": pl.Series([2**64 - 1, 1, None, 1], dtype=pl.UInt64),
            "nothing": [None] * 4,
        }
    )
    columns = described(frame)["columns"]
    assert columns["flag"]["top"] == [["true", 2 / 3], ["false", 1 / 3]]
    assert columns["list"]["top"] == [["1", 2 / 3], ["2", 1 / 3]]
    assert columns["list"]["missing"] == 1
    assert columns["lists"]["top"] == [["[1]", 2 / 3], ["[2]", 1 / 3]]
    assert columns["structs"]["top"] == [['{"a": 1}', 1.0]]
    assert columns["array"]["top"] == [["1", 4 / 6], ["2", 1 / 6], ["3", 1 / 6]]
    assert columns["binary"]["top"][0] == ["00ff", 1.0]
    assert ['{"a": 1, "b": ["2024-01-01"]}', 0.5] in columns["struct"]["top"]
    assert columns["category"]["type"] == "Categorical"
    assert (columns["decimal"]["min"], columns["decimal"]["max"]) == (1.5, 2.25)
    assert columns["big"]["max"] == 2**64 - 1
    assert (columns["nothing"]["missing"], columns["nothing"]["top"], columns["nothing"]["distinct"]) == (4, [], 0)


@pytest.mark.parametrize(
    "frame",
    [pl.DataFrame(), pl.DataFrame(schema=SCHEMA), pl.DataFrame(schema={"a": pl.List(pl.Struct({"b": pl.Binary}))})],
    ids=["no columns", "no rows", "nested"],
)
def test_empty_frames(tmp_path: Path, frame: pl.DataFrame) -> None:
    assert described(frame)["rows"] == 0
    assert written(merge([sketched(frame), merge([])]), tmp_path) == written(sketched(frame), tmp_path)
    assert describe(Sketch.read(tmp_path / "sketch.parquet")) == describe(sketched(frame))


def test_long_values_are_cut() -> None:
    frame = pl.DataFrame({"text": ["é" * 5000], "list": [["a"] * 5000], "binary": [b"x" * 5000]})
    sample = sketched(frame).sample
    assert sample["text:text"].str.len_chars()[0] == sample["text:binary"].str.len_chars()[0] == kinds.TEXT
    assert sample["list:list"].list.len()[0] == kinds.ELEMENTS


@pytest.mark.parametrize("repeated", [1, 3, 40, 1000])
@pytest.mark.parametrize("top", [2**64, 2**40], ids=["even", "skewed"])
def test_the_smallest_hashes_are_kept(repeated: int, top: int) -> None:
    hashes = np.random.default_rng(7).integers(0, top, 200_000 // repeated, dtype=np.uint64).repeat(repeated)
    frame = pl.DataFrame({"a": np.zeros(len(hashes))})
    found = sketch(frame, hashes={"a": hashes}, keys=keys_of(len(hashes))).columns["a"].hashes
    assert found.tolist() == np.unique(hashes)[: sketches.DISTINCT].tolist()
