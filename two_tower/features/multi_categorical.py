"""Several categories at once, such as genres or tags."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from two_tower.contracts import FeatureType, Int32, Statistics
from two_tower.errors import DataError
from two_tower.features.base import (
    FIRST,
    cast_text,
    fit_vocabulary,
    hash_ids,
    hash_ids_tensor,
    lookup,
    lookup_tensor,
    mean_embedding,
    raw_text,
)
from two_tower.padding import list_lengths
from two_tower.settings import MANY


class MultiCategorical(FeatureType):
    """A list of values of one vocabulary, or a text that a separator splits into one."""

    type: Literal["multi_categorical"] = "multi_categorical"
    separator: str | None = Field(None, min_length=1, description="Splits a text column; a list column needs none.")
    dim: int = Field(16, ge=1, le=65_536, description="Width of the embedding.")
    min_count: int = Field(1, ge=1, le=MANY, description="Values that occur fewer times than this count as unknown.")
    max_size: int | None = Field(
        None, ge=1, le=MANY, description="Only this many of the most frequent values are known."
    )
    max_values: int = Field(16, ge=1, le=65_536, description="A row's values beyond this many are left out.")
    hash_buckets: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Number of embeddings that the values are hashed into; a vocabulary if not given.",
    )

    @model_validator(mode="after")
    def _hashes_or_counts(self) -> Self:
        if self.hash_buckets is not None and (self.min_count > 1 or self.max_size is not None):
            raise ValueError("with hash_buckets there is no vocabulary that min_count or max_size could cut")
        return self

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Lists of trimmed strings without empty ones; an empty list is missing.

        Raises:
            DataError: It is neither a list nor a text, or a text without a `separator`.
        """
        if pa.types.is_null(column.type):  # a column without any value has no type of its own
            column = column.cast(pa.list_(pa.string()))
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lists = column.combine_chunks()
        elif self.separator is None:
            raise DataError(f"a column of type {column.type} needs a `separator` to be a multi_categorical feature")
        else:
            lists = pc.split_pattern(cast_text(column, kind="multi_categorical"), self.separator).combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = lists.chunk(0) if lists.num_chunks else pa.array([], lists.type)
        return pa.chunked_array([_without_empty(lists)])

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The width (the longest row's number of values, at most `max_values`) and, unless hashed, the vocabulary."""
        longest = pc.max(pc.list_value_length(column)).as_py() or 1
        width = min(longest, self.max_values)
        if self.hash_buckets is not None:
            return {"width": width}
        values = pc.list_flatten(column)
        vocabulary = fit_vocabulary(values, min_count=self.min_count, max_size=self.max_size)
        return {"vocabulary": vocabulary, "width": width}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Ids `[rows, width]`, padded with 0."""
        row, place, values = _entries(column)
        keep = place < statistics["width"]
        ids = np.zeros((len(column), statistics["width"]), dtype=np.int32)
        if self.hash_buckets is not None:
            found = hash_ids(values, self.hash_buckets)
        else:
            found = lookup(values, statistics["vocabulary"])
        ids[row[keep], place[keep]] = found[keep]
        return ids

    def cut_off(self, column: pa.ChunkedArray) -> dict[str, int]:
        """How many lists are longer than `max_values`."""
        return {"max_values": int((list_lengths(column) > self.max_values).sum())}

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """UTF-8 `[rows, values]`, padded with the empty string."""
        row, place, values = _entries(column)
        texts = np.full((len(column), max(1, int(place.max(initial=-1)) + 1)), b"", dtype=object)
        texts[row, place] = raw_text(values)
        return texts

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """Strings `[batch, values]`, any number of values."""
        return "string", (None, None)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Ids `[batch, width]`."""
        import tensorflow as tf

        width = statistics["width"]
        if self.hash_buckets is not None:
            ids = hash_ids_tensor(raw[:, :width], self.hash_buckets)
        else:
            ids = lookup_tensor(raw[:, :width], statistics["vocabulary"])
        ids = tf.pad(ids, [[0, 0], [0, width - tf.shape(ids)[1]]])
        return tf.ensure_shape(ids, [None, width])

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The mean of the values' embeddings."""
        if self.hash_buckets is not None:
            return mean_embedding(self.hash_buckets + 1, self.dim, name=name)
        return mean_embedding(len(statistics["vocabulary"]) + FIRST, self.dim, name=name)


def _entries(column: pa.ChunkedArray) -> tuple[Int32, Int32, pa.Array]:
    """The row, the place in its list and the value of each entry of a list column."""
    lengths = list_lengths(column)
    row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    first = np.cumsum(lengths) - lengths
    place = (np.arange(len(row)) - first[row]).astype(np.int32)
    flat = pc.list_flatten(column)
    return row, place, flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def _without_empty(lists: Any) -> pa.Array:
    """The lists with trimmed strings, without the null and the empty ones."""
    values = pc.utf8_trim_whitespace(cast_text(pc.list_flatten(lists), kind="multi_categorical"))
    row = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
    keep = pc.fill_null(pc.not_equal(values, ""), False)
    counts = np.bincount(row[np.asarray(keep, dtype=bool)], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    missing = pa.array(counts == 0)
    return pa.ListArray.from_arrays(pa.array(offsets), values.filter(keep), mask=missing)
