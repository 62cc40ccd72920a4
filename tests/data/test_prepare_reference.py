"""The step against the brute-force reference, on random logs with ties, duplicates and cold ids."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from prepared_logs import START, by_ids, ordinary_log, reference, run, run_rows, settings as data_settings, write_rows

from two_tower.errors import DataError

HOUR = 3_600_000_000

events = st.tuples(
    st.sampled_from(["ann", "bob", "Ç", "ann "]),
    st.sampled_from(["x", "y", "z", "007", "7"]),
    st.integers(0, 30),
)
"""Few users, items and hours, so that ties and duplicates are common."""


@pytest.mark.parametrize("split", ["global_time", "leave_last_out"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    log=st.lists(events, min_size=1, max_size=80),
    history=st.integers(0, 4),
    recent=st.integers(1, 30),
    shards=st.integers(1, 4),
)
def test_equals_the_reference(
    split: str, log: list[tuple[str, str, int]], history: int, recent: int, shards: int
) -> None:
    rows = [{"user": user, "item": item, "time": START + hour * HOUR} for user, item, hour in log]
    changes = {
        "log": {"max_bad_share": 1.0},
        "query": {"history_length": history},
        "recent": f"{recent}h",
        "shards": shards,
        "split": {"type": split} | ({"test": "6h", "validation": "5h"} if split == "global_time" else {}),
    }
    expected = reference(
        [(row["user"], row["item"], row["time"]) for row in rows],
        test=6 * HOUR,
        validation=5 * HOUR,
        recent=recent * HOUR,
        history=history,
        by_order=split == "leave_last_out",
    )
    with tempfile.TemporaryDirectory() as folder:
        if not (expected["train"] and expected["validation"] and expected["test"]):
            with pytest.raises(DataError, match=r"window is empty|no user has 3 positive events"):
                run_rows(Path(folder), rows, **changes)
            return
        prepared = run_rows(Path(folder), rows, **changes)
        assert by_ids(prepared) == expected
        summary = prepared.summary
        assert summary["rows"]["set_aside"].get("duplicate", 0) == len(log) - len(set(log))
        assert summary["rows"]["kept"] == sum(summary["events"].values()) == sum(summary["per_day"]["events"])
        newest = max(time for sequence in expected["train"].values() for _, time, _ in sequence)
        assert prepared.manifest.data_seen_until == newest


@pytest.mark.parametrize("split", ["global_time", "leave_last_out"])
def test_the_future_changes_nothing_before_the_cutoff(tmp_path: Path, split: str) -> None:
    """Other items and users in the test window: training data, validation queries and their statistics stay."""
    rows = ordinary_log()
    changes = {"split": {"type": split} | ({"test": "5d", "validation": "5d"} if split == "global_time" else {})}
    changes["query"] = {"context": {"amount": {"type": "numeric"}}}
    before = run_rows(tmp_path / "a", rows, **changes)
    if split == "global_time":
        test_from = before.manifest.extra["test_from"]
        last = max(row["time"] for row in rows)
        cut = str(np.datetime64(test_from, "us")).replace("T", " ")
        future = [n for n, row in enumerate(rows) if row["time"] >= cut and row["time"] < last]
    else:
        future = [max(n for n, row in enumerate(rows) if row["user"] == f"u{user}") for user in range(6)]
    assert len(future) > 3
    changed = [dict(row) for row in rows]
    for n in future:
        changed[n] |= {"item": f"new {n}", "amount": 1e6}
        if split == "global_time" and n % 2:
            changed[n]["user"] = f"new {n}"
    after = run_rows(tmp_path / "b", changed, **changes)
    one, two = by_ids(before), by_ids(after)
    assert one["test"] != two["test"]
    for part in ("train", "validation"):
        assert one[part] == two[part]
    assert before.features == after.features
    for item, counts in one["items"].items():
        assert two["items"].get(item, counts)[1:3] == counts[1:3]
    if split == "global_time":  # and the numbers themselves
        assert before.sequences().equals(after.sequences())
        assert before.queries("validation").equals(after.queries("validation"))


def test_histories_come_from_before_the_cutoff_and_the_test_history_includes_validation(tmp_path: Path) -> None:
    prepared = run_rows(tmp_path, ordinary_log())
    extra = prepared.manifest.extra
    for split, key in (("validation", "validation_from"), ("test", "test_from")):
        for row in prepared.queries(split).to_pylist():
            assert row["cutoff"] == extra[key]
            assert max(row["history_times"]) < row["cutoff"]
    assert any(
        time >= extra["validation_from"]
        for row in prepared.queries("test")["history_times"].to_pylist()
        for time in row
    )


def test_the_split_into_files_and_their_format_change_nothing(tmp_path: Path) -> None:
    rows = [row | {"user": row["user"].removeprefix("u")} for row in ordinary_log()]
    typed = [row | {"user": int(row["user"])} for row in rows]
    reference_run = run_rows(tmp_path / "parquet", typed)
    for name in ("log.csv.gz", "log.jsonl"):
        other = run_rows(tmp_path / name, typed, name=name)
        for table in ("items", "users", "sequences"):
            assert getattr(other, table)().equals(getattr(reference_run, table)()), (name, table)
        assert other.queries("test").equals(reference_run.queries("test"))
        assert other.summary == reference_run.summary
    third = len(typed) // 3
    for part in range(3):
        write_rows(tmp_path / "logs" / f"day={part}" / "part.csv", typed[part * third : (part + 1) * third])
    (tmp_path / "logs" / "_SUCCESS").touch()
    (tmp_path / "logs" / ".hidden.csv").write_text("x\n")
    split = run(tmp_path / "split", data_settings(tmp_path / "logs"))
    assert split.sequences().equals(reference_run.sequences())
