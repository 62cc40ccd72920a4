"""The four things that others add, one file each: a feature type, a loss, a retriever, a gate check.

Each is a settings model with a `type` and a few methods.  The configuration finds the concrete classes in
`two_tower.features`, `two_tower.model.losses`, `two_tower.retrievers` and `two_tower.evaluation.checks` by
importing those packages' modules (`two_tower.settings.one_of`), so these modules, like this one, import
TensorFlow, Beam and ScaNN inside functions only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from two_tower.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Role = Literal["positive", "negative", "impression"]
ROLES: tuple[Role, ...] = ("positive", "negative", "impression")
"""The roles of events, in the order of the numbers that stand for them in the prepared data."""
RANKING = ("recall", "hit_rate", "precision", "mrr", "ndcg", "map")
RankingMetric = Annotated[str, Field(pattern=rf"^({'|'.join(RANKING)})@[1-9][0-9]*$", examples=["recall@100"])]
"""A ranking metric's name with its K, which has to be one of `evaluation.ks`."""
Repeats = Literal["miss", "leave_out"]
"""What becomes of relevant items that are excluded, as the user has had them: they count as missed, or not at all."""
SLICES = (
    "returning_users",
    "new_users",
    "repeated",
    "new_to_user",
    "warm_new_to_user",
    "cold_items",
    "head",
    "middle",
    "tail",
    "history 1-5",
    "history 6-20",
    "history 21+",
)
"""The slices that are always measured; those of `evaluation.slices` come on top, as `COLUMN=VALUE`."""
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


class Loss(Settings, ABC):
    """A training objective over query embeddings and the candidates."""

    type: str

    @abstractmethod
    def build(self, context: LossContext) -> Any:
        """A callable `(queries float32 [n, dim], batch: LossBatch) -> scalar`, which TensorFlow calls in every step.

        `context.candidates(item_numbers)` embeds candidates inside the same graph.
        """


class LossBatch(NamedTuple):
    """What a loss is told about a batch of `n` queries; TensorFlow tensors.

    Positive `i` belongs to the query `rows[i]`: the items of one basket share a query, which need not be scored again
    for each of them.
    """

    rows: Any
    """int32 `[batch]`: the query that each positive belongs to."""
    positives: Any
    """int32 `[batch]` item numbers."""
    weights: Any
    """float32 `[batch]`, at least one above 0."""
    known_rows: Any
    """int32 `[known]`: the query of each known positive."""
    known: Any
    """int32 `[known]` item numbers that are no negatives of the query `known_rows`: its own positives, and where the
    configuration says so the user's other items."""
    mined: Any
    """int32 `[n, hard]` negatives of each query that the model ranked high, -1 for none; `hard` is 0 without mining."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may use of the model that it trains."""

    candidates: Any
    """Callable int32 `[n]` item numbers -> float32 `[n, dim]` embeddings, differentiable."""
    item_count: int
    sampling_probability: Float32
    """`[items]`: each item's share of the training positives (the logQ of an in-batch negative)."""
    temperature: Any
    """A float, or a scalar variable where it is learned: use it inside the loss, not in `build`."""
    seed: int


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


class GateCheck(Settings, ABC):
    """One condition for promotion."""

    type: str
    blocking: bool = Field(True, description="Whether a failure refuses promotion; if not, it is only reported.")

    @property
    def name(self) -> str:
        """What it is called in reports and reasons, such as `recall@100 >= 0.2`."""
        settings = self.model_dump(mode="json", exclude={"type", "blocking"}, exclude_none=True)
        return " ".join([self.type, *(f"{key}={value}" for key, value in settings.items())])

    @abstractmethod
    def check(self, metrics: dict[str, Any]) -> CheckResult:
        """The verdict on `metrics`, which has the shape of metrics.json (see docs/artefacts.md) less `gate`."""

    def result(
        self, passed: bool | None, reason: str, *, value: float | None = None, threshold: float | None = None
    ) -> CheckResult:
        """A verdict under this check's name; `passed` is None where there was nothing to check."""
        status: Literal["passed", "failed", "skipped"] = (
            "skipped" if passed is None else "passed" if passed else "failed"
        )
        return CheckResult(self.name, status, value, threshold, reason, self.blocking)


@dataclass(frozen=True)
class CheckResult:
    """What a gate check found."""

    name: str
    """Such as `recall@100 >= 0.2` or `recall@100 above recent_popularity`."""
    status: Literal["passed", "failed", "skipped"]
    value: float | None
    threshold: float | None
    reason: str
    """One sentence with the measured figures; for `skipped`, why there was nothing to check."""
    blocking: bool = True
