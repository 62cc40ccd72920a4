"""The house: rooms are entered through their doors, and the names on the doors exist."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {path.parent.name for path in (ROOT / "two_tower").glob("*/__init__.pyi")}
FILES = [
    path for package in ("two_tower", "components", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_other_rooms_are_entered_through_their_init(path):
    own = path.relative_to(ROOT / "two_tower").parts[0] if "two_tower" in path.relative_to(ROOT).parts[:1] else None
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("two_tower."):
            parts = node.module.split(".")
            if len(parts) > 2 and parts[1] in ROOMS and parts[1] != own:
                wrong.append(node.module)
    assert not wrong


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_exported_name_exists(room):
    module = importlib.import_module(f"two_tower.{room}")
    for name in module.__all__:
        getattr(module, name)


def test_every_step_has_a_readme():
    from components.build import IMAGE_OF

    for step in IMAGE_OF:
        assert (ROOT / "components" / step / "README.md").read_text().startswith(f"# {step}\n")
