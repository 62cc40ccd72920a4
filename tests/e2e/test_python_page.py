"""docs/python.md as it stands: every block is run, in order, in one process."""

import contextlib
import io
import re

import pytest
from project import ROOT

from pipelines.datasets import make_dataset

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.e2e
def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset("shop", tmp_path / "data")
    names: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    said = printed.getvalue()
    assert re.search(
        r"^Prepared\(1,0\d\d items, .*; content [0-9a-f]{16}; seen until 2024-05-\d\d \d\d:\d\d UTC\)$", said, re.M
    )
    assert re.search(r"^Evaluation\(1,500 test queries, recall@100 ", said, re.M)
    champion = names["champion"]
    assert (champion.id, champion.status) == (names["version"], "champion")
    assert len(names["found"].item_ids) == 5
    assert names["evaluation"].systems.keys() >= {"two_tower", "two_tower_exact", "popularity", "item_item"}
