"""Small artefacts of random logs, as docs/artefacts.md describes them: prepared data, embeddings, a query tower."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower import config
from two_tower.artifacts import content_hash, write_artifact
from two_tower.index import build_index

DAY = 86_400_000_000
VALIDATION_FROM, TEST_FROM = 100 * DAY, 110 * DAY
RECENT = 10 * DAY
AGE = {"settings": {"type": "numeric"}, "statistics": {"mean": 40.0, "deviation": 10.0}}

Log = list[tuple[int, int, int]]
"""Events as (user, item, time)."""


def random_log(*, users: int, items: int, events: int, seed: int = 0) -> Log:
    """Events over 120 days with popular and unpopular items, and users who repeat themselves."""
    rng = np.random.default_rng(seed)
    taste = rng.dirichlet(np.full(items, 0.1), size=users) + 0.2 * rng.dirichlet(np.full(items, 0.3))
    log = []
    for user in rng.integers(0, users, size=events):
        item = rng.choice(items, p=taste[user] / taste[user].sum())
        log.append((int(user), int(item), int(rng.integers(0, 120 * DAY))))
    return sorted(log, key=lambda event: (event[2], event[0], event[1]))


def item_ids(items: int) -> list[str]:
    return [f"i{number:03d}" for number in range(items)]


def write_prepared(folder: Path, log: Log, *, items: int, history_length: int = 20) -> Path:
    """The `prepared_data` artefact of a log, split by time."""
    users = max((user for user, _, _ in log), default=-1) + 1
    facts: dict[str, Any] = {"data_seen_until": max(time for *_, time in log)}
    facts |= {"config": {"split": {"type": "global_time"}}}
    facts |= {"extra": {"validation_from": VALIDATION_FROM, "test_from": TEST_FROM}}
    with write_artifact(folder, "prepared_data", **facts) as artifact:
        artifact.write_table("items.parquet", _items(log, items))
        ages = pa.array([_age(user) for user in range(users)], pa.float64())
        people = pa.array([f"u{user}" for user in range(users)], pa.string())
        artifact.write_table("users.parquet", pa.table({"user_id": people, "feature.age": ages}))
        train = artifact.path("train/part-00000.parquet")
        pq.write_table(_sequences([event for event in log if event[2] < VALIDATION_FROM], users), train)
        for split, start, end in (("validation", VALIDATION_FROM, TEST_FROM), ("test", TEST_FROM, 200 * DAY)):
            artifact.write_table(f"{split}/part-00000.parquet", _queries(log, start, end, history_length))
        artifact.write_json("features.json", {"item": {}, "user": {"age": AGE}, "context": {}})
        windows = {"train": [0, VALIDATION_FROM - 1], "validation": [VALIDATION_FROM, TEST_FROM - 1]}
        artifact.write_json("summary.json", {"windows": windows})
    return folder


def _items(log: Log, items: int) -> pa.Table:
    def counts(start: int, end: int) -> pa.Array:
        found = Counter(item for _, item, time in log if start <= time < end)
        return pa.array([found[item] for item in range(items)], pa.int64())

    return pa.table(
        {
            "item_id": item_ids(items),
            "train_count": counts(0, VALIDATION_FROM),
            "validation_count": counts(VALIDATION_FROM, TEST_FROM),
            "test_count": counts(TEST_FROM, 200 * DAY),
            "recent_count_validation": counts(VALIDATION_FROM - RECENT, VALIDATION_FROM),
            "recent_count_test": counts(TEST_FROM - RECENT, TEST_FROM),
            "available": [True] * items,
            "display.title": [f"Title of {item}" for item in range(items)],
            "feature.kind": ["odd" if item % 2 else "even" for item in range(items)],
        }
    )


def _sequences(log: Log, users: int) -> pa.Table:
    own = [[event for event in log if event[0] == user] for user in range(users)]
    return pa.table(
        {
            "user": pa.array([user for user in range(users) if own[user]], pa.int32()),
            "items": pa.array([[item for _, item, _ in past] for past in own if past], pa.list_(pa.int32())),
            "times": pa.array([[time for *_, time in past] for past in own if past], pa.list_(pa.int64())),
            "roles": pa.array([[0] * len(past) for past in own if past], pa.list_(pa.int8())),
        }
    )


def _queries(log: Log, start: int, end: int, history_length: int) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for user in sorted({user for user, _, time in log if start <= time < end}):
        past = [event for event in log if event[0] == user and event[2] < start]
        latest = past[-history_length:] if history_length else []
        rows.append(
            {
                "user": user,
                "user_id": f"u{user}",
                "cutoff": start,
                "history": [item for _, item, _ in latest],
                "history_times": [time for *_, time in latest],
                "history_roles": [0] * len(latest),
                "seen": sorted({item for _, item, _ in past}),
                "relevant": sorted({item for u, item, time in log if u == user and start <= time < end}),
                "user.age": _age(user),
                "new_user": not past,
            }
        )
    schema = pa.schema(
        [
            ("user", pa.int32()),
            ("user_id", pa.string()),
            ("cutoff", pa.int64()),
            ("history", pa.list_(pa.int32())),
            ("history_times", pa.list_(pa.int64())),
            ("history_roles", pa.list_(pa.int8())),
            ("seen", pa.list_(pa.int32())),
            ("relevant", pa.list_(pa.int32())),
            ("user.age", pa.float64()),
            ("new_user", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _age(user: int) -> float | None:
    return None if user % 5 == 0 else 20.0 + user


def write_embeddings(folder: Path, vectors: np.ndarray, ids: list[str], *, made_from: dict[str, str]) -> Path:
    """The `candidate_embeddings` artefact."""
    with write_artifact(folder, "candidate_embeddings", made_from=made_from) as artifact:
        values = pa.array(vectors.astype(np.float32).reshape(-1))
        columns = {
            "item": pa.array(range(len(ids)), pa.int32()),
            "item_id": ids,
            "available": [True] * len(ids),
            "embedding": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
        }
        artifact.write_table("part-00000.parquet", pa.table(columns))
    return folder


def write_query_tower(
    folder: Path, vectors: np.ndarray, ids: list[str], *, embeddings: Path, seen_until: int | None = None
) -> Path:
    """A `query_tower` artefact: the mean vector of the history's items, scaled a little by the user's age."""
    import tensorflow as tf

    class Tower(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = tf.Variable(vectors, dtype=tf.float32)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.string, "history"),
                tf.TensorSpec([None], tf.float64, "user_age"),
            ]
        )
        def serve(self, history: tf.Tensor, user_age: tf.Tensor) -> dict[str, tf.Tensor]:
            known = tf.cast(tf.equal(history[:, :, None], tf.constant(ids)), tf.float32)
            total = tf.reduce_sum(known @ self.vectors, axis=1) + 1e-3
            age = tf.cast(tf.where(tf.math.is_finite(user_age), user_age, 0.0), tf.float32)
            given = tf.reduce_sum(tf.cast(history != "", tf.int32), axis=1)
            unknown = given - tf.cast(tf.reduce_sum(known, axis=[1, 2]), tf.int32)
            return {"embedding": total * (1 + age[:, None] / 100), "unknown_history": unknown}

    tower = Tower()
    made_from = {"candidate_embeddings": content_hash(embeddings)}
    with write_artifact(folder, "query_tower", made_from=made_from, data_seen_until=seen_until) as artifact:
        path = artifact.path("saved_model/saved_model.pb").parent
        tf.saved_model.save(tower, str(path), signatures={"serving_default": tower.serve})
        artifact.write_json(
            "signature.json",
            {
                "inputs": {
                    "history": {"dtype": "string", "shape": [None, None], "column": "history"},
                    "user_age": {"dtype": "float64", "shape": [None], "column": "user.age"},
                }
            },
        )
    return folder


def write_version(
    folder: Path,
    vectors: np.ndarray,
    ids: list[str],
    *,
    known: int | None = None,
    made_from: dict[str, str] | None = None,
) -> Path:
    """What of a version's folder answers requests; the query tower knows the first `known` items."""
    with write_artifact(folder / "candidate_tower", "candidate_tower", made_from=made_from or {}) as artifact:
        artifact.path("saved_model/saved_model.pb").write_bytes(b"candidates")
    made_from = {"candidate_tower": content_hash(folder / "candidate_tower")}
    embeddings = write_embeddings(folder / "embeddings", vectors, ids, made_from=made_from)
    write_query_tower(folder / "query_tower", vectors[:known], ids[:known], embeddings=embeddings)
    build_index(embeddings, folder / "index", index=config.IndexSettings(kind="exact"))
    return folder
