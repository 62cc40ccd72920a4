"""What the commands of `two-tower` that reach beyond this machine do."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pipelines.command_lines import command_line
from pipelines.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED
from pipelines.remote.runs import Backend, RemoteRun
from pipelines.remote.submission import Submission, make_submission, new_run_id, shown
from pipelines.views.console import headed
from pipelines.views.outcome import print_measured
from two_tower.artifacts import staging
from two_tower.config import Environment
from two_tower.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.remote.schedules import PlannedSchedule, Schedules
    from two_tower.data import Prepared
    from two_tower.registry import Version

LISTED = 30
"""So many runs are listed."""
READERS = 8
"""So many of them are asked for at the same time."""
_until_the_end = ExitStack()
atexit.register(_until_the_end.close)


def kind_of(environment: Environment, asked: str | None) -> str:
    """`vertex` or `kubeflow`: what is asked for, or the one that the environment has.

    Raises:
        ConfigError: The environment has no such section, or both and nothing is asked for.
    """
    if asked == "kfp":  # as it was called once
        raise ConfigError("--backend kfp is called --backend kubeflow, as the environment file's section is")
    names = {"vertex": environment.vertex, "kubeflow": environment.kubeflow}
    there = [name for name, section in names.items() if section is not None]
    if asked is None and len(there) == 1:
        return there[0]
    if asked is None:
        raise ConfigError(
            "the environment file has sections vertex and kubeflow; choose with --backend"
            if there
            else "the environment file needs a section vertex or kubeflow, which says where runs go"
        )
    if asked not in there:
        raise ConfigError(f"--backend {asked}: the environment file has no section {asked}")
    return asked


def backend_of(environment: Environment, kind: str, *, host: str | None = None) -> Backend:
    """The service of an environment."""
    if kind == "vertex":
        from pipelines.remote.vertex import VertexBackend

        assert environment.vertex is not None
        return VertexBackend(environment.vertex)
    from pipelines.remote.kubeflow import KubeflowBackend

    assert environment.kubeflow is not None
    return KubeflowBackend(environment.kubeflow, host=host)


def schedules_of(environment: Environment, kind: str, *, host: str | None = None) -> Schedules:
    """What keeps the schedules of an environment."""
    if kind == "vertex":
        from pipelines.remote.vertex import VertexBackend
        from pipelines.remote.vertex_schedules import VertexSchedules

        assert environment.vertex is not None
        return VertexSchedules(VertexBackend(environment.vertex))
    from pipelines.remote.kubeflow_schedules import KubeflowSchedules

    assert environment.kubeflow is not None
    return KubeflowSchedules(environment.kubeflow, host=host)


def check(
    submissions: Sequence[Submission],
    console: Console,
    *,
    kind: str,
    host: str | None = None,
    offline: bool = False,
    schedules: bool = False,
) -> None:
    """Looks for whatever would make the runs fail, and prints it.

    Raises:
        ConfigError: Something would; each problem has been printed.
    """
    from pipelines.remote.preflight import preflight

    found = {
        problem: None
        for submission in submissions
        for problem in preflight(submission, backend=kind, host=host, offline=offline, schedules=schedules)
    }
    for problem in found:
        style = "red" if problem.blocking else "yellow"
        said = Text.assemble((problem.where, style), f": {problem.what}; {problem.to_do}")
        console.print(said, highlight=False, soft_wrap=True)
    blocking = sum(problem.blocking for problem in found)
    if blocking:
        raise ConfigError(f"{blocking} problem{'s' * (blocking > 1)} to mend first; nothing has been submitted")


def submit(
    submission: Submission, console: Console, *, file: Path, kind: str, host: str | None, wait: bool, dry_run: bool
) -> int:
    """Checks a run and starts it; with `wait` follows it to its end. The exit code.

    `file` is the environment's, for the command that is named next.
    """
    if dry_run:
        console.print(shown(submission), highlight=False, markup=False, soft_wrap=True)
        check([submission], console, kind=kind, host=host, offline=True)
        _print_estimate(submission, None, console)
        return EXIT_DONE
    check([submission], console, kind=kind, host=host)
    backend = backend_of(submission.environment, kind, host=host)
    _print_estimate(submission, backend, console)
    run = backend.submit(submission)
    return _started(backend, run, console, then=_shows(submission.environment, run, file, kind, host), wait=wait)


def resume(
    environment: Environment, run_id: str, console: Console, *, file: Path, kind: str, host: str | None, wait: bool
) -> int:
    """Starts a failed run anew from its last good steps; the exit code."""
    backend = backend_of(environment, kind, host=host)
    found = backend.find(run_id)
    run = backend.resume(found.run_id, new_id=new_run_id(found.name or "resumed"))
    console.print(f"resumes {found.run_id}; its finished steps are not run again", highlight=False)
    return _started(backend, run, console, then=_shows(environment, run, file, kind, host), wait=wait)


def plan_schedules(
    environment: Environment, file: Path, *, kind: str, only: str | None, images: dict[str, str] | None
) -> list[PlannedSchedule]:
    """The schedules of an environment file, or one of them, as far as its service takes them.

    Raises:
        ConfigError: One does not validate, or asks for what the service cannot do.
    """
    from pipelines.remote.schedules import plan

    planned = plan(environment, file, backend=kind, only=only, images=images)
    if kind == "kubeflow":
        from pipelines.remote.kubeflow_schedules import refuse_unsuitable

        for each in planned:
            refuse_unsuitable(each.name, each.schedule)
    return planned


def run_schedule_now(
    environment: Environment, file: Path, name: str, console: Console, *, kind: str, host: str | None, wait: bool
) -> int:
    """Starts the run of a schedule as if it were due at this moment; the exit code."""
    schedule = environment.schedules.get(name)
    if schedule is None:
        known = ", ".join(environment.schedules) or "none"
        raise ConfigError(f"{file}: there is no schedule {name!r} (there are: {known})")
    from pipelines.remote.schedules import owner_of

    submission = make_submission(
        Path(schedule.config), environment, schedule.standing_overrides(), backend=kind,
        run_time=datetime.now(UTC).isoformat(timespec="seconds"), time_zone=schedule.time_zone,
        labels={"schedule": name, "environment": owner_of(file)},
    )  # fmt: skip
    return submit(submission, console, file=file, kind=kind, host=host, wait=wait, dry_run=False)


def show(environment: Environment, run_id: str, console: Console, *, kind: str, host: str | None) -> None:
    """Prints a run's steps, figures and verdict."""
    from pipelines.views.console import LiveWatcher

    run = backend_of(environment, kind, host=host).find(run_id)
    when = f", started {run.started.astimezone():%Y-%m-%d %H:%M:%S %Z}" if run.started else ""
    console.print(headed(run.name, f" run {run.run_id}, {run.state}{when}"))
    console.print(LiveWatcher(run))
    _print_end(run, console)


def list_runs(environment: Environment, *, kind: str, host: str | None) -> list[RemoteRun]:
    """The newest runs with their steps, as far as their service tells."""
    backend = backend_of(environment, kind, host=host)
    with ThreadPoolExecutor(READERS) as pool:
        runs = list(pool.map(lambda run: backend.find(run.run_id), backend.list_runs(None, most=LISTED)))
        list(pool.map(lambda run: run.metrics, runs))  # each reads a file
    return runs


def find_prepared(backend: Backend, version: Version) -> Prepared | None:
    """The prepared data of the newest run that made `version`, brought here until the process ends."""
    from two_tower.data import open_prepared

    for listed in backend.list_runs(None, most=LISTED):
        if listed.state != "finished":
            continue
        run = backend.find(listed.run_id)
        place = run.step("prepare_data").outputs.get("prepared")
        if place and run.version == version.id:
            return open_prepared(_until_the_end.enter_context(staging()).read(place))
    return None


def _shows(environment: Environment, run: RemoteRun, file: Path, kind: str, host: str | None) -> str:
    """The command that shows a run."""
    both = environment.vertex is not None and environment.kubeflow is not None
    return command_line("runs", "show", run.run_id, env=file, backend=kind if both else None, host=host)


def _started(backend: Backend, run: RemoteRun, console: Console, *, then: str, wait: bool) -> int:
    console.print(headed(run.name, f" run {run.run_id}\n{run.link}"), soft_wrap=True)
    if not wait:
        print(f"next: {then}")
        return EXIT_DONE
    from pipelines.remote.follow import follow

    ended = follow(backend, run, console)
    _print_end(ended, console)
    return _code_of(ended, console)


def _print_end(run: RemoteRun, console: Console) -> None:
    """Prints the figures of a run, the verdict, what failed, and where to look."""
    if run.metrics:
        print_measured(run.metrics, console)
        console.print(f"\n{run.metrics.gate.reason}", highlight=False, markup=False, soft_wrap=True)
    for step, said in run.errors.items():
        console.print(f"{step or 'the run'} failed:", style="bold red")
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    if run.report:
        console.print(f"report: {run.report}", highlight=False, soft_wrap=True)
    console.print(f"run: {run.link}", highlight=False, soft_wrap=True)


def _code_of(run: RemoteRun, console: Console) -> int:
    """The exit code of a run that has just ended, with what is to be said of it."""
    if run.state != "finished":
        console.print(f"the run is {run.state}", highlight=False)
        return EXIT_FAILED
    if run.decision is None:
        console.print("the evaluation of the run cannot be read, so its verdict is not known", highlight=False)
        return EXIT_FAILED
    if run.decision == "refuse":
        return EXIT_REFUSED
    from two_tower.registry import Registry

    champion = Registry(run.registry, run.name).champion() if run.registry else None
    if champion is None or champion.id != run.version:
        now = champion.id if champion else "none"
        console.print(f"the registry's champion is not {run.version} but {now}", style="red")
        return EXIT_FAILED
    console.print(f"champion: {champion.id}", highlight=False)
    return EXIT_DONE


def _print_estimate(submission: Submission, backend: Backend | None, console: Console) -> None:
    """What the run is likely to cost, from the environment's prices and an earlier run's times."""
    from pipelines.remote.cost import NO_PRICES, estimate, estimate_table

    history = None
    if backend is not None and submission.environment.prices is not None:
        earlier = backend.list_runs(submission.name, most=LISTED)
        history = next((run for run in earlier if run.state == "finished"), None)
    found = estimate(submission, history=history)
    console.print(NO_PRICES if found is None else estimate_table(found), highlight=False, soft_wrap=True)
