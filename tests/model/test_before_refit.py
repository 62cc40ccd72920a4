"""What the towers reach before their refit: the figures of the epoch that validation chose, on the test queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plain_settings import plain_model, plain_training
from tiny_towers import write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import EvaluationSettings, Transformer
from two_tower.model import measure_before_refit, train

EVALUATION = EvaluationSettings(ks=[10], bootstrap_samples=200)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Data whose test queries are the validation queries."""
    return str(write_tiny(tmp_path_factory.mktemp("tiny") / "prepared"))


def figures_of(prepared: str, folder: Path, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The content of figures.json and of history.json of a training."""
    training = plain_training(epochs=3, batch_size=64, learning_rate=0.02, monitor_k=10, **settings)
    model = plain_model(dim=8, history=Transformer(), query={"use_id": True})
    train(prepared, str(folder / "trained"), model=model, training=training)
    measure_before_refit(prepared, str(folder / "trained"), str(folder / "before"), evaluation=EVALUATION)
    history = open_artifact(folder / "trained", "trained_towers").json("history.json")
    return open_artifact(folder / "before", "before_refit").json("figures.json"), history


def test_the_figures_are_those_that_validation_chose_the_epoch_by(prepared: str, tmp_path: Path) -> None:
    figures, history = figures_of(prepared, tmp_path, refit=True)
    recall = figures["metrics"]["recall@10"]
    assert recall["value"] == pytest.approx(max(history["validation_recall"]), abs=1e-6)
    assert recall["low"] <= recall["value"] <= recall["high"]
    assert figures["queries"] == len(open_artifact(prepared, "prepared_data").table("test"))
    assert {"recall@10", "ndcg@10", "mrr@10"} <= set(figures["metrics"])


def test_without_a_refit_there_is_nothing_before_it(prepared: str, tmp_path: Path) -> None:
    assert figures_of(prepared, tmp_path, refit=False)[0] is None
