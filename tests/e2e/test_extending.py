"""The examples of docs/extending.md work: each is one new file, and the DAG runs with all of them."""

import re

import pytest
from project import ROOT, Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_one_new_file_each_adds_a_feature_type_a_loss_a_retriever_and_a_gate_check(tmp_path):
    project = Project(tmp_path)
    project.command("data", "tiny")
    page = (ROOT / "docs" / "extending.md").read_text()
    examples = re.findall(r"^`(two_tower/\S+\.py)`:\n\n```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    for name, source in examples:
        assert not (project.folder / name).exists()
        (project.folder / name).write_text(source)
    result = project.command(
        "run", "configs/tiny.yaml",
        "--set", "data.items.features.digits={type: digits, column: item_id}",
        "--set", "training.loss={type: margin, margin: 0.2}",
        "--set", "training.epochs=1",
        "--set", "evaluation.baselines=[{type: newest}]",
        "--set", "evaluation.gate=[{type: users_served, at_least: 0}]",
    )  # fmt: skip
    assert "newest" in result.stdout and "users served by the first 100 >= 0" in result.stdout
    assert project.states()["promote"] == "ran"
