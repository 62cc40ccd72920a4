"""`two-tower submit`: the whole DAG on Vertex AI or Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import BackendName, Host, Images, NoCache, OptionalEnvironment, Overrides, Wait
from pipelines.cli.shared import make_console


def submit(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A data set's YAML file.")] = None,
    env: OptionalEnvironment = None,
    overrides: Overrides = None,
    images: Images = None,
    wait: Wait = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prints what would be sent, and sends nothing.")] = False,
    no_cache: NoCache = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continues a failed run from its last good steps.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The new run's id; given twice, there is one run.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time that {date} and {time} below data stand for.")
    ] = None,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """Run the whole DAG on Vertex AI or Kubeflow Pipelines, as an environment file says.

    Without --wait, exit code 0: it has been submitted. With it, exit codes as for `run`.
    """
    from pipelines.remote import commands
    from pipelines.remote.submission import load_images, make_submission
    from two_tower.config import first_time, load_environment
    from two_tower.errors import ConfigError

    if env is None:
        raise ConfigError("submit needs --env FILE, which says where; `two-tower run` runs here")
    if (config is None) == (resume is None):
        raise ConfigError("submit needs either CONFIG or --resume RUN")
    environment = load_environment(env)
    kind = commands.kind_of(environment, backend)
    console = make_console()
    if config is None:
        assert resume is not None
        raise typer.Exit(commands.resume(environment, resume, console, file=env, kind=kind, host=host, wait=wait))
    submission = make_submission(
        config,
        environment,
        overrides or (),
        backend=kind,
        images=load_images(images) if images else None,
        run_id=run_id,
        run_time=first_time(at).isoformat() if at else "",
        cache=not no_cache,
    )
    raise typer.Exit(commands.submit(submission, console, file=env, kind=kind, host=host, wait=wait, dry_run=dry_run))
