"""`two-tower schedule`: retrain when it is due."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import (
    BackendName,
    EnvironmentFile,
    Host,
    Images,
    OneSchedule,
    ScheduleName,
    Wait,
    Workdir,
)
from pipelines.cli.shared import make_console, service_of
from pipelines.command_lines import DEFAULT_WORKDIR
from pipelines.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from datetime import timedelta

    from pipelines.remote.schedules import RemoteSchedule, Schedules


app = typer.Typer(help="Retrain when it is due.", no_args_is_help=True)


@app.command("list")
def schedule_list(
    env: EnvironmentFile, workdir: Workdir = DEFAULT_WORKDIR, backend: BackendName = None, host: Host = None
) -> None:
    """List the schedules: when they are due, and what became of them last, here or on the environment's service."""
    from datetime import UTC, datetime

    from pipelines.local.schedule import choose
    from pipelines.local.schedule_table import schedules_table
    from two_tower.config import load_environment

    environment = load_environment(env)
    if environment.vertex or environment.kubeflow:
        from pipelines.remote import commands
        from pipelines.remote.schedules import owner_of, remote_table

        service = commands.schedules_of(environment, commands.kind_of(environment, backend), host=host)
        make_console().print(remote_table(environment, service.list(owner_of(env))))
        return
    schedules = choose(environment, None, file=env)
    make_console().print(schedules_table(schedules, workdir.resolve() / "schedules", now=datetime.now(UTC)))


@app.command("apply")
def schedule_apply(
    env: EnvironmentFile,
    schedule: OneSchedule = None,
    images: Images = None,
    prune: Annotated[bool, typer.Option("--prune", help="Removes schedules that the file no longer has.")] = False,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """Make the service's schedules those of the environment file; a second time nothing changes."""
    from pipelines.remote import commands
    from pipelines.remote.schedules import apply, owner_of
    from pipelines.remote.submission import load_images

    environment, kind = service_of(env, backend)
    planned = commands.plan_schedules(
        environment, env, kind=kind, only=schedule, images=load_images(images) if images else None
    )
    console = make_console()
    commands.check([each.submission for each in planned], console, kind=kind, host=host, schedules=True)
    service = commands.schedules_of(environment, kind, host=host)
    for done in apply(service, planned, owner=owner_of(env), prune=prune, whole=schedule is None):
        hint = "; it is not in the file, --prune removes it" if done.deed == "left" else ""
        coming = done.schedule.next_run if done.schedule and done.deed != "removed" else None
        when = f", due next at {coming.astimezone():%a %Y-%m-%d %H:%M %Z}" if coming else ""
        print(f"{done.name}: {done.deed}{hint}{when}")


@app.command("pause")
def schedule_pause(name: ScheduleName, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Have a schedule of the service start nothing until it is resumed."""
    service, found = _schedule_of(name, env, backend, host)
    service.pause(found)
    print(f"{name}: paused")


@app.command("resume")
def schedule_resume(name: ScheduleName, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Have a paused schedule start runs again; with catch_up: all, also those that came due meanwhile."""
    from two_tower.config import load_environment

    service, found = _schedule_of(name, env, backend, host)
    known = load_environment(env).schedules.get(name)
    service.resume(found, catch_up=known is not None and known.catch_up == "all")
    print(f"{name}: resumed")


@app.command("delete")
def schedule_delete(name: ScheduleName, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Remove a schedule from the service; runs that it has started go on."""
    service, found = _schedule_of(name, env, backend, host)
    service.delete(found)
    print(f"{name}: deleted")


@app.command("run-now")
def schedule_run_now(
    name: ScheduleName, env: EnvironmentFile, wait: Wait = False, backend: BackendName = None, host: Host = None
) -> None:
    """Start a schedule's run at once, with this moment for its time."""
    from pipelines.remote import commands

    environment, kind = service_of(env, backend)
    code = commands.run_schedule_now(environment, env, name, make_console(), kind=kind, host=host, wait=wait)
    raise typer.Exit(code)


@app.command("run-local")
def schedule_run_local(
    env: EnvironmentFile,
    once: Annotated[bool, typer.Option("--once", help="Runs what is due and ends, for cron or a timer.")] = False,
    schedule: OneSchedule = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    now: Annotated[str | None, typer.Option(metavar="TIME", hidden=True, help="What the clock is put to.")] = None,
) -> None:
    """Retrain on this machine when it is due, one run at a time.

    Without --once it goes on until it is stopped. With it, exit code 0: all that was due has been run, whatever the
    gate said. 1: a run failed. 2: wrong configuration or usage.
    """
    import signal

    from pipelines.local.schedule import Scheduler, choose, in_charge
    from pipelines.local.schedule_machine import Clock, ThisMachine
    from two_tower.config import load_environment
    from two_tower.errors import UserError

    chosen = choose(load_environment(env), schedule, file=env)
    workdir = workdir.resolve()
    folder = workdir / "schedules"
    clock = Clock(_moved_to(now)) if now else Clock()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service that is stopped ends like Ctrl-C
    try:
        with in_charge(chosen, folder) as (free, taken):
            for name, why in taken.items():
                if not once:
                    raise UserError(f"{why}: a scheduler deals with {name} already; stop it first")
                print(f"{name}: a scheduler deals with it already ({why})", flush=True)
            scheduler = Scheduler(
                free, folder, machine=ThisMachine(workdir), clock=clock, say=lambda text: print(text, flush=True)
            )
            if once:
                scheduler.run_due()
            else:
                scheduler.run_forever()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if once and scheduler.failed:
        raise typer.Exit(EXIT_FAILED)


def _schedule_of(name: str, env: Path, backend: str | None, host: str | None) -> tuple[Schedules, RemoteSchedule]:
    """A schedule of an environment's service, and the service."""
    from pipelines.remote import commands
    from pipelines.remote.schedules import find, owner_of

    environment, kind = service_of(env, backend)
    service = commands.schedules_of(environment, kind, host=host)
    return service, find(service, owner_of(env), name)


def _moved_to(now: str) -> timedelta:
    """By how much a clock is put forward that is to show a time."""
    from datetime import UTC, datetime

    from two_tower.errors import ConfigError

    try:
        return datetime.fromisoformat(now).astimezone(UTC) - datetime.now(UTC)
    except ValueError as error:
        raise ConfigError(f"--now {now!r}: expected a time such as 2026-12-01T03:00+01:00") from error
