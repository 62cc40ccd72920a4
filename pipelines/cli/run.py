"""`two-tower run` and `two-tower try`: the whole DAG on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import ConfigFile, NoCache, Overrides, Workdir
from pipelines.cli.shared import load, make_console
from pipelines.command_lines import DEFAULT_WORKDIR, command_line, shown
from pipelines.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED
from pipelines.views.outcome import explain_failure, print_figures

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.runs import Kind, Run
    from two_tower.config import Config


def run(
    config: ConfigFile,
    workdir: Workdir = DEFAULT_WORKDIR,
    overrides: Overrides = None,
    no_cache: NoCache = False,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True, help="Recorded as a schedule's run.")] = False,
) -> None:
    """Run the whole DAG on this machine.

    Exit code 0: the version is the champion now. 3: finished, and refused by the gate. 1: a step failed.
    2: wrong configuration or usage.
    """
    kind: Kind = "schedule" if scheduled else "run"
    raise typer.Exit(
        _run_alone(load(config, overrides), config, workdir, kind=kind, cache=not no_cache, overrides=overrides)
    )


def try_(
    config: ConfigFile,
    workdir: Workdir = DEFAULT_WORKDIR,
    overrides: Overrides = None,
    no_cache: NoCache = False,
) -> None:
    """Measure settings on validation queries; nothing is promoted.

    The DAG runs without a refit, and no test query is read: choose settings with it, and look at the test figures
    once, with `run`. Exit codes as for `run`.
    """
    from two_tower.config import with_values

    tried = with_values(load(config, overrides), {"training.refit": False})  # a refit has seen what validates
    raise typer.Exit(_run_alone(tried, config, workdir, kind="try", cache=not no_cache, overrides=overrides))


def _run_alone(
    config: Config, config_file: Path, workdir: Path, *, kind: Kind, cache: bool, overrides: list[str] | None
) -> int:
    """Runs the DAG with no other run of its configuration beside it in the working folder; the exit code."""
    from pipelines.local.locks import exclusive_run

    workdir = workdir.resolve()
    try:
        with exclusive_run(workdir, config.name):
            return _run_dag(config, config_file, workdir, kind=kind, cache=cache, overrides=overrides or [])
    except KeyboardInterrupt:
        print("interrupted; the finished steps are kept, the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run_dag(config: Config, config_file: Path, workdir: Path, *, kind: Kind, cache: bool, overrides: list[str]) -> int:
    """Compiles and runs the DAG, prints how it went; the exit code."""
    import json

    import yaml

    from pipelines.dag.pipeline import compile_pipeline
    from pipelines.local.runner import data_root, run_pipeline
    from pipelines.runs import Run, prepared_folders
    from pipelines.views.console import headed, watching

    console = make_console()
    registry = workdir / "registry"
    settings = config.model_dump(mode="json")
    record = Run.start(workdir, name=config.name, config_file=str(config_file), config=settings, kind=kind)
    pipeline = record.folder / "pipeline.yaml"
    (record.folder / "config.yaml").write_text(yaml.safe_dump(record.config, sort_keys=False), encoding="utf-8")
    compile_pipeline(config, pipeline)
    console.print(headed(config.name, f" run {record.run_id} in {shown(record.folder)}"), soft_wrap=True)
    arguments = {
        "registry": str(registry),
        "data_root": data_root(),
        "earlier": json.dumps(prepared_folders(workdir, config.name) if config.data.incremental else []),
        "split": "validation" if kind == "try" else "test",
    }
    with watching(record, console) as watcher:
        succeeded = run_pipeline(record, pipeline, arguments, watcher=watcher, cache=cache)
    if not succeeded:
        explain_failure(record, console)
        return EXIT_FAILED
    print_figures(record, console)
    return print_verdict(record, config_file, overrides, console)


def print_verdict(record: Run, config_file: Path, overrides: list[str], console: Console) -> int:
    """Says what became of the version and what to try next, by the file if its configuration is that; the exit code."""
    from two_tower.registry import Registry

    evaluation, workdir = record.metrics, record.folder.parent
    assert evaluation is not None  # of a run that has succeeded
    console.print(f"\n{evaluation.gate.reason}", soft_wrap=True)
    console.print(f"report: {shown(record.report)}", soft_wrap=True)
    if record.kind == "try":
        print(f"next: {command_line('run', config_file, set=overrides, workdir=workdir)}")
        return EXIT_DONE
    if record.decision == "refuse":
        return EXIT_REFUSED
    champion = Registry(workdir / "registry", record.name).champion()
    if champion is None or champion.id != record.version:
        console.print(f"the registry's champion is not {record.version}", style="red")
        return EXIT_FAILED
    console.print(f"champion: {record.version}")
    from pipelines.local.recommend import example_query

    who, version = ((), champion.id) if overrides else ((config_file,), None)
    if query := example_query(record):
        print(f"next: {command_line('recommend', *who, version=version, **query, workdir=workdir)}")
    return EXIT_DONE
