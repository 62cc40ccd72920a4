"""Not worse than the version that serves."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Literal

from pydantic import Field

from two_tower.contracts import CheckResult, GateCheck
from two_tower.evaluation.figures import Metric, comparison


class NotWorseThanChampion(GateCheck):
    """The challenger may be worse than the champion by less than `margin`, with some probability.

    That probability is taken from the paired bootstrap interval as that of a normal distribution.  Without a
    champion, and for the champion itself, there is nothing to check.
    """

    type: Literal["not_worse_than_champion"] = "not_worse_than_champion"
    metric: Metric
    margin: float = Field(0.0, ge=0, le=1, description="The loss that is still accepted.")
    probability: float = Field(0.9, gt=0, lt=1, description="Least probability that the loss is below `margin`.")

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        champion = metrics["champion"]
        if champion is None:
            return self._result("skipped", None, "There is no champion to compare with.")
        if champion == metrics["version"]:
            return self._result("skipped", None, f"Version {champion} is the champion itself.")
        if metrics["champion_error"]:
            return self._result(
                "failed", None, f"The champion {champion} cannot be evaluated: {metrics['champion_error']}"
            )
        found = comparison(metrics, "champion", self.metric)
        probability = _probability_above(-self.margin, found, confidence=metrics["confidence"])
        reason = (
            f"{self.metric} differs from the champion's by {found['difference']:+.4f} ({found['low']:+.4f} to "
            f"{found['high']:+.4f}) and is not worse by more than {self.margin:g} with probability {probability:.3f}."
        )
        return self._result("passed" if probability >= self.probability else "failed", probability, reason)

    def _result(self, status: Literal["passed", "failed", "skipped"], value: float | None, reason: str) -> CheckResult:
        by = f" by more than {self.margin:g}" if self.margin else ""
        name = f"{self.metric} not worse than champion{by}"
        return CheckResult(name, status, value, self.probability, reason, self.blocking)


def _probability_above(bound: float, found: dict[str, float], *, confidence: float) -> float:
    """The probability that the true difference is above `bound`."""
    width = 2 * NormalDist().inv_cdf((1 + confidence) / 2)
    error = (found["high"] - found["low"]) / width
    if error == 0:
        return float(found["difference"] >= bound)
    return 1 - NormalDist(found["difference"], error).cdf(bound)
