"""`two-tower runs`: list, show and compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import BackendName, Host, OptionalEnvironment, Workdir
from pipelines.cli.shared import make_console, service_of
from pipelines.command_lines import DEFAULT_WORKDIR, shown
from pipelines.views.outcome import print_figures

app = typer.Typer(help="List, show and compare runs.", no_args_is_help=True)


@app.command("list")
def runs_list(
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """List the runs, newest first."""
    from pipelines.views.runs_table import runs_table

    if env is not None:
        from pipelines.remote import commands

        environment, kind = service_of(env, backend)
        make_console().print(runs_table(commands.list_runs(environment, kind=kind, host=host)))
        return
    from pipelines.runs import list_runs

    make_console().print(runs_table(reversed(list_runs(workdir)), kind=lambda run: run.kind_in_words))


@app.command("show")
def runs_show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its beginning; or latest.")] = "latest",
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """Show a run's steps, figures and verdict."""
    if env is not None:
        from pipelines.remote import commands

        environment, kind = service_of(env, backend)
        commands.show(environment, run_id, make_console(), kind=kind, host=host)
        return
    from pipelines.runs import find_run
    from pipelines.views.console import LiveWatcher, headed

    found = find_run(workdir, run_id)
    console = make_console()
    what = f" run {found.run_id} ({found.kind_in_words}), {found.state}, started {found.started}"
    console.print(headed(found.name, what), soft_wrap=True)
    console.print(LiveWatcher(found))
    print_figures(found, console)
    if found.metrics:
        console.print(f"\n{found.metrics.gate.reason}", soft_wrap=True)
    if found.artifacts.is_dir():
        console.print(f"artefacts: {shown(found.artifacts)}", soft_wrap=True)
    for folder, steps in found.from_cache().items():
        console.print(f"from the cache: {', '.join(steps)} in {shown(folder)}", soft_wrap=True)
    if found.report:
        console.print(f"report: {shown(found.report)}", soft_wrap=True)


@app.command("compare")
def runs_compare(
    first: Annotated[str, typer.Argument(metavar="RUN")],
    second: Annotated[str, typer.Argument(metavar="RUN")],
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Writes the comparison as one HTML file too.")
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
) -> None:
    """Set two runs beside each other: configuration, data, time, figures, slices, verdicts."""
    from pipelines.runs import find_run
    from pipelines.views.comparison import compare_runs
    from pipelines.views.comparison_page import write_comparison
    from pipelines.views.comparison_tables import comparison_tables
    from two_tower.errors import ConfigError

    if page and page.suffix != ".html":
        raise ConfigError(f"--page {page}: the name of a page ends with .html")
    comparison = compare_runs(find_run(workdir, first), find_run(workdir, second))
    console = make_console()
    for part in comparison_tables(comparison):
        console.print(part)
    if page:
        write_comparison(comparison, page)
        console.print(f"page: {shown(page.resolve())}", soft_wrap=True)
