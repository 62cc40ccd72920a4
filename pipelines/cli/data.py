"""`two-tower data`: check logs; fetch or make data sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.cli.options import ConfigFile, Overrides, existing_or_new_folder
from pipelines.cli.shared import from_yaml, load, make_console, pairs
from pipelines.exit_codes import EXIT_FAILED


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


app = typer.Typer(help="Check logs; fetch or make data sets.", no_args_is_help=True, cls=DataGroup)


@app.command("fetch")
def data_fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="complete_journey, ml_100k, shop, synthetic, text_search …")
    ],
    out: Annotated[
        Path, typer.Option(help="The folder that gets a folder NAME.", callback=existing_or_new_folder)
    ] = Path("data"),
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of a data set that is made, such as users=1000."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Makes it again where it is there already.")] = False,
) -> None:
    """Fetch or make a data set; `two-tower data NAME` is short for this."""
    from components.step_log import log_to_console
    from pipelines.datasets import make_dataset

    log_to_console()
    options = {key: from_yaml(value, f"--set {key}") for key, value in pairs(option or [], "--set")}
    print(make_dataset(name, out, force=force, **options))


@app.command("check")
def data_check(config: ConfigFile, overrides: Overrides = None) -> None:
    """Profile the logs of a configuration, and say what would be kept and why, without a run.

    Exit code 0: a run would go on. 1: it would refuse the logs.
    """
    from components.step_log import log_to_console
    from pipelines.local.data_check import check_data

    log_to_console()
    if not check_data(load(config, overrides), make_console()):
        raise typer.Exit(EXIT_FAILED)
