"""What this copy of the project says of itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    """The version of the installed package; where there is only a checkout, one that says so."""
    try:
        return version("two-tower")
    except PackageNotFoundError:
        return "0+unknown"


__version__ = _installed()
