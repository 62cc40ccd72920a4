"""`two-tower data check`: what it says of good logs, of bad ones, and of none."""

import io
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.check import check_data
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
