"""Nightly training that goes on from the champion's towers, while the catalogue grows."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETS = [
    "data.interactions.path=grown.parquet", "training.epochs=1", "training.warm_start=true", "evaluation.gate=[]",
]  # fmt: skip


def test_the_second_run_starts_from_the_champion_and_knows_the_new_items(project):
    (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
    table = pq.read_table(path).sort_by("time")
    grown = path.parent / "grown.parquet"

    def run() -> str:
        words = [word for text in SETS for word in ("--set", text)]
        return project.command("run", "configs/tiny.yaml", "--workdir", "warm", *words).stdout

    def items() -> set[str]:
        steps = {step["name"]: step for step in project.runs("warm")[-1]["steps"]}
        vocabulary = Path(steps["train_towers"]["outputs"]["trained"], "vocabulary.parquet")
        return set(pq.read_table(vocabulary)["item_id"].drop_null().to_pylist())

    pq.write_table(table.slice(0, table.num_rows * 2 // 3), grown)
    assert "no champion yet to start from: training starts fresh" in run()
    first, known = project.champion("warm"), items()

    pq.write_table(table, grown)
    output = run()
    assert "starting from the champion's weights" in output
    assert items() > known
    assert project.champion("warm") != first

    (stored,) = (project.folder / "warm/registry/tiny/versions").glob(f"{project.champion('warm')}/trained_towers")
    assert set(pq.read_table(stored / "vocabulary.parquet")["item_id"].drop_null().to_pylist()) == items()
