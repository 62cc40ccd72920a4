"""What prepared data know of users: the past that a query of today would bring."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_artefacts import DAY, item_ids, random_log, write_prepared

from two_tower.artifacts import ArtifactReader, read_manifest
from two_tower.data import EveryUser, Prepared, open_prepared
from two_tower.errors import DataError

ITEMS, USERS = 60, 30
IDS = item_ids(ITEMS)


def test_a_users_past_is_that_of_the_latest_query_else_the_sequence(tmp_path: Path) -> None:
    log = random_log(users=USERS - 1, items=ITEMS, events=700)
    quiet = [event for event in log if event[0] % 5 or event[2] < 90 * DAY]  # every fifth user leaves early
    write_prepared(tmp_path / "prepared", [*quiet, (USERS - 1, 3, 119 * DAY)], items=ITEMS)  # and one comes late
    prepared = open_prepared(tmp_path / "prepared")
    users = EveryUser(prepared)
    test, validation = (
        {row["user"]: row for row in prepared.queries(split).to_pylist()} for split in ("test", "validation")
    )
    sequences = {row["user"]: row["items"] for row in prepared.sequences().to_pylist()}
    kinds = set()
    for number, user in enumerate(prepared.users()["user_id"].to_pylist()):
        query = test.get(number) or validation.get(number)
        kinds.add(("test", "validation", "sequence")[0 if number in test else 1 if number in validation else 2])
        expected = query["history"] if query else sequences.get(number, [])
        known = users.one(user)
        assert known is not None
        assert known["history"] == [IDS[item] for item in expected]
        assert known["seen"] == [IDS[item] for item in (query["seen"] if query else sorted(set(expected)))]
    assert kinds == {"test", "validation", "sequence"}
    assert users.one("nobody") is None


def test_sequences_show_the_roles_and_the_length_that_queries_do(tmp_path: Path) -> None:
    log = [(0, item, (item + 1) * DAY) for item in range(6)]
    folder = write_prepared(tmp_path / "prepared", log, items=ITEMS)
    prepared = open_prepared(folder)
    train = pq.read_table(folder / "train/part-00000.parquet")
    roles = pa.array([[0, 1, 0, 2, 0, 0]], pa.list_(pa.int8()))
    pq.write_table(train.set_column(3, "roles", roles), folder / "train/part-00000.parquet")
    prepared.manifest.config["query"] = {"history_length": 3, "history_roles": ["positive", "negative"]}
    known = EveryUser(prepared).one("u0")
    assert known is not None
    assert (known["history"], known["seen"]) == ([IDS[2], IDS[4], IDS[5]], [IDS[item] for item in (0, 1, 2, 4, 5)])


def test_logs_without_users_have_nobody_to_recommend_to(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", [(0, 1, DAY)], items=ITEMS)
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), folder / "users.parquet")
    with pytest.raises(DataError, match="give --queries"):
        EveryUser(Prepared(ArtifactReader(folder, read_manifest(folder, "prepared_data"))))
