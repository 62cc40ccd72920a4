"""`two-tower tune`: a search of settings."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, Overrides, Workdir
from pipelines.cli.shared import load, make_console
from pipelines.command_lines import DEFAULT_WORKDIR, command_line
from pipelines.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from pipelines.views.outcome import explain_failure


def tune(
    config: ConfigFile,
    trials: Annotated[int, typer.Option(metavar="N", min=1, help="How many trials the search has in the end.")],
    seconds: Annotated[
        float | None, typer.Option(min=0, help="No trial is started after so many seconds of this call.")
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    overrides: Overrides = None,
) -> None:
    """Search the settings that the section `tune` names for the best validation recall.

    The same command goes on where an earlier one stopped.
    """
    from pipelines.local.locks import exclusive, exclusive_run
    from pipelines.local.single_step import prepare_only
    from pipelines.local.tune import Search
    from two_tower.errors import ConfigError

    loaded = load(config, overrides)
    if not loaded.tune:
        raise ConfigError(
            f"{config}: nothing to search; add a section such as\n"
            "tune:\n  training.learning_rate: {low: 0.0001, high: 0.01, log: true}\n  model.dim: [32, 64, 128]"
        )
    workdir = workdir.resolve()
    console = make_console()
    folder = workdir / "tune" / loaded.name
    try:
        with exclusive_run(workdir, loaded.name):
            record, succeeded = prepare_only(loaded, workdir, kind="tune", config_file=str(config), console=console)
        if not succeeded:
            explain_failure(record, console)
            raise typer.Exit(EXIT_FAILED)
        with exclusive(folder):
            search = Search.open(loaded, folder, prepared=record, console=console)
            search.run(trials=trials, seconds=seconds)
            best = search.finish(config, overrides or [])
    except KeyboardInterrupt:
        print("interrupted; the finished trials are kept, the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print(f"next: {command_line('run', best, workdir=workdir)}")
