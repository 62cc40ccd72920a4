"""What is odd about ids and tables: what is noted, what is not, and what a person reads of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from prepared_logs import event, run, settings, write_rows

from two_tower.data import in_sentences
from two_tower.data.oddities import cut_values, odd_ids, unmatched_ids
from two_tower.data.tables import EntityTable
from two_tower.data.values import id_text
from two_tower.features.multi_categorical import MultiCategorical
from two_tower.features.text import Text


def said_of(ids: list[str], rows: int = 10) -> list[str]:
    """What is said of ids that have so many rows each, the first of them from two shards."""
    seen = pl.DataFrame({"id": [*ids, ids[0]], "rows": [rows] * (len(ids) + 1)})
    return in_sentences(odd_ids(seen, "user", "customer"))


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["7.65612E+15", "u1"], "20 rows have a rounded number as their user, such as 7.65612E+15"),
        (["1e+16", "2.5e+20"], "30 rows have a rounded number as their user, such as 1e+16"),
        (id_text(pl.Series([2.0**53, 3.5e18, 7.0])).to_list(), "30 rows have a rounded number as their user"),
        (["NULL", "u1"], 'op: not_in, value: ["NULL"]}'),
        (["\\N", "u1"], 'op: not_in, value: ["\\\\N"]}'),
        (["NaN", "nan", "u"], '30 rows have NaN, nan as their user, .*{column: customer, op: not_in, value: ["NaN", '),
        (["None", "N/A"], "30 rows have None, N/A as their user, which stands for a missing value elsewhere"),
        (["u1 ", "u1", "u2"], "1 users differ from another one only by blanks at the ends, such as 'u1 ' from 'u1'"),
        (["u1 ", "u1  ", "u2"], "2 users differ from another one only by blanks"),
        (["\tu1", "u1"], "strip 'customer' where it is exported"),
    ],
)  # fmt: skip
def test_odd_ids_are_said(ids: list[str], sentence: str) -> None:
    (said,) = said_of(ids)
    for part in sentence.split(".*"):
        assert part in said


@pytest.mark.parametrize(
    "ids",
    [
        ["u1", "u10", "007", "7"],
        ["123e4567", "12E5", "85123E", "1e5b"],  # hexadecimal, and codes of articles
        ["9007199254740993", "12345678901234567890"],
        ["1.5", "2.50"],
        [" u1", "u2 ", "u 3"],  # blanks, but no other one without them
        ["nancy", "nullable", "NA1", "--"],
    ],
)
def test_ids_that_only_look_odd_are_not(ids: list[str]) -> None:
    assert said_of(ids) == []


@pytest.mark.parametrize(
    ("logged", "known", "sentence"),
    [
        (["a", "b"], ["a", "b", "c"], None),
        (["a", "b", "c"], ["a", "b"], "1 users of the logs are missing in the user table; they have no features"),
        (["a", "b"], ["U1"], "none of the 2 users of the logs is in the user table (the logs have 'a', the table 'U1'"),
        (["a", "b", "c"], ["c", "d"], "2 users of the logs are missing in the user table (the logs have 'a', the "),
    ],
)  # fmt: skip
def test_ids_that_the_table_lacks(logged: list[str], known: list[str], sentence: str | None) -> None:
    found = in_sentences(unmatched_ids(pa.array(logged), EntityTable(pa.array(known), rows=len(known)), "user"))
    assert [text.startswith(sentence or "") for text in found] == [True] * bool(sentence)
    assert in_sentences(unmatched_ids(pa.array(logged), EntityTable(pa.array([], pa.string())), "user")) == []


@pytest.mark.parametrize(
    ("feature", "values", "cut"),
    [
        (MultiCategorical(max_values=2), [["a"], ["a", "b"], ["a", "b", "c"], None], {"max_values": 1}),
        (Text(max_tokens=2), ["a b", "a b c", "", None, "d, e; f"], {"max_tokens": 2}),
        (Text(max_tokens=3, ngrams=2), ["a b", "a b c", "a"], {"max_tokens": 1}),
    ],
)
def test_values_that_a_feature_leaves_out_are_counted(feature: Any, values: list[Any], cut: dict[str, int]) -> None:
    column = feature.cast(pa.chunked_array([pa.array(values)]))
    assert feature.cut_off(column) == cut
    longest = {"max_values": 99, "max_tokens": 99}
    assert set(feature.model_copy(update=longest).cut_off(column).values()) == {0}
    table = EntityTable(pa.array([str(n) for n in range(len(values))]), {"feature.tags": column})
    (said,) = in_sentences(cut_values(table, {"tags": feature}, "items"))
    ((setting, count),) = cut.items()
    assert said.startswith(f"{count} of {len(values)} items have more in data.items.features.tags than {setting}: ")


def test_the_notes_of_a_whole_preparation(tmp_path: Path) -> None:
    users = ["NULL", "u1 ", "u1", "7.65612E+15", "u4"]
    rows = [event(users[n % 5], f"i{n % 7}", n / 5, n=n) for n in range(150)]
    path = write_rows(tmp_path / "log.csv", rows)
    items = write_rows(tmp_path / "items.csv", [{"id": f"i{n}", "tags": "a|b|c"[: 2 * n + 1]} for n in range(6)])
    tags = {"type": "multi_categorical", "separator": "|", "max_values": 2}
    tables = {
        "items": {"path": str(items), "id": "id", "features": {"tags": tags}},
        "users": {"path": str(write_rows(tmp_path / "users.csv", [{"id": "U1"}])), "id": "id"},
    }
    prepared = run(tmp_path / "prepared", settings(path, **tables))
    starts = [
        "30 rows have a rounded number as their user",
        "30 rows have NULL as their user",
        "1 users differ from another one only by blanks",
        "1 items of the logs are missing in the item table",
        "none of the 5 users of the logs is in the user table",
        "4 of 6 items have more in data.items.features.tags than max_values: 2 lets in",
    ]
    said = in_sentences(prepared.summary["noted"])
    assert [text[: len(start)] for text, start in zip(said, starts, strict=True)] == starts
