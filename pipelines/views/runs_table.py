"""Runs on a terminal, those here and those on somebody else's machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from rich.table import Table

from two_tower.metrics_file import CHALLENGER, Evaluation
from two_tower.progress import human_seconds

METRIC = "recall@100"


class ListedRun(Protocol):
    """What the table shows of a run."""

    run_id: str
    name: str

    @property
    def state(self) -> str: ...

    @property
    def decision(self) -> str | None: ...

    @property
    def version(self) -> str | None: ...

    @property
    def seconds(self) -> float: ...

    @property
    def report(self) -> object | None: ...

    @property
    def metrics(self) -> Evaluation | None: ...


R = TypeVar("R", bound=ListedRun)


def runs_table(runs: Iterable[R], *, kind: Callable[[R], str] | None = None) -> Table:
    """One row a run, in the order given; `kind` says what a run was started by, where there are several kinds."""
    table = Table()
    kinds = ["kind"] if kind else []
    folded = ("report",) if kind else ("report", "run")  # the ids on other machines are long
    for name in ("run", *kinds, "config", "state", "decision", "version", METRIC, "time", "report"):
        table.add_column(name, no_wrap=name not in folded, overflow="fold")
    for run in runs:
        said = [kind(run)] if kind else []
        table.add_row(
            run.run_id, *said, run.name, run.state, run.decision or "", (run.version or "")[:12], _recall(run),
            human_seconds(run.seconds), str(run.report or ""),
        )  # fmt: skip
    return table


def _recall(run: ListedRun) -> str:
    """Empty where nothing was measured, or there was no query."""
    figure = run.metrics.figure(CHALLENGER, METRIC) if run.metrics else None
    return f"{figure.value:.4f}" if figure else ""
