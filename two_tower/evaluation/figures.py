"""Looking up figures in metrics.json, for the gate's checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

Metric = Annotated[str, Field(pattern=r"^(recall|hit_rate|mrr|ndcg)@[1-9][0-9]*$", examples=["recall@100"])]
"""A metric's name with its K, which has to be one of `evaluation.ks`."""


class MissingFigure(LookupError):
    """A check asks for a figure that has not been measured."""


def system_metric(metrics: Mapping[str, Any], system: str, metric: str) -> float:
    """The value of a metric of a system.

    Raises:
        MissingFigure: It has not been measured; the message says what has.
    """
    measured = _get(metrics["systems"], system, "system")["metrics"]
    return float(_get(measured, metric, "metric")["value"])


def comparison(metrics: Mapping[str, Any], system: str, metric: str) -> dict[str, float]:
    """The paired comparison of the two towers with a system: difference, low, high, probability_better.

    Raises:
        MissingFigure: It has not been measured; the message says what has.
    """
    found: dict[str, float] = _get(_get(metrics["comparisons"], system, "system to compare with"), metric, "metric")
    return found


def _get(values: Mapping[str, Any], key: str, what: str) -> Any:
    if key not in values:
        raise MissingFigure(f"there is no {what} {key!r}; measured: {', '.join(values) or 'none'}")
    return values[key]
