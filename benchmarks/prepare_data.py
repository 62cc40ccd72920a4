"""Data preparation against pandas and polars on the whole table, each in a process of its own.

    python benchmarks/prepare_data.py            # 1, 10 and 30 million interactions
    python benchmarks/prepare_data.py --quick    # 100,000, 1 and 3 million

All three read the same Parquet files with string ids, drop what is incomplete and what stands there twice, number the
ids by (first seen, id), split by time, and write the same training sequences (items, times and how much of the past
each position may see), validation and test queries with their histories, and the candidate table with its counts;
the sequences and queries are compared after the run. The product's figure contains everything that the step does
besides: typed checks of every row, rows set aside with reasons, the profile of the data, checksums. Times are medians
of `--repeats` processes each, taken in turn; memory is the largest sum of resident sizes of a run's processes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

DAY = 86_400_000_000
START = 1_700_000_000_000_000
DAYS, TEST_DAYS, RECENT_DAYS = 90, 7, 14
HISTORY = 50
SEED = 7
FILES_PER_MILLION = 2
MAKERS = ("ours", "pandas", "polars")


def make_logs(folder: Path, *, rows: int, users: int, items: int) -> None:
    """Interactions of users and items with Zipf-like popularity, in files by time, 1 row in 500 twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    files = max(1, rows * FILES_PER_MILLION // 1_000_000)
    user_share, item_share = ((1 + np.arange(n)) ** -s for n, s in ((users, 0.6), (items, 1.0)))
    user_cdf, item_cdf = (np.cumsum(share) / share.sum() for share in (user_share, item_share))
    user_ids = pa.array([f"user-{n:08d}" for n in rng.permutation(users)])
    item_ids = pa.array([f"sku-{n:07d}" for n in rng.permutation(items)])
    for number in range(files):
        count = rows // files
        start = START + number * DAYS * DAY // files
        moments = np.sort(rng.integers(start, start + DAYS * DAY // files, count)) // 1_000_000 * 1_000_000
        user = np.searchsorted(user_cdf, rng.random(count))
        item = np.searchsorted(item_cdf, rng.random(count))
        amount = rng.integers(1, 20_000, count) / 100
        twice = rng.random(count) < 0.002
        source = np.where(twice, np.maximum(np.arange(count) - 1, 0), np.arange(count))
        table = pa.table(
            {
                "user": user_ids.take(pa.array(user[source])),
                "item": item_ids.take(pa.array(item[source])),
                "time": pa.array(moments[source], pa.timestamp("us")),
                "amount": pa.array(amount[source]),
            }
        )
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=250_000)


def run_ours(logs: Path, out: Path, *, shards: int) -> None:
    """The product's step, as the pipeline calls it."""
    from two_tower.config import BeamSettings, DataSettings
    from two_tower.data import prepare, resolve_sources

    data = DataSettings.model_validate(
        {
            "interactions": {"path": str(logs), "columns": {"user": "user", "item": "item", "time": "time"}},
            "query": {"history_length": HISTORY},
            "split": {"type": "global_time", "test": f"{TEST_DAYS}d", "validation": f"{TEST_DAYS}d"},
            "recent": f"{RECENT_DAYS}d",
            "shards": shards,
        }
    )
    prepare(
        resolve_sources(data, dataset="benchmark"),
        out=out / "prepared",
        data=data,
        beam=BeamSettings(),
        profile=out / "profile",
    )


def run_pandas(logs: Path, out: Path) -> None:
    """The same result by a data scientist's pandas, with its Arrow-backed strings."""
    import pandas as pd

    frame = pd.read_parquet(logs)
    frame = frame.dropna(subset=["user", "item", "time"]).drop_duplicates(ignore_index=True)
    frame["time"] = frame["time"].astype("int64")
    for name in ("user", "item"):
        first = frame.groupby(name, sort=True)["time"].min().sort_values(kind="stable")  # equal times stay by id
        frame[f"{name}_number"] = frame[name].map(pd.Series(np.arange(len(first), dtype=np.int32), index=first.index))
        first.rename("first_seen").reset_index().to_parquet(out / f"{name}s.parquet")
    frame = frame.drop(columns=["amount"]).sort_values(["user_number", "time"], kind="stable", ignore_index=True)
    test_from = frame["time"].max() - TEST_DAYS * DAY + 1
    validation_from = test_from - TEST_DAYS * DAY
    frame["part"] = (frame["time"] >= validation_from).astype("int8") + (frame["time"] >= test_from)
    counts = pd.DataFrame(index=pd.RangeIndex(frame["item_number"].max() + 1))
    for part, name in enumerate(("train", "validation", "test")):
        counts[f"{name}_count"] = frame[frame["part"] == part].groupby("item_number").size()
    for name, cutoff in (("validation", validation_from), ("test", test_from)):
        recent = frame["time"].between(cutoff - RECENT_DAYS * DAY, cutoff, inclusive="left")
        counts[f"recent_count_{name}"] = frame[recent].groupby("item_number").size()
    counts.fillna(0).astype("int64").to_parquet(out / "counts.parquet")
    place = frame.groupby("user_number").cumcount()
    frame["visible"] = place.groupby([frame["user_number"], frame["time"]]).transform("min").astype("int32")
    train = frame[frame["part"] == 0]
    grouped = train.groupby("user_number")
    sequences = grouped.agg(items=("item_number", list), times=("time", list), visible=("visible", list))
    sequences.reset_index(names="user").to_parquet(out / "train.parquet")
    for part, name in ((1, "validation"), (2, "test")):
        now = frame[frame["part"] == part]
        past = frame[(frame["part"] < part) & frame["user_number"].isin(now["user_number"])]
        recent = past.groupby("user_number").tail(HISTORY).groupby("user_number")
        queries = pd.DataFrame({"relevant": now.groupby("user_number")["item_number"].unique()})
        queries["history"] = recent["item_number"].agg(list)
        queries["history_times"] = recent["time"].agg(list)
        queries["seen"] = past.groupby("user_number")["item_number"].unique()
        queries.reset_index(names="user").to_parquet(out / f"{name}.parquet")


def run_polars(logs: Path, out: Path) -> None:
    """The same result by polars on the whole table, with all the cores."""
    import polars as pl

    frame = (
        pl.read_parquet(logs / "*.parquet")
        .drop_nulls(["user", "item", "time"])
        .unique(keep="first", maintain_order=True)
    )
    frame = frame.drop("amount").with_columns(pl.col("time").to_physical())
    for name in ("user", "item"):
        first = frame.group_by(name).agg(pl.col("time").min().alias("first_seen")).sort("first_seen", name)
        first.write_parquet(out / f"{name}s.parquet")
        first = first.select(name, pl.row_index(f"{name}_number").cast(pl.Int32))
        frame = frame.join(first, on=name, maintain_order="left").drop(name)
    frame = frame.sort("user_number", "time", maintain_order=True)
    test_from = frame["time"].max() - TEST_DAYS * DAY + 1  # type: ignore[operator]
    validation_from = test_from - TEST_DAYS * DAY
    time, part = pl.col("time"), pl.col("part")
    frame = frame.with_columns(part=(time >= validation_from).cast(pl.Int8) + (time >= test_from).cast(pl.Int8))
    recents = {
        f"recent_count_{name}": ((time >= cutoff - RECENT_DAYS * DAY) & (time < cutoff)).sum()
        for name, cutoff in (("validation", validation_from), ("test", test_from))
    }
    events = {f"{name}_count": (part == number).sum() for number, name in enumerate(("train", "validation", "test"))}
    frame.group_by("item_number").agg(**events, **recents).sort("item_number").write_parquet(out / "counts.parquet")
    row = pl.int_range(pl.len(), dtype=pl.Int32)
    frame = frame.with_columns(place=row.over("user_number"))
    frame = frame.with_columns(visible=pl.col("place").min().over("user_number", "time")).drop("place")
    train = frame.filter(part == 0).group_by("user_number", maintain_order=True)
    sequences = train.agg(items="item_number", times="time", visible="visible")
    sequences.rename({"user_number": "user"}).write_parquet(out / "train.parquet")
    for number, name in ((1, "validation"), (2, "test")):
        now = frame.filter(part == number).group_by("user_number", maintain_order=True)
        now = now.agg(relevant=pl.col("item_number").unique().sort())
        past = frame.filter(part < number).join(
            now.select("user_number"), on="user_number", how="semi", maintain_order="left"
        )
        past = past.group_by("user_number", maintain_order=True).agg(
            history=pl.col("item_number").tail(HISTORY),
            history_times=pl.col("time").tail(HISTORY),
            seen=pl.col("item_number").unique().sort(),
        )
        queries = now.join(past, on="user_number", how="left", maintain_order="left")
        queries.rename({"user_number": "user"}).write_parquet(out / f"{name}.parquet")


def results_of(out: Path) -> dict[str, Any]:
    """The training sequences and queries that a run left, in the order of the users, as polars frames."""
    import polars as pl

    root = out / "prepared" if (out / "prepared").exists() else out
    train = root / "train" / "*.parquet" if root != out else root / "train.parquet"
    lists = {"items": pl.Int32, "times": pl.Int64, "visible": pl.Int32}
    found = {
        "train": pl.read_parquet(train)
        .sort("user")
        .select("user", *(pl.col(name).cast(pl.List(kind)) for name, kind in lists.items()))
    }
    for name in ("validation", "test"):
        queries = pl.read_parquet(root / name / "*.parquet" if root != out else root / f"{name}.parquet").sort("user")
        found[name] = queries.select(
            "user",
            pl.col("relevant").cast(pl.List(pl.Int32)).list.sort(),
            pl.col("history").cast(pl.List(pl.Int32)).fill_null([]),
            pl.col("history_times").cast(pl.List(pl.Int64)).fill_null([]),
            pl.col("seen").cast(pl.List(pl.Int32)).fill_null([]).list.sort(),
        )
    return found


def measure(maker: str, logs: Path, out: Path, *, shards: int) -> tuple[float, float]:
    """Seconds and the largest sum of resident sizes, in GB, of one run in a process of its own."""
    import psutil

    out.mkdir(parents=True)
    command = [sys.executable, __file__, "--worker", maker, str(logs), str(out), str(shards)]
    started = time.perf_counter()
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not done.wait(0.05):
            try:
                peak = max(peak, sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"{maker} failed:\n{(out / 'log.txt').read_text()[-3000:]}")
    return seconds, peak / 1e9


def work(maker: str, logs: Path, out: Path, shards: int) -> None:
    """What a measured process does."""
    if maker == "ours":
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        run_ours(logs, out, shards=shards)
    else:
        {"pandas": run_pandas, "polars": run_polars}[maker](logs, out)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Makes the logs, measures, compares and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shards", type=int, default=8, help="at 10 million rows; 4 times as many at 30 million")
    parser.add_argument("--folder", type=Path, help="an existing folder where the logs and results go, and stay")
    parser.add_argument("--worker", nargs=4, metavar=("MAKER", "LOGS", "OUT", "SHARDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        maker, logs, out, shards = options.worker
        work(maker, Path(logs), Path(out), int(shards))
        return
    scale, repeats = (10, 1) if options.quick else (1, options.repeats)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        figures = compare(options.folder or Path(temporary), scale=scale, repeats=repeats, shards=options.shards)
    print(json.dumps(figures))


def compare(folder: Path, *, scale: int, repeats: int, shards: int) -> dict[str, Any]:
    """All the measurements."""
    sizes = {"1m": 1_000_000 // scale, "10m": 10_000_000 // scale, "30m": 30_000_000 // scale}
    for name, rows in sizes.items():
        if not (folder / f"logs-{name}").exists():
            say(f"making {rows:,} interactions")
            make_logs(folder / f"logs-{name}", rows=rows, users=rows // 20, items=200_000 // scale)
    taken: dict[str, list[tuple[float, float]]] = {}
    runs = [(maker, "10m") for maker in MAKERS] + [("ours", "1m"), ("ours", "30m")]
    for turn in range(repeats):
        for maker, size in runs:
            count = {"1m": max(1, shards // 8), "10m": shards, "30m": 4 * shards}[size]
            out = folder / f"out-{maker}-{size}-{turn}"
            shutil.rmtree(out, ignore_errors=True)
            seconds, peak = measure(maker, folder / f"logs-{size}", out, shards=count)
            taken.setdefault(f"{maker} {size}", []).append((seconds, peak))
            say(f"{maker} {size}: {seconds:.1f} s, {peak:.2f} GB")
    ours = results_of(folder / "out-ours-10m-0")
    for maker in ("pandas", "polars"):
        theirs = results_of(folder / f"out-{maker}-10m-0")
        for part, frame in ours.items():
            assert frame.equals(theirs[part]), f"{maker} gives other {part} rows"
    say("the three results are equal")
    seconds = {name: statistics.median(one for one, _ in values) for name, values in taken.items()}
    peaks = {name: max(peak for _, peak in values) for name, values in taken.items()}
    return {
        "vs_pandas": round(seconds["pandas 10m"] / seconds["ours 10m"], 3),
        "vs_polars": round(seconds["polars 10m"] / seconds["ours 10m"], 3),
        "peak_gb": round(peaks["ours 10m"], 3),
        "peak_gb_30m": round(peaks["ours 30m"], 3),
        **{f"seconds_{size}": round(seconds[f"ours {size}"], 2) for size in sizes},
        "seconds_pandas": round(seconds["pandas 10m"], 2),
        "seconds_polars": round(seconds["polars 10m"], 2),
        "peak_gb_pandas": round(peaks["pandas 10m"], 3),
        "peak_gb_polars": round(peaks["polars 10m"], 3),
        "rows": sizes,
        "shards": {"10m": shards, "30m": 4 * shards},
        "repeats": repeats,
        "seed": SEED,
        "cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in ("apache-beam", "pandas", "polars", "pyarrow")}
        | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    main()
