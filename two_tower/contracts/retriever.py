"""A retriever, and the settings of one that is built from the prepared data alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from two_tower.contracts.arrays import Float32, Int32
from two_tower.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["positive", "negative", "impression"]
ROLES: tuple[Role, ...] = ("positive", "negative", "impression")
"""The roles of events, in the order of the numbers that stand for them in the prepared data."""
Repeats = Literal["miss", "leave_out"]
"""What becomes of relevant items that are excluded, as the user has had them: they count as missed, or not at all."""


class Retriever(Protocol):
    """Anything that turns queries into ranked candidates."""

    def retrieve(self, queries: pa.Table, k: int, *, exclude: Int32 | None = None) -> Retrieved:
        """The `k` best candidates of each query.

        Args:
            queries: Rows of the prepared queries (see docs/artefacts.md).
            k: How many, at most; fewer where there are fewer candidates.
            exclude: `[queries, n]` item numbers that must not be returned, padded with -1.
        """


@dataclass(frozen=True)
class Retrieved:
    """Ranked candidates: `items` int32 and `scores` float32, both `[queries, k]`; -1 and -inf where there is none."""

    items: Int32
    scores: Float32


@dataclass(frozen=True)
class DataSizes:
    """How much there is to fit a retriever on: the positive events of known users before a split's cut-off."""

    users: int
    """Those with such an event."""
    items: int
    """Those with such an event."""
    events: int
    timed: bool
    """Whether the events have times."""


class RetrieverSettings(Settings, ABC):
    """The settings of a retriever that is built from the prepared data alone (a baseline)."""

    type: str

    @property
    def name(self) -> str:
        """The name under which its figures stand in metrics and gate checks."""
        return self.type

    def refuses(self, sizes: DataSizes) -> str | None:
        """Why `build` cannot take so much data, and what to do, as one clause; None where it can.

        It is asked before anything is trained, so what costs much to find out is left to `build`.
        """
        return None

    @abstractmethod
    def build(self, prepared: str, *, split: Literal["validation", "test"]) -> Retriever:
        """The retriever fitted on what precedes the split's cut-off in the prepared data at the path `prepared`.

        Raises:
            UserError: It cannot be fitted; the message begins with its name.
        """
