"""Not worse than the version that serves."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from two_tower.contracts import CheckResult, GateCheck
from two_tower.evaluation.figures import RankingMetric, SliceName, comparison, on, recall_only


class NotWorseThanChampion(GateCheck):
    """The challenger may be worse than the champion by less than `margin`, with some probability.

    That probability is taken from the paired bootstrap interval as that of a normal distribution.  Without a
    champion, and for the champion itself, there is nothing to check.
    """

    type: Literal["not_worse_than_champion"] = "not_worse_than_champion"
    metric: RankingMetric
    slice: SliceName = None
    margin: float = Field(0.0, ge=0, le=1, description="The loss that is still accepted.")
    probability: float = Field(0.9, gt=0, lt=1, description="Least probability that the loss is below `margin`.")

    @property
    def name(self) -> str:
        by = f" by more than {self.margin:g}" if self.margin else ""
        return f"{self.metric}{on(self.slice)} not worse than champion{by}"

    @model_validator(mode="after")
    def _is_measured_by_slice(self) -> Self:
        if self.slice is not None:
            recall_only(self.metric)
        return self

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        champion = metrics["champion"]
        if champion is None:
            return self.result(None, "There is no champion to compare with.", threshold=self.probability)
        if champion == metrics["version"]:
            return self.result(None, f"Version {champion} is the champion itself.", threshold=self.probability)
        if metrics["champion_error"]:
            reason = f"The champion {champion} cannot be evaluated: {metrics['champion_error']}"
            return self.result(False, reason, threshold=self.probability)
        found = comparison(metrics, "champion", self.metric, slice_name=self.slice)
        probability = _probability_above(-self.margin, found, confidence=metrics["confidence"])
        reason = (
            f"{self.metric}{on(self.slice)} differs from the champion's by {found['difference']:+.4f} "
            f"({found['low']:+.4f} to {found['high']:+.4f}) and is not worse by more than {self.margin:g} with "
            f"probability {probability:.3f}."
        )
        return self.result(probability >= self.probability, reason, value=probability, threshold=self.probability)


def _probability_above(bound: float, found: dict[str, float], *, confidence: float) -> float:
    """The probability that the true difference is above `bound`."""
    width = 2 * NormalDist().inv_cdf((1 + confidence) / 2)
    error = (found["high"] - found["low"]) / width
    if error == 0:
        return float(found["difference"] >= bound)
    return 1 - NormalDist(found["difference"], error).cdf(bound)
