"""`two-tower registry`: list, show, promote, roll back and prune versions."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, OptionalEnvironment, Workdir
from pipelines.cli.shared import load, make_console, registry_root, stored_version
from pipelines.command_lines import DEFAULT_WORKDIR, shown

MOST_DAYS = 365_000
"""As of `retention.days`; there is no date much longer ago."""

app = typer.Typer(help="List, show, promote, roll back and prune versions.", no_args_is_help=True)


@app.command("list")
def registry_list(workdir: Workdir = DEFAULT_WORKDIR, env: OptionalEnvironment = None) -> None:
    """List the versions of every registry, newest first; the champion is marked."""
    from rich.table import Table

    from two_tower.registry import list_registries

    table = Table()
    for column in ("config", "version", "status", "decided", "recall@100", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for registry in list_registries(registry_root(workdir, env)):
        for version in registry.versions():
            recall = (version.metrics or {}).get("recall@100")
            table.add_row(
                registry.name, version.id, version.status, (version.decided_at or "")[:16],
                f"{recall:.4f}" if recall is not None else "", version.reason,
            )  # fmt: skip
    make_console().print(table)


@app.command("show")
def registry_show(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version's id or its beginning.")],
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Show a version's figures, what the gate checked, and what was decided about it."""
    from pipelines.views.checks import checks_table
    from pipelines.views.console import headed, metrics_table, print_left_out
    from pipelines.views.registry_tables import decisions_table
    from two_tower.metrics_file import FILE, Evaluation

    registry, found = stored_version(version, workdir, env)
    console = make_console()
    console.print(headed(registry.name, f" version {found.id}, {found.status}\n{shown(found.place)}"), soft_wrap=True)
    evaluation = Evaluation.read(found.evaluation / FILE)
    console.print(metrics_table(evaluation, width=console.width))
    print_left_out(evaluation, console)
    console.print(checks_table(evaluation.gate))
    console.print(decisions_table(each for each in registry.history() if each.version == found.id))


@app.command("promote")
def registry_promote(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A stored version's id or its beginning.")],
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Make a stored version the champion."""
    registry, found = stored_version(version, workdir, env)
    print(f"{registry.name}: the champion is {registry.promote_existing(found.id)}")


@app.command("rollback")
def registry_rollback(
    config: ConfigFile,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Make the champion's predecessor the champion again."""
    from two_tower.registry import Registry

    registry = Registry(registry_root(workdir, env), load(config).name)
    print(f"{registry.name}: the champion is {registry.rollback()}")


@app.command("prune")
def registry_prune(
    config: ConfigFile,
    keep: Annotated[
        int | None, typer.Option(min=1, help="How many versions stay; that of the configuration if not given.")
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_DAYS, help="Younger ones stay beyond that; that of the configuration if not given."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says what would go, and removes nothing.")] = False,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Remove old versions, and say what goes, what stays and why; never the champion and the one before it."""
    from pipelines.views.registry_tables import pruning_table
    from two_tower.registry import Registry

    loaded = load(config)
    registry = Registry(registry_root(workdir, env), loaded.name)
    decided = registry.prune(
        keep=loaded.retention.keep if keep is None else keep,
        days=loaded.retention.days if days is None else days,
        dry_run=dry_run,
    )
    if decided:
        make_console().print(pruning_table(decided))
    gone = sum(not each.stays for each in decided)
    print(f"{registry.name}: {gone} {'would go' if dry_run else 'removed'}, {len(decided) - gone} stay")
