"""The notebook in examples/: its cells run in order, and git keeps no outputs."""

import json

import matplotlib as mpl
import pytest
from project import ROOT

from pipelines.datasets import make_dataset
from two_tower.errors import DataError

CELLS = json.loads((ROOT / "examples" / "ml_100k.ipynb").read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_outputs_are_cleared():
    assert [cell["id"] for cell in CODE if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    try:
        make_dataset("ml_100k", tmp_path / "data")
    except DataError as error:
        pytest.skip(f"MovieLens 100K cannot be fetched here: {error}")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    names: dict = {}
    for cell in CODE:
        exec(compile("".join(cell["source"]), f"examples/ml_100k.ipynb, {cell['id']}", "exec"), names)
    recall = {name: figure.value for name, figure in names["recalls"].items()}
    assert recall["two_tower"] > recall["popularity"]
    printed = capsys.readouterr().out
    assert "Star Wars: " in printed and "a film that nobody has rated: " in printed
