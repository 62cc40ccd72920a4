"""The fingerprint of a step's code sees what the step reaches, and nothing else.

`python tests/dag/test_fingerprint.py` writes anew which modules that are, for a look at the difference.
"""

import shutil
from pathlib import Path

import pytest

from pipelines.dag import fingerprint as module
from two_tower.settings import Settings
from two_tower.steps import TABLE

MODULES = Path(__file__).with_name("modules_in_fingerprints.txt")


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
    module._door.cache_clear()


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


FRONT = """
from .metrics import recall as recall
from .model import fit as train
from .model import save as save
"""


@pytest.mark.parametrize(
    "body",
    [
        "import two_tower as tt; tt.train()",
        "import two_tower; two_tower.train()",
        "from two_tower import train; train()",
        "from two_tower import train as fit; fit()",
        "from two_tower import model; model.fit()",
        "import two_tower as tt; tt.model.fit()",
        "import two_tower.model; two_tower.model.fit()",
    ],
)
def test_a_name_of_the_front_door_is_followed_to_the_module_that_defines_it(project, body):
    (project / "two_tower/__init__.py").write_text("# lazy\n")
    (project / "two_tower/__init__.pyi").write_text(FRONT)
    (project / "components/train/component.py").write_text(f"def train():\n    {body}\n")
    clear()
    assert list(module.modules_reached("components.train.component")) == [
        "components.train.component", "two_tower.metrics", "two_tower.model.loop"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    ["import two_tower as tt; print(tt)", "from two_tower import *", "from two_tower import model; print(model)"],
)
def test_a_package_that_is_handed_on_as_a_whole_is_followed_through_all_its_doors(project, body):
    (project / "two_tower/__init__.pyi").write_text(FRONT)
    (project / "components/train/component.py").write_text(f"def train():\n    {body}\n")
    clear()
    assert {"two_tower.model.loop", "two_tower.model.export"} <= module.modules_reached(
        "components.train.component"
    ).keys()


def test_what_the_front_door_does_not_export_is_the_package_alone(project):
    (project / "two_tower/__init__.py").write_text('__version__ = "1"\n')
    (project / "two_tower/__init__.pyi").write_text(FRONT)
    (project / "components/train/component.py").write_text("def train():\n    from two_tower import __version__\n")
    clear()
    assert list(module.modules_reached("components.train.component")) == ["components.train.component", "two_tower"]


def test_what_is_imported_for_types_alone_is_left_out(project):
    loop = project / "two_tower/model/loop.py"
    loop.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from two_tower.metrics import recall\n")
    assert "two_tower.metrics" not in module.modules_reached("components.train.component")


def test_a_step_without_code_has_no_fingerprint(project):
    with pytest.raises(FileNotFoundError, match=r"components\.tune\.component: no such module"):
        module.fingerprint("components.tune.component")


def reached() -> dict[str, list[str]]:
    """The modules that the steps' fingerprints hold, beside those of the plug-ins that a configuration selects."""
    names = [step.name for step in TABLE.values() if step.cached]
    return {name: list(module.modules_reached(f"components.{name}.component")) for name in names}


def in_words(found: dict[str, list[str]]) -> str:
    return "\n".join("".join([f"{name}\n", *(f"    {each}\n" for each in modules)]) for name, modules in found.items())


def test_the_modules_in_each_fingerprint_are_those_that_are_written_down():
    """A module more makes a step run anew more often: see that it is meant, and write the file anew."""
    assert in_words(reached()) == MODULES.read_text()


@pytest.mark.parametrize(
    "name", ["train_towers", "export_candidate_tower", "embed_candidates", "build_index", "export_query_tower"]
)
def test_neither_report_nor_profile_nor_console_nor_processes_are_in_a_fingerprint_of_towers_or_index(name):
    words = ("report", "profile", "drift", "console", "process", "ending", "step_log")
    assert [each for each in reached()[name] if any(word in each for word in words)] == []


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


if __name__ == "__main__":
    MODULES.write_text(in_words(reached()))
