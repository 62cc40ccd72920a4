"""What the feature types share: vocabularies, hashes, layers, and a feature together with its statistics.

Encoded ids are 0 for missing or padding, 1 for a value outside the vocabulary (OOV), 2 and up for the vocabulary.
Hashed ids are 0 for missing or padding, 1 and up for the buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.contracts import FeatureType, Float32, Int32, Statistics
from two_tower.errors import DataError
from two_tower.settings import members

if TYPE_CHECKING:
    import tensorflow as tf

MISSING, OOV, FIRST = 0, 1, 2
"""The encoded ids of a missing value, of a value outside the vocabulary, and of the vocabulary's first value."""
CHUNK = 65536
"""Strings that are given to TensorFlow at once."""


def holds_categories(kind: pa.DataType) -> bool:
    """Whether a column of this type has values that can be counted one by one: no fractions, no moments."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_dictionary(kind):
        return holds_categories(kind.value_type)
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    return any(check(kind) for check in checks)


@dataclass(frozen=True)
class FittedFeature:
    """A feature's settings with the statistics fitted on a data set; its methods are those of `FeatureType`."""

    name: str
    settings: FeatureType
    statistics: Statistics

    def encode(self, column: pa.ChunkedArray) -> Int32 | Float32:
        """A cast column as a dense `[rows, width]` array."""
        return self.settings.encode(column, self.statistics)

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """A cast column as the array that the exported towers take."""
        raw, shape = self.settings.raw(column), self.raw_spec()[1]
        if raw.dtype.kind == "f" and raw.ndim == 2 and raw.shape[1] != shape[1] and np.isnan(raw).all():
            return np.full((len(raw), shape[1] or 1), np.nan, raw.dtype)  # a batch of null vectors has no width
        return raw

    def raw_spec(self) -> tuple[str, tuple[int | None, ...]]:
        """The dtype and the shape of the exported towers' raw input."""
        return self.settings.raw_spec(self.statistics)

    def encode_tensor(self, raw: tf.Tensor) -> tf.Tensor:
        """The TensorFlow twin of `encode`."""
        return self.settings.encode_tensor(raw, self.statistics)

    def layer(self) -> Any:
        """A Keras layer from encoded `[batch, width]` to float32 `[batch, dim]`."""
        return self.settings.layer(self.statistics, name=self.name)

    def to_json(self) -> dict[str, Any]:
        """The entry of this feature in features.json."""
        return {"settings": self.settings.model_dump(mode="json"), "statistics": self.statistics}


def fit_features(features: Mapping[str, FeatureType], table: pa.Table, *, prefix: str) -> dict[str, FittedFeature]:
    """The features fitted on the cast columns `PREFIX.NAME` of a table, by name in the given order."""
    return {
        name: FittedFeature(name, feature, feature.fit(table.column(f"{prefix}.{name}")))
        for name, feature in features.items()
    }


def load_features(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, FittedFeature]:
    """The fitted features of one part (`item`, `user` or `context`) of features.json, in the order of their names."""
    classes = {kind.model_fields["type"].default: kind for kind in members("two_tower.features", FeatureType)}
    found = {}
    for name, entry in sorted(entries.items()):
        kind = classes.get(entry["settings"]["type"])
        if kind is None:
            raise DataError(f"features.json: the feature {name!r} has the unknown type {entry['settings']['type']!r}")
        found[name] = FittedFeature(name, kind.model_validate(entry["settings"]), dict(entry["statistics"]))
    return found


def cast_text(column: pa.ChunkedArray, *, kind: str) -> pa.ChunkedArray:
    """The column as strings, the empty string as null.

    Raises:
        DataError: Its type has no text form.
    """
    try:
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"a column of type {column.type} cannot be a {kind} feature: {error}") from error
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def cast_number(column: pa.ChunkedArray, *, kind: str) -> pa.ChunkedArray:
    """The column as float64; integers beyond 2^53 are rounded.

    Raises:
        DataError: It is no number, nor text that reads as one.
    """
    try:
        return column.cast(pa.float64(), safe=not pa.types.is_integer(column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"a column of type {column.type} cannot be a {kind} feature: {error}") from error


def raw_number(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """float64 `[rows]`, null as NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)


def raw_text(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Strings as UTF-8 in an object array `[rows]`, null as the empty string.

    TensorFlow takes bytes as they are, and Arrow makes them many times faster than Python's strings.
    """
    return np.asarray(pc.fill_null(column, "").cast(pa.binary()), dtype=object)


def fit_vocabulary(values: pa.ChunkedArray | pa.Array, *, min_count: int = 1, max_size: int | None = None) -> list[str]:
    """The distinct non-empty values, most frequent first, equal counts by value."""
    counts = pc.value_counts(values).to_pylist()
    kept = [(-row["counts"], row["values"]) for row in counts if row["values"] and row["counts"] >= min_count]
    return [value for _, value in sorted(kept)[:max_size]]


def lookup(values: pa.ChunkedArray | pa.Array, vocabulary: list[str]) -> Int32:
    """The ids `[rows]` of strings."""
    found = pc.index_in(values, value_set=pa.array(vocabulary, pa.string()))
    ids = np.asarray(pc.fill_null(found, OOV - FIRST), dtype=np.int32) + FIRST
    missing = np.asarray(pc.fill_null(pc.equal(values, ""), True), dtype=bool)
    return np.where(missing, MISSING, ids).astype(np.int32)


def lookup_tensor(raw: tf.Tensor, vocabulary: list[str]) -> tf.Tensor:
    """The TensorFlow twin of `lookup`: ids int32 in the shape of `raw`.

    A binary search over 63-bit fingerprints, then a comparison of the strings themselves: it is made of constants
    only, so that a SavedModel needs neither asset files nor table initialisers for it.

    Raises:
        DataError: Two values of the vocabulary share a fingerprint (one chance in 10^7 for a million values).
    """
    import tensorflow as tf

    missing = tf.equal(raw, "")
    if not vocabulary:
        return tf.where(missing, MISSING, OOV)
    with tf.init_scope():  # constants, not part of the graph that runs with every batch
        fingerprints = tf.strings.to_hash_bucket_fast(vocabulary, 2**63 - 1).numpy()
        order = np.argsort(fingerprints, kind="stable")
        if (np.diff(fingerprints[order]) == 0).any():
            raise DataError("two values of a vocabulary have the same fingerprint; rename one of them")
        keys, ids = tf.constant(fingerprints[order]), tf.constant(order.astype(np.int32))
        words = tf.constant(vocabulary)
    flat = tf.reshape(raw, [-1])
    place = tf.searchsorted(keys, tf.strings.to_hash_bucket_fast(flat, 2**63 - 1))
    index = tf.gather(ids, tf.minimum(place, len(vocabulary) - 1))
    found = tf.where(tf.equal(tf.gather(words, index), flat), index + FIRST, OOV)
    return tf.where(missing, MISSING, tf.reshape(found, tf.shape(raw)))


def hash_ids(values: pa.ChunkedArray | pa.Array, buckets: int) -> Int32:
    """The hashed ids `[rows]` of strings: 0 for null and the empty string, 1 to `buckets` for the others.

    TensorFlow hashes, each distinct string once: its hash is the only one that the exported towers can have.
    """
    import tensorflow as tf

    coded = pc.dictionary_encode(values)
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    ids = np.full(len(coded.dictionary) + 1, MISSING, dtype=np.int32)  # the last one stands for null
    with tf.device("CPU"):
        for start in range(0, len(coded.dictionary), CHUNK):
            words = coded.dictionary.slice(start, CHUNK)
            hashed = hash_ids_tensor(tf.constant(raw_text(words), tf.string), buckets)
            ids[start : start + len(words)] = hashed.numpy()
    found: Int32 = ids[np.asarray(pc.fill_null(coded.indices, len(coded.dictionary)))]
    return found


def hash_ids_tensor(raw: tf.Tensor, buckets: int) -> tf.Tensor:
    """The TensorFlow twin of `hash_ids`: ids int32 in the shape of `raw`.

    The hash is FarmHash's Fingerprint64 modulo `buckets`, which is the same on every machine and in every version.
    """
    import tensorflow as tf

    hashed = tf.cast(tf.strings.to_hash_bucket_fast(raw, buckets), tf.int32) + 1
    return tf.where(tf.equal(raw, ""), MISSING, hashed)


def mean_embedding(size: int, dim: int, *, name: str) -> Any:
    """A Keras layer from ids int32 `[batch, width]` to the mean `[batch, dim]` of the embeddings of the ids above 0.

    A row without any id gives zeros.
    """
    import tensorflow as tf
    import tf_keras as keras

    class MeanEmbedding(keras.layers.Layer):  # type: ignore[misc]
        """The mean of the embeddings of a row's ids."""

        def build(self, input_shape: Any) -> None:
            self.embeddings = self.add_weight(name="embeddings", shape=(size, dim), initializer=unit_vectors(dim))

        def call(self, ids: tf.Tensor) -> tf.Tensor:
            mask = tf.cast(ids > MISSING, tf.float32)[:, :, None]
            vectors = tf.gather(self.embeddings, ids) * mask
            return tf.reduce_sum(vectors, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)

    return MeanEmbedding(name=name)


def single_embedding(size: int, dim: int, *, name: str) -> Any:
    """A Keras layer from ids int32 `[batch, 1]` to their embeddings `[batch, dim]`; a missing value has one too."""
    import tf_keras as keras

    embedding = keras.layers.Embedding(size, dim, embeddings_initializer=unit_vectors(dim))
    return keras.Sequential([embedding, keras.layers.Flatten()], name=name)


def unit_vectors(dim: int) -> Any:
    """An initializer whose rows have a length of about 1, as standardised numbers have: no feature starts faint."""
    import tf_keras as keras

    return keras.initializers.RandomNormal(stddev=dim**-0.5)


def identity(*, name: str) -> Any:
    """A Keras layer that passes float32 `[batch, width]` on."""
    import tf_keras as keras

    return keras.layers.Activation("linear", name=name)


class SingleValue(FeatureType):
    """What features of one text share: unless overridden it is looked up in a vocabulary, an embedding a value."""

    dim: int

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Strings; the empty string is missing."""
        return cast_text(column, kind=self.type)

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Ids `[rows, 1]`."""
        return lookup(column, statistics["vocabulary"])[:, None]

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """UTF-8 `[rows]`."""
        return raw_text(column)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """Strings `[batch]`."""
        return "string", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Ids `[batch, 1]`."""
        return lookup_tensor(raw, statistics["vocabulary"])[:, None]

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """One embedding a known value, one for unknown values and one for a missing value."""
        return single_embedding(len(statistics["vocabulary"]) + FIRST, self.dim, name=name)
