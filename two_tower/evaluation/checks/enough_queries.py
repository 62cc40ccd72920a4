"""Enough queries to say anything."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from two_tower.contracts import CheckResult, GateCheck


class EnoughQueries(GateCheck):
    """The test window has to hold a number of queries."""

    type: Literal["enough_queries"] = "enough_queries"
    at_least: int = Field(ge=1)

    def check(self, metrics: dict[str, Any]) -> CheckResult:
        queries = metrics["queries"]
        return CheckResult(
            name=f"queries >= {self.at_least}",
            status="passed" if queries >= self.at_least else "failed",
            value=queries,
            threshold=self.at_least,
            reason=f"The test window holds {queries} queries, {self.at_least} are asked for.",
            blocking=self.blocking,
        )
