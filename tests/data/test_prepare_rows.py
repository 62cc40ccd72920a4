"""Rows: what is kept, filtered and set aside, and how ids, times and weights are read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import START, event, ordinary_log, run, run_rows, settings, write_rows

from two_tower.columns import column_hashes, row_digests, stable_hash, stable_order
from two_tower.data.values import id_text, microseconds
from two_tower.errors import DataError

NOON = int(datetime(2020, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no user": ({"user": None}, "missing_user"),
    "blank user": ({"user": "  "}, "missing_user"),
    "no item": ({"item": None}, "missing_item"),
    "no time": ({"time": None}, "missing_time"),
    "blank time": ({"time": ""}, "missing_time"),
    "no such time": ({"time": "2020-02-30 10:00:00"}, "bad_time"),
    "text for a time": ({"time": "yesterday"}, "bad_time"),
    "a time of another style": ({"time": "12/1/2010 8:26"}, "bad_time"),
    "a time in the future": ({"time": "2999-01-01"}, "future_time"),
    "no weight": ({"weight": None}, "bad_weight"),
    "a negative weight": ({"weight": "-1"}, "bad_weight"),
    "an infinite weight": ({"weight": "inf"}, "bad_weight"),
    "text for a weight": ({"weight": "much"}, "bad_weight"),
}


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_bad_rows_are_set_aside_with_their_reason(tmp_path: Path, name: str) -> None:
    rows = [row | {"weight": "2"} for row in ordinary_log()]
    expected = {}
    for n, (change, reason) in enumerate(BROKEN.values()):
        rows[3 + 2 * n] |= change
        expected[3 + 2 * n] = reason
    rows.append(rows[0])
    expected[len(rows) - 1] = "duplicate"
    prepared = run_rows(
        tmp_path,
        rows,
        name=name,
        log={"columns": {"user": "user", "item": "item", "time": "time", "weight": "weight"}, "max_bad_share": 0.5},
    )
    aside = prepared.set_aside().to_pylist()
    assert {row["row"]: row["reason"] for row in aside} == expected
    assert {row["file"] for row in aside} == {name}
    for row in aside:  # in CSV everything is text, and the empty text is missing
        content, source = json.loads(row["content"]), rows[row["row"]]
        assert {key: str(value or "") for key, value in content.items()} == {k: str(v or "") for k, v in source.items()}
    counts = prepared.summary["rows"]["set_aside"]
    assert sum(counts.values()) == len(expected) == prepared.summary["rows"]["read"] - prepared.summary["rows"]["kept"]
    assert {weight for row in prepared.sequences()["weights"].to_pylist() for weight in row} == {2.0}


def test_lines_that_do_not_parse_are_set_aside_by_their_number(tmp_path: Path) -> None:
    rows = ordinary_log()
    plain = run_rows(tmp_path / "plain", rows, name="log.csv")
    csv = (tmp_path / "plain" / "log.csv").read_text().splitlines()
    csv[4:4] = ["too,few", ""]
    csv[9:9] = ["one,too,many,values,here"]
    csv.append('"u1","an open quote')
    (tmp_path / "log.csv").write_text("\n".join(csv) + "\n")
    prepared = run(tmp_path / "csv", settings(tmp_path / "log.csv", log={"max_bad_share": 0.1}))
    aside = prepared.set_aside().to_pylist()
    assert [(row["row"], row["reason"]) for row in aside] == [
        (3, "malformed"),
        (7, "malformed"),
        (len(rows) + 2, "malformed"),
    ]
    assert json.loads(aside[0]["content"]) == "too,few"
    assert prepared.sequences().equals(plain.sequences())

    lines = [json.dumps(row) for row in rows]
    lines[5:5] = ['{"user": "u1", "item"', "[1, 2]", "", '{"user": "u1"} {"user": "u2"}', "null"]
    (tmp_path / "log.jsonl").write_text("\ufeff" + "\n".join(lines))
    prepared = run(tmp_path / "jsonl", settings(tmp_path / "log.jsonl", log={"max_bad_share": 0.1}))
    assert [row["row"] for row in prepared.set_aside().to_pylist()] == [5, 6, 8, 9]
    assert prepared.sequences().equals(plain.sequences())


def test_too_many_bad_rows_fail_with_counts_and_examples(tmp_path: Path) -> None:
    rows = ordinary_log()
    for n in range(20):
        rows[n]["time"] = "soon"
    rows[30]["user"] = None
    with pytest.raises(DataError) as caught:
        run_rows(tmp_path, rows)
    message = str(caught.value)
    assert "21 of 90 rows are bad (23.3%), more than max_bad_share allows (5.0%)" in message
    assert "bad_time: 20 rows" in message and "missing_user: 1 rows" in message
    assert f'{tmp_path / "log.parquet"} row 0: {{"user":"u1"' in message
    assert not (tmp_path / "prepared").exists() and not (tmp_path / ".prepared.work").exists()


def test_filters_and_unknown_events_are_counted_and_not_set_aside(tmp_path: Path) -> None:
    rows = [row | {"event": "view" if n % 3 else "buy"} for n, row in enumerate(ordinary_log())]
    rows[1] |= {"event": "hover", "time": "filtered before it is checked"}
    rows[2] |= {"event": None}
    prepared = run_rows(
        tmp_path,
        rows,
        log={
            "columns": {"user": "user", "item": "item", "time": "time", "event": "event"},
            "events": {"view": 0.5, "buy": 3},
            "filters": [
                {"column": "amount", "op": "<", "value": 29},
                {"column": "item", "op": "not_in", "value": ["i3"]},
            ],
        },
    )
    kept = [row for row in rows if row["amount"] < 29 and row["item"] != "i3" and row["event"] in ("view", "buy")]
    of_item = sum(row["item"] == "i3" and row["amount"] < 29 for row in rows)
    assert prepared.summary["rows"] == {
        "read": len(rows),
        "kept": len(kept),
        "filtered": {
            "amount < 29": sum(row["amount"] >= 29 for row in rows),
            'item not_in ["i3"]': of_item,
            "event hover": 1,
            "event (missing)": 1,
        },
        "set_aside": {},
    }
    weights = {weight for row in prepared.sequences()["weights"].to_pylist() for weight in row}
    assert weights == {0.5, 3.0}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([17850.0, None, float("nan")], ["17850", None, None]),
        ([1.5, -0.25, float("inf")], ["1.5", "-0.25", None]),
        ([2**62, -1], [str(2**62), "-1"]),
        (["17850.0", "007", " a", "", " "], ["17850.0", "007", " a", None, None]),
        ([True, None], ["true", None]),
        ([date(2020, 1, 1)], ["2020-01-01"]),
    ],
)
def test_ids_of_any_type_become_strings(values: list[Any], expected: list[str | None]) -> None:
    assert id_text(pl.Series(values)).to_list() == expected


def test_a_number_with_decimals_in_a_csv_file_is_the_id_without_them() -> None:
    assert id_text(pl.Series(["17850.0", "1.50", "-3.00"]), untyped=True).to_list() == ["17850", "1.50", "-3"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON // 10**6]),
        pa.array([NOON // 10**6], pa.int32()),
        pa.array([NOON / 10**6]),
        pa.array([NOON // 1000]),
        pa.array([NOON]),
        pa.array([NOON * 1000]),
        *(pa.array([NOON]).cast(pa.timestamp("us")).cast(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array([datetime(2020, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))], pa.timestamp("ms", "Europe/Berlin")),
        *(
            pa.array([text])
            for text in (
                "2020-03-01 12:00:00", "2020-03-01T12:00:00Z", "2020-03-01T12:00:00.000", "2020-03-01 12:00",
                "2020-03-01T13:00:00+01:00", "2020-03-01T13:00:00+0100", "2020-03-01 13:00:00.0+01",
                "2020-03-01 12:00:00 UTC", "2020-03-01T13:00+01:00",
                " 2020-03-01 12:00:00 ", str(NOON // 10**6), str(NOON // 1000), f"{NOON // 10**6}.0",
            )
        ),
    ],
    ids=lambda column: f"{column.type}-{column[0]}",
)  # fmt: skip
def test_times_of_any_form_are_the_same_moment(column: pa.Array) -> None:
    assert microseconds(pl.Series("time", column), timezone="UTC").to_list() == [NOON]


def test_times_without_a_zone_are_in_the_configured_one() -> None:
    hour = 3_600_000_000
    for values in ([datetime(2020, 3, 1, 13)], ["2020-03-01 13:00"], ["2020-03-01T13:00:00"]):
        assert microseconds(pl.Series(values), timezone="Europe/Berlin").to_list() == [NOON]
    assert microseconds(pl.Series([date(2020, 3, 1)]), timezone="Europe/Berlin").to_list() == [NOON - 13 * hour]
    twice, skipped = "2020-10-25 02:30:00", "2020-03-29 02:30:00"
    found = microseconds(pl.Series([twice, skipped, "2020-03-01T12:00:00Z"]), timezone="Europe/Berlin").to_list()
    assert found == [int(datetime(2020, 10, 25, 0, 30, tzinfo=UTC).timestamp()) * 10**6, None, NOON]


def test_equal_moments_written_in_different_types_give_equal_data(tmp_path: Path) -> None:
    rows = ordinary_log()
    plain = run_rows(tmp_path / "text", rows)
    moments = [datetime.fromisoformat(row["time"]) for row in rows]
    table = pa.Table.from_pylist(rows)
    for unit in ("s", "ns"):
        typed = table.set_column(2, "time", pa.array(moments, pa.timestamp(unit)))
        (tmp_path / unit).mkdir()
        pq.write_table(typed, tmp_path / unit / "log.parquet")
        assert (
            run(tmp_path / unit / "p", settings(tmp_path / unit / "log.parquet")).sequences().equals(plain.sequences())
        )


def test_identical_rows_are_duplicates_only_when_every_column_is_equal(tmp_path: Path) -> None:
    rows = ordinary_log()
    second_unit = rows[0] | {"amount": 99.0}
    prepared = run_rows(tmp_path, [*rows, second_unit, rows[0], rows[0]], name="log.csv")
    assert prepared.summary["rows"]["set_aside"] == {"duplicate": 2}
    assert prepared.summary["rows"]["kept"] == len(rows) + 1


def test_identical_rows_stay_where_they_are_quantities(tmp_path: Path) -> None:
    rows = ordinary_log()
    prepared = run_rows(tmp_path, [*rows, rows[0], rows[0]], log={"duplicates": "keep"})
    assert prepared.summary["rows"]["set_aside"] == {} and not prepared.set_aside().num_rows
    assert prepared.summary["rows"]["kept"] == len(rows) + 2
    events = [time for times in prepared.sequences()["times"].to_pylist() for time in times]
    assert max(events.count(time) for time in events) == 3


def test_positive_events_that_repeat_a_user_and_item_are_counted(tmp_path: Path) -> None:
    rows = [row | {"kind": "view" if row["amount"] % 3 == 1.5 else "buy"} for row in ordinary_log()]
    rows += [event("u0", f"new{day}", day, kind="buy") for day in range(15, 30)]
    log = {
        "columns": {"user": "user", "item": "item", "time": "time", "event": "kind"},
        "events": {"buy": 1, "view": {"role": "impression"}},
    }
    pairs = [(row["user"], row["item"]) for row in rows if row["kind"] == "buy"]
    summary = run_rows(tmp_path / "all", rows, log=log).summary
    assert (summary["positives"], summary["repeats"]) == (len(pairs), len(pairs) - len(set(pairs)))
    assert 0 < summary["repeats"] < summary["positives"] == sum(summary["events"].values()) < summary["rows"]["kept"]
    summary = run_rows(tmp_path / "first", rows, log=log | {"repeats": "first"}).summary
    assert (summary["positives"], summary["repeats"]) == (len(set(pairs)), 0)
    log["columns"] = {"item": "item", "time": "time"}
    texts = {"context": {"text": {"type": "text", "column": "user"}}}
    summary = run_rows(tmp_path / "texts", rows, log={"columns": log["columns"]}, query=texts).summary
    assert (summary["positives"], summary["repeats"]) == (len(rows), None), "nobody takes anything twice"


def test_duplicates_are_found_across_files_and_blocks_with_other_columns(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("user", "item", "time")} for row in ordinary_log()]
    write_rows(tmp_path / "logs" / "a.jsonl", [row | {"note": None, "n": 1} for row in rows])
    write_rows(tmp_path / "logs" / "b.jsonl", [rows[0] | {"n": 1.0}, rows[1] | {"n": 1.5}])
    prepared = run(tmp_path / "p", settings(tmp_path / "logs"))
    assert [(row["file"], row["row"]) for row in prepared.set_aside().to_pylist()] == [("b.jsonl", 0)]


def test_hashes() -> None:
    assert stable_hash(pa.array(["", "a", "ab", "ba", "a"])).tolist()[1:] == [
        15789665419729455745, 11968819688031023248, 9716539840584907739, 15789665419729455745,
    ]  # fmt: skip
    sliced = pa.array(["x", "ab", "ba"]).slice(1)
    assert stable_hash(sliced).tolist() == stable_hash(pa.array(["ab", "ba"])).tolist()
    texts = ["", "a", "é" * 40, "0123456789"]
    assert stable_hash(pa.array(texts)).tolist() == stable_hash(pa.array([*texts, "z" * 500])).tolist()[:-1]
    spread = stable_hash(pa.array([str(n) for n in range(8000)])) % 8
    assert min(pl.Series(spread).value_counts()["count"]) > 850
    frame = pl.DataFrame({"a": [1, 2, 1, 2], "b": [2, 1, 2, 2]})
    assert len(set(row_digests(frame, column_hashes(frame)).tolist())) == 3


def test_stable_order_is_a_stable_sort_by_several_keys() -> None:
    rng = np.random.default_rng(0)
    for rows in (0, 1, 2, 5000):
        codes = rng.integers(0, 100_000, rows).astype(np.int32)
        parts, times = rng.integers(-2, 3, rows).astype(np.int8), rng.integers(-(10**12), 10**15, rows) // 10**13
        assert stable_order(codes, parts, times).tolist() == np.lexsort((times, parts, codes)).tolist()
        assert stable_order(np.sort(times)).tolist() == list(range(rows))


def test_ids_that_only_differ_in_blanks_or_zeros_stay_apart(tmp_path: Path) -> None:
    rows = [event(user, item, day) for day in range(20) for user in ("7", "007") for item in ("x", "x ")]
    prepared = run_rows(tmp_path, rows, name="log.csv", log={"max_bad_share": 0.6})
    assert sorted(prepared.items()["item_id"].to_pylist()) == ["x", "x "]
    assert sorted(prepared.users()["user_id"].to_pylist()) == ["007", "7"]
    assert START > 0
