"""The input of Vector Search, read back by a strict reader that knows nothing of the writer."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from two_tower import config
from two_tower.artifacts import Manifest
from two_tower.errors import ArtifactError
from two_tower.index import CandidateEmbeddings, datapoints, vector_search, write_vector_search_update
from two_tower.index.vector_search import write_vector_search_input

NASTY = [
    'quote " and \\',
    "line\nbreak",
    "tab\t\x00\x1f\x7f",
    "Köln 東京",
    "🛒 beyond the plane",
    "\u2028\x85",
    " ",
    "{}",
]
VALUE_TYPES = {"value_int": int, "value_float": (int, float), "value_double": (int, float)}
Record = dict[str, Any]


def read_batch(folder: Path, *, dim: int) -> tuple[dict[str, Record], list[str]]:
    """The records by id and the deleted ids of a folder of data, each rule of the documented format asserted."""
    records: dict[str, Record] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            assert path.name == "delete", "all other subdirectories are not allowed"
            continue
        assert path.suffix == ".json"
        for record in read_json(path):
            check_record(record, dim=dim)
            assert record["id"] not in records, "an id appears once in a batch"
            records[record["id"]] = record
    deletes = []
    for path in (folder / "delete").glob("*"):
        lines = path.read_bytes().decode("utf-8").split("\n")
        assert lines.pop() == "" and all(lines)
        deletes += lines
    assert len(set(deletes)) == len(deletes) and not set(deletes) & set(records)
    return records, deletes


def read_json(path: Path) -> list[Record]:
    def object_of(pairs: list[tuple[str, Any]]) -> Record:
        assert len({key for key, _ in pairs}) == len(pairs), "a key stands once in an object"
        return dict(pairs)

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = path.read_bytes().decode("utf-8", errors="strict")
    assert text.endswith("\n") and len(text.splitlines()) == text.count("\n"), "a record a line, for every reader"
    return [json.loads(line, object_pairs_hook=object_of, parse_constant=refused) for line in text.splitlines()]


def check_record(record: Record, *, dim: int) -> None:
    assert {"id", "embedding"} <= set(record) <= {"id", "embedding", "restricts", "numeric_restricts", "crowding_tag"}
    assert isinstance(record["id"], str) and record["id"]
    assert len(record["embedding"]) == dim
    for value in record["embedding"]:
        assert type(value) in (int, float) and math.isfinite(value)
    if "crowding_tag" in record:
        assert isinstance(record["crowding_tag"], str) and record["crowding_tag"]
    for restrict in record.get("restricts", []):
        assert set(restrict) == {"namespace", "allow"}
        assert restrict["allow"] and all(isinstance(token, str) and token for token in restrict["allow"])
    for restrict in record.get("numeric_restricts", []):
        (key,) = set(restrict) - {"namespace"}
        value = restrict[key]
        assert isinstance(value, VALUE_TYPES[key]) and not isinstance(value, bool) and math.isfinite(value)
    for member in ("restricts", "numeric_restricts"):
        namespaces = [restrict["namespace"] for restrict in record.get(member, [])]
        assert member not in record or namespaces, "a member without content is left out"
        assert all(isinstance(name, str) and name for name in namespaces)
        assert len(set(namespaces)) == len(namespaces), "DUPLICATE_NAMESPACE"


def vectors_of(items: int, dim: int = 3, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, dim)).astype(np.float32)


def state(ids: list[str], vectors: np.ndarray, tower: str | None = "c0ffee", **columns: Any) -> CandidateEmbeddings:
    made_from = {} if tower is None else {"candidate_tower": tower}
    table = pa.table({"item_id": pa.array(ids, pa.string()), **columns})
    item_ids, attributes = table["item_id"].combine_chunks(), table.drop_columns(["item_id"])
    return CandidateEmbeddings(item_ids, vectors, attributes, Manifest("candidate_embeddings"), made_from)


def written(
    folder: Path,
    ids: list[str],
    vectors: np.ndarray,
    attributes: pa.Table | None = None,
    *,
    file_bytes: int = vector_search.FILE_BYTES,
    **settings: Any,
) -> dict[str, Record]:
    item_ids, wanted = pa.array(ids, pa.string()), config.VectorSearchSettings(**settings)
    write_vector_search_input(folder, item_ids, vectors, attributes, wanted, file_bytes=file_bytes)
    records, deletes = read_batch(folder / "data", dim=vectors.shape[1])
    assert not deletes and list(records) == ids
    return records


def index_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "index.json").read_text())
    assert facts["files"] == sorted(f"data/{path.name}" for path in (folder / "data").iterdir())
    return facts


def test_every_float32_comes_back(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 32, size=40_000, dtype=np.uint32).view(np.float32)
    edges = np.array([0.0, -0.0, 1e-45, np.finfo(np.float32).max, np.finfo(np.float32).tiny, 0.1, -1 / 3, 16777216])
    values = np.concatenate([edges.astype(np.float32), bits[np.isfinite(bits)]])
    vectors = values[: len(values) // 8 * 8].reshape(-1, 8)
    records = written(tmp_path, [f"item-{row}" for row in range(len(vectors))], vectors)
    read = np.array([record["embedding"] for record in records.values()], np.float32)
    np.testing.assert_array_equal(read, vectors)


def test_nasty_text_comes_back_from_ids_tokens_tags_and_namespaces(tmp_path: Path) -> None:
    attributes = pa.table({'na"me\n': NASTY, "list": [[text, "plain"] for text in NASTY]})
    records = written(tmp_path, NASTY, vectors_of(len(NASTY)), attributes, crowding='na"me\n')
    for text, record in zip(NASTY, records.values(), strict=True):
        assert record["restricts"] == [
            {"namespace": 'na"me\n', "allow": [text]},
            {"namespace": "list", "allow": [text, "plain"]},
        ]
        assert record["crowding_tag"] == text


def test_types_choose_the_restricts_and_nothing_is_no_restrict(tmp_path: Path) -> None:
    attributes = pa.table(
        {
            "brand": pa.array(["a", None, ""]),
            "tags": pa.array([["x", None, "", "y"], [], None]),
            "coded": pa.array(["k", None, "l"]).dictionary_encode(),
            "new": pa.array([True, None, False]),
            "stock": pa.array([7, None, -(1 << 31)], pa.int32()),
            "price": pa.array([0.1, None, -0.0], pa.float32()),
            "precise": pa.array([0.1, None, 1e300], pa.float64()),
            "never": pa.nulls(3),
        }
    )
    first, second, third = written(tmp_path, ["0", "1", "2"], vectors_of(3), attributes).values()
    assert first["restricts"] == [
        {"namespace": "brand", "allow": ["a"]},
        {"namespace": "tags", "allow": ["x", "y"]},
        {"namespace": "coded", "allow": ["k"]},
        {"namespace": "new", "allow": ["true"]},
    ]
    assert first["numeric_restricts"] == [
        {"namespace": "stock", "value_int": 7},
        {"namespace": "price", "value_float": 0.1},
        {"namespace": "precise", "value_double": 0.1},
    ]
    assert set(second) == {"id", "embedding"}
    assert [restrict["namespace"] for restrict in third["restricts"]] == ["coded", "new"]
    assert [list(restrict.values())[1] for restrict in third["numeric_restricts"]] == [-(1 << 31), -0.0, 1e300]
    text = len("012axykl") + len("truefalse")
    assert index_of(tmp_path)["bytes"] == 3 * 3 * 4 + text + 6 * 8
    assert index_of(tmp_path)["namespaces"] == {
        "restricts": ["brand", "tags", "coded", "new", "never"],
        "numeric_restricts": {"stock": "value_int", "price": "value_float", "precise": "value_double"},
        "crowding": None,
    }


def test_named_columns_only_and_a_code_as_a_token(tmp_path: Path) -> None:
    attributes = pa.table({"a": ["x", "y"], "b": ["p", "q"], "code": [4, 5], "price": [1.5, 2.5]})
    named = {"restricts": ["code"], "crowding": "b"}
    record = written(tmp_path / "a", ["0", "1"], vectors_of(2), attributes, **named)["0"]
    assert record["restricts"] == [{"namespace": "code", "allow": ["4"]}]
    assert record["numeric_restricts"] == [{"namespace": "price", "value_double": 1.5}]
    assert record["crowding_tag"] == "p"
    none = written(tmp_path / "b", ["0"], vectors_of(1), attributes[:1], restricts=[], numeric_restricts=[])
    assert set(none["0"]) == {"id", "embedding"}


def test_slices_and_chunks_of_columns(tmp_path: Path) -> None:
    tags = pa.chunked_array([[["no"]] * 3 + [["a"], None, ["b", "c"]], [["d"]]])[3:]
    attributes = pa.table({"tags": tags, "brand": pa.array(["no", "p", None, "q", "r"])[1:]})
    ids = pa.array(["no", "0", "1", "2", "3"])[1:]
    write_vector_search_input(tmp_path, ids, vectors_of(4), attributes, config.VectorSearchSettings())
    records, _ = read_batch(tmp_path / "data", dim=3)
    found = {item: [restrict["allow"] for restrict in record.get("restricts", [])] for item, record in records.items()}
    assert found == {"0": [["a"], ["p"]], "1": [], "2": [["b", "c"], ["q"]], "3": [["d"], ["r"]]}


def test_shards_hold_every_record_once_and_equal_content_is_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datapoints, "BLOCK_VALUES", 30)
    ids, vectors = [f"{row}" for row in range(95)], vectors_of(95)
    attributes = pa.table({"tags": [[str(row % 7)] * (row % 3) for row in range(95)]})
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        records = written(folder, ids, vectors, attributes, file_bytes=2000)
        assert [record.get("restricts", [{"allow": []}])[0]["allow"] for record in records.values()] == [
            [str(row % 7)] * (row % 3) for row in range(95)
        ]
    names = [path.name for path in sorted((folders[0] / "data").iterdir())]
    assert names == [f"part-{part:05d}.json" for part in range(len(names))] and len(names) > 1
    for name in [*(f"data/{name}" for name in names), "index.json"]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    monkeypatch.setattr(vector_search, "FILES_AT_MOST", len(names) - 1)
    with pytest.raises(ArtifactError, match="at most"):
        written(tmp_path / "c", ids, vectors, file_bytes=1)


def test_an_empty_corpus_has_an_index_and_no_data(tmp_path: Path) -> None:
    schema = pa.schema({"a": pa.string(), "b": pa.int8(), "c": pa.list_(pa.string())})
    assert not written(tmp_path, [], np.zeros((0, 5), np.float32), schema.empty_table(), crowding="a")
    facts = index_of(tmp_path)
    assert facts["items"] == 0 and facts["files"] == [] and facts["parameters"]["dimensions"] == 5


@pytest.mark.parametrize(
    ("algorithm", "items"), [("auto", 3), ("auto", 20_000), ("tree_ah", 3), ("brute_force", 20_000)]
)
def test_the_sdk_takes_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, items: int
) -> None:
    """`index.json` goes through the installed SDK into the metadata that the documents give."""
    sdk = pytest.importorskip("google.cloud.aiplatform.matching_engine.matching_engine_index")
    from google.protobuf import json_format, struct_pb2

    made: dict[str, Any] = {}
    monkeypatch.setattr(sdk.MatchingEngineIndex, "_create", classmethod(lambda cls, **given: made.update(given)))
    ids, settings = (
        pa.array(map(str, range(items)), pa.string()),
        config.VectorSearchSettings(approximate_neighbors_count=150),
    )
    write_vector_search_input(tmp_path, ids, vectors_of(items, 2), None, settings, algorithm=algorithm)
    facts = index_of(tmp_path)
    create = getattr(sdk.MatchingEngineIndex, facts["method"])
    create(display_name="items", contents_delta_uri="gs://bucket/data", **facts["parameters"])
    tree = facts["method"] == "create_tree_ah_index"
    assert tree == (algorithm == "tree_ah" or (algorithm == "auto" and items == 20_000))
    assert made["index_update_method"] in sdk._INDEX_UPDATE_METHOD_TO_ENUM_VALUE
    metadata = json_format.MessageToDict(json_format.ParseDict(made["config"].as_dict(), struct_pb2.Struct()))
    assert metadata == {
        "dimensions": 2,
        "approximateNeighborsCount": 150 if tree else None,
        "distanceMeasureType": "DOT_PRODUCT_DISTANCE",
        "featureNormType": "NONE",
        "shardSize": "SHARD_SIZE_SMALL",
        "algorithmConfig": {"treeAhConfig": {"leafNodeEmbeddingCount": 1000, "leafNodesToSearchPercent": 10}}
        if tree
        else {"bruteForceConfig": {}},
    }


def test_the_shard_is_the_smallest_documented_one_that_holds_the_data() -> None:
    gib = 1 << 30
    sizes = [0, 2 * gib, 2 * gib + 1, 20 * gib, 20 * gib + 1, 50 * gib, 500 * gib]
    chosen = [vector_search._shard_size(size).removeprefix("SHARD_SIZE_") for size in sizes]
    assert chosen == ["SMALL", "SMALL", "MEDIUM", "MEDIUM", "LARGE", "LARGE", "LARGE"]


INVALID = pa.array([b"\xff", b"b"]).view(pa.string())


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pa.array(["a", ""]), "row 1 is missing or empty"),
        (pa.array([None, "b"]), "row 0 is missing or empty"),
        (pa.array(["a", "a"]), "'a' stands twice"),
        (INVALID, "an item id is not UTF-8"),
    ],
)
def test_ids_that_an_index_cannot_hold_are_refused(tmp_path: Path, ids: pa.Array, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        write_vector_search_input(tmp_path, ids, vectors_of(2), None, config.VectorSearchSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "settings", "message"),
    [
        (pa.array([1.0, np.nan]), {}, "item 'b', attribute 'x': nan is not finite"),
        (pa.array([-np.inf, 1], pa.float32()), {}, "item 'a', attribute 'x': -inf is not finite"),
        (pa.array([1, 1 << 63], pa.uint64()), {}, "item 'b', attribute 'x': 9223372036854775808 does not fit"),
        (pa.array([1.5, 2.5]), {"restricts": ["x"]}, "'x' is double"),
        (pa.array([[1.5], None]), {}, "'x' is double"),
        (pa.array([0, 1], pa.timestamp("us")), {}, r"'x' is timestamp\[us\]"),
        (pa.array(["p", "q"]), {"numeric_restricts": ["x"], "restricts": []}, "'x' is string"),
        (pa.array([["p"], ["q"]]), {"crowding": "x"}, "'x' is list"),
        (pa.array(["p", "q"]), {"restricts": ["y"]}, "no attribute 'y' to restrict by; there are: 'x'"),
        (pa.array(["p", "q"]), {"crowding": "y"}, "no attribute 'y'"),
        (pa.array(["p", "q"]), {"numeric_restricts": ["x"]}, "'x' has no name or stands twice"),
        (INVALID, {}, "'x' is not UTF-8"),
    ],
)
def test_attributes_that_cannot_restrict_are_refused_by_name(
    tmp_path: Path, column: pa.Array, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        written(tmp_path, ["a", "b"], vectors_of(2), pa.table({"x": column}), **settings)


def test_vectors_and_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    vectors = vectors_of(2)
    with pytest.raises(ValueError, match=r"shape \[3, dim\]"):
        written(tmp_path, ["a", "b", "c"], vectors)
    with pytest.raises(ValueError, match="of 2 items, got 1 rows"):
        written(tmp_path, ["a", "b"], vectors, pa.table({"x": ["p"]}))
    vectors[1, 2] = np.inf
    with pytest.raises(ArtifactError, match="'b' is not finite"):
        written(tmp_path, ["a", "b"], vectors)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/part-00007.json").write_text("{}\n")
    with pytest.raises(ArtifactError, match="holds files"):
        written(tmp_path, ["a"], vectors[:1])


def updated(
    folder: Path, previous: CandidateEmbeddings, current: CandidateEmbeddings, file_bytes: int = 1000
) -> dict[str, Any]:
    """What `update.json` says, after the update has been shown to turn the previous index into the current one."""
    settings = config.VectorSearchSettings()
    write_vector_search_update(folder / "update", previous, current, settings, file_bytes=file_bytes)
    states = []
    for name, at in (("before", previous), ("after", current)):
        write_vector_search_input(folder / name, at.item_ids, at.vectors, at.attributes, settings)
        states.append(read_batch(folder / name / "data", dim=at.vectors.shape[1])[0])
    index, wanted = states
    upserts, deletes = read_batch(folder / "update/data", dim=current.vectors.shape[1])
    for item in deletes:
        del index[item]
    assert all(index.get(item) != record for item, record in upserts.items()), "an upsert changes something"
    assert {**index, **upserts} == wanted
    counts: dict[str, Any] = json.loads((folder / "update/update.json").read_text())
    assert counts == {"upserts": len(upserts), "deletes": len(deletes), "is_complete_overwrite": False}
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_an_update_makes_the_current_index_of_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(datapoints, "BLOCK_VALUES", 40)
    rng = np.random.default_rng(seed)
    everything = np.array([f'{row}"ö' for row in range(120)])
    values = vectors_of(120, seed=seed)

    def some(change: float) -> CandidateEmbeddings:
        rows = rng.permutation(120)[: rng.integers(60, 110)]
        vectors = values[rows]
        vectors[rng.random(len(rows)) < change, 1] += 1
        words = [[f"{row % 5}"] if rng.random() > change else None for row in rows]
        prices = [None if row % 11 == 0 else float(row) + (rng.random() < change) for row in rows]
        return state(everything[rows].tolist(), vectors, tags=pa.array(words, pa.list_(pa.string())), price=prices)

    counts = updated(tmp_path, some(0.0), some(0.2))
    assert counts["upserts"] and counts["deletes"]


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    vectors = vectors_of(6)
    previous = state(list("abcdef"), vectors, brand=["p", "p", "p", "p", "p", None], size=[1, 1, 1, 1, 1, None])
    moved = vectors[[1, 0, 2, 3, 4]]
    moved[2, 0] += 1
    current = state(["b", "a", "c", "d", "g"], moved, brand=["p", "p", "p", "q", "p"], size=[1, 1, 1, 1, 1])
    assert updated(tmp_path, previous, current) == {"upserts": 3, "deletes": 2, "is_complete_overwrite": False}
    upserts, deletes = read_batch(tmp_path / "update/data", dim=3)
    assert list(upserts) == ["c", "d", "g"] and deletes == ["e", "f"]
    assert (tmp_path / "update/data/delete/part-00000.txt").read_bytes() == b"e\nf\n"


def test_nothing_changed_is_an_empty_update(tmp_path: Path) -> None:
    same = state(NASTY, vectors_of(len(NASTY)), brand=NASTY)
    assert updated(tmp_path, same, same) == {"upserts": 0, "deletes": 0, "is_complete_overwrite": False}
    assert not list((tmp_path / "update/data").iterdir())


def test_from_nothing_and_to_nothing(tmp_path: Path) -> None:
    some, none = state(["a", "b"], vectors_of(2)), state([], vectors_of(0))
    assert updated(tmp_path / "from", none, some)["upserts"] == 2
    assert updated(tmp_path / "to", some, none)["deletes"] == 2


def test_a_new_namespace_or_another_type_of_number_is_a_change(tmp_path: Path) -> None:
    vectors = vectors_of(2)
    bare, sized = state(["a", "b"], vectors), state(["a", "b"], vectors, size=[1, None])
    settings = config.VectorSearchSettings(restricts=[], numeric_restricts=["size"])
    write_vector_search_update(tmp_path / "new", bare, sized, settings)
    assert list(read_batch(tmp_path / "new/data", dim=3)[0]) == ["a"]
    assert updated(tmp_path / "type", sized, state(["a", "b"], vectors, size=[1.0, None]))["upserts"] == 1


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        (state(["a"], vectors_of(1)), state(["a"], vectors_of(1), tower="decaf")),
        (state(["a"], vectors_of(1)), state(["a"], vectors_of(1, 4))),
        (state(["a"], vectors_of(1), tower=None), state(["a"], vectors_of(1))),
    ],
)
def test_two_towers_are_not_mixed(tmp_path: Path, previous: CandidateEmbeddings, current: CandidateEmbeddings) -> None:
    with pytest.raises(ArtifactError, match="mix vectors of two towers") as error:
        write_vector_search_update(tmp_path, previous, current, config.VectorSearchSettings())
    for at in (previous, current):
        assert f"{at.made_from.get('candidate_tower', 'unknown')} ({at.vectors.shape[1]} wide)" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("item", ["line\nbreak", "return\r"])
def test_an_id_that_a_line_cannot_hold_is_not_deleted(tmp_path: Path, item: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(repr(item))):
        write_vector_search_update(
            tmp_path, state([item], vectors_of(1)), state([], vectors_of(0)), config.VectorSearchSettings()
        )
