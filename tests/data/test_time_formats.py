"""The forms of times that have to be named: what each reads, what it leaves, and which one is suggested."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from prepared_logs import Row, event, ordinary_log, run, run_rows, settings, write_rows
from pydantic import ValidationError

from two_tower.config import DataSettings
from two_tower.data import in_sentences
from two_tower.data.oddities import odd_times
from two_tower.data.time_formats import as_times
from two_tower.data.values import microseconds
from two_tower.settings import TIME_FORMATS


def read(values: Any, time_format: str, zone: str = "UTC") -> list[str | None]:
    """The moments as ISO 8601 text in UTC, to the second where it is whole."""
    column = pl.Series("at", values, strict=False) if isinstance(values, list) else pl.Series("at", values)
    times = microseconds(column, timezone=zone, time_format=time_format)
    return [None if one is None else datetime.fromtimestamp(one / 1e6, UTC).isoformat(" ")[:-6] for one in times]


NEW_YEAR = "2024-01-31 00:00:00"


@pytest.mark.parametrize(
    ("time_format", "text", "expected"),
    [
        ("day_first", "31/01/2024", NEW_YEAR),
        ("day_first", " 31.1.2024 ", NEW_YEAR),
        ("day_first", "31-01-24", NEW_YEAR),
        ("day_first", "31/01/69", "2069-01-31 00:00:00"),
        ("day_first", "31/01/70", "1970-01-31 00:00:00"),
        ("day_first", "31-Jan-2024", NEW_YEAR),
        ("day_first", "31 JANUARY 2024 18:30", "2024-01-31 18:30:00"),
        ("day_first", "31/01/2024 9:05", "2024-01-31 09:05:00"),
        ("day_first", "31.01.2024, 18:30:05.25", "2024-01-31 18:30:05.250000"),
        ("day_first", "31/01/2024T18:30:05+02:00", "2024-01-31 16:30:05"),
        ("day_first", "31/01/2024 18:30:05 Z", "2024-01-31 18:30:05"),
        ("day_first", "2024-01-31 18:30", "2024-01-31 18:30:00"),
        ("day_first", "30/02/2024", None),
        ("day_first", "01/31/2024", None),
        ("day_first", "31/01/2024 25:00", None),
        ("day_first", "31-Foo-2024", None),
        ("day_first", "31/01/024", None),
        ("day_first", "20240131", None),
        ("day_first", "1706659200", None),
        ("day_first", "", None),
        ("month_first", "01/31/2024", NEW_YEAR),
        ("month_first", "1/31/24 12:05 AM", "2024-01-31 00:05:00"),
        ("month_first", "1/31/24 12:05:06 pm", "2024-01-31 12:05:06"),
        ("month_first", "1/31/24 6:30 p.m.", "2024-01-31 18:30:00"),
        ("month_first", "1/31/24 13:05 PM", None),
        ("month_first", "Jan 31, 2024 18:30", "2024-01-31 18:30:00"),
        ("month_first", "31/01/2024", None),
        ("yyyymmdd", "20240131", NEW_YEAR),
        ("yyyymmdd", "20240131.0", NEW_YEAR),
        ("yyyymmdd", "20240131 18:30", "2024-01-31 18:30:00"),
        ("yyyymmdd", "20240131T183005Z", "2024-01-31 18:30:05"),
        ("yyyymmdd", "20240131183005", "2024-01-31 18:30:05"),
        ("yyyymmdd", "20241301", None),
        ("yyyymmdd", "202401", None),
        ("excel_days", "45322", NEW_YEAR),
        ("excel_days", "45322.770833333", "2024-01-31 18:30:00"),
        ("excel_days", "0", None),
        ("excel_days", "1706659200", None),
        ("excel_days", "2024-01-31", None),
        ("s", "1706659200.5", "2024-01-31 00:00:00.500000"),
        ("s", "12", "1970-01-01 00:00:12"),
        ("ms", "12", "1970-01-01 00:00:00.012000"),
        ("us", "1706659200000000", NEW_YEAR),
        ("ns", "1706659200000000000", NEW_YEAR),
        ("ns", "2024-01-31", None),
        ("%d/%m/%Y %H:%M", "31/01/2024 18:30", "2024-01-31 18:30:00"),
        ("%d/%m/%Y %H:%M", "31/01/2024", None),
        ("%d/%m/%Y", "31/01/24", None),
        ("%d/%m/%y", "31/01/24", NEW_YEAR),
        ("%Y-%m-%d %H:%M:%S.%f", "2024-01-31 18:30:05.25", "2024-01-31 18:30:05.250000"),
        ("%Y-%m-%d %H:%M:%S,%f", "2024-01-31 18:30:05,25", "2024-01-31 18:30:05.250000"),
        ("[%d/%b/%Y:%H:%M:%S %z]", "[31/Jan/2024:18:30:05 -0700]", "2024-02-01 01:30:05"),
        ("%a %b %d %H:%M:%S %z %Y", "Wed Jan 31 18:30:05 +0000 2024", "2024-01-31 18:30:05"),
    ],
)  # fmt: skip
def test_text_is_read_by_the_named_form_alone(time_format: str, text: str, expected: str | None) -> None:
    assert read([text, None], time_format) == [expected, None]


@pytest.mark.parametrize(
    ("time_format", "column", "expected"),
    [
        ("yyyymmdd", pa.array([20240131, 20241301, None]), [NEW_YEAR, None, None]),
        ("yyyymmdd", pa.array([20240131.0, 20240131.5, float("nan")]), [NEW_YEAR, None, None]),
        ("%Y%m%d", pa.array([20240131], pa.int32()), [NEW_YEAR]),
        ("excel_days", pa.array([45322, 10**9]), [NEW_YEAR, None]),
        ("excel_days", pa.array([45322.5, float("inf"), float("nan")]), ["2024-01-31 12:00:00", None, None]),
        ("ms", pa.array([-1, 2**63 - 1, None]), ["1969-12-31 23:59:59.999000", None, None]),
        ("s", pa.array([1.5, 1e300, float("nan")]), ["1970-01-01 00:00:01.500000", None, None]),
        ("day_first", pa.array([datetime(2024, 1, 31)]), [NEW_YEAR]),  # timestamps need no form
        ("day_first", pa.array([None, None]), [None, None]),
        ("day_first", pa.array([], pa.string()), []),
    ],
)
def test_numbers_and_timestamps(time_format: str, column: pa.Array, expected: list[str | None]) -> None:
    assert read(column, time_format) == expected


@pytest.mark.parametrize(
    ("time_format", "text"),
    [("day_first", "31/07/2024 12:00"), ("yyyymmdd", "202407311200"), ("excel_days", "45504.5"),
     ("%d %m %Y %H:%M", "31 07 2024 12:00")],
)  # fmt: skip
def test_times_without_a_zone_are_in_the_configured_one(time_format: str, text: str) -> None:
    assert read([text], time_format, "Europe/Berlin") == ["2024-07-31 10:00:00"]


def test_every_name_of_the_settings_is_a_form() -> None:
    for name in TIME_FORMATS[1:]:
        assert as_times(pl.Series(["x"]), name).to_list() == [None]


@pytest.mark.parametrize(
    ("time_format", "match"),
    [
        ("day_frst", "no such format; did you mean 'day_first'"),
        ("dd/mm/yyyy", "no such format .*a pattern such as '%d/%m/%Y %H:%M'"),
        ("%d/%m", "lacks a year, %Y or %y"),
        ("%d.%Y", "lacks a month"),
        ("%m/%Y", "lacks a day"),
        ("%d/%m/%Y %H", "lacks minutes"),
        ("%d/%m/%Y %M:%S", "lacks an hour"),
        ("%d/%m/%Y %H:%S", "lacks minutes"),
        ("%d/%m/%Y %I:%M", "lacks %p"),
        ("%d/%m/%Y %H:%M %p", "lacks %I"),
        ("%d/%m/%Y %H:%M:%S%f", "%f, the fraction of a second, has to follow a point"),
        ("%d/%m/%Y %Z", "%Z cannot be read"),
        ("%d/%m/%Y %", "% cannot be read"),
    ],
)
def test_a_form_that_cannot_be_meant_is_refused_by_name(time_format: str, match: str) -> None:
    with pytest.raises(ValidationError, match=rf"interactions\.time_format\n.*{match}"):
        settings("log.csv", log={"time_format": time_format})


def test_a_form_without_a_column_of_times_is_refused() -> None:
    log = {"columns": {"user": "user", "item": "item", "order": "n"}, "time_format": "s"}
    with pytest.raises(ValidationError, match=r"time_format needs columns\.time, which is not set"):
        settings("log.csv", log=log, split={"type": "leave_last_out"})


def noted(data: DataSettings, values: list[Any], *, bad: int = 0, last: int = -1) -> list[str]:
    """What is said of sampled times of which so many rows are bad."""
    found = odd_times(data.interactions, [pl.Series(values)], {"bad_time": bad}, span=(0, last), newest=0)
    return in_sentences(found)


MINUTES = [f"{n % 28 + 1:02}/{n % 12 + 1:02}/2024" for n in range(100)]


@pytest.mark.parametrize(
    ("values", "suggested"),
    [
        (MINUTES, "With data.interactions.time_format: day_first a sample"),
        ([f"{text[3:5]}/{text[:2]}/{text[6:]}" for text in MINUTES], "time_format: month_first a sample"),
        (["01/02/2024", "03/04/2024"], "time_format: day_first and with month_first a sample .*which one is meant"),
        ([*MINUTES[:97], "x", "y", "z"], "time_format: day_first a sample"),
        ([*MINUTES[:90], *["x"] * 10], "other forms need a data.interactions.time_format"),
        (["2024-01-31", *MINUTES], "time_format: day_first a sample"),
        (["soon", "later"], "other forms need a data.interactions.time_format"),
    ],
)
def test_the_form_that_reads_nearly_all_of_a_sample_is_suggested(values: list[str], suggested: str) -> None:
    (said,) = noted(settings("log.csv"), values, bad=7)
    assert said.startswith("7 times in 'time' cannot be read; what can be: timestamps, dates, ISO 8601 text such as")
    assert re.search(suggested, said)


@pytest.mark.parametrize(
    ("values", "suggested"),
    [
        ([20240101, 20240228], "time_format: yyyymmdd a sample"),
        (["45292.5", "45293"], "time_format: excel_days a sample"),
        (list(range(1, 2000)), "columns.order instead of time; .*time_format: s"),
        ([datetime(1970, 1, 1, 0, 0, 20)], "They are timestamps already"),
    ],
)
def test_times_that_are_all_too_old_are_said_with_what_they_may_be(values: list[Any], suggested: str) -> None:
    (said,) = noted(settings("log.csv"), values, last=20_240_228_000_000)
    assert "all times in 'time' are read as from 1970-01-01T00:00:00 to 1970-08-23T06:17:08" in said
    assert re.search(suggested, said)
    assert noted(settings("log.csv", log={"time_format": "s"}), values, last=20_240_228_000_000) == []
    assert noted(settings("log.csv"), values, last=1_700_000_000_000_000) == []


def in_form(rows: list[Row], form: str) -> list[Row]:
    return [row | {"time": datetime.fromisoformat(row["time"]).strftime(form)} for row in rows]


def test_filters_and_ranges_compare_the_times_that_the_form_gives(tmp_path: Path) -> None:
    rows = ordinary_log()
    changes: dict[str, Any] = {
        "filters": [{"column": "time", "op": ">=", "value": "2020-09-15"}],
        "ranges": {"time": {"max": "2020-10-08"}},
        "max_bad_share": 0.5,
    }
    plain = run_rows(tmp_path / "plain", rows, log=changes)
    slashed = run_rows(
        tmp_path / "slashed", in_form(rows, "%d/%m/%Y %H:%M:%S"), log=changes | {"time_format": "day_first"}
    )
    assert plain.summary["rows"]["set_aside"]["out_of_range"] and plain.summary["rows"]["filtered"]
    assert slashed.summary["rows"] == plain.summary["rows"]
    assert slashed.sequences().equals(plain.sequences())


def test_a_day_without_a_time_in_csv_and_as_numbers_in_parquet(tmp_path: Path) -> None:
    rows = in_form([event(f"u{n % 5}", f"i{n % 7}", n / 5, n=n) for n in range(150)], "%Y%m%d")
    log = {"time_format": "yyyymmdd"}
    text = run(tmp_path / "text", settings(write_rows(tmp_path / "log.csv", rows), log=log))
    numbers = run_rows(tmp_path / "numbers", [row | {"time": int(row["time"])} for row in rows], log=log)
    assert text.sequences().equals(numbers.sequences())
    assert text.summary["windows"]["train"][0] == int(datetime(2020, 9, 13, tzinfo=UTC).timestamp()) * 10**6


def test_lines_that_a_quote_has_swallowed_are_told_by_times_of_the_form(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", in_form(ordinary_log(), "%d/%m/%Y %H:%M"))
    lines = path.read_text().replace('"', "").splitlines()
    lines[20] = lines[20].replace("i", '"i', 1)
    lines[40] = lines[40].replace("i", 'i"', 1)
    path.write_text("\n".join([*lines, ""]))
    prepared = run(tmp_path / "prepared", settings(path, log={"time_format": "day_first", "max_bad_share": 0.5}))
    assert prepared.summary["rows"]["set_aside"] == {"malformed": 21}
