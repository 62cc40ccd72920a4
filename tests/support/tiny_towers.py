"""A small prepared data set with structure to learn: users keep to one shelf, whose items share their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import write_artifact
from two_tower.features import fit_features
from two_tower.features.categorical import Categorical
from two_tower.features.multi_categorical import MultiCategorical
from two_tower.features.numeric import Numeric
from two_tower.features.text import Text
from two_tower.features.timestamp import Timestamp
from two_tower.features.vector import Vector

SHELVES, ITEMS, USERS, BASKETS, HISTORY = 6, 60, 48, 12, 8
COLD = 4
"""The last items, which nobody has bought; they come in two pairs, one to a shelf."""
DAY = 86_400_000_000

ITEM_FEATURES = {
    "shelf": Categorical(dim=4),
    "tags": MultiCategorical(dim=4),
    "price": Numeric(log=True),
    "title": Text(dim=4, buckets=50, max_tokens=4),
    "look": Vector(),
}
USER_FEATURES = {"age": Numeric(), "born": Timestamp()}
CONTEXT_FEATURES = {"shop": Categorical(dim=4)}


def write_tiny(
    folder: Path,
    *,
    features: bool = True,
    users: bool = True,
    ordered: bool = True,
    late: int | None = None,
    seed: int = 0,
) -> Path:
    """The `prepared_data` artefact: `BASKETS` baskets a user, the last one for validation.

    Without `features` there are ids alone; without `users` each event is a query of its own, and its only hint is the
    context feature `shop`, which is the shelf.  Events that are not `ordered` show all others.  The first user's last
    basket holds the item `late` too.
    """
    rng = np.random.default_rng(seed)
    items, people = _items(features), _users(features if users else False, count=USERS if users else 0)
    baskets = [(user, day, _basket(user % SHELVES, rng)) for user in range(USERS) for day in range(BASKETS)]
    if late is not None:
        baskets[BASKETS - 1][2].append(late)
    parts = {
        "item": fit_features(ITEM_FEATURES if features else {}, items, prefix="feature"),
        "user": fit_features(USER_FEATURES if features and users else {}, people, prefix="feature"),
        "context": fit_features(CONTEXT_FEATURES, pa.table({"context.shop": _shops(SHELVES)}), prefix="context"),
    }
    config = {
        "query": {"history_length": HISTORY, "history_roles": ["positive"]},
        "examples": {"shape": "sequences"},
        "interactions": {"columns": {"time": "time"}},
    }
    newest = (BASKETS - 2) * DAY
    with write_artifact(folder, "prepared_data", config=config, data_seen_until=newest) as artifact:
        artifact.write_table("items.parquet", items)
        artifact.write_table("users.parquet", people)
        sequences = _sequences(baskets, ordered=ordered) if users else _rows(baskets)
        pq.write_table(sequences, artifact.path("train/part-00000.parquet"))
        for split in ("validation", "test"):
            artifact.write_table(f"{split}/part-00000.parquet", _queries(baskets, people, users=users))
        content = {part: {name: value.to_json() for name, value in found.items()} for part, found in parts.items()}
        artifact.write_json("features.json", content)
        artifact.write_json("summary.json", {"windows": {"train": [0, newest], "validation": [newest + DAY] * 2}})
    return folder


def shelf_of(item: int) -> int:
    return item % SHELVES


def _basket(shelf: int, rng: np.random.Generator) -> list[int]:
    own = [item for item in range(ITEMS - COLD) if shelf_of(item) == shelf]
    return sorted(int(item) for item in rng.choice(own, size=2, replace=False))


def _items(features: bool) -> pa.Table:
    columns: dict[str, Any] = {"item_id": [f"item {number}" for number in range(ITEMS)], "available": [True] * ITEMS}
    if features:
        look = np.eye(SHELVES, dtype=np.float32)
        pairs = {ITEMS - 4: 0, ITEMS - 3: 0, ITEMS - 2: 1, ITEMS - 1: 1}
        shelves = [pairs.get(item, shelf_of(item)) for item in range(ITEMS)]
        columns |= {
            "feature.shelf": [f"shelf {shelf}" for shelf in shelves],
            "feature.tags": pa.array([[f"tag {shelf}", "tag"] if shelf else None for shelf in shelves]),
            "feature.price": [float(10 * shelf) if shelf else None for shelf in shelves],
            "feature.title": [f"Thing no. {shelf}" if shelf else None for shelf in shelves],
            "feature.look": pa.array([look[shelf].tolist() for shelf in shelves], pa.list_(pa.float32())),
        }
    return pa.table(columns)


def _users(features: bool, *, count: int) -> pa.Table:
    columns: dict[str, Any] = {"user_id": pa.array([f"user {number}" for number in range(count)], pa.string())}
    if features:
        columns["feature.age"] = [None if user % 7 == 0 else 20.0 + user for user in range(count)]
        columns["feature.born"] = pa.array([user * DAY // 3 for user in range(count)], pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _shops(count: int) -> list[str]:
    return [f"shop {shelf}" for shelf in range(count)]


def _sequences(baskets: list[tuple[int, int, list[int]]], *, ordered: bool) -> pa.Table:
    rows: dict[int, dict[str, Any]] = {}
    for user, day, items in baskets:
        if day == BASKETS - 1:
            continue
        row = rows.setdefault(user, {name: user if name == "user" else [] for name in _sequence_schema().names})
        before = len(row["items"])
        for item in items:
            row["items"].append(item)
            row["times"].append(day * DAY)
            row["weights"].append(1.0)
            row["roles"].append(0)
            row["visible"].append(before if ordered else -1)
            row["targets"].append(True)
            row["context.shop"].append(f"shop {user % SHELVES}")
    return pa.Table.from_pylist(list(rows.values()), schema=_sequence_schema())


def _rows(baskets: list[tuple[int, int, list[int]]]) -> pa.Table:
    rows = [
        {"user": -1, "items": [item], "times": [day * DAY], "weights": [1.0], "roles": [0], "visible": [0],
         "targets": [True], "context.shop": [f"shop {user % SHELVES}"]}
        for user, day, items in baskets if day < BASKETS - 1 for item in items
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=_sequence_schema())


def _sequence_schema() -> pa.Schema:
    return pa.schema(
        {
            "user": pa.int32(),
            "items": pa.list_(pa.int32()),
            "times": pa.list_(pa.int64()),
            "weights": pa.list_(pa.float32()),
            "roles": pa.list_(pa.int8()),
            "visible": pa.list_(pa.int32()),
            "targets": pa.list_(pa.bool_()),
            "context.shop": pa.list_(pa.string()),
        }
    )


def _queries(baskets: list[tuple[int, int, list[int]]], people: pa.Table, *, users: bool) -> pa.Table:
    last = [(user, items) for user, day, items in baskets if day == BASKETS - 1]
    past = {
        user: [item for u, day, items in baskets if u == user and day < BASKETS - 1 for item in items]
        for user, _ in last
    }
    columns: dict[str, Any] = {
        "user": pa.array([user if users else -1 for user, _ in last], pa.int32()),
        "user_id": pa.array([f"user {user}" if users else None for user, _ in last], pa.string()),
        "history": pa.array([past[user][-HISTORY:] if users else [] for user, _ in last], pa.list_(pa.int32())),
        "seen": pa.array([sorted(set(past[user])) if users else [] for user, _ in last], pa.list_(pa.int32())),
        "relevant": pa.array([items for _, items in last], pa.list_(pa.int32())),
        "context.shop": [f"shop {user % SHELVES}" for user, _ in last],
    }
    for name in people.column_names:
        if name.startswith("feature."):
            columns[name.replace("feature.", "user.")] = people[name]
    return pa.table(columns)
