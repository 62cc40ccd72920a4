"""Raw values as the arrays that an exported tower takes."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from two_tower.errors import DataError
from two_tower.features import raw_arrays

INPUTS = {
    "item_id": {"dtype": "string", "shape": [None], "column": "item_id"},
    "tags": {"dtype": "string", "shape": [None, None], "column": "feature.tags"},
    "price": {"dtype": "float64", "shape": [None], "column": "feature.price"},
    "vector": {"dtype": "float32", "shape": [None, 2], "column": "feature.vector"},
}
COLUMNS: dict[str, list[Any]] = {
    "item_id": ["a", None],
    "tags": [["x", "y"], None],
    "price": [None, "2.5"],
    "vector": [[1.0, 2.0], []],
}


@pytest.mark.parametrize("kind", ["lists", "arrow", "pandas"])
def test_what_is_missing_is_what_the_tower_was_trained_on(kind: str) -> None:
    table = pa.table({name: pa.array(values) for name, values in COLUMNS.items()})
    given: Any = {"lists": COLUMNS, "arrow": table, "pandas": table.to_pandas()}[kind]
    found = raw_arrays(given, INPUTS)
    assert found["item_id"].tolist() == ["a", ""]
    assert found["tags"].tolist() == [["x", "y"], ["", ""]]
    np.testing.assert_array_equal(found["price"], [np.nan, 2.5])
    np.testing.assert_array_equal(found["vector"], np.array([[1, 2], [np.nan, np.nan]], np.float32))


def test_a_moment_is_seconds() -> None:
    spec = {"added": {"dtype": "float64", "shape": [None], "column": "feature.added"}}
    assert raw_arrays({"added": [datetime(2024, 1, 1, tzinfo=UTC)]}, spec)["added"].tolist() == [1704067200.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": ["a"]}, "differ in length"),
        ({"tags": ["x", "y"]}, "'tags' takes a list a row, not a text such as 'x'"),
        ({"price": ["cheap", 1]}, "feature.price: expected a number, got 'cheap'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        raw_arrays(COLUMNS | change, INPUTS)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="'price' is not among"):
        raw_arrays({name: values for name, values in COLUMNS.items() if name != "price"}, INPUTS)
