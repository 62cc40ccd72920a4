"""No day of the logs is missing."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from two_tower.contracts import GateCheck
from two_tower.metrics_file import CheckResult, Evaluation
from two_tower.settings import MANY

SHOWN = 5


class DataComplete(GateCheck):
    """No day of the logs may be without events, or have far fewer, where such days usually have many."""

    type: Literal["data_complete"] = "data_complete"
    at_most: int = Field(0, ge=0, le=MANY, description="How many such days are accepted.")
    low: bool = Field(True, description="Whether days with less than half of the usual events count as well.")
    closed: list[date] = Field([], description="Days that are known to be without events, such as 2026-12-25.")

    @property
    def name(self) -> str:
        return f"{'missing or low' if self.low else 'missing'} days <= {self.at_most}"

    def check(self, evaluation: Evaluation) -> CheckResult:
        days, closed = evaluation.days, {day.isoformat() for day in self.closed}
        if days is None:
            return self.result(None, "The logs carry no times, or their profile was not handed over.")
        missing, low = ([day for day in found if day not in closed] for found in (days.missing, days.low))
        parts = [f"No events on {_listed(missing)}"] if missing else []
        if self.low and low:
            parts.append(f"less than half of the usual events on {_listed(low)}")
        value = len(missing) + (len(low) if self.low else 0)
        reason = " and ".join(parts) or "No day of the logs is missing"
        reason = f"{reason[0].upper()}{reason[1:]}."
        return self.result(value <= self.at_most, reason, value=value, threshold=self.at_most)


def _listed(days: list[str]) -> str:
    more = f" and {len(days) - SHOWN} more days" if len(days) > SHOWN else ""
    return ", ".join(days[:SHOWN]) + more
