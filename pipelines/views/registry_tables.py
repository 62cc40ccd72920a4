"""The registry on a terminal: what the gate checked, what was decided, what pruning does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from two_tower.registry import Decision, PruneDecision

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def checks_table(gate: Mapping[str, Any]) -> Table:
    """One row a check of a metrics.json's `gate`: what was measured, the threshold, the verdict and the reason."""
    table = _table("check", "value", "threshold", "verdict", "reason", right=("value", "threshold"))
    for check in gate["checks"]:
        advisory = "" if check["blocking"] else " (advisory)"
        table.add_row(
            Text(check["name"] + advisory), number_text(check["value"]), number_text(check["threshold"]),
            Text(check["status"], _STYLES[check["status"]]), Text(check["reason"]),
        )  # fmt: skip
    return table


def decisions_table(decisions: Iterable[Decision]) -> Table:
    """One row a decision, in the order given."""
    table = _table("decided", "decision", "reason")
    for decision in decisions:
        table.add_row(_minute(decision.at), decision.event.replace("_", " "), Text(decision.reason))
    return table


def pruning_table(decisions: Iterable[PruneDecision]) -> Table:
    """One row a version: whether pruning leaves it, and why."""
    table = _table("version", "status", "decided", "", "why")
    for each in decisions:
        verdict = Text("stays", "green") if each.stays else Text("goes", "bold red")
        table.add_row(each.version.id, each.version.status, _minute(each.version.decided_at), verdict, each.reason)
    return table


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table whose last column alone is wrapped."""
    table = Table()
    for column in columns:
        table.add_column(
            column, no_wrap=column != columns[-1], overflow="fold", justify="right" if column in right else "left"
        )
    return table


def _minute(at: str | None) -> str:
    return (at or "")[:16]


def number_text(value: float | None) -> str:
    """A check's value or threshold, which may be a count or a share; empty for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
