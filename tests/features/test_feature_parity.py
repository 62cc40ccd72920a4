"""The Arrow and the TensorFlow encoding of every feature type give the same numbers, for nasty values too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from two_tower.contracts import FeatureType
from two_tower.features import FittedFeature
from two_tower.features.categorical import Categorical
from two_tower.features.id import Id
from two_tower.features.multi_categorical import MultiCategorical
from two_tower.features.numeric import Numeric
from two_tower.features.text import Text
from two_tower.features.timestamp import Timestamp
from two_tower.features.vector import Vector

words = st.one_of(
    st.none(), st.text(max_size=8), st.sampled_from(["", " ", "a", "A", "é", "e\u0301", "İ", "ß", "Σς", "\0"])
)
numbers = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 2.0**53 + 1]))
times = st.one_of(
    st.none(),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.sampled_from([datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29)]),
)
vectors = st.one_of(st.none(), st.lists(st.floats(width=32), min_size=3, max_size=3))

CASES: dict[str, tuple[FeatureType, st.SearchStrategy[Any], pa.DataType]] = {
    "id": (Id(), words, pa.string()),
    "categorical": (Categorical(min_count=2, max_size=3), words, pa.string()),
    "multi_categorical": (
        MultiCategorical(max_values=2),
        st.none() | st.lists(words, max_size=4),
        pa.list_(pa.string()),
    ),
    "multi_categorical_text": (MultiCategorical(separator=" "), words, pa.string()),
    "numeric": (Numeric(), numbers, pa.float64()),
    "numeric_log": (Numeric(log=True), numbers, pa.float64()),
    "text": (Text(buckets=7, max_tokens=4, bigrams=True), words, pa.string()),
    "vector": (Vector(), vectors, pa.list_(pa.float32())),
    "timestamp": (Timestamp(), times, pa.timestamp("us")),
}


@pytest.mark.parametrize("case", CASES)
def test_tensorflow_encodes_as_arrow_does(case: str) -> None:
    feature, values, kind = CASES[case]

    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(st.lists(values, max_size=6), st.lists(values, max_size=6))
    def check(fitted_on: list[Any], encoded: list[Any]) -> None:
        fitted = FittedFeature("x", feature, feature.fit(cast(feature, fitted_on, kind)))
        column = cast(feature, [*fitted_on, *encoded], kind)
        if case == "vector" and not any(fitted_on):
            return  # fitted on no vector at all, it takes none later
        arrow = fitted.encode(column)
        dtype, shape = fitted.raw_spec()
        raw = tf.constant(fitted.raw(column), dtype)
        assert tf.TensorShape(shape).is_compatible_with(raw.shape)
        tensor = fitted.encode_tensor(raw).numpy()
        assert arrow.shape == tensor.shape
        assert arrow.dtype == tensor.dtype
        np.testing.assert_allclose(arrow, tensor, rtol=0, atol=0 if arrow.dtype == np.int32 else 1e-6)
        assert np.isfinite(arrow).all()

    check()


@pytest.mark.parametrize("case", CASES)
def test_layers_give_one_finite_vector_a_row(case: str) -> None:
    feature, _, kind = CASES[case]
    sample = {"id": "a", "numeric": 3.0, "vector": [1.0, 2.0, 3.0], "timestamp": datetime(2024, 1, 1)}
    value = sample.get(feature.type, ["a", "b"] if pa.types.is_list(kind) else "a b")
    column = cast(feature, [value, None], kind)
    fitted = FittedFeature("x", feature, feature.fit(column))
    output = fitted.layer()(fitted.encode(column)).numpy()
    assert output.shape[0] == 2
    assert output.dtype == np.float32
    assert np.isfinite(output).all()


@pytest.mark.parametrize("case", CASES)
def test_no_rows_and_only_missing_values(case: str) -> None:
    feature, _, kind = CASES[case]
    for values in ([], [None, None]):
        column = cast(feature, values, kind)
        fitted = FittedFeature("x", feature, feature.fit(column))
        assert fitted.encode(column).shape[0] == len(values)
        assert fitted.raw(column).shape[0] == len(values)


def test_the_graph_holds_the_vocabulary_for_signatures() -> None:
    feature = Categorical()
    statistics = feature.fit(cast(feature, ["b", "a", "b"], pa.string()))
    graph = tf.function(lambda raw: feature.encode_tensor(raw, statistics)).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    assert graph(tf.constant(["b", "a", "c", ""])).numpy().tolist() == [[2], [3], [1], [0]]


def test_times_keep_their_zone() -> None:
    feature = Timestamp()
    noon = pa.chunked_array([pa.array([datetime(2024, 1, 1, 12, tzinfo=UTC)], pa.timestamp("s", tz="Europe/Vienna"))])
    np.testing.assert_allclose(feature.encode(feature.cast(noon), {})[0], [0, -1, 0, 1, 0], atol=1e-6)


def cast(feature: FeatureType, values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    return feature.cast(pa.chunked_array([pa.array(values, kind)]))
