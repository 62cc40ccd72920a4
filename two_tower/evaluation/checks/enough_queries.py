"""Enough queries to say anything."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from two_tower.contracts import GateCheck
from two_tower.evaluation.figures import SliceName, on, slice_queries
from two_tower.metrics_file import CheckResult, Evaluation
from two_tower.settings import MANY


class EnoughQueries(GateCheck):
    """The test window, or a slice of it, has to hold a number of queries."""

    type: Literal["enough_queries"] = "enough_queries"
    at_least: int = Field(ge=1, le=MANY)
    """The least number of queries."""
    slice: SliceName = None

    @property
    def name(self) -> str:
        return f"queries{on(self.slice)} >= {self.at_least}"

    def check(self, evaluation: Evaluation) -> CheckResult:
        value = slice_queries(evaluation, self.slice)
        where = "test window" if self.slice is None else f"slice {self.slice}"
        reason = f"The {where} holds {value} queries, {self.at_least} are asked for."
        return self.result(value >= self.at_least, reason, value=value, threshold=self.at_least)
