"""What each feature type learns and encodes, by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pydantic import ValidationError

from two_tower.config import Features  # noqa: F401  the configuration finds every feature type
from two_tower.contracts import FeatureType
from two_tower.errors import DataError
from two_tower.features import FittedFeature, fit_features, load_features
from two_tower.features.bucketized import Bucketized
from two_tower.features.categorical import Categorical
from two_tower.features.hashed import Hashed
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
    assert names == [
        *("bucketized", "categorical", "hashed", "id", "multi_categorical", "numeric", "text", "timestamp", "vector")
    ]


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
    assert by_list.raw(lists).tolist() == [[b"x", b"y"], [b"y", b""], [b"", b""], [b"", b""]]


def test_a_column_without_any_value_has_no_lists() -> None:
    feature = MultiCategorical()
    column = feature.cast(pa.chunked_array([pa.nulls(3)]))
    assert feature.encode(column, feature.fit(column)).tolist() == [[0], [0], [0]]


def test_values_beyond_the_width_are_left_out() -> None:
    feature = MultiCategorical(max_values=1)
    cast, statistics = fitted(feature, [["x", "y"], ["y"]])
    assert feature.encode(cast, statistics).shape == (2, 1)


def test_hashes_are_tensorflows_and_0_is_missing() -> None:
    feature = Hashed(buckets=1000)
    cast, statistics = fitted(feature, ["a", None, "", "b", "a"])
    assert statistics == {}
    first, second = tf.strings.to_hash_bucket_fast(["a", "b"], 1000).numpy() + 1
    assert feature.encode(cast, statistics).tolist() == [[first], [0], [0], [second], [first]]
    chunked = pa.chunked_array([["b"], [None, "a"], []], pa.string())
    assert feature.encode(chunked, {}).tolist() == [[second], [0], [first]]
    assert Hashed(buckets=1).encode(cast, {}).tolist() == [[1], [0], [0], [1], [1]]


def test_the_hash_never_changes() -> None:
    assert Hashed(buckets=1_000_000).encode(column(["a", "Zürich", "1"]), {}).tolist() == [[363940], [427644], [34850]]


def test_lists_are_hashed_as_single_values_are() -> None:
    feature = MultiCategorical(hash_buckets=1000)
    cast, statistics = fitted(feature, [["x", "y"], None, ["y"]])
    assert statistics == {"width": 2}
    x, y = Hashed(buckets=1000).encode(column(["x", "y"]), {})[:, 0]
    assert feature.encode(cast, statistics).tolist() == [[x, y], [0, 0], [y, 0]]
    with pytest.raises(ValidationError, match="no vocabulary"):
        MultiCategorical(hash_buckets=10, min_count=2)


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


@pytest.mark.parametrize("feature", [Numeric(), Bucketized()])
def test_words_that_are_no_number(feature: FeatureType) -> None:
    with pytest.raises(DataError, match=feature.type):
        feature.cast(column(["one"]))


def test_an_edge_belongs_to_the_bucket_above_it() -> None:
    feature = Bucketized(buckets=4)
    cast, statistics = fitted(feature, [8.0, 1.0, 2.0, 3.0, None, 4.0, 5.0, 6.0, 7.0, float("nan"), float("-inf")])
    assert statistics == {"edges": [3.0, 5.0, 7.0]}
    assert feature.encode(cast, statistics)[:, 0].tolist() == [4, 1, 1, 2, 0, 2, 3, 3, 4, 0, 0]
    assert feature.encode(column([np.nextafter(3.0, 0), 3.0, -1e300, 1e300]), statistics)[:, 0].tolist() == [1, 2, 1, 4]


def test_frequent_values_have_one_edge_and_no_bucket_is_empty() -> None:
    feature = Bucketized(buckets=10)
    cast, statistics = fitted(feature, [0.0] * 8 + [1.0] * 8 + [2.0] * 4)
    assert statistics == {"edges": [1.0, 2.0]}
    assert np.unique(feature.encode(cast, statistics)).tolist() == [1, 2, 3]
    assert fitted(feature, [-0.0, 0.0, 5e-324])[1] == fitted(feature, [None, float("nan")])[1] == {"edges": []}


def test_words_are_split_and_lower_cased() -> None:
    feature = Text(max_tokens=8)
    first, second = (feature.encode(feature.cast(column([text])), {})[0] for text in ("Red MUG, 3x!", "red mug 3x"))
    assert first.tolist() == second.tolist()
    assert (first > 0).sum() == 3


def test_pairs_come_after_the_words() -> None:
    with_pairs = Text(max_tokens=8, ngrams=2)
    ids = with_pairs.encode(column(["red mug", "mug red", "red"]), {})
    assert (ids > 0).sum(axis=1).tolist() == [3, 3, 1]
    assert ids[0, :2].tolist() == ids[1, 1::-1].tolist()
    assert ids[0, 2] != ids[1, 2]


def test_tokens_are_the_words_then_pairs_then_triples_then_characters() -> None:
    feature = Text(max_tokens=12, ngrams=3, character_ngrams=4)
    tokens = ["a", "cat", "sat", "a cat", "cat sat", "a cat sat", "#<cat", "#cat>", "#<sat", "#sat>"]
    expected = [*(tf.strings.to_hash_bucket_fast(tokens, 10_000).numpy() + 1), 0, 0]
    assert feature.encode(column(["A cat, SAT"]), {}).tolist() == [expected]  # <a> is too short for four
    assert Text(max_tokens=4, ngrams=3).encode(column(["a cat sat"]), {}).tolist() == [expected[:4]]
    whole = Text(max_tokens=3, character_ngrams=3).encode(column(["é"]), {})[0]
    assert whole.tolist() == [*(tf.strings.to_hash_bucket_fast(["é", "#<é>"], 10_000).numpy() + 1), 0]


def test_the_default_tokens_are_the_plain_words() -> None:
    expected = tf.strings.to_hash_bucket_fast(["red", "mug"], 10_000).numpy() + 1
    ids = Text().encode(column(["Red -- MUG"]), {})
    assert ids.shape == (1, 32)
    assert ids[0, :3].tolist() == [*expected, 0]


def test_vectors_have_one_length() -> None:
    with pytest.raises(DataError, match="one length"):
        Vector().cast(column([[1.0], [1.0, 2.0]]))
    with pytest.raises(DataError, match="length 1, found lists of length 2"):
        Vector().encode(Vector().cast(column([[1.0, 2.0]])), {"width": 1})
    parts = pa.chunked_array([[[1.0]], [[1.0, 2.0]]], pa.list_(pa.float32()))  # cast one by one, as log files are
    for use in (Vector().fit, Vector().raw):
        with pytest.raises(DataError, match=r"one length, found the lengths \[1, 2\]"):
            use(parts)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2), pa.list_(pa.float32(), 2)],
    ids=str,
)
def test_every_kind_of_list_is_a_vector(kind: pa.DataType) -> None:
    feature = Vector()
    values = pa.array([[9.0, 9.0], None, [1.0, None], [float("nan"), 2.0], [float("inf"), 3.0]], kind).slice(1)
    cast = feature.cast(pa.chunked_array([values]))
    statistics = feature.fit(cast)
    assert statistics == {"width": 2}
    assert feature.encode(cast, statistics).tolist() == [[0, 0], [1, 0], [0, 2], [0, 3]]


def test_empty_vectors_are_missing_and_large_numbers_are_rounded() -> None:
    feature = Vector()
    cast = feature.cast(column([[], [2**30 + 1, 0], None]))
    assert feature.encode(cast, feature.fit(cast)).tolist() == [[0, 0], [2**30, 0], [0, 0]]


def test_a_batch_without_any_vector_has_the_fitted_width() -> None:
    feature = FittedFeature("look", Vector(), {"width": 3})
    nothing = feature.settings.cast(column([None, None]))
    assert np.isnan(feature.raw(nothing)).tolist() == [[True] * 3] * 2
    assert feature.encode(nothing).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("values", [["[1, 2]"], [1.0], [["a"]], [[[1.0]]]])
def test_what_is_no_list_of_numbers_is_no_vector(values: list[Any]) -> None:
    with pytest.raises(DataError, match="needs lists of numbers"):
        Vector().cast(column(values))


NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


@pytest.mark.parametrize(
    "value",
    [
        *(
            "2024-01-31T12:00:00",
            "2024-01-31 12:00",
            "2024-01-31T12:00:00Z",
            "2024-01-31t12:00z",
            "2024-01-31 12:00 UTC",
        ),
        *("2024-01-31T13:00:00+01:00", "2024-01-31 06:30:00.000-0530", "2024-01-31T14+02", " 2024-01-31T12:00:00 "),
        *("2024-01-31T12:00:00.000000999", "2024-01-31T12:00:00.000000999Z", str(SECONDS), f"{SECONDS}000"),
        *(SECONDS, SECONDS * 10**3, SECONDS * 10**6, SECONDS * 10**9, float(SECONDS), SECONDS * 1e9),
        *(NOON, NOON.replace(tzinfo=None)),
    ],
    ids=str,
)
def test_ways_to_write_a_time(value: Any) -> None:
    assert Timestamp().cast(column([value, None])).to_pylist() == [NOON, None]


def test_forms_of_time_may_be_mixed() -> None:
    texts = [["2024-01-31T12:00:00"], ["", None, "2024-01-31T13:00:00+01:00", str(SECONDS)], []]
    expected = [NOON, None, None, NOON, NOON]
    assert Timestamp().cast(pa.chunked_array(texts, pa.string())).to_pylist() == expected
    coded = pa.chunked_array(texts, pa.string()).dictionary_encode()
    assert Timestamp().cast(coded).to_pylist() == expected
    assert Timestamp().cast(pa.chunked_array([], pa.string())).to_pylist() == []
    numbers = [SECONDS, SECONDS * 1000, None, -(2**63), 2**63 - 1]
    assert Timestamp().cast(column(numbers)).to_pylist()[:3] == [NOON, NOON, None]
    assert Timestamp().cast(column([float("nan"), float("inf"), 1e300])).null_count == 3
    assert Timestamp().cast(column([date(2024, 1, 31)])).to_pylist() == [NOON.replace(hour=0)]


@pytest.mark.parametrize("values", [["yesterday"], ["2024-13-01"], ["31.01.2024"], [True], [[1]], [b"2024-01-01"]])
def test_what_is_no_time_says_what_would_be(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"timestamp feature, which takes .*ISO 8601 text such as 2024-01-31"):
        Timestamp().cast(column(values))


def test_times_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(DataError, match="out of bounds"):
        Timestamp().cast(column([2**60], pa.timestamp("s")))


def test_the_age_is_0_for_the_newest_and_1_for_the_oldest() -> None:
    feature = Timestamp(age=True)
    days = [date(2024, 1, 11), date(2024, 1, 1), date(2024, 1, 10), None]
    cast, statistics = fitted(feature, days)
    newest = datetime(2024, 1, 11, tzinfo=UTC).timestamp()
    assert statistics == {"newest": newest, "oldest": newest - 10 * 86400}
    encoded = feature.encode(cast, statistics)
    np.testing.assert_allclose(encoded[:, 5], [0, 1, np.log(2) / np.log(11), 0], rtol=1e-6)
    np.testing.assert_array_equal(encoded[:, :5], Timestamp().encode(cast, {}))
    later = feature.cast(column([date(2025, 1, 1)]))
    assert feature.encode(later, statistics)[0, 5] == 0
    _, at_once = fitted(feature, [date(2024, 1, 11)])
    np.testing.assert_allclose(feature.encode(cast, at_once)[2, 5], 1, rtol=1e-6)


def test_fitted_features_survive_json() -> None:
    table = pa.table({"feature.kind": ["a", "b", "a"], "feature.price": [1.0, 2.0, None]})
    fitted = fit_features({"price": Numeric(), "kind": Categorical(dim=4)}, table, prefix="feature")
    entries = {name: feature.to_json() for name, feature in fitted.items()}
    assert load_features(entries) == {"kind": fitted["kind"], "price": fitted["price"]}
    with pytest.raises(DataError, match="unknown type 'colour'"):
        load_features({"x": {"settings": {"type": "colour"}, "statistics": {}}})
