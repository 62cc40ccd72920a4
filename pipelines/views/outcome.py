"""How a run or an evaluation went, on a console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.command_lines import shown

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.runs import Run
    from two_tower.metrics_file import Evaluation
    from two_tower.registry import Version


def print_figures(record: Run, console: Console) -> None:
    """The figures of a run, the baselines that were left out, and what the gate checked."""
    if record.metrics is not None:
        print_measured(record.metrics, console)


def print_measured(evaluation: Evaluation, console: Console) -> None:
    """The same of an evaluation."""
    from pipelines.views.checks import gate_table
    from pipelines.views.console import metrics_table, print_left_out

    console.print(metrics_table(evaluation, width=console.width))
    print_left_out(evaluation, console)
    console.print(gate_table(evaluation.gate))


def print_evaluation(evaluation: Evaluation, version: Version, against: Version | None, console: Console) -> None:
    """The figures of a version on a window, what the gate would say, and why."""
    from pipelines.views.checks import gate_table
    from pipelines.views.console import headed, metrics_table, print_left_out
    from pipelines.views.evaluation_tables import differences_table, named, slices_table, window_in_words

    beside = f" against {against.id} ({against.status})" if against else ""
    console.print(headed(f"\ntwo_tower is version {version.id}", f" ({version.status}){beside}"))
    console.print(window_in_words(evaluation.window), soft_wrap=True)
    if evaluation.champion_error:
        console.print(
            f"{evaluation.champion} cannot be measured: {evaluation.champion_error}", style="red", soft_wrap=True
        )
        against = None
    console.print(metrics_table(named(evaluation, against=against), width=console.width))
    print_left_out(evaluation, console)
    if against and evaluation.comparisons:
        console.print(differences_table(evaluation, against=against))
    if evaluation.slices:
        console.print(slices_table(evaluation, against=against))
    console.print(gate_table(evaluation.gate))
    console.print(f"\n{evaluation.gate.reason} Nothing has been promoted.", soft_wrap=True)


def explain_failure(record: Run, console: Console) -> None:
    """Names the failed step and what ended it; prints the last lines of its log where it did not say so itself."""
    from components.step_log import cause_in, own_log
    from pipelines.views.console import headed

    failed = next((step.name for step in record.steps if step.state == "failed"), None)
    file = record.folder / "logs" / f"{failed or 'runner'}.log"
    log = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    cause = cause_in(log)
    console.print(headed(f"{failed or 'the run'} failed:", f" {cause}", style="bold red"), soft_wrap=True)
    if "Traceback" in log or not cause:
        for line in own_log(log).splitlines()[-15:]:
            console.print(f"  {line}", soft_wrap=True)
    console.print(f"log: {shown(file)}", soft_wrap=True)
    if record.report:
        console.print(f"page: {shown(record.report)}", soft_wrap=True)
