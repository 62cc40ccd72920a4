"""The `two-tower` command as a program, also as `python -m pipelines`."""

from __future__ import annotations

from typing import NoReturn

from components.ending import end_with
from pipelines.cli import main


def program() -> NoReturn:
    """Runs the command and ends the process."""
    end_with(main)


if __name__ == "__main__":
    program()
