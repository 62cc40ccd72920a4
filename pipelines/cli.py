"""The `two-tower` command.

Every import beyond typer happens inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.hints import DEFAULT_WORKDIR, command_line, meant, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from rich.console import Console

    from pipelines.recommend import PreparedOf
    from pipelines.remote.schedules import RemoteSchedule, Schedules
    from pipelines.runs import Kind, Run
    from two_tower.config import Config, Environment
    from two_tower.registry import Registry, Version

app = typer.Typer(
    help="A two-tower retrieval pipeline: from interaction logs to a promoted, measured retrieval version.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _folder(ctx: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The folder that an option names, there or to be made.

    Raises:
        ConfigError: A file is in the way.
    """
    from two_tower.errors import ConfigError

    there = next((part for part in (path, *path.parents) if part.exists()), None) if path is not None else None
    if there is not None and not there.is_dir():
        raise ConfigError(f"{option.opts[0]} {path}: {there} is a file; name a folder")
    return path


class DataGroup(TyperGroup):
    """The `data` commands, of which `fetch` needs no name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `fetch` in front of the name of a data set.

        Raises:
            ConfigError: There is neither a command nor a data set of that name.
        """
        if args and args[0] not in (*self.commands, "--help"):
            if not args[0].startswith("-"):
                _require_dataset(args[0], self.commands)
            args = ["fetch", *args]
        return super().parse_args(ctx, args)


def _require_dataset(name: str, commands: Iterable[str]) -> None:
    """Refuses a name that is no data set's."""
    from pipelines.datasets import NAMES
    from two_tower.errors import ConfigError
    from two_tower.settings import did_you_mean

    if name not in NAMES:
        near = did_you_mean(name, [*NAMES, *commands])
        raise ConfigError(f"data {name}: no such data set or command{near} (data sets: {', '.join(NAMES)})")


data_app = typer.Typer(help="Check logs; fetch or make data sets.", no_args_is_help=True, cls=DataGroup)
config_app = typer.Typer(help="Check configurations and print their schema.", no_args_is_help=True)
runs_app = typer.Typer(help="List, show and compare runs.", no_args_is_help=True)
registry_app = typer.Typer(help="List, show, promote, roll back and prune versions.", no_args_is_help=True)
schedule_app = typer.Typer(help="Retrain when it is due.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")
app.add_typer(runs_app, name="runs")
app.add_typer(registry_app, name="registry")
app.add_typer(schedule_app, name="schedule")

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A data set's YAML file, such as configs/tiny.yaml.")
]
Workdir = Annotated[
    Path, typer.Option(help="Where runs, artefacts, the cache and the registry live.", callback=_folder)
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
    str | None, typer.Option("--backend", metavar="NAME", help="vertex or kfp, where the environment has both.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="URL", help="The Kubeflow Pipelines server.")]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="FILE", help="The images that `make images` has written.")
]
ScheduleName = Annotated[
    str | None, typer.Option("--schedule", metavar="NAME", help="One schedule instead of all of the file.")
]
NameOfSchedule = Annotated[str, typer.Argument(metavar="NAME", help="A schedule of the environment file.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follows the run to its end; the exit code is that of `run`.")]

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 3, 130
MOST_ITEMS = 100_000
"""So many a query are recommended; the vectors of a batch and their scores are held in memory."""
MOST_DAYS = 365_000
"""As of `retention.days`; there is no date much longer ago."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that are no wrong usage."""


@app.command()
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
        _run_alone(_load(config, overrides), config, workdir, kind=kind, cache=not no_cache, overrides=overrides)
    )


@app.command("try")
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

    tried = with_values(_load(config, overrides), {"training.refit": False})  # a refit has seen what validates
    raise typer.Exit(_run_alone(tried, config, workdir, kind="try", cache=not no_cache, overrides=overrides))


@app.command()
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
    console = _console()
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


@app.command()
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
    from pipelines.local import exclusive
    from pipelines.runs import find_run
    from pipelines.single import run_step

    loaded = _load(config, overrides)
    workdir = workdir.resolve()
    console = _console()
    upstream = find_run(workdir, run_id)
    with exclusive(workdir):
        record, succeeded = run_step(name, loaded, upstream, config_file=str(config), console=console)
    if not succeeded:
        _explain_failure(record, console)
        raise typer.Exit(EXIT_FAILED)
    for key, value in record.step(name).outputs.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    console.print(f"recorded as run {record.run_id}; a further step can go on from it")


@app.command()
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
    from pipelines.local import exclusive
    from pipelines.single import prepare_only
    from pipelines.tune import Search
    from two_tower.errors import ConfigError

    loaded = _load(config, overrides)
    if not loaded.tune:
        raise ConfigError(
            f"{config}: nothing to search; add a section such as\n"
            "tune:\n  training.learning_rate: {low: 0.0001, high: 0.01, log: true}\n  model.dim: [32, 64, 128]"
        )
    workdir = workdir.resolve()
    console = _console()
    folder = workdir / "tune" / loaded.name
    try:
        with exclusive(workdir):
            record, succeeded = prepare_only(loaded, workdir, kind="tune", config_file=str(config), console=console)
        if not succeeded:
            _explain_failure(record, console)
            raise typer.Exit(EXIT_FAILED)
        with exclusive(folder):
            search = Search.open(loaded, folder, prepared=record, console=console)
            search.run(trials=trials, seconds=seconds)
            best = search.finish(config, overrides or [])
    except KeyboardInterrupt:
        print("interrupted; the finished trials are kept, the same command goes on from there", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print(f"next: {command_line('run', best, workdir=workdir)}")


@app.command()
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
        typer.Option("--out", "-o", metavar="DIR", help="Where evaluation/ and report.html go.", callback=_folder),
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    overrides: Overrides = None,
) -> None:
    """Measure a stored version on the test window of a configuration; nothing is promoted.

    Exit code 0: the gate would let it through. 3: it would refuse it. 1: it cannot be measured. 2: wrong
    configuration or usage.
    """
    from pipelines.console import showing_progress
    from pipelines.evaluate import evaluate_version, find_stored, require_free
    from pipelines.local import exclusive
    from pipelines.single import prepare_only
    from two_tower.errors import ConfigError

    loaded = _load(config, overrides)
    workdir = workdir.resolve()
    root = workdir / "registry"
    asked = find_stored(root, loaded.name, version)
    other = find_stored(root, loaded.name, against) if against is not None else None
    if other and other.id == asked.id:
        raise ConfigError(f"--version {version} and --against {against} are the same version, {asked.id}")
    if out:
        require_free(out)
        out.mkdir(parents=True, exist_ok=True)
    console = _console()
    try:
        with exclusive(workdir):
            record, succeeded = prepare_only(loaded, workdir, kind="evaluate", config_file=str(config), console=console)
        if not succeeded:
            _explain_failure(record, console)
            raise typer.Exit(EXIT_FAILED)
        folder = out.resolve() if out else record.folder
        with showing_progress(console):
            metrics = evaluate_version(record, loaded, version=asked, against=other, out=folder)
    except KeyboardInterrupt:
        print("interrupted; the prepared data are kept", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _print_evaluation(metrics, asked, other, console)
    console.print(f"evaluation: {shown(folder / 'evaluation')}", soft_wrap=True)
    page = shown(folder / "report.html") if asked.trained_towers else "none: the version was stored without its towers"
    console.print(f"report: {page}", soft_wrap=True)
    raise typer.Exit(EXIT_REFUSED if metrics["gate"]["decision"] == "refuse" else 0)


@app.command("compile")
def compile_(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The YAML file to write.")],
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET=IMAGE", help="The container image of a target: prep, train, embed or index."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Compile the DAG to a KFP pipeline file."""
    from components.build import IMAGE_OF
    from two_tower.errors import ConfigError

    images = dict(text.partition("=")[::2] for text in image or [])
    targets = sorted(set(IMAGE_OF.values()))
    for target, name in images.items():
        if target not in targets or not name:
            raise ConfigError(f"--image {target}={name}: expected TARGET=IMAGE with a target of {', '.join(targets)}")
    loaded = _load(config, overrides)

    from pipelines.dag import compile_pipeline

    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: a compiled pipeline's name ends with .yaml")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    compile_pipeline(loaded, out, images=images)
    print(out)


@app.command()
def recommend(
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="Whose champion answers.")] = None,
    version: Annotated[str | None, typer.Option(help="A version to ask instead of the champion.")] = None,
    user: Annotated[
        str | None, typer.Option(help="A user's id; the history is the one that the version's run saw.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ITEM,ITEM…",
            help="Item ids, oldest first; an id with a comma stands alone, and the option may be given several times.",
        ),
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A context feature, such as search='red mug'.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Write the items of every user, or of every query of a file, to a folder.")
    ] = False,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Parquet or JSON Lines with user_id, history, user.NAME, context.NAME; means --all."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="The folder for --all; killed, the same command goes on.",
            callback=_folder,
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, max=MOST_ITEMS, help="How many items: 10, with --all 100.")
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--no-exclude-seen",
            help="Whether the items of the past are left out; as evaluation.exclude_seen says if not given.",
        ),
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Print the items that a version recommends, or write those of every user."""
    from two_tower.errors import ConfigError

    if (config is None) == (version is None):
        raise ConfigError("recommend needs either --config CONFIG (its champion answers) or --version VERSION")
    everyone = everyone or queries is not None
    history = [given for given in history or [] if given.strip()]
    if everyone and (user or history or context):
        raise ConfigError("--all and --queries answer many queries; leave out --user, --history and --context")
    if everyone != (out is not None):
        raise ConfigError("--all and --queries need a folder, -o DIR, and nothing else takes one")
    if not (everyone or user or history or context):
        raise ConfigError(
            "recommend needs a query: --user ID, --history ITEM,ITEM… or --context NAME=VALUE; or --all for every user"
        )
    for text in (user or "", *history, *(context or [])):
        _require_text(text)
    asked = _champion_of(config, workdir, env) if config is not None else _find_version(version or "", workdir, env)[1]
    prepared = _prepared_by(workdir, env)
    from pipelines.recommend import excludes_seen, recommend_items

    if exclude_seen is None:
        exclude_seen = excludes_seen(asked, config=_load(config) if config is not None else None)
    if everyone:
        _recommend_to_all(prepared, out, config, asked, queries, k=k or 100, exclude_seen=exclude_seen)
        return

    table = recommend_items(
        prepared,
        version=asked,
        user=user,
        history=history,
        context=dict(_pairs(context or [], "--context")),
        k=k or 10,
        exclude_seen=exclude_seen,
    )
    _console().print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="complete_journey, ml_100k, shop, synthetic, text_search …")
    ],
    out: Annotated[Path, typer.Option(help="The folder that gets a folder NAME.", callback=_folder)] = Path("data"),
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of a data set that is made, such as users=1000."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Makes it again where it is there already.")] = False,
) -> None:
    """Fetch or make a data set; `two-tower data NAME` is short for this."""
    from components.runtime import log_to_console
    from pipelines.datasets import make_dataset

    log_to_console()
    options = {key: _from_yaml(value, f"--set {key}") for key, value in _pairs(option or [], "--set")}
    print(make_dataset(name, out, force=force, **options))


@data_app.command("check")
def data_check(config: ConfigFile, overrides: Overrides = None) -> None:
    """Profile the logs of a configuration, and say what would be kept and why, without a run.

    Exit code 0: a run would go on. 1: it would refuse the logs.
    """
    from components.runtime import log_to_console
    from pipelines.check import check_data

    log_to_console()
    if not check_data(_load(config, overrides), _console()):
        raise typer.Exit(EXIT_FAILED)


@config_app.command("check")
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


@config_app.command("show")
def config_show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print a configuration with its defaults filled in, as JSON."""
    print(_load(config, overrides).model_dump_json(indent=2))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema that editors complete from."""
    import json

    from two_tower.config import json_schema

    print(json.dumps(json_schema(), indent=2))


@runs_app.command("list")
def runs_list(
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """List the runs, newest first."""
    if env is not None:
        from pipelines.remote import commands

        environment, kind = _remote(env, backend)
        _console().print(commands.runs_table(commands.list_runs(environment, kind=kind, host=host)))
        return
    from pipelines.console import runs_table
    from pipelines.runs import list_runs

    _console().print(runs_table(list_runs(workdir)))


@runs_app.command("show")
def runs_show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its beginning; or latest.")] = "latest",
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """Show a run's steps, figures and verdict."""
    if env is not None:
        from pipelines.remote import commands

        environment, kind = _remote(env, backend)
        commands.show(environment, run_id, _console(), kind=kind, host=host)
        return
    from pipelines.console import LiveWatcher, headed
    from pipelines.runs import find_run

    found = find_run(workdir, run_id)
    console = _console()
    what = f" run {found.run_id} ({found.kind_in_words}), {found.state}, started {found.started}"
    console.print(headed(found.name, what), soft_wrap=True)
    console.print(LiveWatcher(found))
    _print_figures(found, console)
    if found.metrics:
        console.print(f"\n{found.metrics['gate']['reason']}", soft_wrap=True)
    if found.artifacts.is_dir():
        console.print(f"artefacts: {shown(found.artifacts)}", soft_wrap=True)
    for folder, steps in found.from_cache().items():
        console.print(f"from the cache: {', '.join(steps)} in {shown(folder)}", soft_wrap=True)
    if found.report:
        console.print(f"report: {shown(found.report)}", soft_wrap=True)


@runs_app.command("compare")
def runs_compare(
    first: Annotated[str, typer.Argument(metavar="RUN")],
    second: Annotated[str, typer.Argument(metavar="RUN")],
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Writes the comparison as one HTML file too.")
    ] = None,
    workdir: Workdir = DEFAULT_WORKDIR,
) -> None:
    """Set two runs beside each other: configuration, data, time, figures, slices, verdicts."""
    from pipelines.compare import compare_runs, comparison_tables, write_comparison
    from pipelines.runs import find_run
    from two_tower.errors import ConfigError

    if page and page.suffix != ".html":
        raise ConfigError(f"--page {page}: the name of a page ends with .html")
    comparison = compare_runs(find_run(workdir, first), find_run(workdir, second))
    console = _console()
    for part in comparison_tables(comparison):
        console.print(part)
    if page:
        write_comparison(comparison, page)
        console.print(f"page: {shown(page.resolve())}", soft_wrap=True)


@registry_app.command("list")
def registry_list(workdir: Workdir = DEFAULT_WORKDIR, env: OptionalEnvironment = None) -> None:
    """List the versions of every registry, newest first; the champion is marked."""
    from rich.table import Table

    from two_tower.registry import list_registries

    table = Table()
    for column in ("config", "version", "status", "decided", "recall@100", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for registry in list_registries(_registry_root(workdir, env)):
        for version in registry.versions():
            recall = (version.metrics or {}).get("recall@100")
            table.add_row(
                registry.name, version.id, version.status, (version.decided_at or "")[:16],
                f"{recall:.4f}" if recall is not None else "", version.reason,
            )  # fmt: skip
    _console().print(table)


@registry_app.command("show")
def registry_show(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version's id or its beginning.")],
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Show a version's figures, what the gate checked, and what was decided about it."""
    import json

    from pipelines.console import headed, metrics_table, print_left_out
    from pipelines.versions import checks_table, decisions_table

    registry, found = _find_version(version, workdir, env)
    console = _console()
    console.print(headed(registry.name, f" version {found.id}, {found.status}\n{shown(found.place)}"), soft_wrap=True)
    metrics = json.loads((found.evaluation / "metrics.json").read_text(encoding="utf-8"))
    console.print(metrics_table(metrics, width=console.width))
    print_left_out(metrics, console)
    console.print(checks_table(metrics["gate"]))
    console.print(decisions_table(each for each in registry.history() if each.version == found.id))


@registry_app.command("promote")
def registry_promote(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A stored version's id or its beginning.")],
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Make a stored version the champion."""
    registry, found = _find_version(version, workdir, env)
    print(f"{registry.name}: the champion is {registry.promote_existing(found.id)}")


@registry_app.command("rollback")
def registry_rollback(
    config: ConfigFile,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
) -> None:
    """Make the champion's predecessor the champion again."""
    from two_tower.registry import Registry

    registry = Registry(_registry_root(workdir, env), _load(config).name)
    print(f"{registry.name}: the champion is {registry.rollback()}")


@registry_app.command("prune")
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
    from pipelines.versions import fates_table
    from two_tower.registry import Registry

    loaded = _load(config)
    registry = Registry(_registry_root(workdir, env), loaded.name)
    fates = registry.prune(
        keep=loaded.retention.keep if keep is None else keep,
        days=loaded.retention.days if days is None else days,
        dry_run=dry_run,
    )
    if fates:
        _console().print(fates_table(fates))
    gone = sum(not fate.stays for fate in fates)
    print(f"{registry.name}: {gone} {'would go' if dry_run else 'removed'}, {len(fates) - gone} stay")


@schedule_app.command("list")
def schedule_list(
    env: EnvironmentFile, workdir: Workdir = DEFAULT_WORKDIR, backend: BackendName = None, host: Host = None
) -> None:
    """List the schedules: when they are due, and what became of them last, here or on the environment's service."""
    from datetime import UTC, datetime

    from pipelines.schedule import choose, schedules_table
    from two_tower.config import load_environment

    environment = load_environment(env)
    if environment.vertex or environment.kubeflow:
        from pipelines.remote import commands
        from pipelines.remote.schedules import owner_of, remote_table

        service = commands.schedules_of(environment, commands.kind_of(environment, backend), host=host)
        _console().print(remote_table(environment, service.list(owner_of(env))))
        return
    schedules = choose(environment, None, file=env)
    _console().print(schedules_table(schedules, workdir.resolve() / "schedules", now=datetime.now(UTC)))


@schedule_app.command("apply")
def schedule_apply(
    env: EnvironmentFile,
    schedule: ScheduleName = None,
    images: Images = None,
    prune: Annotated[bool, typer.Option("--prune", help="Removes schedules that the file no longer has.")] = False,
    backend: BackendName = None,
    host: Host = None,
) -> None:
    """Make the service's schedules those of the environment file; a second time nothing changes."""
    from pipelines.remote import commands
    from pipelines.remote.schedules import apply, owner_of
    from pipelines.remote.submission import load_images

    environment, kind = _remote(env, backend)
    planned = commands.plan_schedules(
        environment, env, kind=kind, only=schedule, images=load_images(images) if images else None
    )
    console = _console()
    commands.check([each.submission for each in planned], console, kind=kind, host=host, schedules=True)
    service = commands.schedules_of(environment, kind, host=host)
    for done in apply(service, planned, owner=owner_of(env), prune=prune, whole=schedule is None):
        hint = "; it is not in the file, --prune removes it" if done.deed == "left" else ""
        coming = done.schedule.next_run if done.schedule and done.deed != "removed" else None
        when = f", due next at {coming.astimezone():%a %Y-%m-%d %H:%M %Z}" if coming else ""
        print(f"{done.name}: {done.deed}{hint}{when}")


@schedule_app.command("pause")
def schedule_pause(name: NameOfSchedule, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Have a schedule of the service start nothing until it is resumed."""
    service, found = _schedule_of(name, env, backend, host)
    service.pause(found)
    print(f"{name}: paused")


@schedule_app.command("resume")
def schedule_resume(name: NameOfSchedule, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Have a paused schedule start runs again; with catch_up: all, also those that came due meanwhile."""
    from two_tower.config import load_environment

    service, found = _schedule_of(name, env, backend, host)
    known = load_environment(env).schedules.get(name)
    service.resume(found, catch_up=known is not None and known.catch_up == "all")
    print(f"{name}: resumed")


@schedule_app.command("delete")
def schedule_delete(name: NameOfSchedule, env: EnvironmentFile, backend: BackendName = None, host: Host = None) -> None:
    """Remove a schedule from the service; runs that it has started go on."""
    service, found = _schedule_of(name, env, backend, host)
    service.delete(found)
    print(f"{name}: deleted")


@schedule_app.command("run-now")
def schedule_run_now(
    name: NameOfSchedule, env: EnvironmentFile, wait: Wait = False, backend: BackendName = None, host: Host = None
) -> None:
    """Start a schedule's run at once, with this moment for its time."""
    from pipelines.remote import commands

    environment, kind = _remote(env, backend)
    code = commands.run_schedule_now(environment, env, name, _console(), kind=kind, host=host, wait=wait)
    raise typer.Exit(code)


@schedule_app.command("run-local")
def schedule_run_local(
    env: EnvironmentFile,
    once: Annotated[bool, typer.Option("--once", help="Runs what is due and ends, for cron or a timer.")] = False,
    schedule: ScheduleName = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    now: Annotated[str | None, typer.Option(metavar="TIME", hidden=True, help="What the clock is put to.")] = None,
) -> None:
    """Retrain on this machine when it is due, one run at a time.

    Without --once it goes on until it is stopped. With it, exit code 0: all that was due has been run, whatever the
    gate said. 1: a run failed. 2: wrong configuration or usage.
    """
    import signal

    from pipelines.schedule import Clock, Scheduler, ThisMachine, choose, in_charge
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


def main() -> None:
    """Runs the command and exits with its code; errors that are the user's to mend are printed without a traceback.

    Output that cannot be written is no success; output that nobody reads any more is.
    """
    from pipelines.streams import lasting_streams

    with lasting_streams() as streams:
        code = _call()
        for failure in streams.failures():
            print(f"error: {failure}", file=sys.stderr)
            code = code or EXIT_FAILED
    sys.exit(code)


def _call() -> int:
    """Runs the command; its exit code."""
    from two_tower.errors import UserError

    try:
        app()
    except SystemExit as ended:
        return int(ended.code or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED if error.errno in NO_SPACE else EXIT_USAGE
    return 0


def _in_one_line(error: OSError) -> str:
    """Which file it was about and what the system said."""
    said = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error) or repr(error)
    return " ".join(said.split())


def _run_alone(
    config: Config, config_file: Path, workdir: Path, *, kind: Kind, cache: bool, overrides: list[str] | None
) -> int:
    """Runs the DAG with no other run beside it in the working folder; the exit code."""
    from pipelines.local import exclusive

    workdir = workdir.resolve()
    try:
        with exclusive(workdir):
            return _run_dag(config, config_file, workdir, kind=kind, cache=cache, overrides=overrides or [])
    except KeyboardInterrupt:
        print("interrupted; the finished steps are kept, the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run_dag(config: Config, config_file: Path, workdir: Path, *, kind: Kind, cache: bool, overrides: list[str]) -> int:
    """Compiles and runs the DAG, prints how it went; the exit code."""
    import json

    import yaml

    from pipelines.console import headed, watching
    from pipelines.dag import compile_pipeline
    from pipelines.local import data_root, run_pipeline
    from pipelines.runs import Run, prepared_folders

    console = _console()
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
        _explain_failure(record, console)
        return EXIT_FAILED
    _print_figures(record, console)
    return _print_verdict(record, config_file, overrides, console)


def _print_verdict(record: Run, config_file: Path, overrides: list[str], console: Console) -> int:
    """Says what became of the version and what to try next, by the file if its configuration is that; the exit code."""
    from two_tower.registry import Registry

    metrics, workdir = record.metrics, record.folder.parent
    console.print(f"\n{metrics['gate']['reason']}", soft_wrap=True)
    console.print(f"report: {shown(record.report)}", soft_wrap=True)
    if record.kind == "try":
        print(f"next: {command_line('run', config_file, set=overrides, workdir=workdir)}")
        return 0
    if record.decision == "refuse":
        return EXIT_REFUSED
    champion = Registry(workdir / "registry", record.name).champion()
    if champion is None or champion.id != record.version:
        console.print(f"the registry's champion is not {record.version}", style="red")
        return EXIT_FAILED
    console.print(f"champion: {record.version}")
    from pipelines.recommend import example_query

    asked = {"version": champion.id} if overrides else {"config": config_file}
    if query := example_query(record):
        print(f"next: {command_line('recommend', **asked, **query, workdir=workdir)}")
    return 0


def _print_figures(record: Run, console: Console) -> None:
    from pipelines.console import gate_table, metrics_table, print_left_out

    metrics = record.metrics
    if metrics is None:
        return
    console.print(metrics_table(metrics, width=console.width))
    print_left_out(metrics, console)
    console.print(gate_table(metrics["gate"]))


def _print_evaluation(metrics: dict[str, Any], version: Version, against: Version | None, console: Console) -> None:
    """The figures of a version on a window, what the gate would say, and why."""
    from pipelines.console import gate_table, headed, metrics_table, print_left_out
    from pipelines.evaluate import differences_table, named, slices_table, window_in_words

    beside = f" against {against.id} ({against.status})" if against else ""
    console.print(headed(f"\ntwo_tower is version {version.id}", f" ({version.status}){beside}"))
    console.print(window_in_words(metrics["window"]), soft_wrap=True)
    if metrics["champion_error"]:
        console.print(
            f"{metrics['champion']} cannot be measured: {metrics['champion_error']}", style="red", soft_wrap=True
        )
        against = None
    console.print(metrics_table(named(metrics, against=against), width=console.width))
    print_left_out(metrics, console)
    if against and metrics["comparisons"]:
        console.print(differences_table(metrics, against=against))
    if metrics["slices"]:
        console.print(slices_table(metrics, against=against))
    console.print(gate_table(metrics["gate"]))
    console.print(f"\n{metrics['gate']['reason']} Nothing has been promoted.", soft_wrap=True)


def _explain_failure(record: Run, console: Console) -> None:
    """Names the failed step and what ended it; prints the last lines of its log where it did not say so itself."""
    from components.runtime import cause_in, own_log
    from pipelines.console import headed

    failed = next((step.name for step in record.steps if step.state == "failed"), None)
    file = record.folder / "logs" / f"{failed or 'runner'}.log"
    log = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    cause = cause_in(log)
    console.print(headed(f"{failed or 'the run'} failed:", f" {cause}", style="bold red"), soft_wrap=True)
    if "Traceback" in log or not cause:
        for line in own_log(log).splitlines()[-15:]:
            console.print(f"  {line}", soft_wrap=True)
    console.print(f"log: {shown(file)}", soft_wrap=True)
    if record.report:
        console.print(f"page: {shown(record.report)}", soft_wrap=True)


def _prepared_by(workdir: Path, env: Path | None) -> PreparedOf:
    """What finds the prepared data of the run that made a version."""
    from functools import partial

    from pipelines.recommend import find_prepared

    if env is None:
        return partial(find_prepared, workdir.resolve())
    from pipelines.remote import commands

    environment, kind = _remote(env, None)
    return partial(commands.find_prepared, commands.backend_of(environment, kind))


def _recommend_to_all(
    prepared: PreparedOf, out: Path, config: Path | None, version: Version, queries: Path | None, **options: Any
) -> None:
    """Writes the recommendations and says how many there are; the runner is that of the configuration."""
    from pipelines.console import showing_progress
    from pipelines.recommend import in_words, recommend_to_all
    from two_tower.config import Beam

    beam = _load(config).beam if config else Beam.model_validate(version.config.get("beam", {}))
    console = _console()
    _end_at_interrupt(console, "the finished shards are kept, the same command goes on from there")
    with showing_progress(console):
        found = recommend_to_all(prepared, out, version=version, queries=queries, beam=beam, **options)
    print(in_words(found, **options))


def _end_at_interrupt(console: Console, then: str) -> None:
    """Lets Ctrl-C end the process at once, for work that may be killed at any moment.

    The main thread would notice it only after all that Beam's workers have before them, so another one waits for it.
    """
    import os
    import signal
    import socket
    import threading

    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def wait() -> None:
        receiver.recv(1)
        console.show_cursor()
        print(f"interrupted; {then}", file=sys.stderr, flush=True)
        os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.set_wakeup_fd(sender.detach())
    threading.Thread(target=wait, daemon=True).start()


def _schedule_of(name: str, env: Path, backend: str | None, host: str | None) -> tuple[Schedules, RemoteSchedule]:
    """A schedule of an environment's service, and the service."""
    from pipelines.remote import commands
    from pipelines.remote.schedules import find, owner_of

    environment, kind = _remote(env, backend)
    service = commands.schedules_of(environment, kind, host=host)
    return service, find(service, owner_of(env), name)


def _remote(env: Path, backend: str | None) -> tuple[Environment, str]:
    """An environment and which of its services is meant."""
    from pipelines.remote.commands import kind_of
    from two_tower.config import load_environment

    environment = load_environment(env)
    return environment, kind_of(environment, backend)


def _load(config: Path, overrides: list[str] | None = None) -> Config:
    from two_tower.config import load_config

    return load_config(config, overrides or ())


def _moved_to(now: str) -> timedelta:
    """By how much a clock is put forward that is to show a time."""
    from datetime import UTC, datetime

    from two_tower.errors import ConfigError

    try:
        return datetime.fromisoformat(now).astimezone(UTC) - datetime.now(UTC)
    except ValueError as error:
        raise ConfigError(f"--now {now!r}: expected a time such as 2026-12-01T03:00+01:00") from error


def _console() -> Console:
    from rich.console import Console

    # Bound to today's standard output, which is redirected while kfp.local runs. A log has no width of its own.
    # Names, paths and values are printed as they are, brackets and colons included.
    return Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False
    )


def _require_text(text: str) -> None:
    """Refuses what the command line has of bytes that are no text, which no id and no feature holds."""
    from two_tower.errors import ConfigError

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r}: not UTF-8 text") from error


def _pairs(texts: list[str], option: str) -> list[tuple[str, str]]:
    from two_tower.errors import ConfigError

    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {text!r}: expected NAME=VALUE")
        pairs.append((key, value))
    return pairs


def _from_yaml(text: str, option: str) -> Any:
    """What YAML takes an option's value for."""
    import yaml

    from two_tower.errors import ConfigError

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as 2024-02-31, or thousands of digits
        raise ConfigError(f"{option}: not valid YAML: {error}") from error


def _registry_root(workdir: Path, env: Path | None) -> str:
    """Where the registries are: in the working folder, or where the environment has them."""
    if env is None:
        return str(workdir.resolve() / "registry")
    from pipelines.remote.submission import places

    environment, kind = _remote(env, None)
    return places(environment, kind)[1]


def _champion_of(config: Path, workdir: Path, env: Path | None) -> Version:
    from two_tower.errors import RegistryError
    from two_tower.registry import Registry

    root = _registry_root(workdir, env)
    registry = Registry(root, _load(config).name)
    champion = registry.champion()
    if champion is None:
        makes = command_line("submit", config, env=env) if env else command_line("run", config, workdir=workdir)
        raise RegistryError(f"{registry.name} has no champion in {root} yet; `{makes}` makes one")
    return champion


def _find_version(version: str, workdir: Path, env: Path | None) -> tuple[Registry, Version]:
    """The version with this id, or the one whose id starts so, and its registry."""
    from two_tower.errors import RegistryError
    from two_tower.registry import list_registries

    registries = list_registries(_registry_root(workdir, env))
    stored = [(registry, each) for registry in registries for each in registry.versions()]
    found = meant(version, stored, lambda pair: pair[1].id)
    if len(found) != 1:
        problem = "no stored version starts with" if not found else "several stored versions start with"
        lists = command_line("registry", "list", workdir=workdir, env=env)
        raise RegistryError(f"{problem} {version!r}; `{lists}` shows them")
    return found[0]
