"""Conditions: their text as the file has it, read as the column's values are, on whatever format the rows come in."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from prepared_logs import ordinary_log, run, settings, write_rows

from two_tower.config import (
    DataSettings,
    FilterSettings,
    InteractionsSettings,
    Range,
    canonical_json,
    load_config,
    parse_section,
)
from two_tower.data.conditions import in_words, meets, refuse_unfit, within
from two_tower.data.notes import Noted, in_sentences, summed
from two_tower.data.reading import plan_units, read_batches
from two_tower.data.rows import check_rows
from two_tower.data.sources import resolve_sources
from two_tower.data.tables import available, load_entities
from two_tower.errors import DataError

FORMATS = ("csv", "jsonl", "parquet")
KEY = "data.interactions.filters"


def met(column: pl.Series, op: str, value: Any, *, refuse: bool = True, **options: Any) -> list[bool]:
    """Which values meet the condition, where it is not refused."""
    condition = FilterSettings(column="c", op=op, value=value)
    found, noted = meets(column, condition, key=KEY, **{"timezone": "UTC"} | options)
    if refuse:
        refuse_unfit(noted)
    return found.to_list()


def loaded(folder: Path, section: str) -> DataSettings:
    """The data section of a configuration file with these lines below `interactions`."""
    path = folder / "config.yaml"
    path.write_text(
        "name: shop\ndata:\n  split: {type: global_time, test: 1d, validation: 1d}\n  interactions:\n"
        f"    path: log\n    columns: {{user: user, item: item, time: at}}\n    {section}\n"
    )
    return load_config(path).data


def at(path: Path, data: DataSettings) -> InteractionsSettings:
    return data.interactions.model_copy(update={"path": str(path)})


def kept(path: Path, data: DataSettings) -> tuple[list[int], Noted]:
    """The numbers of the rows of a file that a step would keep, handed its section as text, and the notes."""
    files = resolve_sources(data.model_copy(update={"interactions": at(path, data)}), dataset="shop")
    rows, noted = [], Noted()
    for unit in plan_units(files["interactions"]):
        for batch in read_batches(unit):
            checked = check_rows(batch, unit, data=data, newest=2**62)
            rows += checked.kept["row"].to_pylist()
            noted = summed([noted, checked.noted])
    refuse_unfit(noted)
    return rows, noted


@pytest.mark.parametrize(
    ("values", "op", "value", "expected"),
    [
        ([1, 2, None], "==", 2, [False, True, False]),
        ([1, 2, None], "!=", 2, [True, False, True]),
        (["1.0", "2", "x", None], ">=", 2, [False, True, False, False]),
        (["C1", "1", None], "not_starts_with", "C", [False, True, True]),
        ([17850.0, None], "==", "17850", [True, False]),
        ([17850, 3], "starts_with", "178", [True, False]),
        (["a", "b", None], "in", ["a", "z"], [True, False, False]),
        (["a", "b", None], "not_in", ["a", "z"], [False, True, True]),
        ([True, False, None], "==", True, [True, False, False]),
        (["true", "False", None], "==", False, [False, True, False]),
        ([float("nan"), 1.0, None], "not_null", None, [False, True, False]),
        (["", "x", None], "not_null", None, [False, True, False]),
        ([date(2020, 1, 1), date(2021, 1, 1)], ">", "2020-06-01", [False, True]),
        ([datetime(2020, 1, 1), datetime(2021, 1, 1)], "<", "2020-01-01T00:00:01", [True, False]),
        (["2020-01-01", "2021-01-01"], "<", "2020-06", [True, False]),
    ],
)
def test_filter_conditions(values: list[Any], op: str, value: Any, expected: list[bool]) -> None:
    assert met(pl.Series("c", values), op, value) == expected


@pytest.mark.parametrize(
    ("values", "op", "value", "expected"),
    [
        # what is no number in the file is none because it resembles one
        (["DK", "NO", "no", "false"], "==", "NO", [False, True, False, False]),
        (["0120", "120", "80"], "==", "0120", [True, False, False]),
        (["+49", "49"], "==", "49", [False, True]),
        (["+49", "49"], "==", "+49", [True, False]),
        (["007", "7"], "in", ["7"], [False, True]),
        (["007", "7", "6"], ">=", "7", [True, True, False]),
        (["1_0", "10"], "==", "10", [False, True]),
        # numbers
        (["4", "4.0", "4.00", " 4", "40", None], "==", "4", [True, True, True, True, False, False]),
        (["4", "4.5"], "==", "4.0", [True, False]),
        (["1000000", "1e6", "1e+06", "1e7"], "==", "1e6", [True, True, True, False]),
        (["1000000", "999999.5", "n/a", ""], "<", "1e6", [False, True, False, False]),
        (["9", "10", "100"], ">=", "10", [False, True, True]),
        (["1000", "999"], "==", "1_000", [True, False]),
        (["-3", "3", "-4", ".5"], ">", "-3.5", [True, True, False, True]),
        (["inf", "-inf", "nan", "1e999"], ">", "5", [True, False, False, True]),
        (["9007199254740992", "9007199254740993"], "==", "9007199254740993", [False, True]),
        (["9007199254740992", "9007199254740993", "9007199254740994"], ">", "9007199254740993", [False, False, True]),
        (["0.1", "0.10000000000000000001"], ">", "0.1", [False, True]),
        # truth values, in whichever spelling the column has
        (["1", "0", "1.0", "0.0", "2", None], "==", "true", [True, False, True, False, False, False]),
        (["Y", "N", "t", "f", "on", "Off", "YES", "no"], "==", "true", [True, False] * 4),
        (["Y", "N", "t", "f", "on", "Off", "YES", "no"], "==", "FALSE", [False, True] * 4),
        (["1", "0", "", None], "!=", "true", [False, True, True, True]),
        (["TRUE", "FALSE"], "!=", "true", [False, True]),
        (["true", "yes", "1"], "==", "yes", [False, True, False]),
        # times by their form; in a column that is none by its role, a small number is a quantity
        (["2024-02-01", "2024-02-01 00:00:00", "2024-02-01T01:00+01:00", "2024-2-1", "x"], "==", "2024-02-01",
         [True, True, True, True, False]),
        (["1706745599", "1706745600000", "2024-01-31", "5", "2024-02"], ">=", "2024-02-01",
         [False, True, False, False, True]),
        (["2024-01", "2024-02", "2024-03"], ">", "2024-02", [False, False, True]),
        (["2024-02-31", "2024-02-01"], "==", "2024-02-31", [True, False]),
        # other texts by their letters
        (["Anna", "Mia", "7"], ">=", "M", [False, True, False]),
        (["gold", "Gold"], "==", "gold", [True, False]),
        (["01", "1"], "starts_with", "0", [True, False]),
    ],
)  # fmt: skip
def test_values_of_a_column_of_text_are_read_one_by_one(
    values: list[Any], op: str, value: Any, expected: list[bool]
) -> None:
    column = pl.Series("c", values, dtype=pl.String)
    assert met(column, op, value) == expected
    alone = [met(column[n : n + 1], op, value, refuse=False)[0] for n in range(len(column))]
    assert alone == expected
    assert met(column.cast(pl.Categorical), op, value) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "op", "value", "expected"),
    [
        ([2**53, 2**53 + 1], pl.Int64, "==", str(2**53 + 1), [False, True]),
        ([2**53, 2**53 + 1], pl.Int64, ">", f"{2**53}.5", [False, True]),
        ([2**64 - 1, 5, None], pl.UInt64, "<", "18446744073709551615", [False, True, False]),
        ([-(2**63), 2**63 - 1], pl.Int64, "<=", "1e30", [True, True]),
        ([-3, -2], pl.Int8, "<", "-2.5", [True, False]),
        ([-3, -2], pl.Int8, "==", "-2.5", [False, False]),
        ([120, 80], pl.Int32, "==", "0120", [True, False]),
        ([1, 0, 2, None], pl.Int64, "!=", "true", [False, True, True, True]),
        ([1.0, 0.0, None], pl.Float64, "==", "false", [False, True, False]),
        ([0.1, 0.2], pl.Float32, "<=", "0.1", [True, False]),
        ([1e6, float("nan"), float("inf"), None], pl.Float64, ">=", "1_000_000", [True, False, True, False]),
        ([Decimal("0.10"), Decimal("0.11")], pl.Decimal(20, 2), "<=", "0.105", [True, False]),
        ([Decimal("9007199254740993.01")], pl.Decimal(38, 2), ">", "9007199254740993", [True]),
        ([Decimal("9007199254740993.01")], pl.Decimal(38, 2), "==", "9007199254740993.010", [True]),
        ([Decimal("1"), Decimal("0")], pl.Decimal(5, 1), "==", "true", [True, False]),
        *(([True, False, None], pl.Boolean, "==", yes, [True, False, False]) for yes in ("yes", "Y", "t", "On", "1")),
        *(([True, False, None], pl.Boolean, "!=", no, [True, False, True]) for no in ("no", "N", "F", "off", "0.0")),
        ([1706745600, 1704067200, 31], pl.Int64, ">=", "2024-02-01", [True, False, False]),
        ([date(2024, 2, 1), date(2024, 1, 31)], pl.Date, "==", "2024-02-01", [True, False]),
        ([date(2024, 2, 1), date(2023, 1, 31)], pl.Date, ">=", "2024", [True, False]),
        ([date(2024, 2, 1)], pl.Date, "==", "1706745600", [True]),
        ([datetime(2024, 2, 1), datetime(2024, 2, 1, 8)], pl.Datetime("ns"), "==", "2024-02-01", [True, False]),
        ([datetime(2024, 2, 1), datetime(2024, 2, 1, 8)], pl.Datetime("ms"), ">", "20240201", [False, True]),
        ([datetime(2024, 2, 1)], pl.Datetime("us", "UTC"), "==", "2024-02-01T01:00:00+01:00", [True]),
        ([datetime(2024, 2, 1)], pl.Datetime("us"), "starts_with", "2024-02", [True]),
    ],
)  # fmt: skip
def test_a_typed_column_says_how_the_value_is_read(
    values: list[Any], dtype: Any, op: str, value: str, expected: list[bool]
) -> None:
    assert met(pl.Series("c", values, dtype=dtype), op, value) == expected


@pytest.mark.parametrize(
    ("values", "op", "value", "expected"),
    [
        ([1706745600, 1704067200], ">=", "2024-02-01", [True, False]),
        (["1706745600", "1704067200"], ">=", "2024-02-01", [True, False]),
        (["1706745600", "2024-02-01T00:00:00Z", "soon"], "==", "2024-02-01", [True, True, False]),
        (["2024-02-01 08:00", "2023-12-31"], ">=", "2024", [True, False]),
        (["1706745600", "2024-02-01"], ">=", "1706745600.0", [True, True]),
        ([1706745600.5], ">", "1.7067456e9", [True]),
        (["1706745600"], "<", "2024-02-01T01:00:00+02:00", [False]),
    ],
)
def test_the_events_time_is_compared_as_a_time_in_every_form(
    values: list[Any], op: str, value: str, expected: list[bool]
) -> None:
    assert met(pl.Series("c", values), op, value, is_time=True) == expected


def test_times_without_a_zone_are_in_that_of_the_logs() -> None:
    column = pl.Series("c", ["1706742000", "2024-02-01"])
    assert met(column, "==", "2024-02-01", timezone="Europe/Berlin", is_time=True) == [True, True]
    assert met(column, "==", "2024-02-01T00:00:00Z", timezone="Europe/Berlin", is_time=True) == [False, False]


@pytest.mark.parametrize(
    ("values", "op", "value", "is_time", "message"),
    [
        ([1, 2], "<", "cheap", False, 'c < "cheap": the column takes numbers'),
        ([1.5], "==", "cheap", False, 'c == "cheap": the column takes numbers'),
        ([1, 2], "not_in", ["cheap"], False, 'c not_in "cheap": the column takes numbers'),
        ([1, 2], "<", "true", False, "c < true: the column takes numbers"),
        ([Decimal("1.5")], "<", "2024-02-01", False, 'c < "2024-02-01": the column takes numbers'),
        ([3, 4], "<", "2024-02-01", False, 'c < "2024-02-01": the column holds no time'),
        ([True], "==", "maybe", False, 'c == "maybe": the column takes true and false'),
        ([date(2024, 1, 1)], ">=", "soon", False, 'c >= "soon": the column takes times'),
        ([date(2024, 1, 1)], ">=", "2024-02-31", False, 'c >= "2024-02-31": the column takes times'),
        ([1706745600], ">=", "soon", True, 'c >= "soon": the column takes times'),
        (["1706745600"], ">=", "soon", True, 'c >= "soon": the column takes times'),
        (["soon"], ">=", "2024", True, "c >= 2024: the column holds no time"),
        (["10", "2.5", None], "<", "cheap", False, 'c < "cheap": the column holds nothing but numbers and times'),
        (["2024-01-01"], "<", "soon", False, 'c < "soon": the column holds nothing but numbers and times'),
        (["Anna", ""], ">", "5", False, "c > 5: the column holds no number"),
        (["Anna", "5"], ">", "2024-02-01", False, 'c > "2024-02-01": the column holds no time'),
        ([[1]], "==", "1", False, r"c: nothing can be compared with values of type List\(Int64\)"),
        ([{"a": 1}], "starts_with", "1", False, "c: nothing can be compared with values of type Struct"),
        ([timedelta(1)], ">", "1", False, "c: nothing can be compared with values of type Duration"),
        ([b"\xff"], "==", "1", False, "not UTF-8"),
    ],
)
def test_what_a_column_cannot_mean_is_refused_by_name(
    values: list[Any], op: str, value: Any, is_time: bool, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        met(pl.Series("c", values), op, value, is_time=is_time)


def test_a_list_can_be_asked_whether_it_is_there() -> None:
    assert met(pl.Series("c", [[1], None]), "not_null", None) == [True, False]


def test_a_column_that_is_typed_in_one_file_alone_is_judged_as_a_whole() -> None:
    counts = []
    for values in ([1, 2], ["gold", "silver"]):
        _, noted = meets(
            pl.Series("tier", values), FilterSettings(column="tier", op="==", value="gold"), key=KEY, timezone="UTC"
        )
        counts.append(noted)
    refuse_unfit(summed(counts))
    with pytest.raises(DataError, match="takes numbers"):
        refuse_unfit(counts[0])


@pytest.mark.parametrize(
    ("values", "op", "value", "sentences"),
    [
        (["DK", "SE"], "==", "XX", ['c == "XX": no row has this value']),
        (["DK", "SE"], "!=", "dk", ['c != "dk": no row has this value']),
        (["DK", "SE"], "in", ["SE", "NO", "XX"],
         ['c in "NO": no row has this value', 'c in "XX": no row has this value']),
        (["DK", "SE"], "not_in", ["SE"], []),
        ([1, 2], "==", "3", ["c == 3: no row has this value"]),
        (["C1"], "not_starts_with", "D", ['c not_starts_with "D": no row has a value that begins so']),
        (["1", "n/a", "-", None], ">", "5", ["c > 5: 2 values are no numbers, so it leaves them out"]),
        (["2024-01-01", "soon"], ">", "2024-02-01", ['c > "2024-02-01": 1 values are no times, so it leaves them out']),
        ([], "==", "XX", ['c == "XX": no row has this value']),
        (["x", None], "not_null", None, []),
    ],
)  # fmt: skip
def test_what_occurs_nowhere_is_noted(values: list[Any], op: str, value: Any, sentences: list[str]) -> None:
    column = pl.Series("c", values, dtype=pl.String if not values else None)
    _, noted = meets(column, FilterSettings(column="c", op=op, value=value), key=KEY, timezone="UTC")
    assert in_sentences(noted) == [f"{KEY}: {sentence}" for sentence in sentences]


def test_what_one_batch_lacks_another_may_have() -> None:
    condition = FilterSettings(column="c", op="==", value="NO")
    counts = [meets(pl.Series("c", [one]), condition, key=KEY, timezone="UTC")[1] for one in ("DK", "NO")]
    assert in_sentences(counts[0]) and not in_sentences(summed(counts))


@pytest.mark.parametrize(
    ("values", "bounds", "is_time", "expected"),
    [
        ([5, 1000, 1001, None], {"max": "1e3"}, False, [True, True, False, True]),
        (["5", "1000", "1001", "", "lots"], {"min": "6", "max": "1e3"}, False, [False, True, False, True, False]),
        ([Decimal("0.1"), Decimal("0.2")], {"min": "0.15"}, False, [False, True]),
        (["1706745600", "1704067200", "soon", None], {"min": "2024-02-01"}, True, [True, False, True, True]),
        ([1706745600, 1704067200], {"min": "2024-02-01"}, True, [True, False]),
        ([datetime(2024, 1, 1), datetime(2024, 3, 1)], {"min": "2024-01-02", "max": "2024-04"}, False, [False, True]),
        (["2024-01-01", "2024-03-01T00:00:00Z"], {"min": "2024-02-01"}, False, [False, True]),
        (["a", "m", "z"], {"min": "b", "max": "n"}, False, [False, True, False]),
        ([float("nan"), 1.0], {"min": 2}, False, [True, False]),
    ],
)
def test_bounds_are_read_as_the_columns_values_are(
    values: list[Any], bounds: dict[str, Any], is_time: bool, expected: list[bool]
) -> None:
    column = pl.Series("c", values)
    inside, noted = within(column, Range(**bounds), key="data.interactions.ranges", timezone="UTC", is_time=is_time)
    refuse_unfit(noted)
    assert inside.to_list() == expected


@pytest.mark.parametrize("values", [[1, 2], ["1", "2"], [datetime(2024, 1, 1)]])
def test_a_bound_that_a_column_cannot_mean_is_refused(values: list[Any]) -> None:
    _, noted = within(
        pl.Series("price", values), Range(min="cheap"), key="data.interactions.ranges", timezone="UTC", is_time=False
    )
    with pytest.raises(DataError, match=r'data\.interactions\.ranges: price >= "cheap": the column'):
        refuse_unfit(noted)


def test_a_condition_is_named_as_it_is_written() -> None:
    def words(op: str, value: Any) -> str:
        return in_words(FilterSettings(column="c", op=op, value=value))

    assert words("<", 29) == "c < 29" and words("<", "1e6") == "c < 1e6" and words("==", "0120") == "c == 0120"
    assert words("!=", True) == "c != true" and words("==", "NO") == 'c == "NO"'
    assert words("in", ["i3", 4]) == 'c in ["i3", 4]' and words("not_null", None) == "c not_null"
    assert words(">=", date(2024, 2, 1)) == 'c >= "2024-02-01"'


ORDERS = [
    {
        "user": f"u{n % 7}",
        "item": f"i{n % 9}",
        "at": 1704067200 + n * 40000,
        "country": ("DK", "NO", "SE", "FI")[n % 4],
        "store": ("0110", "0120", "120", "80")[n % 4],
        "price": (25000, 1500, 999999, 1000000, 2500000)[n % 5],
        "active": n % 2,
        "qty": n % 23,
        "quoted": str(n % 23),
    }
    for n in range(120)
]


def orders_file(folder: Path, form: str) -> Path:
    return write_rows(folder / f"orders.{form}", ORDERS)


CASES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "column: country, op: in, value: [DK, NO, SE]": lambda row: row["country"] in ("DK", "NO", "SE"),
    'column: country, op: "==", value: NO': lambda row: row["country"] == "NO",
    'column: country, op: "!=", value: NO': lambda row: row["country"] != "NO",
    'column: price, op: "<", value: 1e6': lambda row: row["price"] < 1e6,
    'column: qty, op: ">=", value: "10"': lambda row: row["qty"] >= 10,
    'column: quoted, op: ">=", value: 10': lambda row: row["qty"] >= 10,
    'column: at, op: ">=", value: 2024-02-01': lambda row: row["at"] >= 1706745600,
    'column: at, op: "<", value: "2024-02-01T00:00:00Z"': lambda row: row["at"] < 1706745600,
    'column: store, op: "==", value: 0120': lambda row: row["store"] == "0120",
    "column: store, op: in, value: [0110, 0120]": lambda row: row["store"] in ("0110", "0120"),
    'column: active, op: "==", value: true': lambda row: row["active"] == 1,
    'column: active, op: "!=", value: true': lambda row: row["active"] != 1,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("condition", CASES)
def test_what_yaml_would_take_for_something_else(tmp_path: Path, condition: str, form: str) -> None:
    path = orders_file(tmp_path, form)
    expected = [n for n, row in enumerate(ORDERS) if CASES[condition](row)]
    data = loaded(tmp_path, f"filters: [{{{condition}}}]")
    assert 0 < len(expected) < len(ORDERS)
    assert kept(path, data)[0] == expected
    assert kept(path, parse_section(DataSettings, canonical_json(data)))[0] == expected


@pytest.mark.parametrize("form", FORMATS)
def test_bounds_mean_what_is_written(tmp_path: Path, form: str) -> None:
    data = loaded(tmp_path, "ranges: {at: {min: 2024-02-01}, price: {max: 1e6}, qty: {min: 0x1}}")
    assert data.interactions.ranges["qty"].min == "0x1"
    data = loaded(tmp_path, "ranges: {at: {min: 2024-02-01}, price: {max: 1e6}}")
    expected = [n for n, row in enumerate(ORDERS) if row["at"] >= 1706745600 and row["price"] <= 1e6]
    assert kept(orders_file(tmp_path, form), parse_section(DataSettings, canonical_json(data)))[0] == expected


ITEMS = {
    "digits.csv": ("1", "0"),
    "floats.csv": ("1.0", "0.0"),
    "letters.csv": ("Y", "N"),
    "small.csv": ("t", "f"),
    "capitals.csv": ("TRUE", "FALSE"),
    "words.csv": ("yes", "no"),
    "truth.jsonl": (True, False),
    "digits.jsonl": (1, 0),
    "floats.jsonl": (1.0, 0.0),
    "truth.parquet": (True, False),
    "digits.parquet": (1, 0),
    "floats.parquet": (1.0, 0.0),
    "letters.parquet": ("Y", "N"),
}


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("condition", ['op: "!=", value: true', 'op: "==", value: false'])
def test_discontinued_items_are_not_available_however_that_is_spelled(
    tmp_path: Path, name: str, condition: str
) -> None:
    rows = [{"sku": f"i{n}", "discontinued": ITEMS[name][n % 3 > 0]} for n in range(9)]
    path = write_rows(tmp_path / name, rows)
    data = loaded(
        tmp_path, f"filters: []\n  items: {{path: {path}, id: sku, available: [{{column: discontinued, {condition}}}]}}"
    )
    log = at(orders_file(tmp_path, "csv"), data)
    files = resolve_sources(data.model_copy(update={"interactions": log}), dataset="shop")["items"]
    for section in (data, parse_section(DataSettings, canonical_json(data))):
        table = load_entities(files, section.items, key="data.items", timezone="UTC")
        there = available(table, table.ids, section.items, timezone="UTC").to_pylist()
        assert dict(zip(table.ids.to_pylist(), there, strict=True)) == {f"i{n}": n % 3 > 0 for n in range(9)}
        assert in_sentences(table.noted) == []


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ("true", []),
        ("discarded", ['data.items.available: discontinued != "discarded": no row has this value']),
    ],
)
def test_a_condition_on_the_item_table_that_no_row_meets_is_noted(
    tmp_path: Path, value: str, sentences: list[str]
) -> None:
    items = write_rows(tmp_path / "items.csv", [{"sku": f"i{n}", "discontinued": "FT"[n % 2]} for n in range(11)])
    data = settings(
        write_rows(tmp_path / "log.parquet", ordinary_log()),
        items={
            "path": str(items),
            "id": "sku",
            "available": [{"column": "discontinued", "op": "!=", "value": value}],
        },
    )
    prepared = run(tmp_path / "prepared", data)
    assert in_sentences(prepared.summary["noted"]) == sentences
    assert sum(prepared.items()["available"].to_pylist()) == (11 if sentences else 6)


def test_conditions_that_make_no_sense_are_refused_by_the_whole_step(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", ordinary_log())
    with pytest.raises(DataError, match=r'filters: amount < "cheap": the column holds nothing but numbers'):
        run(
            tmp_path / "a",
            settings(path, log={"filters": [{"column": "amount", "op": "<", "value": "cheap"}]}),
        )
    with pytest.raises(DataError, match=r'filters: time >= "soon": the column takes times'):
        run(tmp_path / "b", settings(path, log={"filters": [{"column": "time", "op": ">=", "value": "soon"}]}))
    items = {
        "path": str(path),
        "id": "item",
        "available": [{"column": "amount", "op": ">", "value": "cheap"}],
    }
    with pytest.raises(DataError, match=r'data.items.available: amount > "cheap": the column'):
        run(tmp_path / "c", settings(path, items=items))


# What any condition keeps of any column, beside a reference that goes row by row and shares no code with it.

COLUMNS: dict[str, list[Any]] = {
    "text": [
        "DK",
        "NO",
        "no",
        "true",
        "FALSE",
        "Y",
        "7",
        "007",
        "7.0",
        "1e6",
        "+7",
        "2024-02-01",
        "n/a",
        "Ü",
        " 10",
        "2024-01",
        "2024-02-01 00:00:00",
        "2024-02-01T08:00:00+01:00",
        "1706745600",
        "9007199254740992",
        "9007199254740993",
    ],
    "integer": [0, 1, 7, 10, 120, -3, -4, 2**53, 2**53 + 1, 1706745600, 1706742000, 10**6],
    "float": [0.0, 1.0, 7.0, 2.5, 0.1, -0.5, 1e6, 1706745600.0],
    "boolean": [True, False],
    "date": [date(2024, 1, 31), date(2024, 2, 1), date(2024, 3, 1)],
    "time": [datetime(2024, 1, 31, 23, 30), datetime(2024, 2, 1), datetime(2024, 2, 1, 8), datetime(2024, 2, 1, 8, 30)],
    "decimal": [Decimal("0.00"), Decimal("1.00"), Decimal("1.10"), Decimal("7.00"), Decimal("9007199254740993.01")],
}
ARROW = {
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "decimal": pa.decimal128(20, 2),
}
NUMBERS = [
    "7", "007", "+7", "7.0", "1e6", "1_000_000", "10", '"10"', "0120", "2.5", ".5", "-3.5", "-3", "0", "1", "0.1",
    "1.1", "1.10", "9007199254740993", "9007199254740993.010", "1706745600",
]  # fmt: skip
TIMES = [
    "2024-02-01", "2024-02", "2024", "20240201", "2024-02-01 08:00:00", "2024-02-01T08:00:00Z",
    "'2024-02-01 09:30:00+01:00'", "1706745600", "1706742000",
]  # fmt: skip
TRUTHS = ["true", "True", "FALSE", "yes", "NO", "y", "off", "1", "0.0"]
WORDS = ["DK", "NO", "no", "Y", "cheap", "n/a", "Ü", "'null'", "12:30:45", "0x1F"]
WRITTEN = {
    "text": [WORDS, NUMBERS, TIMES, TRUTHS],
    "integer": [NUMBERS, TIMES, TRUTHS[:3]],
    "float": [NUMBERS, TIMES, TRUTHS[:3]],
    "boolean": [TRUTHS],
    "date": [TIMES],
    "time": [TIMES],
    "decimal": [NUMBERS, TRUTHS[:3]],
}
"""Values as they stand in a file, by the columns that they may mean something to."""
SPELLINGS = [("true", "false"), ("True", "False"), ("1", "0"), ("1.0", "0.0"), ("Y", "N"), ("t", "f")]

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
CANONICAL = r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
TRUE, FALSE = {"true", "t", "yes", "y", "on", "1", "1.0"}, {"false", "f", "no", "n", "off", "0", "0.0"}


def number_of(text: str) -> Decimal | None:
    text = re.sub(r"(?<=\d)_(?=\d)", "", text.strip())
    return Decimal(text) if re.fullmatch(NUMBER, text) else None


def day_of(text: str, zone: str) -> datetime | None:
    """The time that a text writes, other than as a number."""
    text = text.strip() + "-01" * bool(re.fullmatch(r"\d{4}-\d\d", text.strip()))
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))


def epoch(number: Any) -> datetime:
    """The moment in the unit that the number's size tells."""
    number = Decimal(number)
    unit = next(unit for unit, end in ((1, 10**11), (10**3, 10**14), (10**6, 10**17)) if abs(number) < end)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(number * 10**6 / unit))


def pair(cell: Any, value: str, zone: str) -> tuple[Any, Any] | None:
    """The two as things that Python can order, or None."""
    number, day = number_of(value), day_of(value, zone)
    if isinstance(cell, bool):
        word = value.lower()
        return (cell, word in TRUE) if word in TRUE | FALSE else None
    if isinstance(cell, date):
        moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
        moment = moment.replace(tzinfo=ZoneInfo(zone))
        if re.fullmatch(r"\d{4}|\d{8}", value):
            day = datetime.strptime(value, "%Y%m%d"[: len(value) - 2]).replace(tzinfo=ZoneInfo(zone))
        elif number is not None:
            day = epoch(number)
        return (moment, day) if day else None
    if not isinstance(cell, str):
        if day and not isinstance(cell, Decimal):
            return (epoch(cell), day) if cell >= 10**8 else None
        if number is None:
            return None
        return (cell, float(number)) if isinstance(cell, float) else (Decimal(cell), number)
    if day:
        mine = epoch(cell) if re.fullmatch(r"\d{9,}(\.\d+)?", cell) else day_of(cell, zone)
        return (mine, day) if mine else None
    if number is not None:
        return (number_of(cell), number) if number_of(cell) is not None else None
    return cell, value


def is_equal(cell: Any, value: str, zone: str) -> bool:
    if not isinstance(cell, str):
        truth = value.lower() in ("true", "false") and not isinstance(cell, (bool, date))
        both = pair(cell, str(int(value.lower() == "true")) if truth else value, zone)
        return both is not None and both[0] == both[1]
    if cell == value:
        return True
    if value.lower() in ("true", "false"):
        return re.sub(r"\.0*$", "", cell.strip().lower()) in (TRUE if value.lower() == "true" else FALSE)
    plain = re.sub(r"(?<=\d)_(?=\d)", "", value)
    if re.fullmatch(NUMBER, plain) and not (re.fullmatch(CANONICAL, plain) and re.fullmatch(CANONICAL, cell.strip())):
        return False
    both = pair(cell, value, zone)
    return both is not None and both[0] == both[1]


def keeps(cell: Any, op: str, value: Any, zone: str) -> bool:
    """The reference."""
    if op in ("!=", "not_in", "not_starts_with"):
        return not keeps(cell, {"!=": "==", "not_in": "in", "not_starts_with": "starts_with"}[op], value, zone)
    if cell is None:
        return False
    if op == "in":
        return any(is_equal(cell, one, zone) for one in value)
    if op == "==":
        return is_equal(cell, value, zone)
    if op == "starts_with":
        return as_id(cell).startswith(value)
    both = pair(cell, value, zone)
    if both is None:
        return False
    return {"<": both[0] < both[1], "<=": both[0] <= both[1], ">": both[0] > both[1], ">=": both[0] >= both[1]}[op]


def as_id(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, datetime):
        return f"{cell}.000000"
    whole = isinstance(cell, (float, Decimal)) and cell == int(cell)
    return str(int(cell) if whole else cell)


def write_column(folder: Path, kind: str, form: str, values: list[Any]) -> tuple[Path, list[Any]]:
    """A log with this column, and the column as it can be read from there."""
    path = folder / f"log.{form}"
    rows = [{"user": "u", "item": str(n), "at": f"2024-01-01 00:00:{n:02}"} for n in range(len(values))]
    if form == "parquet":
        table = pa.Table.from_pylist(rows).append_column("c", pa.array(values, ARROW[kind]))
        pq.write_table(table, path)
        return path, values
    is_native = form == "jsonl" and kind in ("integer", "float", "boolean", "text")
    cells = [value if value is None or is_native else str(value) for value in values]
    if form == "jsonl":
        path.write_text("".join(json.dumps(row | {"c": cell}) + "\n" for row, cell in zip(rows, cells, strict=True)))
        return path, cells
    with path.open("w", newline="") as sink:
        writer = csv.DictWriter(sink, ["user", "item", "at", "c"])
        writer.writeheader()
        writer.writerows(row | {"c": cell} for row, cell in zip(rows, cells, strict=True))
    return path, cells


@st.composite
def columns(draw: st.DrawFn, kind: str) -> tuple[str, list[Any]]:
    """What a column is stored as, and its values."""
    values = draw(st.lists(st.sampled_from([*COLUMNS[kind], None]), min_size=1, max_size=30))
    if kind == "boolean" and draw(st.booleans()):
        yes, no = draw(st.sampled_from(SPELLINGS))
        return "text", [None if value is None else yes if value else no for value in values]
    return kind, values


@st.composite
def conditions(draw: st.DrawFn, kind: str) -> tuple[str, str]:
    """An operator and its value as it stands in a file."""
    op = draw(st.sampled_from(["==", "!=", ">", ">=", "<", "<=", "in", "not_in", "starts_with", "not_starts_with"]))
    written = st.one_of(map(st.sampled_from, WRITTEN[kind if draw(st.integers(0, 9)) else "text"]))
    if "in" not in op.split("_"):
        return op, draw(written)
    return op, f"[{', '.join(draw(st.lists(written, min_size=1, max_size=4)))}]"


@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(COLUMNS)),
    form=st.sampled_from(FORMATS),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    choice=st.data(),
)
def test_a_filter_keeps_what_a_plain_reference_keeps(
    tmp_path_factory: pytest.TempPathFactory, kind: str, form: str, zone: str, choice: st.DataObject
) -> None:
    stored, values = choice.draw(columns(kind))
    op, written = choice.draw(conditions(kind))
    folder = tmp_path_factory.mktemp("log")
    path, cells = write_column(folder, stored, form, values)
    data = loaded(folder, f'filters: [{{column: c, op: "{op}", value: {written}}}]\n    timezone: {zone}')
    value = data.interactions.filters[0].value
    texts = [one.strip("'\"") for one in written.strip("[]").split(", ")]
    assert value == (texts if written[0] == "[" else texts[0])
    outcomes = []
    for section in (data, parse_section(DataSettings, canonical_json(data))):
        try:
            outcomes.append(kept(path, section)[0])
        except DataError as error:
            assert f"{KEY}: c {op}" in str(error)
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    present = [cell for cell in cells if cell is not None]
    if outcomes[0] is None:
        assert any(all(is_unfit(cell, op, one, zone) for cell in present) for one in texts)
    else:
        assert outcomes[0] == [n for n, cell in enumerate(cells) if keeps(cell, op, value, zone)]


def is_unfit(cell: Any, op: str, value: str, zone: str) -> bool:
    """Whether the reference has nothing to compare either: a text may equal anything, but is ordered with texts."""
    if not isinstance(cell, str):
        return pair(cell, value, zone) is None
    both = pair(cell, value, zone)
    if op in ("==", "!=", "in", "not_in"):
        return False
    is_text = number_of(value) is None and day_of(value, zone) is None
    return both is None or (is_text and (number_of(cell) is not None or day_of(cell, zone) is not None))
