"""What a person sees of a run: a table that moves on a terminal, plain lines in a log, tables at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.runtime import log_to_console
from pipelines.runs import Run
from two_tower.progress import human_seconds, log

_MARKS = {
    "waiting": ("·", "dim"),
    "ran": ("✓", "green"),
    "cached": ("✓", "green"),
    "skipped": ("-", "dim"),
    "failed": ("✗", "bold red"),
}
_WORDS = {"cached": "from the cache", "skipped": "skipped", "failed": "failed"}


class PlainWatcher:
    """Prints each step's lines as they come."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.console = run, console

    def step_started(self, name: str) -> None:
        """Nothing: the step's own first line says it."""

    def step_ended(self, name: str) -> None:
        step = self.run.step(name)
        if step.state != "ran":
            self._print(f"{name}: {_WORDS[step.state]}")

    def line(self, name: str, text: str) -> None:
        self._print(f"{name} | {text}")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveWatcher:
    """Keeps a table of the steps on a terminal, with each step's time and its latest line."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.latest: dict[str, str] = {}
        self.began: dict[str, float] = {}
        self.spinner = Spinner("dots", style="cyan")

    def step_started(self, name: str) -> None:
        self.began[name] = time.monotonic()

    def step_ended(self, name: str) -> None:
        self.latest.pop(name, None)

    def line(self, name: str, text: str) -> None:
        self.latest[name] = text.split(" ", 2)[-1]  # without the time and the level

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for column in ({"width": 1}, {"min_width": 24}, {"justify": "right", "min_width": 6}):
            table.add_column(no_wrap=True, **column)  # type: ignore[arg-type]
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        for step in self.run.steps:
            if step.state == "running":
                seconds = human_seconds(time.monotonic() - self.began.get(step.name, time.monotonic()))
                table.add_row(self.spinner, Text(step.name, "bold"), seconds, self.latest.get(step.name, ""))
            else:
                mark, style = _MARKS[step.state]
                seconds = human_seconds(step.seconds) if step.state in ("ran", "failed") else ""
                table.add_row(Text(mark, style), Text(step.name, style if step.state == "waiting" else ""), seconds,
                              _WORDS.get(step.state, ""))  # fmt: skip
        return table


@contextmanager
def watching(run: Run, console: Console) -> Iterator[PlainWatcher | LiveWatcher]:
    """The watcher that fits where `console` writes to."""
    if not console.is_terminal:
        yield PlainWatcher(run, console)
        return
    watcher = LiveWatcher(run)
    with Live(watcher, console=console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False):
        yield watcher


@contextmanager
def showing_progress(console: Console) -> Iterator[None]:
    """Shows the library's lines: the latest one, moving, on a terminal, and each of them elsewhere."""
    if not console.is_terminal:
        log_to_console()
        yield
        return
    with console.status("") as status:
        handler = logging.Handler()
        handler.emit = lambda record: status.update(Text(record.getMessage()))  # type: ignore[method-assign]
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO)
        yield


def headed(head: str, rest: str, *, style: str = "bold") -> Text:
    """`head` in a style, and the rest as it is."""
    return Text.assemble((head, style), rest)


def metrics_table(metrics: Mapping[str, Any], *, width: int) -> Table:
    """The recall table of a metrics.json: one row a system, recall with its interval at every K.

    In a console of less than 150 columns the intervals stand on lines of their own, below 110 the other metrics go.
    """
    confidence = round(100 * metrics["confidence"])
    title = f"{metrics['queries']:,} test queries, {metrics['candidates']:,} candidates, {confidence} % intervals"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("system", overflow="fold")
    for k in metrics["ks"]:
        table.add_column(f"recall@{k}", justify="right", no_wrap=True)
    top = metrics["ks"][min(1, len(metrics["ks"]) - 1)]
    others = [f"{name}@{top}" for name in ("hit_rate", "mrr", "ndcg")] if width >= 110 else []
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for system, figures in metrics["systems"].items():
        found = figures["metrics"]
        cells = [_interval(found.get(f"recall@{k}"), between=" " if width >= 150 else "\n") for k in metrics["ks"]]
        table.add_row(
            system, *cells, *[_value(found.get(name)) for name in others], style="bold" if system == "two_tower" else ""
        )
    return table


def gate_table(gate: Mapping[str, Any]) -> Table:
    """The gate's checks with their verdicts and reasons."""
    styles = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in gate["checks"]:
        advisory = "" if check["blocking"] else " (advisory)"
        table.add_row(
            Text(check["status"], styles[check["status"]]), check["name"] + advisory, Text(check["reason"], "dim")
        )
    return table


def print_left_out(metrics: Mapping[str, Any], console: Console) -> None:
    """Names the baselines that could not be fitted, a line each."""
    for name, why in metrics.get("left_out", {}).items():
        console.print(headed("left out:", f" the baseline {name}: {why}", style="yellow"), soft_wrap=True)


def runs_table(runs: list[Run]) -> Table:
    """One row a run, newest first."""
    table = Table()
    for name in ("run", "kind", "config", "state", "decision", "version", "recall@100", "time", "report"):
        table.add_column(name, no_wrap=name != "report", overflow="fold")
    for run in reversed(runs):
        metrics = run.metrics
        measured = metrics["systems"].get("two_tower") if metrics else None  # none where there was no query
        recall = measured["metrics"].get("recall@100") if measured else None
        report = run.report
        table.add_row(run.run_id, run.kind_in_words, run.name, run.state, run.decision or "", (run.version or "")[:12],
                      _value(recall), human_seconds(run.seconds), str(report) if report else "")  # fmt: skip
    return table


def _value(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.4f}" if figure else ""


def _interval(figure: Mapping[str, float] | None, *, between: str = " ") -> str:
    return f"{figure['value']:.4f}{between}[{figure['low']:.4f}, {figure['high']:.4f}]" if figure else ""
