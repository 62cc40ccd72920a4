"""`two-tower recommend`: the items that a version recommends, to one query or to all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.options import OptionalEnvironment, Workdir, existing_or_new_folder
from pipelines.cli.shared import champion_of, load, make_console, pairs, require_text, service_of, stored_version
from pipelines.command_lines import DEFAULT_WORKDIR, command_line
from pipelines.exit_codes import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.local.recommend import PreparedOf
    from two_tower.registry import Version


MOST_ITEMS = 100_000
"""So many a query are recommended; the vectors of a batch and their scores are held in memory."""

User = Annotated[str | None, typer.Option(help="A user's id; the history is the one that the version's run saw.")]
History = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ITEM,ITEM…",
        help="Item ids, oldest first; an id with a comma stands alone, and the option may be given several times.",
    ),
]
Context = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A context feature, such as search='red mug'.")
]
Everyone = Annotated[
    bool, typer.Option("--all", help="Write the items of every user, or of every query of a file, to a folder.")
]
Queries = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Parquet or JSON Lines with user_id, history, user.NAME, context.NAME; means --all."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="The folder for --all; killed, the same command goes on.",
        callback=existing_or_new_folder,
    ),
]
HowMany = Annotated[int | None, typer.Option("--k", min=1, max=MOST_ITEMS, help="How many items: 10, with --all 100.")]
ExcludeSeen = Annotated[
    bool | None,
    typer.Option(
        "--exclude-seen/--no-exclude-seen",
        help="Whether the items of the past are left out; as evaluation.exclude_seen says if not given.",
    ),
]


def recommend(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="Whose champion answers.")] = None,
    version: Annotated[str | None, typer.Option(help="A version to ask instead of the champion.")] = None,
    user: User = None,
    history: History = None,
    context: Context = None,
    everyone: Everyone = False,
    queries: Queries = None,
    out: Out = None,
    k: HowMany = None,
    exclude_seen: ExcludeSeen = None,
    workdir: Workdir = DEFAULT_WORKDIR,
    env: OptionalEnvironment = None,
    old_config: Annotated[str | None, typer.Option("--config", hidden=True)] = None,
) -> None:
    """Print the items that a version recommends, or write those of every user."""
    _refuse_old_spelling(old_config)
    everyone = everyone or queries is not None
    history = [given for given in history or [] if given.strip()]
    question = [*([user] if user else []), *history, *(context or [])]
    _refuse_wrong_usage(config, version, question, everyone=everyone, out=out)
    asked = champion_of(config, workdir, env) if config is not None else stored_version(version or "", workdir, env)[1]
    prepared = _prepared_by(workdir, env)
    from pipelines.local.recommend import excludes_seen, recommend_items

    if exclude_seen is None:
        exclude_seen = excludes_seen(asked, config=load(config) if config is not None else None)
    if out is not None:
        _recommend_to_all(prepared, out, config, asked, queries, k=k or 100, exclude_seen=exclude_seen)
        return

    table = recommend_items(
        prepared,
        version=asked,
        user=user,
        history=history,
        context=dict(pairs(context or [], "--context")),
        k=k or 10,
        exclude_seen=exclude_seen,
    )
    make_console().print(table)


def _refuse_old_spelling(config: str | None) -> None:
    """Raises a ConfigError that names the new form, where the configuration is given as an option."""
    from two_tower.errors import ConfigError

    if config is not None:
        raise ConfigError(f"--config is gone: `{command_line('recommend', Path(config))}` takes the file as `run` does")


def _refuse_wrong_usage(
    config: Path | None, version: str | None, question: list[str], *, everyone: bool, out: Path | None
) -> None:
    """Raises a ConfigError where the options do not say who is asked what; `question` are the texts of one query."""
    from two_tower.errors import ConfigError

    if (config is None) == (version is None):
        raise ConfigError("recommend needs either CONFIG (its champion answers) or --version VERSION")
    if everyone and question:
        raise ConfigError("--all and --queries answer many queries; leave out --user, --history and --context")
    if everyone != (out is not None):
        raise ConfigError("--all and --queries need a folder, -o DIR, and nothing else takes one")
    if not (everyone or question):
        raise ConfigError(
            "recommend needs a query: --user ID, --history ITEM,ITEM… or --context NAME=VALUE; or --all for every user"
        )
    for text in question:
        require_text(text)


def _prepared_by(workdir: Path, env: Path | None) -> PreparedOf:
    """What finds the prepared data of the run that made a version."""
    from functools import partial

    from pipelines.local.recommend import find_prepared

    if env is None:
        return partial(find_prepared, workdir.resolve())
    from pipelines.remote import commands

    environment, kind = service_of(env, None)
    return partial(commands.find_prepared, commands.backend_of(environment, kind))


def _recommend_to_all(
    prepared: PreparedOf, out: Path, config: Path | None, version: Version, queries: Path | None, **options: Any
) -> None:
    """Writes the recommendations and says how many there are; the runner is that of the configuration."""
    from pipelines.local.recommend import in_words, recommend_to_all
    from pipelines.views.console import showing_progress
    from two_tower.config import BeamSettings

    beam = load(config).beam if config else BeamSettings.model_validate(version.config.get("beam", {}))
    console = make_console()
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
