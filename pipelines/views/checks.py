"""What the gate checked, on a terminal: in a few words after a run, and with every figure of a stored version."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from two_tower.metrics_file import CheckResult, Gate

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def gate_table(gate: Gate) -> Table:
    """The gate's checks with their verdicts and reasons."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in gate.checks:
        table.add_row(_status(check), _named(check), Text(check.reason, "dim"))
    return table


def checks_table(gate: Gate) -> Table:
    """One row a check: what was measured, the threshold, the verdict and the reason."""
    table = Table()
    for column in ("check", "value", "threshold", "verdict", "reason"):
        justify = "right" if column in ("value", "threshold") else "left"
        table.add_column(column, no_wrap=column != "reason", overflow="fold", justify=justify)  # type: ignore[arg-type]
    for check in gate.checks:
        figures = (number_text(check.value), number_text(check.threshold))
        table.add_row(Text(_named(check)), *figures, _status(check), Text(check.reason))
    return table


def number_text(value: float | None) -> str:
    """A check's value or threshold, which may be a count or a share; empty for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _status(check: CheckResult) -> Text:
    return Text(check.status, _STYLES[check.status])


def _named(check: CheckResult) -> str:
    return check.name if check.blocking else f"{check.name} (advisory)"
