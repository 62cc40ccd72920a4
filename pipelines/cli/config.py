"""`two-tower config`: check configurations and print their schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, Overrides
from pipelines.cli.shared import load
from pipelines.exit_codes import EXIT_USAGE

app = typer.Typer(help="Check configurations and print their schema.", no_args_is_help=True)


@app.command("check")
def config_check(files: Annotated[list[Path], typer.Argument(metavar="CONFIG…")]) -> None:
    """Validate configuration files without running anything."""
    from two_tower.config import load_config
    from two_tower.errors import ConfigError

    problems = 0
    for path in files:
        try:
            load_config(path)
        except ConfigError as error:
            problems += 1
            print(error, file=sys.stderr)
        else:
            print(f"{path}: fine")
    if problems:
        raise typer.Exit(EXIT_USAGE)


@app.command("show")
def config_show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print a configuration with its defaults filled in, as JSON."""
    print(load(config, overrides).model_dump_json(indent=2))


@app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema that editors complete from."""
    import json

    from two_tower.config import json_schema

    print(json.dumps(json_schema(), indent=2))
