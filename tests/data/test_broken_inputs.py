"""A corpus of broken files and rows, each against the real step: what is refused, what is set aside, what stays."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import Row, event, ordinary_log, run, settings, write_rows

from two_tower.data import Prepared
from two_tower.errors import DataError

LOG = ordinary_log()
COLUMNS = {"user": "user", "item": "item", "time": "time"}
NO_ROWS = "data.interactions: the logs have no rows"
Make = Callable[[Path], Path]
Bytes = Callable[[bytes], bytes]


def changed(name: str, change: Bytes) -> Make:
    """An ordinary log whose bytes are changed."""

    def make(folder: Path) -> Path:
        path = write_rows(folder / name, LOG)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def renamed(name: str, other: str) -> Make:
    """An ordinary log under a name that does not fit."""
    return lambda folder: write_rows(folder / name, LOG).rename(folder / other)


def rows_of(name: str, change: Callable[[Row], Row]) -> Make:
    """A log whose rows are all changed."""
    return lambda folder: write_rows(folder / name, [change(row) for row in LOG])


def two_files(first: str, second: str, change: Callable[[Row], Row] = dict) -> Make:
    """Two files below a folder `logs`, the second with changed rows."""

    def make(folder: Path) -> Path:
        write_rows(folder / "logs" / first, LOG)
        write_rows(folder / "logs" / second, [change(row) for row in LOG])
        return folder / "logs"

    return make


def text(name: str, content: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def folder_of(name: str, *, link_to: str | None = None) -> Make:
    """A folder without data, or with nothing but a link to nowhere."""

    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        if link_to:
            (folder / name / "log.csv").symlink_to(folder / link_to)
        return folder / name

    return make


def link(folder: Path) -> Path:
    (folder / "log.csv").symlink_to(folder / "gone.csv")
    return folder / "log.csv"


def twice_in_parquet(folder: Path) -> Path:
    table = pa.Table.from_pylist(LOG)
    twice = pa.table([*table.columns, table["item"]], names=[*table.column_names, "item"])
    pq.write_table(twice, folder / "log.parquet")
    return folder / "log.parquet"


def without_permission(folder: Path) -> Path:
    path = write_rows(folder / "log.csv", LOG)
    path.chmod(0)
    return path


def without_item(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "item"}


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


BY_DAY = {"log": {"filters": [{"column": "day", "op": "not_null"}]}}

FILES: dict[str, tuple[Make, str, dict[str, Any]]] = {
    # name: how the file is made, what the error says, settings
    "empty": (changed("log.csv", lambda _: b""), rf"{NO_ROWS} .*log\.csv", {}),
    "empty, packed": (changed("log.csv.gz", lambda _: gzip.compress(b"")), rf"{NO_ROWS} .*log\.csv\.gz", {}),
    "blank JSON Lines": (changed("log.jsonl", lambda _: b"\n \n"), rf"{NO_ROWS} .*log\.jsonl", {}),
    "header only": (changed("log.csv", lambda b: b.partition(b"\n")[0] + b"\n"), NO_ROWS, {}),
    "header only, without a line break": (changed("log.csv", lambda b: b.partition(b"\n")[0]), NO_ROWS, {}),
    "blank first line": (changed("log.csv", lambda b: b"\n" + b), r"log\.csv: the first line is empty", {}),
    "no header": (
        changed("log.csv", lambda b: b.partition(b"\n")[2]),
        r"log\.csv: no column 'user', which data.interactions.columns.user names .*there: u1, i7",
        {},
    ),
    "missing column": (rows_of("log.csv", without_item), r"log\.csv: no column 'item', which .*columns\.item", {}),
    "column of another case": (
        changed("log.csv", lambda b: b.replace(b"user", b"User", 1)),
        r"log\.csv: no column 'user'.*did you mean 'User'",
        {},
    ),
    "column with a blank": (
        changed("log.csv", lambda b: b.replace(b"user", b" user", 1)),
        r"log\.csv: no column 'user'.*did you mean ' user'",
        {},
    ),
    "semicolons": (changed("log.csv", lambda b: b.replace(b",", b";")), r"log\.csv: no column 'user'.*user;", {}),
    "tabs": (changed("log.csv", lambda b: b.replace(b",", b"\t")), r"log\.csv: no column 'user'.*user\t", {}),
    "column twice in CSV": (
        changed("log.csv", lambda b: b.replace(b"amount", b"user", 1)),
        r"log\.csv: the header names the column 'user' twice",
        {},
    ),
    "column twice in Parquet": (twice_in_parquet, r"log\.parquet: the schema names the column 'item' twice", {}),
    "Parquet of no bytes": (changed("log.parquet", lambda _: b""), r"log\.parquet: cannot be read as a Parquet", {}),
    "cut Parquet": (changed("log.parquet", half), r"log\.parquet: cannot be read as a Parquet file", {}),
    "Parquet with a hole": (
        changed("log.parquet", lambda b: b[:200] + b"\xff" * 80 + b[280:]),
        r"log\.parquet: cannot be read as a Parquet file",
        {},
    ),
    "cut gzip": (changed("log.csv.gz", half), r"log\.csv\.gz: cannot be read as a CSV file: Truncated", {}),
    "cut gzip of JSON": (changed("log.jsonl.gz", half), r"log\.jsonl\.gz: cannot be read as a JSON Lines file", {}),
    "gzip with a wrong checksum": (
        changed("log.csv.gz", lambda b: b[:-8] + bytes(8)),
        r"log\.csv\.gz: cannot be read as a CSV file: .*data check",
        {},
    ),
    "no zstd": (changed("log.csv.zst", lambda _: b"no zstd"), r"log\.csv\.zst: cannot be read as a CSV file", {}),
    "CSV named Parquet": (renamed("log.csv", "log.parquet"), r"log\.parquet: cannot be read as a Parquet file", {}),
    "Parquet named CSV": (renamed("log.parquet", "log.csv"), r"log\.csv: .* it is a Parquet file; let its name", {}),
    "Parquet named JSON": (renamed("log.parquet", "log.jsonl"), r"log\.jsonl: .* it is a Parquet file", {}),
    "CSV named JSON": (renamed("log.csv", "log.jsonl"), r"log\.jsonl: no line is a JSON object, such as line 1", {}),
    "JSON named CSV": (renamed("log.jsonl", "log.csv"), r"log\.csv: no column 'user'", {}),
    "gzip without its ending": (renamed("log.csv.gz", "log.csv"), r"log\.csv: .* it is a gzip file", {}),
    "unknown ending": (renamed("log.csv", "log.xlsx"), r"data\.interactions\.path: the ending of .*log\.xlsx", {}),
    "Latin-1": (changed("log.csv", lambda b: b.replace(b"i5", b"\xe9")), r"log\.csv: not UTF-8.*iconv -f LATIN1", {}),
    "Latin-1 JSON": (
        changed("log.jsonl", lambda b: b.replace(b"i5", b"\xe9")),
        r"log\.jsonl: not UTF-8.*iconv -f LATIN1",
        {},
    ),
    "UTF-16": (changed("log.csv", lambda b: b.decode().encode("utf-16")), r"log\.csv: not UTF-8.*-f UTF-16 -t", {}),
    "UTF-16 JSON": (
        changed("log.jsonl", lambda b: b.decode().encode("utf-16")),
        r"log\.jsonl: not UTF-8.*-f UTF-16 -t",
        {},
    ),
    "only NUL bytes": (changed("log.csv", lambda b: bytes(len(b))), r"log\.csv: no column 'user'", {}),
    "ids that are no UTF-8": (
        rows_of("log.parquet", lambda row: row | {"item": b"\xff" + row["item"].encode()}),
        r"log\.parquet: the column 'item' holds bytes that are not UTF-8",
        {},
    ),
    "JSON array": (text("log.json", json.dumps(LOG)), r"log\.json: no line is a JSON object.*jq -c", {}),
    "JSON array over lines": (text("log.json", json.dumps(LOG, indent=1)), r"log\.json: no line is a JSON object", {}),
    "JSON object of rows": (text("log.json", json.dumps({"rows": LOG})), r"log\.json: no column 'user'.*rows", {}),
    "nested id": (
        rows_of("log.jsonl", lambda row: row | {"item": {"id": row["item"]}}),
        r"log\.jsonl: the column 'item' of type Struct.* cannot hold ids",
        {},
    ),
    "lists for ids": (
        rows_of("log.parquet", lambda row: row | {"user": [row["user"]]}),
        r"log\.parquet: the column 'user' of type List.* cannot hold ids",
        {},
    ),
    "nested time": (
        rows_of("log.jsonl", lambda row: row | {"time": {"t": row["time"]}}),
        r"log\.jsonl: the column 'time' of type Struct.* cannot hold times",
        {},
    ),
    "one CSV lacks a column": (
        two_files("a.csv", "b.csv", without_item),
        r"logs/b\.csv: no column 'item', which data\.interactions\.columns\.item names",
        {},
    ),
    "one Parquet lacks a column": (two_files("a.parquet", "b.parquet", without_item), r"b\.parquet: no column", {}),
    "one of two is cut": (
        lambda folder: (two_files("a.parquet", "b.parquet")(folder), changed("logs/b.parquet", half)(folder))[0],
        r"logs/b\.parquet: cannot be read",
        {},
    ),
    "mixed formats": (two_files("a.csv", "b.jsonl"), r"several formats \(csv, jsonl\).*a\.csv and .*b\.jsonl", {}),
    "a folder that lacks the key": (
        two_files("day=1/a.parquet", "other/b.parquet"),
        r"logs/other/b\.parquet: no column 'day', which data\.interactions\.filters names",
        BY_DAY,
    ),
    "folder without data": (folder_of("logs"), r"data\.interactions\.path: the folder .*logs holds no data files", {}),
    "folder named like a file": (folder_of("log.csv"), r"the folder .*log\.csv holds no data files", {}),
    "link to nowhere": (link, r"data\.interactions\.path: .*log\.csv' is not there", {}),
    "link to nowhere in a folder": (folder_of("logs", link_to="gone"), r"logs/log\.csv: a link to .*gone, which", {}),
    "no permission": (without_permission, r"log\.csv: cannot be read as a CSV file", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_named_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    make, match, changes = FILES[case]
    if case == "no permission" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=match):
        run(tmp_path / "prepared", settings(path, **changes))
    assert sorted(tmp_path.rglob("*")) == before


ODD_FILES: dict[str, Make] = {
    "byte order mark": changed("log.csv", lambda b: b"\xef\xbb\xbf" + b),
    "byte order mark, JSON": changed("log.jsonl", lambda b: b"\xef\xbb\xbf" + b),
    "CRLF": changed("log.csv", lambda b: b.replace(b"\n", b"\r\n")),
    "CR": changed("log.csv", lambda b: b.replace(b"\n", b"\r")),
    "CRLF, JSON": changed("log.jsonl", lambda b: b.replace(b"\n", b"\r\n")),
    "no last line break": changed("log.csv", lambda b: b.rstrip(b"\n")),
    "empty lines": changed("log.csv", lambda b: b.replace(b"\n", b"\n\n")),
    "a column without a name": changed("log.csv", lambda b: b.replace(b"amount", b"", 1)),
    "ids as bytes": rows_of("log.parquet", lambda row: row | {"item": row["item"].encode()}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("plain")
    return run(folder / "prepared", settings(write_rows(folder / "plain.csv", LOG)))


@pytest.mark.parametrize("case", ODD_FILES)
def test_a_file_that_only_looks_odd_is_read(tmp_path: Path, plain: Prepared, case: str) -> None:
    prepared = run(tmp_path / "prepared", settings(ODD_FILES[case](tmp_path)))
    assert prepared.summary["rows"] == plain.summary["rows"]
    assert prepared.sequences().equals(plain.sequences()) and prepared.items().equals(plain.items())


def test_types_that_differ_between_files_give_the_same_ids_and_times(tmp_path: Path) -> None:
    rows = [row | {"item": row["item"][1:]} for row in LOG]
    plain = run(tmp_path / "plain", settings(write_rows(tmp_path / "plain.parquet", rows)))
    for n, name in enumerate("abc"):
        mine = rows[n * 30 : (n + 1) * 30]
        moments = [datetime.fromisoformat(row["time"]).replace(tzinfo=UTC) for row in mine]
        forms = {"a": lambda row, _: row, "b": lambda row, t: row | {"item": int(row["item"]), "time": t}}
        forms["c"] = lambda row, t: row | {"item": float(row["item"]), "time": int(t.timestamp())}
        typed = [forms[name](row, moment) for row, moment in zip(mine, moments, strict=True)]
        write_rows(tmp_path / "logs" / f"{name}.parquet", typed)
    prepared = run(tmp_path / "prepared", settings(tmp_path / "logs"))
    assert prepared.sequences().equals(plain.sequences()) and prepared.items().equals(plain.items())


def test_an_empty_file_among_others_counts_for_nothing(tmp_path: Path, plain: Prepared) -> None:
    write_rows(tmp_path / "logs" / "b.csv.gz", LOG)
    (tmp_path / "logs" / "a.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "logs" / "c.csv").write_text("user,item,time,amount")
    prepared = run(tmp_path / "prepared", settings(tmp_path / "logs"))
    assert prepared.sequences().equals(plain.sequences())


@dataclass(frozen=True)
class Rows:
    """Rows that are broken in one way or another, in one log."""

    formats: tuple[str, ...]
    cases: dict[str, tuple[Row, str | None]]
    """The change of a row, and why it is set aside; None if it is kept."""
    settings: dict[str, Any] = field(default_factory=dict)
    base: Callable[[Row], Row] = dict
    """What is done to every row before."""


def seconds(row: Row) -> int:
    return int(datetime.fromisoformat(row["time"]).replace(tzinfo=UTC).timestamp())


EVERY = ("csv", "jsonl", "parquet")
NOW = seconds(LOG[50])
WEIGHTED = {"log": {"columns": COLUMNS | {"weight": "amount"}}}

ROWS: dict[str, Rows] = {
    "times": Rows(
        EVERY,
        {
            "null": ({"time": None}, "missing_time"),
            "blank": ({"time": " \t "}, "missing_time"),
            "text": ({"time": "not a date"}, "bad_time"),
            "month 13": ({"time": "2020-13-01 00:00:00"}, "bad_time"),
            "30 Feb": ({"time": "2020-02-30"}, "bad_time"),
            "hour 24": ({"time": "2020-09-20 24:00:00"}, "bad_time"),
            "hour 25": ({"time": "2020-09-20 25:00:00"}, "bad_time"),
            "five digits": ({"time": "12020-01-01"}, "bad_time"),
            "a day with a T": ({"time": "2020-09-20T"}, "bad_time"),
            "e-mail": ({"time": "Sun, 20 Sep 2020 10:00:00 GMT"}, "bad_time"),
            "American": ({"time": "9/20/2020"}, "bad_time"),
            "no such zone": ({"time": "2020-09-20 10:00:00+99:00"}, "bad_time"),
            "zone by name": ({"time": "2020-09-20 10:00:00 CET"}, "bad_time"),
            "NaN": ({"time": "nan"}, "bad_time"),
            "infinite": ({"time": "inf"}, "bad_time"),
            "exponent": ({"time": "1.6e9"}, "bad_time"),
            "too many digits": ({"time": "9" * 30}, "bad_time"),
            "a NUL byte": ({"time": "2020-09-20\x0010:00:00"}, "bad_time"),
            "skipped hour": ({"time": "2020-03-29 01:30:00"}, "bad_time"),
            "skipped hour with its zone": ({"time": "2020-03-29 01:30:00Z"}, None),
            "doubled hour": ({"time": "2019-10-27 01:30:00"}, None),
            "leap second": ({"time": "2016-12-31 23:59:60"}, None),
            "before 1970": ({"time": "-5"}, None),
            "future": ({"time": "2999-01-01"}, "future_time"),
        },
        {"log": {"timezone": "Europe/London"}},
    ),
    "whole numbers for times": Rows(
        ("parquet", "jsonl"),
        {
            "milliseconds": ({"time": NOW * 1000}, None),
            "microseconds": ({"time": NOW * 10**6}, None),
            "nanoseconds": ({"time": NOW * 10**9}, None),
            "negative": ({"time": -86400}, None),
            "smallest": ({"time": -(2**63)}, "bad_time"),
            "largest": ({"time": 2**63 - 1}, "future_time"),
            "null": ({"time": None}, "missing_time"),
        },
        base=lambda row: row | {"time": seconds(row)},
    ),
    "floats for times": Rows(
        ("parquet",),
        {
            "NaN": ({"time": float("nan")}, "missing_time"),
            "infinite": ({"time": float("inf")}, "bad_time"),
            "large": ({"time": 1e300}, "bad_time"),
            "small": ({"time": -1e300}, "bad_time"),
            "milliseconds": ({"time": NOW * 1e3}, None),
        },
        base=lambda row: row | {"time": float(seconds(row))},
    ),
    "ids": Rows(
        EVERY,
        {
            "no item": ({"item": None}, "missing_item"),
            "empty item": ({"item": ""}, "missing_item"),
            "blank item": ({"item": "  "}, "missing_item"),
            "a tab": ({"item": "\t"}, "missing_item"),
            "a hard space": ({"item": "\u00a0"}, "missing_item"),
            "no user": ({"user": None}, "missing_user"),
            "blank user": ({"user": " "}, "missing_user"),
            "neither": ({"user": None, "item": None, "time": "x"}, "missing_user"),
            "zero width": ({"item": "\u200b"}, None),
            "emoji": ({"item": "\U0001f6d2\u200d\U0001f6d2"}, None),
            "control character": ({"item": "a\x01b"}, None),
            "NUL": ({"item": "a\x00b"}, None),
            "line break": ({"item": "a\nb"}, None),
            "carriage return": ({"item": "a\rb"}, None),
            "quotes and commas": ({"item": 'a"b,c'}, None),
            "100,000 characters": ({"item": "x" * 100_000}, None),
            "the text NULL": ({"item": "NULL"}, None),
            "the text nan": ({"item": "nan"}, None),
            "an integer of 70 bits": ({"item": str(2**70)}, None),
            "minus zero": ({"item": "-0"}, None),
            "leading zeros": ({"item": "0012"}, None),
        },
    ),
    "numbers for ids": Rows(
        ("parquet",),
        {
            "NaN": ({"item": float("nan")}, "missing_item"),
            "infinite": ({"item": float("-inf")}, "missing_item"),
            "null": ({"item": None}, "missing_item"),
            "minus zero": ({"item": -0.0}, None),
            "fraction": ({"item": 2.5}, None),
            "large": ({"item": 1e300}, None),
        },
        base=lambda row: row | {"item": float(row["item"][1:])},
    ),
    "JSON numbers for ids": Rows(
        ("jsonl",),
        {
            "64 bits": ({"item": 2**63}, None),
            "70 bits": ({"item": 2**70}, None),
            "text": ({"item": "i7"}, None),
            "null": ({"item": None}, "missing_item"),
        },
        base=lambda row: row | {"item": int(row["item"][1:])},
    ),
    "weights as text": Rows(
        ("csv", "parquet"),
        {
            "NaN": ({"amount": "nan"}, "bad_weight"),
            "infinite": ({"amount": "inf"}, "bad_weight"),
            "minus infinite": ({"amount": "-inf"}, "bad_weight"),
            "negative": ({"amount": "-1"}, "bad_weight"),
            "text": ({"amount": "much"}, "bad_weight"),
            "decimal comma": ({"amount": "1,5"}, "bad_weight"),
            "hexadecimal": ({"amount": "0x10"}, "bad_weight"),
            "null": ({"amount": None}, "bad_weight"),
            "more than 32 bits hold": ({"amount": "1e300"}, "bad_weight"),
            "minus zero": ({"amount": "-0"}, None),
            "exponent": ({"amount": "1e3"}, None),
        },
        WEIGHTED,
        base=lambda row: row | {"amount": str(row["amount"])},
    ),
    "weights": Rows(
        ("parquet", "jsonl"),
        {
            "NaN": ({"amount": float("nan")}, "bad_weight"),
            "infinite": ({"amount": float("inf")}, "bad_weight"),
            "negative": ({"amount": -1.0}, "bad_weight"),
            "more than 32 bits hold": ({"amount": 1e300}, "bad_weight"),
            "null": ({"amount": None}, "bad_weight"),
            "minus zero": ({"amount": -0.0}, None),
        },
        WEIGHTED,
    ),
    "ranges": Rows(
        ("csv", "parquet"),
        {
            "below": ({"amount": -0.1}, "out_of_range"),
            "above": ({"amount": 100.5}, "out_of_range"),
            "at the bound": ({"amount": 100.0}, None),
            "missing": ({"amount": None}, None),
            "before": ({"time": "2019-12-31 23:59:59"}, "out_of_range"),
            "long before": ({"time": "1066-10-14"}, "out_of_range"),
            "at the first moment": ({"time": "2020-01-01"}, None),
            "a time that is none": ({"time": "soon"}, "bad_time"),
        },
        {"log": {"ranges": {"amount": {"min": 0, "max": 100}, "time": {"min": "2020-01-01"}}}},
    ),
    "ranges of text": Rows(
        ("csv",),
        {"text": ({"amount": "lots"}, "out_of_range"), "NaN": ({"amount": "nan"}, "out_of_range")},
        {"log": {"ranges": {"amount": {"min": 0}}}},
        base=lambda row: row | {"amount": str(row["amount"])},
    ),
    "given split": Rows(
        ("csv", "parquet"),
        {
            "null": ({"part": None}, "bad_split"),
            "blank": ({"part": "  "}, "bad_split"),
            "unknown": ({"part": "other"}, None),
        },
        {"split": {"type": "given", "column": "part", "test": "test"}},
        base=lambda row: row | {"part": "test" if row["amount"] > 25 else "train"},
    ),
}


def broken(group: Rows) -> tuple[list[Row], dict[int, str]]:
    """The log with its broken rows, every third one, and the reasons by row number."""
    rows = [group.base(dict(row)) for row in LOG]
    expected = {}
    for n, (change, reason) in enumerate(group.cases.values()):
        rows[3 * n + 1] |= change
        if reason:
            expected[3 * n + 1] = reason
    return rows, expected


def check_aside(prepared: Prepared, expected: dict[tuple[str, int], str], *, read: int) -> None:
    """Checks that exactly the expected rows, by file and row number, are set aside, and counted."""
    assert {(row["file"], row["row"]): row["reason"] for row in prepared.set_aside().to_pylist()} == expected
    rows = prepared.summary["rows"]
    assert rows["set_aside"] == Counter(expected.values())
    assert (rows["read"], rows["kept"]) == (read, read - len(expected) - sum(rows["filtered"].values()))


IN_FORMATS = [
    pytest.param(name, one, marks=[pytest.mark.slow] if one != group.formats[0] else [])
    for name, group in ROWS.items()
    for one in group.formats
]


@pytest.mark.parametrize(("name", "ending"), IN_FORMATS)
def test_broken_rows_are_set_aside_and_the_others_stay(tmp_path: Path, name: str, ending: str) -> None:
    group = ROWS[name]
    rows, expected = broken(group)
    changes = group.settings | {"log": {"max_bad_share": 0.5} | group.settings.get("log", {})}
    prepared = run(tmp_path / "prepared", settings(write_rows(tmp_path / f"log.{ending}", rows), **changes))
    check_aside(prepared, {(f"log.{ending}", row): reason for row, reason in expected.items()}, read=len(rows))
    if name == "ids":
        odd = {change["item"] for change, reason in group.cases.values() if reason is None}
        assert odd <= set(prepared.items()["item_id"].to_pylist())
    if ending != group.formats[0]:
        return
    good = [row for number, row in enumerate(rows) if number not in expected]
    clean = run(tmp_path / "clean", settings(write_rows(tmp_path / "good" / f"log.{ending}", good), **changes))
    assert clean.summary["rows"]["set_aside"] == {}
    assert prepared.sequences().equals(clean.sequences())
    for split in ("validation", "test"):
        assert prepared.queries(split).equals(clean.queries(split))
    assert prepared.items().equals(clean.items()) and prepared.users().equals(clean.users())


def test_numbers_as_ids_are_written_one_way(tmp_path: Path) -> None:
    for name, ending, odd in (
        ("numbers for ids", "parquet", {"2.5"}),
        ("JSON numbers for ids", "jsonl", {str(2**63), str(2**70), "i7"}),
    ):
        rows, _ = broken(ROWS[name])
        prepared = run(tmp_path / ending, settings(write_rows(tmp_path / f"log.{ending}", rows)))
        ids = set(prepared.items()["item_id"].to_pylist())
        assert odd | {str(n) for n in range(11)} <= ids and "-0" not in ids and "0.0" not in ids


CSV_LINES: list[tuple[str, str | None]] = [
    # a line between good ones, and why it is set aside
    ("u1", "malformed"),
    ("u1,i1", "malformed"),
    ("u1,i1,2020-09-20 10:00:00,1,2", "malformed"),
    ('"u1","i,"2020-09-20 10:00:00",1', "malformed"),
    ('""', "malformed"),
    (",,,", "missing_user"),
    ("u1,,2020-09-20 10:00:00,1", "missing_item"),
    ('"u1","  ","2020-09-20 10:00:00",1', "missing_item"),
    ('u1,"over\ntwo lines",2020-09-20 10:00:00,1', None),
    ('u1,"a ""quoted"" word",2020-09-20 10:00:00,1', None),
    ('u1,a"b,2020-09-20 10:00:00,1', None),
    ("u1,i1,2020-09-20 10:00:00,", None),
]
JSON_LINES: list[tuple[str, str | None]] = [
    ('{"user": "u1", "item"', "malformed"),
    ('{"user": "u1"},', "malformed"),
    ('{"user": "u1"} {"user": "u2"}', "malformed"),
    ('[{"user": "u1"}]', "malformed"),
    ("null", "malformed"),
    ('"u1"', "malformed"),
    ("{'user': 'u1'}", "malformed"),
    ('{"user": "u1", "item": "\\ud800", "time": "2020-09-20 10:00:00"}', "malformed"),
    ('{"user": "u1", "item": ' + "[" * 20_000 + "]" * 20_000 + "}", "malformed"),
    ("{}", "missing_user"),
    ('{"user": "u1", "time": "2020-09-20 10:00:00"}', "missing_item"),
    ('{"user": "u1", "item": "a", "time": "2020-09-20 10:00:00", "other": [1, {"a": 2}]}', None),
    ('{"item": "\\u00e9\\ud83d\\uded2", "user": "u1", "time": "2020-09-20 10:00:00"}', None),
]


@pytest.mark.parametrize(("name", "header", "lines"), [("log.csv", 1, CSV_LINES), ("log.jsonl", 0, JSON_LINES)])
def test_broken_lines_are_set_aside_by_their_number(
    tmp_path: Path, name: str, header: int, lines: list[tuple[str, str | None]]
) -> None:
    good = write_rows(tmp_path / name, LOG).read_text().splitlines()
    mixed, expected = good[:header], {}
    for number, line in enumerate(good[header:]):
        mixed.append(line)
        if number < len(lines):
            text, reason = lines[number]
            if reason:
                expected[name, len(mixed) - header] = reason
            mixed.append(text)
    (tmp_path / name).write_text("\n".join(mixed) + "\n")
    prepared = run(tmp_path / "prepared", settings(tmp_path / name, log={"max_bad_share": 0.5}))
    check_aside(prepared, expected, read=len(LOG) + len(lines))
    items = set(prepared.items()["item_id"].to_pylist())
    odd = {"csv": {"over\ntwo lines", 'a "quoted" word', 'a"b'}, "jsonl": {"a", "\u00e9\U0001f6d2"}}
    assert odd[name.rpartition(".")[2]] <= items
    if name == "log.csv":
        content = {row["row"]: json.loads(row["content"]) for row in prepared.set_aside().to_pylist()}
        assert content[1] == "u1" and content[3] == "u1,i1"


def test_a_quote_that_is_never_closed_costs_only_what_follows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", LOG)
    path.write_text(path.read_text() + '"u1","open,2020-09-20\n')
    prepared = run(tmp_path / "prepared", settings(path))
    check_aside(prepared, {("log.csv", len(LOG)): "malformed"}, read=len(LOG) + 1)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_that_the_tables_do_not_know_are_set_aside_if_so_configured(tmp_path: Path, ending: str) -> None:
    rows = [dict(row) for row in LOG]
    rows[4]["item"], rows[7]["user"], rows[9]["user"], rows[9]["item"] = "i99", "u99", "u99", "i99"
    path = write_rows(tmp_path / f"log.{ending}", rows)
    items = {"path": str(write_rows(tmp_path / "items.csv", [{"id": f"i{n}"} for n in range(11)])), "id": "id"}
    users = {"path": str(write_rows(tmp_path / "users.csv", [{"id": f"u{n}"} for n in range(6)])), "id": "id"}
    kept = run(tmp_path / "kept", settings(path, items=items, users=users))
    check_aside(kept, {}, read=len(rows))
    aside = {"unknown": "set_aside"}
    prepared = run(tmp_path / "prepared", settings(path, items=items | aside, users=users | aside))
    reasons = {4: "unknown_item", 7: "unknown_user", 9: "unknown_user"}
    check_aside(prepared, {(f"log.{ending}", row): reason for row, reason in reasons.items()}, read=len(rows))


def test_unknown_events_are_filtered_out_before_anything_is_checked(tmp_path: Path) -> None:
    rows = [row | {"event": "buy"} for row in LOG]
    rows[3] |= {"event": "hover", "time": "x"}
    rows[5] |= {"event": "", "user": ""}
    rows[7] |= {"event": "BUY"}
    log = {"columns": COLUMNS | {"event": "event"}, "events": {"buy": 1}}
    prepared = run(tmp_path / "prepared", settings(write_rows(tmp_path / "log.csv", rows), log=log))
    check_aside(prepared, {}, read=len(rows))
    assert prepared.summary["rows"]["filtered"] == {"event hover": 1, "event (missing)": 1, "event BUY": 1}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_duplicates_within_a_file_and_across_files(tmp_path: Path, ending: str) -> None:
    write_rows(tmp_path / "logs" / f"a.{ending}", [*LOG, LOG[0], LOG[3]])
    write_rows(tmp_path / "logs" / f"b.{ending}", [LOG[5], LOG[0], LOG[6] | {"amount": 99.5}])
    prepared = run(tmp_path / "prepared", settings(tmp_path / "logs", log={"max_bad_share": 0.1}))
    places = [(f"a.{ending}", len(LOG)), (f"a.{ending}", len(LOG) + 1), (f"b.{ending}", 0), (f"b.{ending}", 1)]
    check_aside(prepared, dict.fromkeys(places, "duplicate"), read=len(LOG) + 5)


def test_events_beyond_the_rate_are_set_aside(tmp_path: Path) -> None:
    burst = [event("u9", f"i{n % 11}", 10 + n / 86400, amount=n) for n in range(10)]
    path = write_rows(tmp_path / "log.csv", [*LOG, *burst])
    rate = {"max_rate": {"events": 4, "per": "1h"}, "max_bad_share": 0.1}
    prepared = run(tmp_path / "prepared", settings(path, log=rate))
    beyond = {("log.csv", len(LOG) + n): "rate_limit" for n in range(4, 10)}
    check_aside(prepared, beyond, read=len(LOG) + 10)


def test_everything_broken_at_once_names_every_reason_and_leaves_nothing(tmp_path: Path) -> None:
    rows, expected = broken(ROWS["times"])
    path = write_rows(tmp_path / "log.csv", [row | {"user": ""} if n == 0 else row for n, row in enumerate(rows)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        run(tmp_path / "prepared", settings(path, log={"timezone": "Europe/London"}))
    for reason in {"missing_user", *expected.values()}:
        assert f"  {reason}: " in str(caught.value)
    assert f"{path} row 0: " in str(caught.value) and "is the future" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
