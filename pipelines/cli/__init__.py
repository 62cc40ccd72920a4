"""The `two-tower` command, a module a command or group of commands.

Every import beyond typer happens inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pipelines.cli import compile, config, data, evaluate, recommend, registry, run, runs, schedule, step, submit, tune
from pipelines.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that are no wrong usage."""

app = typer.Typer(
    help="A two-tower retrieval pipeline: from interaction logs to a promoted, measured retrieval version.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "try": run.try_,
    "submit": submit.submit,
    "step": step.step,
    "tune": tune.tune,
    "evaluate": evaluate.evaluate,
    "compile": compile.compile_,
    "recommend": recommend.recommend,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in {"data": data, "config": config, "runs": runs, "registry": registry, "schedule": schedule}.items():
    app.add_typer(group.app, name=name)


def print_version(asked: bool) -> None:
    """Prints the version where that is what was asked, and ends."""
    if asked:
        import two_tower

        print(f"two-tower {two_tower.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """The options that stand before a command."""


def main() -> None:
    """Runs the command and exits with its code; errors that are the user's to mend are printed without a traceback.

    Output that cannot be written is no success; output that nobody reads any more is.
    """
    from pipelines.cli.streams import lasting_streams

    with lasting_streams() as streams:
        code = _call()
        for failure in streams.failures():
            print(f"error: {failure}", file=sys.stderr)
            code = code or EXIT_FAILED
    sys.exit(code)


def _call() -> int:
    """Runs the command; its exit code."""
    from two_tower.errors import UserError
    from two_tower.extras import naming_extras

    try:
        with naming_extras("this command"):
            app()
    except SystemExit as ended:
        return int(ended.code or EXIT_DONE)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED if error.errno in NO_SPACE else EXIT_USAGE
    return EXIT_DONE


def _in_one_line(error: OSError) -> str:
    """Which file it was about and what the system said."""
    said = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error) or repr(error)
    return " ".join(said.split())
