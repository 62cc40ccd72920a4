"""A vector of numbers made elsewhere, such as an image's or a text's embedding."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.contracts import FeatureType, Float32, Statistics
from two_tower.errors import DataError
from two_tower.features.base import identity
from two_tower.padding import list_lengths, list_values


class Vector(FeatureType):
    """A list of numbers, of one length in the whole column.

    Missing vectors (null or empty) and numbers that are missing, NaN or infinite in float32 become zeros.
    """

    type: Literal["vector"] = "vector"

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Lists of float32.

        Raises:
            DataError: It is no list of numbers, or the lengths differ.
        """
        try:
            lists = column.cast(pa.list_(pa.float32()), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"a column of type {column.type} cannot be a vector feature, which needs lists of numbers as Parquet "
                f"and JSON have them: {error}"
            ) from error
        _width(lists)
        return lists

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The vectors' width, 1 if there is no vector."""
        return {"width": _width(column) or 1}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Float32:
        """The vectors `[rows, width]`.

        Raises:
            DataError: They are longer or shorter than those it was fitted on.
        """
        expected, found = statistics["width"], _width(column)
        if not found:
            return np.zeros((len(column), expected), dtype=np.float32)
        if found != expected:
            raise DataError(f"a vector feature was fitted on lists of length {expected}, found lists of length {found}")
        vectors = self.raw(column)
        return np.where(np.isfinite(vectors), vectors, np.float32(0))

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """float32 `[rows, width]`, a missing vector as NaN."""
        vectors = np.full((len(column), _width(column) or 1), np.nan, dtype=np.float32)
        vectors[list_lengths(column) > 0] = list_values(column).astype(np.float32).reshape(-1, vectors.shape[1])
        return vectors

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """float32 `[batch, width]`."""
        return "float32", (None, statistics["width"])

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """The vectors `[batch, width]`."""
        import tensorflow as tf

        return tf.where(tf.math.is_finite(raw), raw, tf.zeros_like(raw))

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The vector as it is."""
        return identity(name=name)


def _width(column: pa.ChunkedArray) -> int:
    """The length that all the lists have, apart from null and empty ones; 0 if there are no others."""
    lengths = sorted(set(pc.unique(pc.list_value_length(column)).to_pylist()) - {None, 0})
    if len(lengths) > 1:
        raise DataError(f"a vector feature needs lists of one length, found the lengths {lengths[:5]}")
    return int(lengths[0]) if lengths else 0
