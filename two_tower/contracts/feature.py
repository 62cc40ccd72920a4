"""A feature type: one kind of raw column and its way into a tower."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from two_tower.contracts.arrays import Float32, Int32
from two_tower.settings import Settings

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

Statistics = dict[str, Any]
"""What `FeatureType.fit` learned: JSON-able, stored with the prepared data and baked into the exports."""


class FeatureType(Settings, ABC):
    """One kind of raw column and its way into a tower.

    `encode` (Arrow, used in training and batch work) and `encode_tensor` (TensorFlow, used inside the exported
    towers) give equal numbers for equal raw values.
    """

    holds: ClassVar[Literal["numbers", "times"] | None] = None
    """What every text of such a column reads as, by which a row of a file can be told from other text."""

    type: str
    column: str | None = Field(None, description="The table's column; the feature's own name if not given.")

    @abstractmethod
    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The raw column in the Arrow type that the candidate and user tables store for this feature type.

        Raises:
            DataError: The column's type cannot become this feature.
        """

    @abstractmethod
    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """The statistics of a cast column: a vocabulary, a mean, bucket edges."""

    @abstractmethod
    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32 | Float32:
        """A cast column as a dense `[rows, width]` array: int32 ids (0 is padding or missing) or float32 values."""

    def cut_off(self, column: pa.ChunkedArray) -> dict[str, int]:
        """How many rows of a cast column have more values than a setting lets into `encode`, by the setting's name."""
        return {}

    @abstractmethod
    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """A cast column as the NumPy array that the exported towers take (`[rows]` or `[rows, values]`)."""

    @abstractmethod
    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """The dtype and the shape (batch dimension included, as None) of the exported towers' raw input."""

    @abstractmethod
    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """The TensorFlow twin of `encode`: a raw tensor of `raw_spec` in, a `[batch, width]` tensor out."""

    @abstractmethod
    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """A Keras layer that turns an encoded `[batch, width]` tensor into `[batch, dim]` float32."""
