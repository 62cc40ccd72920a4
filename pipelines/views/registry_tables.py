"""The registry on a terminal: what was decided, what pruning does."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from two_tower.registry import Decision, PruneDecision


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


def _table(*columns: str) -> Table:
    """An empty table whose last column alone is wrapped."""
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    return table


def _minute(at: str | None) -> str:
    return (at or "")[:16]
