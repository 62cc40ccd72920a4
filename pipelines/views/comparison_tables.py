"""Two runs beside each other on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.views.comparison import MISSING, Pair, RunComparison, interval_text
from pipelines.views.evaluation_tables import difference_text, probability_text, value_text, verdict_of


def comparison_tables(comparison: RunComparison) -> list[RenderableType]:
    """What a terminal shows of a comparison, from the top to the bottom."""
    parts: list[RenderableType] = []
    if comparison.config:
        parts.append(_pair_table("configuration: what differs", comparison, comparison.config))
    else:
        parts.append(Text("the configurations are the same"))
    parts.append(_pair_table("data", comparison, comparison.data))
    parts.append(_pair_table("steps", comparison, comparison.steps))
    if comparison.metrics:
        parts += [_metrics_table(comparison), _systems_table(comparison)]
    parts.append(Text(comparison.remark))
    if comparison.slices:
        parts.append(_slices_table(comparison))
    parts.append(_pair_table("verdicts", comparison, comparison.verdicts))
    return parts


def _pair_table(title: str, comparison: RunComparison, pairs: Sequence[Pair]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("", comparison.first.run_id, comparison.second.run_id):
        table.add_column(name, overflow="fold")
    for pair in pairs:
        table.add_row(*[Text(text, "" if pair.differs else "dim") for text in (pair.name, pair.first, pair.second)])
    return table


def _metrics_table(comparison: RunComparison) -> Table:
    table = Table(title="figures, end to end", title_justify="left", title_style="bold")
    others = ["difference", "second better with probability", ""] if comparison.paired else []
    for name in ("metric", comparison.first.run_id, comparison.second.run_id, *others):
        table.add_column(name, justify="right" if name not in ("metric", "") else "left", no_wrap="better" not in name)
    for pair in (pair for pair in comparison.metrics if pair.name in comparison.shown):
        cells = [interval_text(pair.first), interval_text(pair.second)]
        if others:
            paired = pair.difference
            cells += [difference_text(paired), probability_text(paired), verdict_of(paired)]
        table.add_row(pair.name, *cells)
    return table


def _systems_table(comparison: RunComparison) -> Table:
    table = Table(title="every system", title_justify="left", title_style="bold")
    for name in ("system", "run"):
        table.add_column(name, overflow="fold")
    for name in comparison.shown:
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for row in comparison.systems:
        figures = [value_text(row.figures.get(name)) or MISSING for name in comparison.shown]
        table.add_row("" if row.system == before else row.system, row.run_id, *figures)
        before = row.system
    return table


def _slices_table(comparison: RunComparison) -> Table:
    table = Table(title=f"{comparison.slice_metric} by slice", title_justify="left", title_style="bold")
    table.add_column("slice", overflow="fold")
    for name in ("queries", comparison.first.run_id, "queries", comparison.second.run_id):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for pair in comparison.slices:
        counts = [MISSING if count is None else f"{count:,}" for count in pair.queries]
        few = "too few queries to judge" if pair.too_small else ""
        figures = [interval_text(pair.first), interval_text(pair.second)]
        table.add_row(pair.name, counts[0], figures[0], counts[1], figures[1], few)
    return table
