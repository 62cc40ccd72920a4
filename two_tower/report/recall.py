"""Recall and the other metrics of every system, and the paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from two_tower.evaluation import repeats_in_words
from two_tower.metrics_file import Evaluation, System
from two_tower.report import plots
from two_tower.report.svg import Picture
from two_tower.report.systems import (
    METRICS,
    Cell,
    ComparedTo,
    k_of,
    kind_of,
    ks_of,
    metric_title,
    ordered_systems,
    rows_of,
    series_of,
    without_champion,
)

ASIDE = ("exact", "end_to_end", "before_refit")
"""The kinds of rows that tell of the two towers once more, and are no systems of their own."""


@dataclass(frozen=True)
class RecallRow:
    """A system in a table of figures."""

    name: str
    kind: str
    what: str
    cells: list[Cell]
    difference: ComparedTo | None = None


@dataclass(frozen=True)
class Table:
    """A row a system, a column a K."""

    title: str
    note: str
    ks: list[int]
    rows: list[RecallRow]
    ceilings: list[float | None] | None
    """The best possible recall."""


@dataclass(frozen=True)
class RecallSection:
    """A table for each metric, recall first, and the curves of recall over K."""

    evaluation: Evaluation
    repeats: str | None
    tables: list[Table]
    curves: Picture | None
    samples: dict[str, int]
    """How many of the queries a system was measured on, of those that were not on all."""
    has_baselines: bool
    without_champion: str | None


def recall_section(evaluation: Evaluation) -> RecallSection:
    """The figures of every system."""
    systems, rows = ordered_systems(evaluation), rows_of(evaluation)
    queries = evaluation.queries
    ceilings = {stage.k: stage.ceiling for stage in evaluation.loss if stage.queries == queries}
    return RecallSection(
        evaluation,
        repeats=repeats_in_words(evaluation.repeats),
        tables=[metric_table(name, rows, ceilings) for name in _metric_names(systems)],
        curves=_curves(rows),
        samples={name: of.queries for name, of in systems.items() if of.queries not in (None, queries)},
        has_baselines=any(system.kind == "baseline" for system in systems.values()),
        without_champion=without_champion(evaluation),
    )


def _curves(rows: Mapping[str, System]) -> Picture | None:
    drawn = {name: system for name, system in rows.items() if system.curve}
    series = series_of(drawn)
    curves = [(series[name], system.curve.k, system.curve.recall) for name, system in drawn.items() if system.curve]
    return plots.recall_curves(curves) if curves else None


def _metric_names(systems: Mapping[str, System]) -> list[str]:
    found = dict.fromkeys(key.partition("@")[0] for system in systems.values() for key in system.metrics)
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def metric_table(metric: str, systems: Mapping[str, System], ceilings: Mapping[int, float]) -> Table:
    """A row a system, a column a K, the best figure of each column marked; `ceilings` are the best possible recall."""
    title, note = METRICS.get(metric, (metric.replace("_", " "), ""))
    ks = ks_of(key for system in systems.values() for key in system.metrics if key.startswith(f"{metric}@"))
    rows = [
        RecallRow(
            name,
            kind=system.kind or "baseline",
            what=kind_of(system),
            cells=[Cell.of(system.metrics.get(f"{metric}@{k}")) for k in ks],
        )
        for name, system in systems.items()
    ]
    for column in range(len(ks)):
        _mark_best([row for row in rows if row.kind not in ASIDE], column)
    reach = [ceilings.get(k) for k in ks] if metric == "recall" and ceilings else None
    return Table(title, note, ks, rows, reach)


def _mark_best(rows: list[RecallRow], column: int) -> None:
    """Marks the best figure of a column, where there is more than one."""
    best = max((row.cells[column].value or 0 for row in rows if row.cells[column].value is not None), default=None)
    for row in rows:
        cell = row.cells[column]
        row.cells[column] = replace(cell, best=len(rows) > 1 and best is not None and cell.value == best)


@dataclass(frozen=True)
class ComparisonsSection:
    """The paired differences from every other system: at one K in a table, at all of them in a picture."""

    rows: list[ComparedTo]
    metric: str
    picture: Picture | None


def comparisons_section(evaluation: Evaluation) -> ComparisonsSection:
    """The paired differences, in the order of the systems."""
    systems, compared = list(ordered_systems(evaluation)), evaluation.comparisons
    main = evaluation.main_metric
    rows, dots = [], {}
    for name in sorted(compared, key=lambda name: systems.index(name) if name in systems else len(systems)):
        recalls = {k_of(key): value for key, value in compared[name].items() if key.startswith("recall@")}
        if recalls:
            dots[name] = {k: (value.difference, value.low, value.high) for k, value in sorted(recalls.items())}
        if main in compared[name]:
            rows.append(ComparedTo.of(name, compared[name][main]))
    return ComparisonsSection(rows, metric_title(main), plots.paired_differences(dots) if dots else None)


@dataclass(frozen=True)
class DiscoverySection:
    """Recall on items that are new to the user."""

    queries: int
    table: Table
    metric: str


def discovery_section(evaluation: Evaluation) -> DiscoverySection | None:
    """Recall on items that are new to the user, where the evaluation measured it apart."""
    found, main = evaluation.discovery, evaluation.main_metric
    if not found:
        return None
    systems = {
        name: evaluation.systems.get(name, System()).model_copy(update={"metrics": system.metrics})
        for name, system in found.systems.items()
    }
    table = metric_table("recall", ordered_systems(evaluation, systems), {})
    differences = {row.name: found.difference(row.name, main) for row in table.rows}
    rows = [
        replace(row, difference=ComparedTo.of(row.name, difference)) if (difference := differences[row.name]) else row
        for row in table.rows
    ]
    return DiscoverySection(found.queries, replace(table, rows=rows), metric_title(main))
