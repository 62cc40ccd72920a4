"""What each feature type learns and encodes, by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from two_tower.config import Features  # noqa: F401  the configuration finds every feature type
from two_tower.contracts import FeatureType
from two_tower.errors import DataError
from two_tower.features import fit_features, load_features
from two_tower.features.categorical import Categorical
from two_tower.features.id import Id
from two_tower.features.multi_categorical import MultiCategorical
from two_tower.features.numeric import Numeric
from two_tower.features.text import Text
from two_tower.features.timestamp import Timestamp
from two_tower.features.vector import Vector
from two_tower.settings import members


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def fitted(feature: FeatureType, values: list[Any]) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    cast = feature.cast(column(values))
    return cast, feature.fit(cast)


def test_the_configuration_knows_every_type() -> None:
    names = [kind.model_fields["type"].default for kind in members("two_tower.features", FeatureType)]
    assert names == ["categorical", "id", "multi_categorical", "numeric", "text", "timestamp", "vector"]


def test_id_knows_every_value() -> None:
    feature = Id()
    cast, statistics = fitted(feature, [7, 9, 7, None])
    assert statistics == {"vocabulary": ["7", "9"]}
    assert feature.encode(cast, statistics).tolist() == [[2], [3], [2], [0]]
    assert feature.encode(column(["8", ""]), statistics).tolist() == [[1], [0]]


def test_categories_are_cut_by_count_then_size() -> None:
    feature = Categorical(min_count=2, max_size=2)
    _, statistics = fitted(feature, ["c", "a", "b", "a", "b", "c", "c", "d"])
    assert statistics == {"vocabulary": ["c", "a"]}
    assert feature.encode(column(["a", "b", "d"]), statistics).tolist() == [[3], [1], [1]]


def test_lists_and_separated_texts_are_the_same() -> None:
    by_text, by_list = MultiCategorical(separator="|"), MultiCategorical()
    text, _ = fitted(by_text, ["x| y ||", "y", "", None])
    lists, statistics = fitted(by_list, [["x", " y ", None, ""], ["y"], [], None])
    assert text.to_pylist() == lists.to_pylist() == [["x", "y"], ["y"], None, None]
    assert statistics == {"vocabulary": ["y", "x"], "width": 2}
    assert by_list.encode(lists, statistics).tolist() == [[3, 2], [2, 0], [0, 0], [0, 0]]
    assert by_list.raw(lists).tolist() == [["x", "y"], ["y", ""], ["", ""], ["", ""]]


def test_a_column_without_any_value_has_no_lists() -> None:
    feature = MultiCategorical()
    column = feature.cast(pa.chunked_array([pa.nulls(3)]))
    assert feature.encode(column, feature.fit(column)).tolist() == [[0], [0], [0]]


def test_values_beyond_the_width_are_left_out() -> None:
    feature = MultiCategorical(max_values=1)
    cast, statistics = fitted(feature, [["x", "y"], ["y"]])
    assert feature.encode(cast, statistics).shape == (2, 1)


def test_a_text_without_separator_is_no_list() -> None:
    with pytest.raises(DataError, match="separator"):
        MultiCategorical().cast(column(["a|b"]))


def test_numbers_are_standardised_and_missing_ones_flagged() -> None:
    feature = Numeric()
    cast, statistics = fitted(feature, [1.0, 3.0, None, float("nan"), float("inf")])
    assert statistics == {"mean": 2.0, "deviation": 1.0}
    assert feature.encode(cast, statistics).tolist() == [[-1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]
    assert feature.encode(feature.cast(column([1e9])), statistics).tolist() == [[10, 0]]


def test_the_logarithm_keeps_the_sign() -> None:
    feature = Numeric(log=True)
    cast = feature.cast(column([np.e - 1, 1 - np.e]))
    np.testing.assert_allclose(feature.encode(cast, {"mean": 0.0, "deviation": 1.0})[:, 0], [1, -1], rtol=1e-6)


def test_a_constant_column_stays_finite() -> None:
    cast, statistics = fitted(Numeric(), [0.1, 0.1, 0.1])
    assert np.abs(Numeric().encode(cast, statistics)).max() < 1e-6


def test_words_that_are_no_number() -> None:
    with pytest.raises(DataError, match="numeric"):
        Numeric().cast(column(["one"]))


def test_words_are_split_and_lower_cased() -> None:
    feature = Text(max_tokens=8)
    first, second = (feature.encode(feature.cast(column([text])), {})[0] for text in ("Red MUG, 3x!", "red mug 3x"))
    assert first.tolist() == second.tolist()
    assert (first > 0).sum() == 3


def test_pairs_come_after_the_words() -> None:
    with_pairs = Text(max_tokens=8, bigrams=True)
    ids = with_pairs.encode(column(["red mug", "mug red", "red"]), {})
    assert (ids > 0).sum(axis=1).tolist() == [3, 3, 1]
    assert ids[0, :2].tolist() == ids[1, 1::-1].tolist()
    assert ids[0, 2] != ids[1, 2]


def test_vectors_have_one_length() -> None:
    with pytest.raises(DataError, match="one length"):
        Vector().cast(column([[1.0], [1.0, 2.0]]))
    with pytest.raises(DataError, match="length 1"):
        Vector().encode(Vector().cast(column([[1.0, 2.0]])), {"width": 1})


def test_dates_texts_and_times_are_timestamps_but_numbers_are_not() -> None:
    feature = Timestamp()
    expected = feature.cast(column([date(2024, 1, 1)])).to_pylist()
    assert feature.cast(column(["2024-01-01T00:00:00"])).to_pylist() == expected
    with pytest.raises(DataError, match="timestamp"):
        feature.cast(column([1.5]))


def test_fitted_features_survive_json() -> None:
    table = pa.table({"feature.kind": ["a", "b", "a"], "feature.price": [1.0, 2.0, None]})
    fitted = fit_features({"price": Numeric(), "kind": Categorical(dim=4)}, table, prefix="feature")
    entries = {name: feature.to_json() for name, feature in fitted.items()}
    assert load_features(entries) == {"kind": fitted["kind"], "price": fitted["price"]}
    with pytest.raises(DataError, match="unknown type 'colour'"):
        load_features({"x": {"settings": {"type": "colour"}, "statistics": {}}})
