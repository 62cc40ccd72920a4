"""Nightly runs over a growing folder of logs: only the new night is read, and the caches still hold."""

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETS = ["data.interactions.path=logs", "data.incremental=true", "training.epochs=1", "evaluation.gate=[]"]
ARGUMENTS = ["configs/tiny.yaml", *[word for text in SETS for word in ("--set", text)]]


def test_a_new_night_is_added_to_what_was_prepared(project):
    (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
    table = pq.read_table(path)
    logs = path.parent / "logs"
    logs.mkdir()
    pq.write_table(table.slice(0, 9000), logs / "night=1.parquet")
    assert "reading 1 files" in project.run_until("prepare_data", *ARGUMENTS, workdir="nights")
    pq.write_table(table.slice(9000), logs / "night=2.parquet")
    second = project.command("run", *ARGUMENTS, "--workdir", "nights").stdout
    assert "reading 1 files in 1 parts" in second
    assert f"{table.num_rows:,} of {table.num_rows:,} rows kept" in second
    project.run_until("train_towers", *ARGUMENTS, workdir="nights")
    assert project.states("nights")["prepare_data"] == "cached"
    assert project.states("nights")["train_towers"] == "cached"
