"""Fingerprints: the same for the same values however they are laid out, others for others, and never other ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from two_tower.embedding.fingerprints import as_binary, fingerprints, from_binary

NAN = float("nan")
COLUMNS = {
    "text": pa.array(["", None, "a", "a\0", "abcdefgh", "abcdefghi", "ünïcödé 日本", "x" * 1000]),
    "number": pa.array([0.0, None, 1.0, NAN, float("inf"), -1.0, 1e-300, 2.0]),
    "whole": pa.array([0, None, 1, -1, 2**62, 3, 4, 5], pa.int64()),
    "flag": pa.array([True, False, None, True, False, True, None, False]),
    "tags": pa.array([[], None, ["a"], ["a", "b"], ["b", "a"], ["ab"], [""], ["a"] * 40]),
    "vector": pa.array([[1.0, NAN], None, [0.0, 1.0], [1.0, 0.0], [], [2.0, 3.0], [4.0, 5.0], [5.0, 4.0]]),
    "time": pa.array([0, None, 1, 2, 3, 4, 5, 6], pa.timestamp("us", tz="UTC")),
    "day": pa.array([0, None, 1, 2, 3, 4, 5, 6], pa.date32()),
}
TABLE = pa.table(COLUMNS)
FROZEN = ["f7ef45671427a340833e469049eacdc4", "f521d9a3180a0a72dd32c8becbffad90"]


@pytest.mark.parametrize("name", [*COLUMNS])
def test_every_value_has_its_own(name: str) -> None:
    found = fingerprints(TABLE, [name])
    values = [repr(value) for value in TABLE[name].to_pylist()]
    for words in found.T:
        assert len(set(words.tolist())) == len(set(values))


def test_the_layout_does_not_matter() -> None:
    whole = fingerprints(TABLE, TABLE.column_names)
    assert (fingerprints(TABLE.slice(3), TABLE.column_names) == whole[3:]).all()
    assert (fingerprints(TABLE, TABLE.column_names[::-1]) == whole).all()
    chunks = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2, 0), TABLE.slice(2)])
    assert (fingerprints(chunks, TABLE.column_names) == whole).all()
    coded = TABLE.set_column(0, "text", TABLE["text"].dictionary_encode())
    coded = coded.set_column(4, "tags", TABLE["tags"].cast(pa.large_list(pa.large_string())))
    assert (fingerprints(coded, TABLE.column_names) == whole).all()
    (batch,) = TABLE.slice(1, 4).to_batches()
    assert (fingerprints(batch, TABLE.column_names) == whole[1:5]).all()


def test_long_tables_are_hashed_like_short_ones() -> None:
    many = pa.table({"id": [f"item {n}" for n in range(10_001)], "price": np.arange(10_001) / 3})
    found = fingerprints(many, ["id", "price"])
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == 10_001
    assert (fingerprints(many.slice(9_000, 5), ["id", "price"]) == found[9_000:9_005]).all()


def test_a_value_that_moves_to_another_column_is_another() -> None:
    table = pa.table({"a": ["x", "y"], "b": ["y", "x"]})
    first, second = fingerprints(table, ["a", "b"])
    assert (first != second).all()


def test_they_stay_the_same_from_release_to_release() -> None:
    """Stored ones are compared with new ones: whoever changes the arithmetic changes `METHOD`, and these."""
    table = pa.table({"item_id": ["sku 1", None], "price": [1.5, None], "tags": [["a", "bc"], None]})
    assert [value.as_py().hex() for value in as_binary(fingerprints(table, table.column_names))] == FROZEN


def test_they_survive_as_a_column() -> None:
    found = fingerprints(TABLE, ["text"])
    column = pa.chunked_array([as_binary(found[:3]), as_binary(found).slice(3)])
    assert (from_binary(column) == found).all()
    empty = fingerprints(TABLE.slice(0, 0), TABLE.column_names)
    assert empty.shape == (0, 2) and len(as_binary(empty)) == 0


def test_a_type_without_fingerprints_is_named() -> None:
    table = pa.table({"odd": pa.array([{"a": 1}])})
    with pytest.raises(TypeError, match="struct"):
        fingerprints(table, ["odd"])
