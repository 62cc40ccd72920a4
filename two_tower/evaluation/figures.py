"""Looking up figures of an evaluation, for the gate's checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.contracts import RANKING as RANKING, GateCheck, RankingMetric as RankingMetric
from two_tower.metrics_file import Compared, Difference, Evaluation, IndexFigures

Found = TypeVar("Found")

RECOMMENDED = ("coverage", "novelty", "diversity", "gini", "head", "middle", "tail", "log_count")
"""Figures of what a system recommends, whether it is relevant or not: they have no intervals and no slices."""
ABOVE_ONE = ("novelty", "diversity", "log_count")
"""Those that may be above 1."""
DIVERSITY_UP_TO = 100
"""The largest K for which diversity is measured."""

Metric = Annotated[
    str,
    Field(pattern=rf"^({'|'.join((*RANKING, *RECOMMENDED))})@[1-9][0-9]*$", examples=["recall@100", "coverage@100"]),
]
"""The name of a ranking metric, or of a figure of what is recommended, with its K."""
SliceName = Annotated[
    str | None,
    Field(
        description="The slice that it is about, such as `tail` or `user.country=FR`; all queries if not given. A "
        "slice of fewer queries than `evaluation.smallest_slice` is not judged.",
        examples=["tail", "user.country=FR"],
    ),
]


class MissingFigure(LookupError):
    """A check asks for a figure that has not been measured."""


class TooFewQueries(LookupError):
    """A check asks for a slice that is too small for a verdict."""


class LeftOut(LookupError):
    """A check asks for a baseline that could not be fitted."""


class BoundedFigure(GateCheck):
    """A figure of one system that has to keep a bound."""

    metric: Metric
    """The figure that is bounded."""
    system: str = Field("two_tower", description="Whose figure; `two_tower_exact` for the model without its index.")
    slice: SliceName = None

    @property
    def subject(self) -> str:
        """What is measured, such as `recall@100 of two_tower_exact on tail`."""
        of = "" if self.system == "two_tower" else f" of {self.system}"
        return f"{self.metric}{of}{on(self.slice)}"

    @model_validator(mode="after")
    def _is_measured_there(self) -> Self:
        name, k = self.metric.split("@")
        if name == "diversity" and int(k) > DIVERSITY_UP_TO:
            raise PydanticCustomError(
                "diversity", "metric: diversity is measured up to K = {most}", {"most": DIVERSITY_UP_TO}
            )
        if self.slice is not None:
            recall_only(self.metric)
        return self

    def _within_range(self, key: str, bound: float) -> None:
        """Refuses a bound above 1 of a figure that has none."""
        if bound > 1 and self.metric.split("@")[0] not in ABOVE_ONE:
            raise PydanticCustomError("bound", "{key}: {metric} is never above 1", {"key": key, "metric": self.metric})


def recall_only(metric: str) -> None:
    """Refuses a metric that is not measured by slice.

    Raises:
        PydanticCustomError: The metric is not recall.
    """
    if not metric.startswith("recall@"):
        raise PydanticCustomError(
            "slice_metric", "slice: only recall is measured by slice, not {metric}", {"metric": metric}
        )


def on(slice_name: str | None) -> str:
    """The words that name a slice behind a metric; none for all queries."""
    return "" if slice_name is None else f" on {slice_name}"


def figure(evaluation: Evaluation, system: str, metric: str, *, slice_name: str | None = None) -> float:
    """The value of a metric of a system, wherever in an evaluation it stands.

    Args:
        evaluation: The evaluation.
        system: Such as `two_tower`.
        metric: Such as `recall@100` or `coverage@100`.
        slice_name: A slice of the queries or of the relevant items; all if not given.

    Raises:
        MissingFigure: It has not been measured; the message says what has.
        LeftOut: The system is a baseline that could not be fitted.
        TooFewQueries: The slice is too small for a verdict.
    """
    _refuse_left_out(evaluation, system)
    if metric.split("@")[0] in RECOMMENDED:
        recommended = evaluation.popularity.recommended if evaluation.popularity else {}
        value = _get(_get(recommended, system, "system"), metric, "metric")
        if value is None:
            raise MissingFigure(f"{metric} of {system} has no value, since nothing was recommended or nothing compared")
        return float(value)
    measured = _get(_part(evaluation, slice_name).systems, system, "system").metrics
    return float(_get(measured, metric, "metric").value)


def comparison(evaluation: Evaluation, system: str, metric: str, *, slice_name: str | None = None) -> Difference:
    """The paired comparison of the two towers with a system.

    Args:
        evaluation: The evaluation.
        system: A baseline, or `champion`.
        metric: Such as `recall@100`.
        slice_name: A slice of the queries or of the relevant items; all if not given.

    Raises:
        MissingFigure: It has not been measured; the message says what has.
        LeftOut: The system is a baseline that could not be fitted.
        TooFewQueries: The slice is too small for a verdict.
    """
    _refuse_left_out(evaluation, system)
    compared = _get(_part(evaluation, slice_name).comparisons, system, "system to compare with")
    return _get(compared, metric, "metric")


def slice_queries(evaluation: Evaluation, slice_name: str | None) -> int:
    """How many queries a slice holds; all of them without one.

    Raises:
        MissingFigure: There is no such slice; the message says which there are.
    """
    return evaluation.queries if slice_name is None else _get(evaluation.slices, slice_name, "slice").queries


def measured_index(evaluation: Evaluation) -> IndexFigures:
    """What was measured of the index.

    Raises:
        MissingFigure: Nothing was.
    """
    if evaluation.index is None:
        raise MissingFigure("the index has not been measured")
    return evaluation.index


def _refuse_left_out(evaluation: Evaluation, system: str) -> None:
    if why := evaluation.left_out.get(system):
        raise LeftOut(f"the baseline {system} does not fit: {why}")


def _part(evaluation: Evaluation, slice_name: str | None) -> Compared:
    """What holds the systems and the comparisons of a slice, or of all queries."""
    if slice_name is None:
        return evaluation
    part = _get(evaluation.slices, slice_name, "slice")
    if part.too_small:
        raise TooFewQueries(
            f"the slice {slice_name} holds {part.queries} queries, and evaluation.smallest_slice asks for "
            f"{evaluation.smallest_slice}"
        )
    return part


def _get(values: Mapping[str, Found], key: str, what: str) -> Found:
    if key not in values:
        raise MissingFigure(f"there is no {what} {key!r}; measured: {', '.join(values) or 'none'}")
    return values[key]
