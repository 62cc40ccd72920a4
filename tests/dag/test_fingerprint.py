"""The fingerprint of a step's code sees what the step reaches, and nothing else."""

import shutil

import pytest

from pipelines.dag import fingerprint as module
from two_tower.settings import Settings


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of the same shape: a step, two rooms, one room's stub."""
    files = {
        "components/train/component.py": "def train():\n    from two_tower.model import fit\n    fit()\n",
        "two_tower/model/__init__.py": "# lazy\n",
        "two_tower/model/__init__.pyi": "from .loop import fit as fit\nfrom .export import save as save\n",
        "two_tower/model/loop.py": "from two_tower.metrics import recall\n",
        "two_tower/model/export.py": "import os\n",
        "two_tower/metrics.py": "recall = 1\n",
        "two_tower/config/config.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    clear()
    yield tmp_path
    clear()


def clear():
    module._imports.cache_clear()
    module._stub.cache_clear()


def changed_by(project, name) -> bool:
    before = module.fingerprint("components.train.component")
    path = project / name
    path.write_text(path.read_text() + "\n# another line\n")
    clear()
    return module.fingerprint("components.train.component") != before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("components/train/component.py", True),
        ("two_tower/model/loop.py", True),
        ("two_tower/metrics.py", True),
        ("two_tower/model/export.py", False),
        ("two_tower/config/config.py", False),
    ],
)
def test_a_changed_line_is_noticed_where_the_step_reaches_it(project, name, expected):
    assert changed_by(project, name) is expected


def test_a_room_imported_as_a_whole_is_followed_through_all_its_doors(project):
    step = project / "components/train/component.py"
    step.write_text("def train():\n    from two_tower import model\n    model.fit()\n")
    assert changed_by(project, "two_tower/model/loop.py")


def test_the_plugins_of_a_section_are_part_of_it(project):
    (project / "two_tower/losses.py").write_text("a = 1\n")

    class Chosen(Settings):
        type: str = "chosen"

    class Section(Settings):
        losses: list[Chosen] = [Chosen()]

    Chosen.__module__ = "two_tower.losses"
    with_plugin = module.fingerprint("components.train.component", sections=[Section()])
    assert with_plugin != module.fingerprint("components.train.component")
    (project / "two_tower/losses.py").write_text("a = 2\n")
    assert module.fingerprint("components.train.component", sections=[Section()]) != with_plugin


def test_the_fingerprint_does_not_depend_on_where_the_project_lies(project, tmp_path_factory, monkeypatch):
    before = module.fingerprint("components.train.component")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(project, elsewhere, dirs_exist_ok=True)
    monkeypatch.setattr(module, "ROOT", elsewhere)
    clear()
    assert module.fingerprint("components.train.component") == before
