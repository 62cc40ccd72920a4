"""`two-tower step`: one step alone."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, Overrides, Workdir
from pipelines.cli.shared import load, make_console
from pipelines.command_lines import DEFAULT_WORKDIR
from pipelines.exit_codes import EXIT_FAILED
from pipelines.views.outcome import explain_failure


def step(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A step's name, such as evaluate_recall.")],
    config: ConfigFile,
    run_id: Annotated[
        str, typer.Option("--run", metavar="RUN", help="The run whose artefacts the step reads; or latest.")
    ],
    workdir: Workdir = DEFAULT_WORKDIR,
    overrides: Overrides = None,
) -> None:
    """Run one step alone, on an earlier run's upstream artefacts."""
    from pipelines.local.locks import exclusive_run
    from pipelines.local.single_step import run_step
    from pipelines.runs import find_run

    loaded = load(config, overrides)
    workdir = workdir.resolve()
    console = make_console()
    upstream = find_run(workdir, run_id)
    with exclusive_run(workdir, loaded.name):
        record, succeeded = run_step(name, loaded, upstream, config_file=str(config), console=console)
    if not succeeded:
        explain_failure(record, console)
        raise typer.Exit(EXIT_FAILED)
    for key, value in record.step(name).outputs.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    console.print(f"recorded as run {record.run_id}; a further step can go on from it")
