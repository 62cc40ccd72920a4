"""What the base install leaves out is named together with the extra that brings it."""

import subprocess
import sys
from pathlib import Path

import pytest
from metadata import PROJECT, package_of, requirements_of

from two_tower.errors import MissingPackage, UserError
from two_tower.extras import BROUGHT_BY, naming_extras

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str, *, absent: set[str] = frozenset()) -> subprocess.CompletedProcess:
    """Runs a program in which some modules are not to be found."""
    program = WITHOUT.format(absent=set(absent) or "()") + code
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_importing_the_library_imports_nothing_heavy():
    heavy = {"tensorflow", "apache_beam", "kfp", "scann", "numpy", "pyarrow", "polars", "pydantic", "typer", "rich"}
    result = python(f"import two_tower\nprint({heavy} & set(sys.modules))")
    assert result.stdout == "set()\n", result.stderr


@pytest.mark.parametrize("module", sorted(BROUGHT_BY))
def test_every_extra_that_is_named_brings_its_package(module):
    package, extras = BROUGHT_BY[module]
    for extra in extras:
        assert package in map(package_of, requirements_of(extra))


def test_every_package_of_an_extra_that_is_no_tool_has_its_extra_named():
    named = {package for package, _ in BROUGHT_BY.values()}
    users = PROJECT["optional-dependencies"].keys() - {"dev"}
    assert {package_of(each) for extra in users for each in requirements_of(extra)} - named == {"google-auth"}


@pytest.mark.parametrize(
    ("absent", "call", "expected"),
    [
        ("typer", "from pipelines.__main__ import _main; _main()", "the command two-tower needs the package typer"),
        ("polars", "from two_tower.data import prepare", "two_tower.data.prepare needs the package polars"),
        ("polars", "from two_tower.data import EveryUser", "EveryUser needs the package polars"),
        ("tensorflow", "from two_tower.model import train", "two_tower.model.train needs the package tensorflow"),
        ("scann", "from two_tower.index import quantized; quantized._scann()", "an index of the kind scann needs"),
        (
            "apache_beam",
            "from two_tower.embedding import embed_candidates",
            "embed_candidates needs the package apache-beam",
        ),
        ("jinja2", "from two_tower.report import write_report", "write_report needs the package jinja2"),
        (
            "google",
            "from two_tower.artifacts import bucket; bucket.read_object('gs://a/b')",
            "a place on gs:// needs the package google-cloud-storage",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(absent, call, expected):
    extra = {
        "typer": "pipelines", "tensorflow": "train", "scann": "serve", "apache_beam": "embed", "jinja2": "index",
        "google": "gcs", "polars": "serve" if "EveryUser" in call else "prep",
    }[absent]  # fmt: skip
    result = python(call, absent={absent})
    assert result.returncode != 0
    last = result.stderr.splitlines()[-1]
    assert expected in last and last.endswith(f"pip install 'two-tower[{extra}]' brings it")


def test_the_command_without_its_extra_says_so_in_one_line_and_ends_with_2():
    result = python("from pipelines.__main__ import program; program()", absent={"typer", "rich", "kfp"})
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == (
        "error: the command two-tower needs the package typer (No module named 'typer'): "
        "pip install 'two-tower[pipelines]' brings it\n"
    )


def test_a_module_of_no_extra_is_a_fault_of_the_program():
    with pytest.raises(ModuleNotFoundError) as caught, naming_extras("this"):
        import two_tower.nothing  # noqa: F401
    assert not isinstance(caught.value, MissingPackage)


def test_what_is_named_once_is_not_named_again():
    with pytest.raises(MissingPackage) as caught, naming_extras("the outer"), naming_extras("the inner"):
        raise ModuleNotFoundError("No module named 'kfp.dsl'", name="kfp.dsl")
    assert str(caught.value).startswith("the inner needs the package kfp")
    assert isinstance(caught.value, UserError) and caught.value.exit_code == 2
