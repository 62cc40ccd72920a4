"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def existing_or_new_folder(ctx: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The folder that an option names, there or to be made.

    Raises:
        ConfigError: A file is in the way.
    """
    from two_tower.errors import ConfigError

    there = next((part for part in (path, *path.parents) if part.exists()), None) if path is not None else None
    if there is not None and not there.is_dir():
        raise ConfigError(f"{option.opts[0]} {path}: {there} is a file; name a folder")
    return path


ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A data set's YAML file, such as configs/tiny.yaml.")
]
Workdir = Annotated[
    Path, typer.Option(help="Where runs, artefacts, the cache and the registry live.", callback=existing_or_new_folder)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replaces a value of the configuration, such as training.epochs=3."
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Runs every step, whatever the cache holds.")]
EnvironmentFile = Annotated[
    Path, typer.Option("--env", metavar="FILE", help="An environment file, such as configs/environments/local.yaml.")
]
OptionalEnvironment = Annotated[
    Path | None,
    typer.Option("--env", metavar="FILE", help="An environment file: what is meant lies there, not on this machine."),
]
BackendName = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="vertex or kubeflow, where the environment has both.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="URL", help="The Kubeflow Pipelines server.")]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="FILE", help="The images that `make images` has written.")
]
OneSchedule = Annotated[
    str | None, typer.Option("--schedule", metavar="NAME", help="One schedule instead of all of the file.")
]
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="A schedule of the environment file.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follows the run to its end; the exit code is that of `run`.")]
