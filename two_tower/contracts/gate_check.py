"""A gate check: one condition for promotion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field

from two_tower.metrics_file import CheckResult, CheckStatus, Evaluation
from two_tower.settings import Settings

RANKING = ("recall", "hit_rate", "precision", "mrr", "ndcg", "map")
RankingMetric = Annotated[str, Field(pattern=rf"^({'|'.join(RANKING)})@[1-9][0-9]*$", examples=["recall@100"])]
"""A ranking metric's name with its K, which has to be one of `evaluation.ks`."""
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
    def check(self, evaluation: Evaluation) -> CheckResult:
        """The verdict on an evaluation, which has everything of metrics.json (see docs/artefacts.md) but its gate."""

    def result(
        self, passed: bool | None, reason: str, *, value: float | None = None, threshold: float | None = None
    ) -> CheckResult:
        """A verdict under this check's name; `passed` is None where there was nothing to check."""
        status: CheckStatus = "skipped" if passed is None else "passed" if passed else "failed"
        return CheckResult(
            name=self.name, status=status, value=value, threshold=threshold, reason=reason, blocking=self.blocking
        )
