"""`two-tower evaluate`: a stored version on a test window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, OptionalEnvironment, Overrides, Workdir, existing_or_new_folder
from pipelines.cli.shared import load, make_console, stored_version
from pipelines.command_lines import DEFAULT_WORKDIR, shown
from pipelines.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED
from pipelines.views.outcome import explain_failure, print_evaluation


def evaluate(
    config: ConfigFile,
    version: Annotated[
        str, typer.Option(metavar="VERSION", help="A stored version's id or its beginning; or champion.")
    ],
    against: Annotated[
        str | None, typer.Option(metavar="VERSION", help="A version to compare it with on the same queries.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where evaluation/ and report.html go.", callback=existing_or_new_folder
        ),
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    overrides: Overrides = None,
) -> None:
    """Measure a stored version on the test window of a configuration; nothing is promoted.

    Exit code 0: the gate would let it through. 3: it would refuse it. 1: it cannot be measured. 2: wrong
    configuration or usage.
    """
    from pipelines.local.evaluate import evaluate_version, require_free
    from pipelines.local.locks import exclusive_run
    from pipelines.local.single_step import prepare_only
    from pipelines.views.console import showing_progress
    from two_tower.errors import ConfigError

    loaded = load(config, overrides)
    workdir = workdir.resolve()
    asked = stored_version(version, workdir, env, name=loaded.name)[1]
    other = stored_version(against, workdir, env, name=loaded.name)[1] if against is not None else None
    if other and other.id == asked.id:
        raise ConfigError(f"--version {version} and --against {against} are the same version, {asked.id}")
    if out:
        require_free(out)
        out.mkdir(parents=True, exist_ok=True)
    console = make_console()
    try:
        with exclusive_run(workdir, loaded.name):
            record, succeeded = prepare_only(loaded, workdir, kind="evaluate", config_file=str(config), console=console)
        if not succeeded:
            explain_failure(record, console)
            raise typer.Exit(EXIT_FAILED)
        folder = out.resolve() if out else record.folder
        with showing_progress(console):
            evaluation = evaluate_version(record, loaded, version=asked, against=other, out=folder)
    except KeyboardInterrupt:
        print("interrupted; the prepared data are kept", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print_evaluation(evaluation, asked, other, console)
    console.print(f"evaluation: {shown(folder / 'evaluation')}", soft_wrap=True)
    page = shown(folder / "report.html") if asked.trained_towers else "none: the version was stored without its towers"
    console.print(f"report: {page}", soft_wrap=True)
    raise typer.Exit(EXIT_REFUSED if evaluation.gate.decision == "refuse" else EXIT_DONE)
