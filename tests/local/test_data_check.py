"""`two-tower data check`: what it says of good logs, of bad ones, and of none."""

import io
import os
import re
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.local.data_check import check_data
from two_tower.config import load_config

ROOT = Path(__file__).parents[2]

CONFIG = """
name: shop
data:
  interactions:
    path: orders.csv
    columns: {user: customer, item: sku, time: ordered_at}
    filters: [{column: status, op: "==", value: paid}]
  split: {type: global_time, test: 5d, validation: 5d}
training: {loss: {type: full_softmax}}
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.yaml").write_text(CONFIG)
    lines = [
        f"c{n % 7},sku{n % 11},2024-01-{1 + n // 10:02} 10:{n % 60:02}:00,{'paid' if n % 9 else 'open'}"
        for n in range(300)
    ]
    (tmp_path / "data" / "shop").mkdir(parents=True)
    (tmp_path / "data" / "shop" / "orders.csv").write_text("\n".join(["customer,sku,ordered_at,status", *lines]))
    return tmp_path


def check(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "data", "check", "shop.yaml", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_good_logs_are_profiled_and_split_without_a_trace(shop):
    result = check(shop)
    assert result.returncode == 0, result.stderr
    for said in (
        "c5 1",
        "filtered: did not meet status",
        "2024-01-26 10:",
        "events each day",
        "7 users, 11 items",
        "fine: 266",
    ):
        assert said in result.stdout
    assert sorted(path.name for path in shop.iterdir()) == ["data", "shop.yaml"]


def test_the_files_are_those_of_a_run(shop):
    """Its time is filled in, and the folder's name, in which a pattern could be seen, is none."""
    folder = shop / "[team] work"
    (folder / "data").mkdir(parents=True)
    (shop / "data" / "shop").rename(folder / "data" / "shop")
    (folder / "shop.yaml").write_text(CONFIG.replace("path: orders.csv", 'path: ["ord*.csv", "{date:%Y}-[0-9]*.csv"]'))
    orders = folder / "data" / "shop" / "orders.csv"
    header, *lines = orders.read_text().split("\n")
    orders.write_text("\n".join([header, *lines[:100]]))
    (orders.parent / f"{date.today():%Y}-1.csv").write_text("\n".join([header, *lines[100:]]))
    result = check(folder)
    assert result.returncode == 0, result.stderr
    assert f"interactions: 2 files, 0.0 MB, the first is {folder}/data/shop/" in result.stdout
    assert "fine: 266" in result.stdout


def test_bad_rows_are_shown_with_their_reason_and_too_many_end_with_1(shop):
    log = shop / "data" / "shop" / "orders.csv"
    log.write_text(log.read_text().replace("c3,sku3,", ",sku3,").replace("2024-01-07 10", "tomorrow 10"))
    result = check(shop)
    assert result.returncode == 0, result.stderr
    assert "set aside: bad_time" in result.stdout and "bad_time: orders.csv row 60: {" in result.stdout
    assert "missing_user: orders.csv row 3: {" in result.stdout
    result = check(shop, "--set", "data.interactions.max_bad_share=0.01")
    assert result.returncode == 1
    assert "a run would refuse these logs" in result.stdout and "max_bad_share" in result.stdout


def test_a_filter_says_when_its_value_occurs_nowhere_and_when_it_makes_no_sense(shop):
    result = check(shop, "--set", "data.interactions.filters.0={column: status, op: in, value: [paid, NO]}")
    assert result.returncode == 0, result.stderr
    assert 'filtered: did not meet status in ["paid", "NO"]' in result.stdout and "fine: 266" in result.stdout
    assert 'note: data.interactions.filters: status in "NO": no row has this value' in result.stdout
    result = check(shop, "--set", "data.interactions.filters.0={column: ordered_at, op: '>=', value: soon}")
    assert result.returncode == 1
    assert 'data.interactions.filters: ordered_at >= "soon": the column takes times' in result.stderr


def test_what_cannot_be_read_is_an_error(shop):
    result = check(shop, "--set", "data.interactions.columns.item=skuu")
    assert result.returncode == 1
    assert "no column 'skuu'" in result.stderr and "did you mean 'sku'" in result.stderr


def notes(monkeypatch, folder, *changes):
    """What the check says in this process, which is much faster."""
    monkeypatch.chdir(folder)
    console = Console(record=True, width=400, file=io.StringIO())
    assert check_data(load_config("shop.yaml", overrides=changes), console)
    return [line for line in console.export_text().splitlines() if line.startswith("note: ")]


def test_ties_within_baskets_are_noted_with_the_option_that_keeps_them_apart(shop, monkeypatch):
    log = shop / "data" / "shop" / "orders.csv"
    log.write_text(re.sub(r" 10:\d\d:00", "", log.read_text()))  # days are left: the orders of a day are one moment
    (tied,) = [note for note in notes(monkeypatch, shop, "data.split={type: leave_last_out}") if "of 7 test" in note]
    assert re.search(r": \d of 7 test queries \(\d+%\) see other events of their target's own moment", tied)
    assert tied.endswith("data.split.ties: apart keeps them out")
    assert not any(
        "ties" in note for note in notes(monkeypatch, shop, "data.split={type: leave_last_out, ties: apart}")
    )


def test_many_duplicates_are_noted_with_the_option_that_keeps_them(shop, monkeypatch):
    log = shop / "data" / "shop" / "orders.csv"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines, *lines[2:4]]))
    assert not any("duplicates" in note for note in notes(monkeypatch, shop))
    log.write_text("\n".join([*lines, *lines[2:7]]))
    (note,) = [note for note in notes(monkeypatch, shop) if "duplicates" in note]
    assert note.startswith("note: 5 of 271 good rows (1.8%) equal an earlier one in every column and are set aside")
    assert not any("duplicates" in note for note in notes(monkeypatch, shop, "data.interactions.duplicates=keep"))


EASE = "evaluation.baselines=[{type: popularity}, {type: ease, max_items: 10}]"
ABOVE_EASE = "{type: better_than_baseline, metric: recall@100, baseline: ease%s}"


def test_a_baseline_that_does_not_fit_is_named_and_with_a_blocking_check_a_run_would_not_start(shop, monkeypatch):
    advisory = f"evaluation.gate=[{ABOVE_EASE % ', blocking: false'}]"
    (note,) = [note for note in notes(monkeypatch, shop, EASE, advisory) if "ease" in note]
    assert note.startswith("note: the baseline ease does not fit and would be left out: 11 items were taken, more than")
    text, fine = said(shop, EASE, f"evaluation.gate=[{ABOVE_EASE % ''}]")
    assert not fine and "fine:" not in text
    assert "a run would refuse these logs: evaluation.gate.0: recall@100 above ease blocks promotion, but" in text


def test_an_index_that_does_not_fit_is_told_with_the_width_that_auto_stands_for(shop, monkeypatch):
    monkeypatch.chdir(shop)
    text, fine = said(shop, "index.target.memory_gb=1e-7")
    assert not fine and "index.target.memory_gb: 11 vectors of width 256 need at least" in text
    text, fine = said(shop, "model.history={type: transformer, heads: 3}")
    assert not fine and "a run would refuse these logs: model: history.heads: 3 heads do not divide dim 128" in text


def test_how_often_users_take_an_item_again_is_noted_with_what_follows(shop, monkeypatch):
    monkeypatch.chdir(shop)

    def noted(*changes):
        text, fine = said(shop, *changes)
        assert fine != ("a run would refuse these logs: the test window holds no query with a relevant item" in text)
        (note,) = [line for line in text.splitlines() if line.startswith("note: ") and "take" in line]
        return note

    again = "note: 189 of 266 positive events (71.1%) take an item that their user has had"
    excluded = "evaluation.exclude_seen=true"
    assert noted() == f"{again}; with evaluation.exclude_seen: false it may be recommended again"
    assert "missed (evaluation.repeats: leave_out leaves them out)" in noted(excluded)
    left_out = noted(excluded, "evaluation.repeats=leave_out")
    assert left_out.startswith(again) and left_out.endswith("evaluation.repeats leaves them out of the test")
    once = "data.interactions.repeats=first"
    assert noted(once) == "note: no user takes an item twice; evaluation.exclude_seen: true is usual then"
    assert noted(once, excluded) == "note: no user takes an item twice, as evaluation.exclude_seen: true supposes"


def said(folder, *settings):
    """What is said within this process, and whether a run would go on."""
    output = io.StringIO()
    config = load_config(folder / "shop.yaml", settings)
    fine = check_data(config, Console(file=output, width=200, markup=False, highlight=False))
    return output.getvalue(), fine


def days(form):
    """The times of 300 events, 10 a day from the first of January."""
    start = datetime(2024, 1, 1, 10)
    return [(start + timedelta(days=n // 10, minutes=n % 60)).strftime(form) for n in range(300)]


@pytest.fixture
def orders(tmp_path, monkeypatch):
    """A function that writes the log anew, of columns given as lists of texts."""
    monkeypatch.chdir(tmp_path)
    filters = '    filters: [{column: status, op: "==", value: paid}]\n'
    (tmp_path / "shop.yaml").write_text(CONFIG.replace(filters, ""))
    (tmp_path / "data" / "shop").mkdir(parents=True)

    def write(customers=None, times=None, end=""):
        customers = customers or [f"c{n % 7}" for n in range(300)]
        rows = zip(customers, times or days("%Y-%m-%d %H:%M"), strict=True)
        lines = [f"{customer},sku{n % 11},{time}{end}" for n, (customer, time) in enumerate(rows)]
        (tmp_path / "data" / "shop" / "orders.csv").write_text("\n".join(["customer,sku,ordered_at", *lines]))
        return tmp_path

    return write


SLASHES = {"times": days("%m/%d/%Y %H:%M")}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            SLASHES,
            ["columns, after the filters", "01/01/2024 10:00", "set aside: bad_time", "row 0: {",
             "300 times in 'ordered_at'", "what can be: timestamps", "time_format: month_first a sample"],
        ),
        ({"end": ","}, ["set aside: malformed", 'row 0: "c0,sku0,2024-01-01 10:00,"']),
    ],
)  # fmt: skip
def test_logs_of_which_every_row_is_bad_are_shown_with_the_reason(orders, changes, parts):
    text, fine = said(orders(**changes))
    assert not fine
    for part in (*parts, "a run would refuse these logs: data.interactions: of 300 rows none is left; 300 are bad"):
        assert part in text


def test_logs_of_which_every_row_is_filtered_are_shown_with_a_row(orders):
    text, fine = said(orders(), "data.interactions.filters=[{column: customer, op: '==', value: C1}]")
    assert not fine
    for part in ('filtered: did not meet customer == "C1"', '{"customer":"c0",', "none is left after the filters"):
        assert part in text


@pytest.mark.parametrize("time_format", ["month_first", '"%m/%d/%Y %H:%M"'])
def test_the_form_of_the_times_can_be_set(orders, time_format):
    text, fine = said(orders(**SLASHES), f"data.interactions.time_format={time_format}")
    assert fine and "2024-01-30 10:" in text and "times in" not in text


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"times": days("%Y%m%d")}, "note: all times in 'ordered_at' .*from 1970-08-23.*time_format: yyyymmdd"),
        ({"times": [f"{45292 + n / 10}" for n in range(300)]}, "note: all times .*from 1970-01-01.*: excel_days"),
        ({"times": [str(n) for n in range(300)]}, "note: all times .*data.interactions.columns.order instead of time"),
        ({"customers": ["7.65612E+15"] * 300}, "note: 300 rows have a rounded number as their user"),
        ({"customers": [f"c{n % 7}" + " " * (n % 2) for n in range(300)]}, "note: 7 users differ from another one"),
        ({"customers": ["NULL", "c1", "c2"] * 100}, "note: 100 rows have NULL as their user"),
    ],
)  # fmt: skip
def test_notes_on_what_a_file_likely_does_not_mean(orders, changes, note):

    text, fine = said(orders(**changes), "data.split={type: leave_last_out}")
    assert fine and re.search(note, text), text


def test_a_table_that_matches_nobody_and_an_estimate_with_its_error(orders):
    folder = orders([f"c{n}" for n in range(300)])
    (folder / "data" / "shop" / "users.csv").write_text("id\n" + "\n".join(f"C{n}" for n in range(2000)))
    users = "data.users={path: users.csv, id: id, features: {id: {type: hashed}}}"
    text, fine = said(folder, users)
    assert (
        fine and "note: none of the 300 users of the logs is in the user table (the logs have 'c0', the table" in text
    )
    assert " ±3 %" in text
