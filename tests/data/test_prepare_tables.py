"""The candidate table, the user table, features, queries without users, and the reader."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prepared_logs import DAY, event, ordinary_log, run, settings, write_rows

from two_tower.data import Prepared, open_prepared, outputs, resolve_sources
from two_tower.data.tables import EntityTable, load_entities
from two_tower.errors import ArtifactError, DataError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """An ordinary log with an item table, a user table and a context feature."""
    folder = tmp_path_factory.mktemp("tables")
    log = [
        row | {"device": "phone" if n % 3 else "desk", "item": int(row["item"][1:])}
        for n, row in enumerate(ordinary_log())
    ]
    log.append(event("u9", 77, 29.5, amount=0.0, device="watch"))  # a new user, a cold item, unknown to the table
    items = [
        {"id": 2.0, "colour": None, "price": 2.0, "tags": ["a", "b"], "name": None},
        {"id": 100.0, "colour": "never clicked", "price": None, "tags": [], "name": "hundred"},
        {"id": 2.0, "colour": "red", "price": 3.0, "tags": ["c"], "name": "two"},
        {"id": None, "colour": "lost", "price": 9.0, "tags": None, "name": "nobody"},
        {"id": 99.0, "colour": "blue", "price": 1.0, "tags": None, "name": "ninety-nine"},
    ]
    users = [{"user": "u1", "age": "30-39"}, {"user": "stranger", "age": "20-29"}]
    data = settings(
        write_rows(folder / "log.parquet", log),
        items={
            "path": str(write_rows(folder / "items.parquet", items)),
            "id": "id",
            "features": {
                "colour": {"type": "categorical"},
                "price": {"type": "numeric"},
                "tags": {"type": "multi_categorical"},
            },
            "display": ["name", "tags"],
        },
        users={
            "path": str(write_rows(folder / "users.jsonl", users)),
            "id": "user",
            "features": {"age": {"type": "categorical"}},
        },
        query={"context": {"device": {"type": "categorical"}, "spent": {"type": "numeric", "column": "amount"}}},
    )
    return run(folder / "prepared", data)


def test_the_candidates_are_the_items_of_the_table_and_of_the_logs(prepared: Prepared) -> None:
    items = prepared.items().to_pylist()
    by_id = {row["item_id"]: row for row in items}
    assert set(by_id) == {*map(str, range(11)), "77", "99", "100"}
    assert [row["item_id"] for row in items[-2:]] == ["100", "99"]  # never seen: last, by id
    assert items[-3]["item_id"] == "77"  # seen last
    two = by_id["2"]
    assert (two["feature.colour"], two["feature.price"], two["feature.tags"]) == ("red", 2.0, ["a", "b"])
    assert (two["display.name"], two["display.tags"]) == ("two", "a, b")
    assert by_id["77"]["feature.colour"] is None and by_id["77"]["train_count"] == 0 and by_id["77"]["test_count"] == 1
    assert by_id["99"]["first_seen"] is None and by_id["99"]["recent_count_test"] == 0
    assert prepared.summary["items"] == 14 and prepared.summary["items_seen"] == 12
    assert prepared.summary["cold_items"] == {"validation": 0, "test": 1}
    assert prepared.summary["tables"]["items"] == {"rows": 5, "without_id": 1, "distinct": 3}
    counts = prepared.summary["item_counts"]
    assert counts == sorted(counts, reverse=True) and sum(counts) == prepared.summary["events"]["train"]


def test_users_of_the_table_alone_come_last(prepared: Prepared) -> None:
    users = prepared.users().to_pylist()
    assert [row["user_id"] for row in users[-2:]] == ["u9", "stranger"]
    assert {row["user_id"]: row["feature.age"] for row in users}["u1"] == "30-39"
    assert prepared.summary["users"] == 7 == len(users) - 1


def test_statistics_come_from_the_tables_and_from_training_rows(prepared: Prepared) -> None:
    features = prepared.features
    assert features["item"]["colour"]["statistics"]["vocabulary"] == ["blue", "never clicked", "red"]
    assert features["user"]["age"]["statistics"]["vocabulary"] == ["20-29", "30-39"]
    assert features["context"]["device"]["statistics"]["vocabulary"] == ["phone", "desk"]  # no watch
    amounts = [value for row in prepared.sequences(["context.spent"])["context.spent"].to_pylist() for value in row]
    assert len(amounts) == prepared.summary["events"]["train"]
    assert features["context"]["spent"]["statistics"]["mean"] == pytest.approx(sum(amounts) / len(amounts))
    assert features["item"]["tags"]["settings"]["type"] == "multi_categorical"


def test_queries_carry_user_features_and_the_context_of_their_first_event(prepared: Prepared) -> None:
    queries = {row["user_id"]: row for row in prepared.queries("test").to_pylist()}
    assert queries["u1"]["user.age"] == "30-39" and queries["u2"]["user.age"] is None
    new = queries["u9"]
    assert new["new_user"] and new["history"] == [] and new["seen"] == []
    assert new["context.device"] == "watch"
    log = [row for row in ordinary_log() if row["user"] == "u1"]
    first = next(row for row in log if row["time"] >= "2020-10-08")
    assert prepared.manifest.extra["test_from"] < prepared.manifest.extra["end"] - 4 * DAY
    assert queries["u1"]["context.spent"] in {row["amount"] for row in log if row["time"] <= first["time"]}


def test_types_are_those_of_the_contract(prepared: Prepared) -> None:
    def types(table: Any) -> dict[str, str]:
        return {field.name: str(field.type).replace("element: ", "") for field in table.schema}

    assert types(prepared.sequences()) == {
        "user": "int32",
        "items": "list<int32>",
        "times": "list<int64>",
        "weights": "list<float>",
        "roles": "list<int8>",
        "visible": "list<int32>",
        "targets": "list<bool>",
        "context.device": "list<string>",
        "context.spent": "list<double>",
    }
    queries = {
        "user": "int32",
        "user_id": "string",
        "cutoff": "int64",
        "history": "list<int32>",
        "history_times": "list<int64>",
        "history_roles": "list<int8>",
        "seen": "list<int32>",
        "relevant": "list<int32>",
        "user.age": "string",
        "context.device": "string",
        "context.spent": "double",
        "new_user": "bool",
    }
    assert types(prepared.queries("validation")) == types(prepared.queries("test")) == queries
    counts = ["train_count", "validation_count", "test_count", "recent_count_validation", "recent_count_test"]
    assert types(prepared.items()) == {
        "item_id": "string",
        "first_seen": "int64",
        **dict.fromkeys(counts, "int64"),
        "available": "bool",
        "feature.colour": "string",
        "feature.price": "double",
        "feature.tags": "list<string>",
        "display.name": "string",
        "display.tags": "string",
    }
    assert types(prepared.set_aside()) == {"file": "string", "row": "int64", "reason": "string", "content": "string"}


def test_the_manifest_counts_rows_and_names_the_newest_training_event(prepared: Prepared) -> None:
    manifest = prepared.manifest
    assert manifest.rows == {
        "items": 14,
        "users": 8,
        "train": prepared.sequences().num_rows,
        "validation": prepared.queries("validation").num_rows,
        "test": prepared.queries("test").num_rows,
        "set_aside": 0,
    }
    assert manifest.data_seen_until == max(time for row in prepared.sequences()["times"].to_pylist() for time in row)
    assert manifest.data_seen_until < manifest.extra["validation_from"] < manifest.extra["test_from"]
    assert json.loads(json.dumps(manifest.config)) == manifest.config
    assert manifest.config["split"]["test"] == "5d"


def test_without_users_equal_contexts_are_one_query(tmp_path: Path) -> None:
    searches = [("red lamp", "a"), ("red lamp", "b"), ("green cup", "c"), (None, "d")]
    rows = [event(None, item, day + n / 100, text=text) for day in range(20) for n, (text, item) in enumerate(searches)]
    rows += [event(None, "z", 19.9, text="red lamp"), event(None, "a", 19.95, text="red lamp")]
    data = settings(
        write_rows(tmp_path / "log.csv", rows),
        log={"columns": {"item": "item", "time": "time"}},
        query={"context": {"text": {"type": "text"}}},
    )
    prepared = run(tmp_path / "prepared", data)
    ids = prepared.items()["item_id"].to_pylist()
    queries = prepared.queries("test").to_pylist()
    found = {row["context.text"]: {ids[item] for item in row["relevant"]} for row in queries}
    assert found == {"red lamp": {"a", "b", "z"}, "green cup": {"c"}, None: {"d"}} and len(queries) == 3
    for row in queries:
        assert (row["user"], row["user_id"], row["history"], row["seen"], row["new_user"]) == (-1, None, [], [], False)
        assert row["cutoff"] == prepared.manifest.extra["test_from"]
    sequences = prepared.sequences().to_pylist()
    assert len(sequences) == prepared.summary["events"]["train"]
    assert all(row["user"] == -1 and row["visible"] == [0] and len(row["items"]) == 1 for row in sequences)
    pairs = {(row["context.text"][0], ids[row["items"][0]]) for row in sequences}
    assert pairs == set(searches)
    assert prepared.users().num_rows == 0 and prepared.summary["users"] == 0


def test_the_reader_refuses_what_is_not_prepared_data(prepared: Prepared, tmp_path: Path) -> None:
    assert open_prepared(prepared.folder).items(["item_id"]).column_names == ["item_id"]
    with pytest.raises(ArtifactError, match="no manifest"):
        open_prepared(tmp_path)


def attributes_of(folder: Path, rows: list[dict[str, Any]], names: list[str], *, file: str = "items.parquet") -> Any:
    """The candidate table's attributes by id, where the item table has these rows."""
    items = {"path": str(write_rows(folder / file, rows)), "id": "id", "attributes": names}
    table = run(folder / "prepared", settings(write_rows(folder / "log.parquet", ordinary_log()), items=items)).items()
    return table.select(["item_id", *(f"attribute.{name}" for name in names)])


def test_attributes_are_kept_as_they_came(tmp_path: Path) -> None:
    rows = [
        {"id": "i1", "colour": None, "sizes": ["s", "m"], "stock": 3, "weight": 0.5, "new": None, "none": None},
        {"id": "i2", "colour": "", "sizes": [], "stock": None, "weight": None, "new": True, "none": None},
        {"id": "i1", "colour": "red", "sizes": ["l"], "stock": 4, "weight": 0.7, "new": False, "none": None},
    ]
    names = ["colour", "sizes", "stock", "weight", "new", "none"]
    table = attributes_of(tmp_path, rows, names)
    by_id = {row["item_id"]: list(row.values())[1:] for row in table.to_pylist()}
    assert by_id["i1"] == ["red", ["s", "m"], 3, 0.5, "false", None]  # the first value that is not missing
    assert by_id["i2"] == ["", [], None, None, "true", None]
    assert by_id["i3"] == [None] * 6  # the table does not know it
    types = [str(field.type).replace("element: ", "") for field in table.schema][1:]
    assert types == ["string", "list<string>", "int64", "double", "string", "string"]


def test_attributes_of_a_text_file_are_text(tmp_path: Path) -> None:
    table = attributes_of(tmp_path, [{"id": "i1", "stock": 3}], ["stock"], file="items.csv")
    assert {row["item_id"]: row["attribute.stock"] for row in table.to_pylist()}["i1"] == "3"


@pytest.mark.parametrize("value", [datetime(2024, 1, 31), [1, 2], {"a": 1}, Decimal("1.5")])
def test_other_types_of_attributes_are_refused_by_key(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match=r"data\.items\.attributes \(column 'odd'\): values of type .* cannot be"):
        attributes_of(tmp_path, [{"id": "i1", "odd": value}], ["odd"])


def test_a_missing_attribute_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'colour', which data\.items\.attributes names"):
        attributes_of(tmp_path, [{"id": "i1"}], ["colour"])


def test_the_candidate_table_has_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "ITEMS_PER_GROUP", 4)
    attributes_of(tmp_path, [{"id": f"i{n}"} for n in range(11)], [])
    metadata = pq.read_metadata(tmp_path / "prepared" / "items.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [4, 4, 3]


@pytest.mark.parametrize(
    ("value", "kind"), [({"de": "eins"}, "Struct"), ([{"de": "eins"}], "List"), ([["a"]], "List"), (b"\xff", "bytes")]
)
def test_a_column_that_cannot_be_displayed_is_named_with_its_key(tmp_path: Path, value: Any, kind: str) -> None:
    items = write_rows(tmp_path / "items.parquet", [{"id": "a", "title": value}])
    data = settings(
        write_rows(tmp_path / "log.parquet", ordinary_log()),
        items={"path": str(items), "id": "id", "features": {}, "display": ["title"]},
    )
    with pytest.raises(DataError, match=rf"data\.items\.display \(column 'title'\): .*{kind}"):
        run(tmp_path / "prepared", data)


def loaded_items(folder: Path, rows: list[dict[str, Any]], name: str, **settings_of_items: Any) -> EntityTable:
    items = {"path": str(write_rows(folder / name, rows)), "id": "id"} | settings_of_items
    data = settings(write_rows(folder / "log.csv", ordinary_log()), items=items)
    files = resolve_sources(data, dataset="shop")["items"]
    return load_entities(files, data.items, key="data.items", timezone="UTC")


@pytest.mark.parametrize("name", ["items.parquet", "items.csv", "items.jsonl"])
def test_nan_and_blanks_are_missing_where_an_item_has_several_rows(tmp_path: Path, name: str) -> None:
    nothing = "nan" if name.endswith(".csv") else None if name.endswith(".jsonl") else float("nan")
    rows = [
        {"id": "a", "price": nothing, "title": " ", "stock": ""},
        {"id": "b", "price": nothing, "title": "\t", "stock": "no"},
        {"id": "a", "price": "5.5" if nothing == "nan" else 5.5, "title": "mug", "stock": "yes"},
    ]
    table = loaded_items(
        tmp_path, rows, name,
        features={"price": {"type": "numeric"}, "title": {"type": "text"}},
        attributes=["title"],
        available=[{"column": "stock", "op": "==", "value": "yes"}],
    )  # fmt: skip
    found = {key: column.to_pylist() for key, column in table.columns.items()}
    assert found["feature.price"][0] == 5.5 and found["feature.price"][1] in (None, pytest.approx(nan, nan_ok=True))
    assert found["feature.title"] == found["attribute.title"] == ["mug", "\t"]
    assert found["raw.stock"] == ["yes", "no"]


def test_ids_of_a_type_that_is_none_are_refused_by_their_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.items.id: the column 'id' of type List.* cannot hold ids"):
        loaded_items(tmp_path, [{"id": [1]}], "items.parquet")
