"""Small logs, run through the real step, and a plain reference that shares no code with it but a hash."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from two_tower.columns import share_hash
from two_tower.config import BeamSettings, DataSettings
from two_tower.contracts import ROLES
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
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=max(7, len(rows) // 8))
        return path
    if name.endswith(".csv"):
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(pa.Table.from_pylist(rows), sink)
        content = sink.getvalue().to_pybytes()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def settings(path: Path | str | list[str], **changes: Any) -> DataSettings:
    """Settings for a log with the columns user, item and time; `log` updates its section."""
    log = {
        "path": path if isinstance(path, list) else str(path),
        "columns": {"user": "user", "item": "item", "time": "time"},
    }
    log |= changes.pop("log", {})
    split = {"type": "global_time", "test": "5d", "validation": "5d"}
    return DataSettings.model_validate({"interactions": log, "split": split, "shards": 3} | changes)


def run(out: Path, data: DataSettings, *, workers: int = 0) -> Prepared:
    """The real step on the real files; on small ones, one worker is faster than several."""
    sources = resolve_sources(data, dataset="test", data_root=str(out.parent))
    prepare(sources, out=out, data=data, beam=BeamSettings(workers=workers))
    return open_prepared(out)


def run_rows(folder: Path, rows: list[Row], *, name: str = "log.parquet", workers: int = 0, **changes: Any) -> Prepared:
    """The real step on rows."""
    return run(folder / "prepared", settings(write_rows(folder / name, rows), **changes), workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def by_ids(prepared: Prepared) -> dict[str, Any]:
    """The prepared data with ids for numbers, in the shape of `reference`."""
    items = prepared.items(["item_id"])["item_id"].to_pylist()
    users = prepared.users(["user_id"])["user_id"].to_pylist()

    def history(row: Row) -> list[tuple[str, int, str]]:
        entries = zip(row["history"], row["history_times"], row["history_roles"], strict=True)
        return [(items[item], time, ROLES[role]) for item, time, role in entries]

    found: dict[str, Any] = {"train": {}, "pairs": {}}
    columns = ("items", "times", "roles", "visible", "targets", "weights")
    for row in prepared.sequences().to_pylist():
        entries = zip(*(row[name] for name in columns), *context_of(row), strict=True)
        found["train"][users[row["user"]]] = [
            (items[item], time, ROLES[role], visible, target, weight, *context)
            for item, time, role, visible, target, weight, *context in entries
        ]
    for row in pairs_of(prepared).to_pylist():
        pair = (items[row["item"]], row["time"], row["weight"], *context_of(row), history(row))
        found["pairs"].setdefault(users[row["user"]], []).append(pair)
    for split in ("validation", "test"):
        found[split] = {}
        for row in prepared.queries(split).to_pylist():
            assert users[row["user"]] == row["user_id"]
            assert row["seen"] == sorted(set(row["seen"])) and row["relevant"] == sorted(set(row["relevant"]))
            found[split][row["user_id"]] = {
                "cutoff": row["cutoff"],
                "history": history(row),
                "seen": {items[item] for item in row["seen"]},
                "relevant": {items[item] for item in row["relevant"]},
                "new_user": row["new_user"],
                "context": context_of(row),
            }
    columns = ("first_seen", "train_count", "validation_count", "test_count")
    columns += ("recent_count_validation", "recent_count_test")
    found["items"] = {row["item_id"]: tuple(row[name] for name in columns) for row in prepared.items().to_pylist()}
    found["item_order"], found["user_order"] = items, users
    for name in ("rows", "events", "tied"):
        found[name] = prepared.summary[name]
    return found


def pairs_of(prepared: Prepared) -> pa.Table:
    """The training examples in the shape `pairs`; no rows in the other shape."""
    folder = prepared.folder / "pairs"
    return pq.read_table(folder) if folder.exists() else pa.table({})


def context_of(row: Row) -> list[Any]:
    """The values of the context features."""
    return [value for name, value in row.items() if name.startswith("context.")]


@dataclass(frozen=True)
class Rules:
    """What `reference` is to do with a log; durations in microseconds."""

    split: Literal["global_time", "leave_last", "given"]
    test: int = 0
    """The length of the test window, in the split by time."""
    validation: int = 0
    k: int = 1
    """How many last positives are test targets, in the split by order."""
    ties: Literal["order", "apart"] = "order"
    """Whether the events of one moment follow each other as in the file, in the split by order."""
    given: dict[str, str] = field(default_factory=dict)
    """The part that a value of the column `split` stands for; others are for training."""
    train_pairs: set[tuple[str, str]] | None = None
    """If set, the (user, item) pairs outside of the test that stay in training; the others are validation."""
    moment: Literal["time", "order"] | None = "time"
    """The column that orders the events."""
    roles: dict[str, tuple[str, float]] | None = None
    """The role and the weight of each event."""
    history_roles: tuple[str, ...] = ("positive",)
    history: int = 50
    first_only: bool = False
    """Whether of a user's events with an item in a role only the first counts."""
    rate: tuple[int, int] | None = None
    """So many events of a user in such a time at most."""
    core: tuple[int, int] | None = None
    """The least training events of a user, and of an item."""
    max_per_user: int | None = None
    pairs: bool = False
    recent: int = 28 * DAY


@dataclass(eq=False)
class Entry:
    """An event in the reference."""

    user: str
    item: str
    time: int
    role: str
    weight: float
    context: list[Any]
    part: str
    """That of the given split, then of whichever there is."""

    @property
    def positive(self) -> bool:
        return self.role == "positive"


PARTS = ("train", "validation", "test")


def reference(rows: list[Row], rules: Rules) -> dict[str, Any]:
    """What the step must give for rows with `user`, `item` and what else `rules` needs, by brute force.

    Where a part has no positive event, the step must refuse the log; then only `events` is right.
    """
    wanted = [row for row in rows if rules.roles is None or row["event"] in rules.roles]
    distinct = [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in wanted)]
    users: dict[str, list[Entry]] = {}
    for row in distinct:
        users.setdefault(row["user"], []).append(_entry(row, rules))
    limited = repeated = 0
    for user, events in users.items():
        events.sort(key=lambda event: (PARTS.index(event.part), event.time))  # stable
        allowed = [event for n, event in enumerate(events) if not _is_beyond_rate(event, events[:n], rules)]
        kept = [event for n, event in enumerate(allowed) if not _is_repeat(event, allowed[:n], rules)]
        users[user] = kept
        limited += len(events) - len(allowed)
        repeated += len(allowed) - len(kept)
    users = {user: events for user, events in users.items() if events}
    everything = [event for events in users.values() for event in events]
    if not everything:
        return {"events": dict.fromkeys(PARTS, 0)}
    end = max(event.time for event in everything)
    for events in users.values():
        for event, part in zip(events, _parts(events, rules, end), strict=True):
            event.part = part
    all_train = [event for event in everything if event.part == "train"]
    train = _core(all_train, rules)
    trained = {user: [event for event in train if event.user == user] for user in users}
    used = train + [event for event in everything if event.part != "train"]

    found: dict[str, Any] = {"train": {}, "pairs": {}, "validation": {}, "test": {}}
    found["tied"] = {"validation": 0, "test": 0}
    for user, events in trained.items():
        if not events:
            continue
        targets = [event for event in events if event.positive][-(rules.max_per_user or len(events)) :]
        found["train"][user] = [
            (e.item, e.time, e.role, _visible(n, events, rules), e in targets, e.weight, *e.context)
            for n, e in enumerate(events)
        ]
        if rules.pairs and targets:
            found["pairs"][user] = [
                (e.item, e.time, e.weight, *e.context, _shown(_past_of(e, events, rules), rules)) for e in targets
            ]
    starts = {"validation": end - rules.test - rules.validation + 1, "test": end - rules.test + 1}
    for split, start in starts.items():
        for user, events in users.items():
            past = [event for event in events if PARTS.index(event.part) < PARTS.index(split)]
            targets = _targets([event for event in events if event.part == split and event.positive], rules)
            if targets:
                found[split][user] = {
                    "cutoff": start if rules.split == "global_time" else targets[0].time,
                    "history": _shown(past, rules),
                    "seen": {event.item for event in past if event.role != "impression"},
                    "relevant": {event.item for event in targets},
                    "new_user": not past,
                    "context": targets[0].context,
                }
                shown = [e for e in past if e.role in rules.history_roles or e.role != "impression"]
                found["tied"][split] += rules.split == "leave_last" and any(e.time == targets[0].time for e in shown)
        if rules.split != "global_time":
            starts[split] = end + 1
    found["items"] = {item: _counts(item, everything, used, starts, rules) for item in {e.item for e in everything}}
    for name in ("item", "user"):
        first: dict[str, int] = {}
        for event in everything:
            number = event.time if rules.moment == "time" else 0
            first[getattr(event, name)] = min(number, first.get(getattr(event, name), number))
        found[f"{name}_order"] = sorted(first, key=lambda one: (first[one], one))
    found["events"] = {part: sum(event.positive and event.part == part for event in used) for part in PARTS}
    filtered = Counter(f"event {row['event']}" for row in rows if row not in wanted) + Counter(repeats=repeated)
    set_aside = Counter(duplicate=len(wanted) - len(distinct)) + Counter(rate_limit=limited)
    found["rows"] = {"read": len(rows), "kept": len(everything), "filtered": filtered, "set_aside": set_aside}
    if rules.core:
        found["rows"]["outside_core"] = len(all_train) - len(train)
    return found


def _entry(row: Row, rules: Rules) -> Entry:
    part = rules.given.get(row.get("split", ""), "train")
    if rules.train_pairs is not None and part != "test":
        part = "train" if (row["user"], row["item"]) in rules.train_pairs else "validation"
    role, weight = rules.roles[row["event"]] if rules.roles else ("positive", 1.0)
    time = row[rules.moment] if rules.moment else 0
    context = [row["amount"]] if "amount" in row else []
    return Entry(row["user"], row["item"], time, role, weight, context, part)


def _is_beyond_rate(event: Entry, before: list[Entry], rules: Rules) -> bool:
    """A given part is looked at by itself: what it holds must not depend on a later one."""
    if rules.rate is None:
        return False
    most, per = rules.rate
    return sum(event.time - other.time < per for other in before if other.part == event.part) >= most


def _is_repeat(event: Entry, before: list[Entry], rules: Rules) -> bool:
    return rules.first_only and any((other.item, other.role) == (event.item, event.role) for other in before)


def _parts(events: list[Entry], rules: Rules, end: int) -> list[str]:
    """The parts of a user's events, which are in order."""
    if rules.split == "given":
        return [event.part for event in events]
    if rules.split == "global_time":
        test, validation = end - rules.test, end - rules.test - rules.validation
        return ["test" if e.time > test else "validation" if e.time > validation else "train" for e in events]
    test = _begin(events, rules)
    validation = _begin(events[:test], rules)
    if not any(event.positive for event in events[:validation]):
        return ["train"] * len(events)
    return ["test" if n >= test else "validation" if n >= validation else "train" for n in range(len(events))]


def _begin(events: list[Entry], rules: Rules) -> int:
    """Where the window begins that ends with the events: at the k-th last positive one, or at its moment; 0 if none."""
    positives = [n for n, event in enumerate(events) if event.positive]
    if len(positives) < rules.k:
        return 0
    last = positives[-rules.k]
    return last if rules.ties == "order" else min(n for n, e in enumerate(events) if e.time == events[last].time)


def _targets(positives: list[Entry], rules: Rules) -> list[Entry]:
    """What a query asks for of a window's positive events: with ties apart the k latest, drawn within a moment."""
    if rules.ties == "order":
        return positives

    def draw(event: Entry) -> float:
        return float(share_hash(pa.array([f"{event.user}\0{event.item}\0{event.time}"]))[0])

    drawn = sorted(positives, key=lambda event: (-event.time, draw(event)))[: rules.k]
    return [event for event in positives if any(event is one for one in drawn)]


def _core(train: list[Entry], rules: Rules) -> list[Entry]:
    """The training events without rare users and items, until there are none."""
    if rules.core is None:
        return train
    users = Counter(event.user for event in train if event.positive)
    items = Counter(event.item for event in train if event.positive)
    left = [e for e in train if users[e.user] >= rules.core[0] and items[e.item] >= rules.core[1]]
    return left if len(left) == len(train) else _core(left, rules)


def _visible(n: int, events: list[Entry], rules: Rules) -> int:
    return -1 if rules.moment is None else len(_past_of(events[n], events, rules))


def _past_of(target: Entry, events: list[Entry], rules: Rules) -> list[Entry]:
    """What a query for the target may see of its user's training events."""
    if rules.moment is None:
        return [event for event in events if event.item != target.item]
    if rules.split == "leave_last" and rules.ties == "order":
        return events[: events.index(target)]
    return [event for event in events if event.time < target.time]


def _shown(past: list[Entry], rules: Rules) -> list[tuple[str, int, str]]:
    """The history that a query carries of the past."""
    shown = [(event.item, event.time, event.role) for event in past if event.role in rules.history_roles]
    return shown[-rules.history :] if rules.history else []


def _counts(item: str, everything: list[Entry], used: list[Entry], cutoffs: dict[str, int], rules: Rules) -> Any:
    """The item's row in the candidate table: when it was first seen, its positives by part, and the recent ones."""
    first_seen = min(event.time for event in everything if event.item == item) if rules.moment == "time" else None
    mine = [event for event in used if event.item == item and event.positive]
    by_part = [sum(event.part == part for event in mine) for part in PARTS]
    recent = [
        sum(
            PARTS.index(event.part) < PARTS.index(split)
            and (rules.moment != "time" or cutoff - rules.recent <= event.time < cutoff)
            for event in mine
        )
        for split, cutoff in cutoffs.items()
    ]
    return (first_seen, *by_part, *recent)
