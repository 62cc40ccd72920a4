"""The search for settings as a user runs it: interrupted, gone on with, and its best trial run through the DAG."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# A learning rate of 1e30 ends with a loss that is not finite.
SPACE = "tune={training.learning_rate: [0.005, 0.02, 1.0e+30], model.dim: [8, 16]}"
COMMAND = ["tune", "configs/tiny.yaml", "--workdir", "tuned", "--set", SPACE, "--set", "training.epochs=2"]


def folder_of(project) -> Path:
    (folder,) = (project.folder / "tuned" / "tune" / "tiny").glob("*/")
    return folder


def test_a_search_is_interrupted_gone_on_with_and_its_best_trial_is_run(project):
    search = project.start(*COMMAND, "--trials", "2")
    deadline = time.monotonic() + 300
    while not list((project.folder / "tuned").glob("tune/tiny/*/trials/0001.log")):  # the second trial is running
        assert time.monotonic() < deadline and search.poll() is None
        time.sleep(0.2)
    os.killpg(search.pid, signal.SIGINT)
    assert search.wait(60) == 130
    assert not (folder_of(project) / "best.yaml").exists()

    output = project.command(*COMMAND, "--trials", "5").stdout
    assert "prepare_data: from the cache" in output
    listed = project.command("runs", "list", "--workdir", "tuned").stdout
    assert listed.count("│ preparation of tune │") == 2
    assert "1 trials so far" in output
    found = dict(re.findall(r"trial (\d+) \(\d of 5\): (done|pruned|failed)", output))
    assert sorted(found) == ["2", "3", "4", "5"], "trial 1 was cut off"
    assert "failed" in found.values() and "the loss became" in output, "seeded: one has the impossible learning rate"
    assert "the best trials" in output and (folder_of(project) / "search.png").is_file()
    assert not list((folder_of(project) / "trials").glob("*/")), "no trained towers are left behind"

    best = re.search(r"next: \S*two-tower run (\S+)", output)[1]
    promised = re.search(r"recall@100 ([\d.]+)", Path(project.folder, best).read_text())[1]
    project.run_until("train_towers", best, workdir="tuned")
    steps = {step["name"]: step for step in project.runs("tuned")[-1]["steps"]}
    assert steps["prepare_data"]["state"] == "cached"
    history = json.loads(Path(steps["train_towers"]["outputs"]["trained"], "history.json").read_text())
    assert max(history["validation_recall"]) == pytest.approx(float(promised), abs=0.01)
