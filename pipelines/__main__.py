"""The `two-tower` command as a program, also as `python -m pipelines`."""

from __future__ import annotations

import sys
from typing import NoReturn

from components.ending import end_with


def program() -> NoReturn:
    """Runs the command and ends the process."""
    end_with(_main)


def _main() -> None:
    """Runs the command; where it is not installed, says in one line what brings it."""
    from two_tower.errors import MissingPackage
    from two_tower.extras import naming_extras

    try:
        with naming_extras("the command two-tower", "pipelines"):
            from pipelines.cli import main
    except MissingPackage as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    main()


if __name__ == "__main__":
    program()
