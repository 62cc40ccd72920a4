"""Small logs, run through the real step, and a plain reference that shares no code with it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from two_tower.config import Beam, Data
from two_tower.data import Prepared, open_prepared, prepare, resolve_sources

DAY = 86_400_000_000
START = 1_600_000_000_000_000

Row = dict[str, Any]


def event(user: Any, item: Any, day: float, **more: Any) -> Row:
    """A log row `day` days after the start, at a whole second."""
    micros = START + int(day * 86400) * 1_000_000
    time = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(tzinfo=None)
    return {"user": user, "item": item, "time": time.isoformat(sep=" "), **more}


def ordinary_log(users: int = 6, days: int = 30) -> list[Row]:
    """A log without anything odd: every user has an event on every other day."""
    return [
        event(f"u{user}", f"i{(user * 7 + day) % 11}", day + user / 100, amount=day + 1.5)
        for day in range(days)
        for user in range(users)
        if (day + user) % 2
    ]


def write_rows(path: Path, rows: list[Row]) -> Path:
    """Writes the rows in the format that the path's ending says."""
    name = path.name.removesuffix(".gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        return path
    if name.endswith(".csv"):
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(pa.Table.from_pylist(rows), sink)
        content = sink.getvalue().to_pybytes()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def settings(path: Path | str | list[str], **changes: Any) -> Data:
    """Settings for a log with the columns user, item and time; `log` updates its section."""
    log = {
        "path": path if isinstance(path, list) else str(path),
        "columns": {"user": "user", "item": "item", "time": "time"},
    }
    log |= changes.pop("log", {})
    split = {"type": "global_time", "test": "5d", "validation": "5d"}
    return Data.model_validate({"interactions": log, "split": split, "shards": 3} | changes)


def run(out: Path, data: Data) -> Prepared:
    """The real step on the real files."""
    prepare(resolve_sources(data, dataset="test", data_root=str(out.parent)), out, data=data, beam=Beam())
    return open_prepared(out)


def run_rows(folder: Path, rows: list[Row], *, name: str = "log.parquet", **changes: Any) -> Prepared:
    """The real step on rows."""
    return run(folder / "prepared", settings(write_rows(folder / name, rows), **changes))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def by_ids(prepared: Prepared) -> dict[str, Any]:
    """The prepared data with ids for numbers, in the shape of `reference`."""
    items = prepared.items(["item_id"])["item_id"].to_pylist()
    users = prepared.users(["user_id"])["user_id"].to_pylist()
    found: dict[str, Any] = {"train": {}}
    for row in prepared.sequences().to_pylist():
        entries = zip(row["items"], row["times"], row["visible"], strict=True)
        found["train"][users[row["user"]]] = [(items[item], time, visible) for item, time, visible in entries]
    for split in ("validation", "test"):
        found[split] = {}
        for row in prepared.queries(split).to_pylist():
            assert users[row["user"]] == row["user_id"]
            assert row["seen"] == sorted(set(row["seen"])) and row["relevant"] == sorted(set(row["relevant"]))
            found[split][row["user_id"]] = {
                "cutoff": row["cutoff"],
                "history": [
                    (items[item], time) for item, time in zip(row["history"], row["history_times"], strict=True)
                ],
                "seen": {items[item] for item in row["seen"]},
                "relevant": {items[item] for item in row["relevant"]},
                "new_user": row["new_user"],
            }
    columns = ("first_seen", "train_count", "validation_count", "test_count")
    columns += ("recent_count_validation", "recent_count_test")
    found["items"] = {row["item_id"]: tuple(row[name] for name in columns) for row in prepared.items().to_pylist()}
    found["item_order"], found["user_order"] = items, users
    return found


def reference(
    log: list[tuple[str, str, int]], *, test: int, validation: int, recent: int, history: int, by_order: bool
) -> dict[str, Any]:
    """What the step must give for (user, item, time) rows in the order of the source, by brute force."""
    distinct = list(dict.fromkeys(log))
    end = max(time for _, _, time in distinct)
    users: dict[str, list[tuple[str, int]]] = {}
    for user, item, time in distinct:
        users.setdefault(user, []).append((item, time))
    found: dict[str, Any] = {"train": {}, "validation": {}, "test": {}}
    part_of: list[tuple[str, int, str]] = []
    for user, events in users.items():
        events.sort(key=lambda event: event[1])  # stable
        if by_order:
            targets = {"validation": [len(events) - 2], "test": [len(events) - 1]} if len(events) > 2 else {}
        else:
            targets = {
                "validation": [n for n, (_, t) in enumerate(events) if end - test - validation < t <= end - test],
                "test": [n for n, (_, t) in enumerate(events) if end - test < t],
            }
        name_of = {n: split for split, places in targets.items() for n in places}
        parts = [name_of.get(n, "train") for n in range(len(events))]
        part_of += [(item, time, part) for (item, time), part in zip(events, parts, strict=True)]
        train = [event for event, part in zip(events, parts, strict=True) if part == "train"]
        if train:
            found["train"][user] = [
                (item, time, n if by_order else sum(other < time for _, other in train[:n]))
                for n, (item, time) in enumerate(train)
            ]
        for split, places in targets.items():
            if not places:
                continue
            past = events[: places[0]]
            start = {"validation": end - test - validation + 1, "test": end - test + 1}[split]
            found[split][user] = {
                "cutoff": events[places[0]][1] if by_order else start,
                "history": past[-history:] if history else [],
                "seen": {item for item, _ in past},
                "relevant": {events[n][0] for n in places},
                "new_user": not past,
            }
    first_seen: dict[str, int] = {}
    first_user: dict[str, int] = {}
    for user, item, time in distinct:
        first_seen[item] = min(time, first_seen.get(item, time))
        first_user[user] = min(time, first_user.get(user, time))
    before = {"validation": ["train"], "test": ["train", "validation"]}
    cutoffs = {"validation": end - test - validation + 1, "test": end - test + 1}
    if by_order:
        cutoffs = {"validation": end + 1, "test": end + 1}
    counts = Counter((item, part) for item, _, part in part_of)
    recents = Counter(
        (item, split)
        for split in before
        for item, time, part in part_of
        if part in before[split] and cutoffs[split] - recent <= time < cutoffs[split]
    )
    found["items"] = {
        item: (
            first_seen[item],
            *(counts[item, part] for part in ("train", "validation", "test")),
            *(recents[item, split] for split in ("validation", "test")),
        )
        for item in first_seen
    }
    found["item_order"] = sorted(first_seen, key=lambda item: (first_seen[item], item))
    found["user_order"] = sorted(first_user, key=lambda user: (first_user[user], user))
    return found
