"""Not worse than the version that serves."""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import RankingMetric, SliceName, comparison, on, recall_only
from two_tower.metrics_file import CheckResult, Difference, Evaluation

_NORMAL = NormalDist()
EQUALS_THAT_PASS = 0.9
"""The share of equally good challengers that an automatic margin lets through."""


class NotWorseThanChampion(GateCheck):
    """The challenger may be worse than the champion by less than `margin`, with some probability.

    That probability is taken from the paired bootstrap interval as that of a normal distribution, and so is the
    standard error that an automatic margin is a multiple of.  Without a champion, and for the champion itself, there is
    nothing to check.
    """

    type: Literal["not_worse_than_champion"] = "not_worse_than_champion"
    metric: RankingMetric
    """The metric that is compared."""
    slice: SliceName = None
    margin: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        0.0,
        description="The loss that is still accepted. `auto`: so many standard errors of this comparison that nine in "
        "ten equally good versions pass; the fewer the queries, the larger the loss that passes.",
    )
    probability: float = Field(0.9, gt=0, lt=1, description="Least probability that the loss is below `margin`.")

    @property
    def name(self) -> str:
        by = " (auto margin)" if self.margin == "auto" else f" by more than {self.margin:g}" if self.margin else ""
        return f"{self.metric}{on(self.slice)} not worse than champion{by}"

    @model_validator(mode="after")
    def _is_measured_by_slice(self) -> Self:
        if self.slice is not None:
            recall_only(self.metric)
        return self

    def check(self, evaluation: Evaluation) -> CheckResult:
        champion = evaluation.champion
        if champion is None:
            return self.result(None, "There is no champion to compare with.", threshold=self.probability)
        if champion == evaluation.version:
            return self.result(None, f"Version {champion} is the champion itself.", threshold=self.probability)
        if evaluation.champion_error:
            reason = f"The champion {champion} cannot be evaluated: {evaluation.champion_error}"
            return self.result(False, reason, threshold=self.probability)
        found = comparison(evaluation, "champion", self.metric, slice_name=self.slice)
        error = _standard_error(found, confidence=evaluation.confidence)
        margin, margin_text = self._margin(error)
        probability = _probability_above(-margin, found.difference, error)
        reason = (
            f"{self.metric}{on(self.slice)} differs from the champion's by {found.difference:+.4f} "
            f"({found.low:+.4f} to {found.high:+.4f}) and is not worse by more than {margin_text} with "
            f"probability {probability:.3f}."
        )
        return self.result(probability >= self.probability, reason, value=probability, threshold=self.probability)

    def _margin(self, error: float) -> tuple[float, str]:
        """The loss that is accepted, given the standard error of the difference, and how it is called."""
        if self.margin != "auto":
            return self.margin, f"{self.margin:g}"
        errors = max(0.0, _NORMAL.inv_cdf(self.probability) + _NORMAL.inv_cdf(EQUALS_THAT_PASS))
        return errors * error, f"{errors * error:.4f} ({errors:.1f} standard errors)"


def _standard_error(found: Difference, *, confidence: float) -> float:
    """That of the difference, by the length of its interval."""
    return (found.high - found.low) / (2 * _NORMAL.inv_cdf((1 + confidence) / 2))


def _probability_above(bound: float, difference: float, error: float) -> float:
    """The probability that the true difference is above `bound`."""
    return 1 - NormalDist(difference, error).cdf(bound) if error else float(difference >= bound)
