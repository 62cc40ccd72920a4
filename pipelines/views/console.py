"""What a person sees of a run: a table that moves on a terminal, plain lines in a log, tables at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.step_log import log_to_console
from pipelines.runs import Run, StepRecords
from two_tower.evaluation import repeats_in_words, shown_metrics, table_rows
from two_tower.metrics_file import Evaluation, Figure
from two_tower.progress import human_seconds, log

_MARKS = {
    "waiting": ("·", "dim"),
    "ran": ("✓", "green"),
    "cached": ("✓", "green"),
    "skipped": ("-", "dim"),
    "failed": ("✗", "bold red"),
}
_WORDS = {"cached": "from the cache", "skipped": "skipped", "failed": "failed"}
_FIGURE, _EDGE = len("0.1234"), len("|  ")
_INTERVAL = len("[0.1234, 0.1234]")
_LAYOUTS = ((" ", _FIGURE + 1 + _INTERVAL, 24), ("\n", _INTERVAL, 9))
"""What stands between a figure and its interval, the columns that both take, and those left for a system's name."""


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

    def __init__(self, run: StepRecords) -> None:
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
            table.add_column(no_wrap=True, **column)
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


def metrics_table(evaluation: Evaluation, *, width: int) -> Table:
    """The figures of an evaluation: one row a system, recall with its interval at every K, then what else is shown.

    Where `width` columns are too few, the intervals stand on lines of their own, or go.
    """
    names = shown_metrics(evaluation)
    between = _between(names, width=width)
    intervals = f", {round(100 * evaluation.confidence)} % intervals" if between else ""
    queries = f"{evaluation.queries:,} {evaluation.split} queries"
    table = Table(
        title=f"{queries}, {evaluation.candidates:,} candidates{intervals}",
        title_justify="left",
        title_style="bold",
        caption=repeats_in_words(evaluation.repeats),
        caption_justify="left",
        caption_style="",
    )
    table.add_column("system", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for label, system in table_rows(evaluation):
        cells = [_cell(name, system.metrics.get(name), between=between) for name in names]
        table.add_row(label, *cells, style="bold" if label == "two_tower" else "")
    return table


def _between(names: Sequence[str], *, width: int) -> str | None:
    """What stands between a figure and its interval for a table of these metrics to fit; None where nothing does."""
    for between, figure, system in _LAYOUTS:
        cells = [max(len(name), figure if _with_interval(name) else _FIGURE) for name in names]
        if sum(cell + _EDGE for cell in (system, *cells)) < width:
            return between
    return None


def _cell(name: str, figure: Figure | None, *, between: str | None) -> str:
    return _interval(figure, between=between) if between and _with_interval(name) else _value(figure)


def _with_interval(name: str) -> bool:
    return name.startswith("recall@")


def print_left_out(evaluation: Evaluation, console: Console) -> None:
    """Names the baselines that could not be fitted, a line each."""
    for name, why in evaluation.left_out.items():
        console.print(headed("left out:", f" the baseline {name}: {why}", style="yellow"), soft_wrap=True)


def _value(figure: Figure | None) -> str:
    return f"{figure.value:.4f}" if figure else ""


def _interval(figure: Figure | None, *, between: str) -> str:
    return _value(figure) + figure.interval_text(between) if figure else ""
