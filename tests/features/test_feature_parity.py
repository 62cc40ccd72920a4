"""The Arrow and the TensorFlow encoding of every feature type give the same numbers, for nasty values too."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from two_tower.contracts import FeatureType
from two_tower.features import FittedFeature
from two_tower.features.bucketized import Bucketized
from two_tower.features.categorical import Categorical
from two_tower.features.hashed import Hashed
from two_tower.features.id import Id
from two_tower.features.multi_categorical import MultiCategorical
from two_tower.features.numeric import Numeric
from two_tower.features.text import Text
from two_tower.features.timestamp import Timestamp
from two_tower.features.vector import Vector

ODD_TEXTS = [
    "", " ", "a", "A", "a b a b", "<a>", "#a", "é", "e\u0301", "\u0301", "ﬁ", "Å", "A\u030a",
    "İ", "i\u0307", "ı", "ß", "ẞ", "SS", "Σς", "ΣΑΣ", "\u01c4", "\u212a", "\u212b", "\u0345",
    "a\u200bb", "a\u200db", "\ufeffa", "\u00ad", "\u00a0", "\u2028", "\u202ea", "\ufffd", "\uffff", "\U0010ffff",
    "\0", "a\0", "a\0b", "👍", "👩\u200d👩\u200d👧", "🇩🇪", "1\ufe0f\u20e3", "日本語", "नमस्ते", "٣x",
]  # fmt: skip
"""Combining marks, case mappings that change lengths, invisible and unassigned characters, NUL, emoji."""
TINY = float(np.finfo(np.float64).tiny)
words = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(ODD_TEXTS),
    st.lists(st.sampled_from(ODD_TEXTS), max_size=5).map(" ".join),
)
numbers = st.one_of(
    st.none(),
    st.floats(),
    st.integers(-3, 3).map(float),
    st.sampled_from(
        [0.0, -0.0, 1e308, -1e308, 5e-324, -5e-324, TINY, -TINY, 2.0**53 + 1, np.nan, -np.nan, np.inf, -np.inf]
    ),
)
times = st.one_of(
    st.none(),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.sampled_from([datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29)]),
)
vectors = st.one_of(st.none(), st.just([]), st.lists(st.none() | st.floats(width=32), min_size=3, max_size=3))

CASES: dict[str, tuple[FeatureType, st.SearchStrategy[Any], pa.DataType]] = {
    "id": (Id(), words, pa.string()),
    "categorical": (Categorical(min_count=2, max_size=3), words, pa.string()),
    "multi_categorical": (
        MultiCategorical(max_values=2),
        st.none() | st.lists(words, max_size=4),
        pa.list_(pa.string()),
    ),
    "multi_categorical_text": (MultiCategorical(separator=" "), words, pa.string()),
    "multi_categorical_hashed": (
        MultiCategorical(max_values=2, hash_buckets=5),
        st.none() | st.lists(words, max_size=4),
        pa.list_(pa.string()),
    ),
    "hashed": (Hashed(buckets=5), words, pa.string()),
    "bucketized": (Bucketized(buckets=4), numbers, pa.float64()),
    "numeric": (Numeric(), numbers, pa.float64()),
    "numeric_log": (Numeric(log=True), numbers, pa.float64()),
    "text": (Text(), words, pa.string()),
    "text_ngrams": (Text(buckets=97, max_tokens=6, ngrams=3), words, pa.string()),
    "text_characters": (Text(buckets=97, max_tokens=12, ngrams=2, character_ngrams=3), words, pa.string()),
    "vector": (Vector(), vectors, pa.list_(pa.float32())),
    "timestamp": (Timestamp(), times, pa.timestamp("us")),
    "timestamp_age": (Timestamp(age=True), times, pa.timestamp("us")),
}


@pytest.mark.parametrize("case", CASES)
def test_tensorflow_encodes_as_arrow_does(case: str) -> None:
    feature, values, kind = CASES[case]

    @settings(max_examples=50, deadline=None, database=None, derandomize=True)
    @given(st.lists(values, max_size=6), st.lists(values, max_size=6))
    def check(fitted_on: list[Any], encoded: list[Any]) -> None:
        fitted = fit(feature, cast(feature, fitted_on, kind))
        edges = fitted.statistics.get("edges", [])
        beside = [math.nextafter(edge, side) for edge in edges for side in (-math.inf, math.inf)]
        column = cast(feature, [*fitted_on, *encoded, *edges, *beside], kind)
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
    sample = {
        "id": "a",
        "numeric": 3.0,
        "bucketized": 3.0,
        "vector": [1.0, 2.0, 3.0],
        "timestamp": datetime(2024, 1, 1),
    }
    value = sample.get(feature.type, ["a", "b"] if pa.types.is_list(kind) else "a b")
    column = cast(feature, [value, None], kind)
    fitted = fit(feature, column)
    output = fitted.layer()(fitted.encode(column)).numpy()
    assert output.shape[0] == 2
    assert output.dtype == np.float32
    assert np.isfinite(output).all()


@pytest.mark.parametrize("case", CASES)
def test_no_rows_and_only_missing_values(case: str) -> None:
    feature, _, kind = CASES[case]
    for values in ([], [None, None]):
        column = cast(feature, values, kind)
        fitted = fit(feature, column)
        assert fitted.encode(column).shape[0] == len(values)
        assert fitted.raw(column).shape[0] == len(values)


@pytest.mark.parametrize("case", CASES)
def test_a_graph_takes_any_number_of_rows(case: str) -> None:
    feature, _, kind = CASES[case]
    numbers = [3.0, 1.0, 2.0, None, 4.0, 0.0]
    dates = [datetime(2024, 1, 1), None, datetime(2023, 5, 6)]
    samples: dict[pa.DataType, list[Any]] = {
        pa.string(): [*ODD_TEXTS, None],
        pa.list_(pa.string()): [ODD_TEXTS, None, [], ["a"]],
        pa.float64(): numbers,
        pa.list_(pa.float32()): [[1.0, None, 3.0], None],
        pa.timestamp("us"): dates,
    }
    column = cast(feature, samples[kind], kind)
    fitted = fit(feature, column)
    dtype, shape = fitted.raw_spec()
    graph = tf.function(fitted.encode_tensor).get_concrete_function(tf.TensorSpec(shape, dtype))
    for rows in (column, column.slice(1, 1), column.slice(0, 0)):
        raw = tf.constant(fitted.raw(rows), dtype)
        np.testing.assert_allclose(graph(raw).numpy(), fitted.encode(rows), rtol=0, atol=1e-6)


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


def fit(feature: FeatureType, column: pa.ChunkedArray) -> FittedFeature:
    """The feature with its statistics as they travel, through JSON."""
    return FittedFeature("x", feature, json.loads(json.dumps(feature.fit(column))))


def cast(feature: FeatureType, values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    return feature.cast(pa.chunked_array([pa.array(values, kind)]))
