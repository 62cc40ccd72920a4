"""Nothing of a later part reaches an earlier one: whatever happens in the test window, training stays as it was."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from prepared_logs import DAY, START, Row, by_ids, contents, pairs_of, run_rows, write_rows

from two_tower.data import Prepared

HOUR = DAY // 24
POSITIVE = {"click", "buy"}
EVENTS = {"click": 1.0, "buy": 2.0, "skip": {"role": "negative"}, "view": {"role": "impression", "weight": 0.5}}
SPLITS: dict[str, dict[str, Any]] = {
    "global_time": {"type": "global_time", "test": "6d", "validation": "6d"},
    "leave_last_out": {"type": "leave_last_out"},
    "leave_last_k": {"type": "leave_last_k", "k": 3},
    "leave_last_apart": {"type": "leave_last_k", "k": 2, "ties": "apart"},
    "given": {"type": "given", "column": "split", "test": "test", "validation": "validation"},
    "cut": {"type": "given", "column": "split", "test": "test"},
    "unordered": {"type": "given", "column": "split", "test": "test", "validation": "validation"},
}


def busy_log() -> list[Row]:
    """Users with too many events on some days, repeats, and rare items; its newest row is a user's only one."""
    random = Random(7)
    log = [
        {
            "user": f"u{user}",
            "item": f"i{min(random.randrange(40), random.randrange(40))}",
            "time": START + day * DAY + n * HOUR + user,
            "event": random.choice([*EVENTS, "click"]),
            "amount": random.randint(1, 9) / 2,
            "place": random.choice(["home", "shop"]),
            "split": random.choice(["train", "train", "validation", "test"]),
        }
        for user in range(12)
        for day in random.sample(range(30), 20)
        for n in range(random.randint(1, 5))
    ]
    log.sort(key=lambda row: row["time"])
    return [*log, log[-1] | {"user": "last", "item": "i0", "time": START + 31 * DAY, "event": "click", "split": "test"}]


def prepare_log(folder: Path, log: list[Row], kind: str) -> Prepared:
    """The step with everything on that could look ahead."""
    columns = {"user": "user", "item": "item", "time": "time", "event": "event"}
    limits: dict[str, Any] = {"max_rate": {"events": 3, "per": "1d"}}
    if kind == "unordered":
        del columns["time"]
        limits = {}
    items = [{"id": f"i{n}", "price": n / 4} for n in range(45)]
    users = [{"id": f"u{n}", "age": 20 + n} for n in range(13)]
    price, age = ({name: {"type": "numeric"}} for name in ("price", "age"))
    return run_rows(
        folder,
        log,
        workers=1,
        shards=2,
        log={
            "columns": columns,
            "events": EVENTS,
            "repeats": "first",
            "k_core": {"user": 2, "item": 3},
            "max_bad_share": 1.0,
            **limits,
        },
        split=SPLITS[kind],
        items={"path": str(write_rows(folder / "items.parquet", items)), "id": "id", "features": price},
        users={"path": str(write_rows(folder / "users.parquet", users)), "id": "id", "features": age},
        query={
            "history_length": 5,
            "history_roles": ["positive", "negative", "impression"],
            "context": {"amount": {"type": "numeric"}, "place": {"type": "categorical"}},
        },
        examples={"shape": "pairs", "max_per_user": 8},
        recent="9d",
    )


def rows_from(split: str, log: list[Row], prepared: Prepared, kind: str) -> list[int]:
    """The rows of the split and of what comes after it, less the newest row."""
    if kind in ("given", "cut", "unordered"):
        later = {"validation": ("validation", "test"), "test": ("test",)}[split]
        return [n for n, row in enumerate(log[:-1]) if row["split"] in later]
    if kind == "global_time":
        start = prepared.manifest.extra[f"{split}_from"]
        return [n for n, row in enumerate(log[:-1]) if row["time"] >= start]
    queries = prepared.queries(split, ["user_id", "cutoff"]).to_pylist()  # the cut-off: the first target's time
    start_of = {query["user_id"]: query["cutoff"] for query in queries}
    return [n for n, row in enumerate(log[:-1]) if row["time"] >= start_of.get(row["user"], START + 99 * DAY)]


def freely_changed(log: list[Row], later: list[int], kind: str) -> list[Row]:
    """Other items, users, amounts and events in the rows `later`; some are missing, some are new."""
    changed = []
    for n, row in enumerate(log):
        if n not in later:
            changed.append(row)
            continue
        if n % 4 == 0:
            continue
        user = [f"new {n % 5}", f"u{n % 12}", row["user"]][n % 3]
        other = row | {"user": user, "item": [f"new {n % 7}", f"i{n % 45}"][n % 2], "amount": 1e6, "place": "moon"}
        other["event"] = list(EVENTS)[n % len(EVENTS)]
        if kind == "given":  # the part says what is later, not the time
            other["time"] = START + n * HOUR % (30 * DAY)
        changed += [other, other | {"item": f"more {n % 6}", "event": "buy"}] if n % 3 == 0 else [other]
    return changed


def changed_in_place(log: list[Row], later: list[int], prepared: Prepared) -> list[Row]:
    """In a split by order the last positives are the targets, so these keep their places: only their items change.

    All other rows `later` become impressions, and each user gets some more of them at the end.
    """
    changed = [row | {"item": f"new {n}", "event": "view", "amount": 1e6, "place": "moon"} for n, row in enumerate(log)]
    changed = [changed[n] if n in later else row for n, row in enumerate(log)]
    limited = {row["row"] for row in prepared.set_aside().to_pylist()}
    found = by_ids(prepared)
    for split in ("validation", "test"):
        for user, query in found[split].items():
            for item in query["relevant"]:  # only the first of repeated events is used
                rows = [n for n, row in enumerate(log) if (row["user"], row["item"]) == (user, item)]
                target = min(n for n in rows if log[n]["event"] in POSITIVE and n not in limited)
                if target in later:
                    changed[target]["event"] = "click"
    of_users = {log[n]["user"]: changed[n] for n in later}
    end = START + 30 * DAY
    more = [row | {"time": end + n, "event": "view", "item": "more"} for n, row in enumerate(of_users.values())]
    return [*changed, *more]


def item_counts(found: dict[str, Any], places: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """These counts of the items that have any."""
    counts = {item: tuple(row[place] for place in places) for item, row in found["items"].items()}
    return {item: row for item, row in counts.items() if any(row)}


def rounded(value: Any) -> Any:
    """Statistics without the last digits, which depend on the order of the rows."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return float(f"{value:.12g}") if isinstance(value, float) else value


TRAIN, VALIDATION, RECENT_VALIDATION, RECENT_TEST = 1, 2, 4, 5
CASES = [(kind, split) for kind in SPLITS for split in ("test", "validation") if (kind, split) != ("cut", "validation")]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    """The log as it is, prepared with each split."""
    return {kind: prepare_log(tmp_path_factory.mktemp(kind), busy_log(), kind) for kind in SPLITS}


@pytest.mark.parametrize(("kind", "split"), CASES)
def test_what_comes_later_changes_nothing(
    tmp_path: Path, unchanged: dict[str, Prepared], kind: str, split: str
) -> None:
    before, log = unchanged[kind], busy_log()
    later = rows_from(split, log, before, kind)
    assert len(later) > 20
    in_place = kind.startswith("leave_last")
    changed = changed_in_place(log, later, before) if in_place else freely_changed(log, later, kind)
    after = prepare_log(tmp_path, changed, kind)
    one, two = by_ids(before), by_ids(after)
    assert one["test"] != two["test"]
    same = ["train", "pairs"] + (["validation"] if split == "test" else [])
    for part in same:
        assert one[part] and one[part] == two[part], part
    if split == "validation":
        assert one["validation"] != two["validation"]
    assert rounded(before.features) == rounded(after.features)
    places = (TRAIN, VALIDATION, RECENT_VALIDATION, RECENT_TEST) if split == "test" else (TRAIN, RECENT_VALIDATION)
    assert item_counts(one, places) == item_counts(two, places)
    assert before.manifest.data_seen_until == after.manifest.data_seen_until
    assert one["rows"]["outside_core"] == two["rows"]["outside_core"]
    if kind == "global_time":  # and the numbers themselves
        for part in same:
            assert contents(before.folder / part) == contents(after.folder / part)


@pytest.mark.parametrize("kind", SPLITS)
def test_the_log_has_what_could_leak(unchanged: dict[str, Prepared], kind: str) -> None:
    rows = unchanged[kind].summary["rows"]
    assert rows["filtered"]["repeats"] > 20 and rows["outside_core"] > 5
    assert kind == "unordered" or rows["set_aside"]["rate_limit"] > 20
    statistics = unchanged[kind].features
    assert set(statistics["context"]) == {"amount", "place"} and "moon" not in str(statistics)


def test_an_unordered_history_never_holds_its_own_target(tmp_path: Path) -> None:
    """Also where the user had the same item twice, or in another role."""
    log = [{name: row[name] for name in ("user", "item", "event", "split")} for row in busy_log()]
    prepared = run_rows(
        tmp_path,
        log,
        log={"columns": {"user": "user", "item": "item", "event": "event"}, "events": EVENTS, "max_bad_share": 1.0},
        split=SPLITS["unordered"],
        query={"history_length": 100, "history_roles": ["positive", "negative", "impression"]},
        examples={"shape": "pairs"},
    )
    pairs: pa.Table = pairs_of(prepared)
    assert pairs.num_rows > 50
    sequences = {row["user"]: row["items"] for row in prepared.sequences().to_pylist()}
    several = 0
    for pair in pairs.to_pylist():
        others = [item for item in sequences[pair["user"]] if item != pair["item"]]
        assert pair["history"] == others
        several += len(others) < len(sequences[pair["user"]]) - 1
    assert several > 5
