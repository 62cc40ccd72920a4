"""Training on a small data set: recall rises, runs repeat, faults are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_towers import COLD, ITEMS, write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import Model, Training
from two_tower.errors import ArtifactError, TrainingError
from two_tower.model import train
from two_tower.model.network import load_network
from two_tower.model.recall import exact_recall
from two_tower.model.training import Trainer, TrainingData

LOSSES: list[dict[str, Any]] = [
    {"type": "full_softmax"},
    {"type": "in_batch"},
    {"type": "sampled_softmax", "negatives": 30},
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("plain") / "prepared", features=False)


def settings(loss: dict[str, Any] | None = None, **values: Any) -> Training:
    defaults = {"epochs": 8, "batch_size": 64, "learning_rate": 0.02, "monitor_k": 10, "patience": 8}
    return Training(loss=loss or LOSSES[0], **{**defaults, **values})


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["type"])
def test_recall_rises_with_every_loss(plain: Path, tmp_path: Path, loss: dict[str, Any]) -> None:
    train(str(plain), str(tmp_path / "out"), model=Model(dim=8), training=settings(loss))
    trained = open_artifact(tmp_path / "out", "trained_towers")
    history = trained.json("history.json")
    assert max(history["validation_recall"]) > 0.85  # the ten items of a shelf can be told from the history
    assert history["loss"][-1] < history["loss"][0]
    assert history["monitor"] == "recall@10"
    assert history["validation_recall"][history["best_epoch"] - 1] == max(history["validation_recall"])
    assert len(history["steps"]["step"]) == len(history["steps"]["loss"])
    assert trained.manifest.data_seen_until is not None


def test_features_and_hidden_layers_learn_too(tiny: Path, tmp_path: Path) -> None:
    candidate = {"use_id": False, "hidden": [16], "dropout": 0.1}
    model = Model(dim=8, candidate=candidate, query={"hidden": [16], "use_id": True})
    train(
        str(tiny), str(tmp_path / "out"), model=model, training=settings(monitor_k=12)
    )  # two shelves hold twelve items that all look alike
    assert max(open_artifact(tmp_path / "out", "trained_towers").json("history.json")["validation_recall"]) > 0.85


def test_without_users_the_context_is_the_query(tmp_path: Path) -> None:
    prepared = write_tiny(tmp_path / "prepared", users=False, features=False)
    train(str(prepared), str(tmp_path / "out"), model=Model(dim=8), training=settings())
    assert max(open_artifact(tmp_path / "out", "trained_towers").json("history.json")["validation_recall"]) > 0.85


def test_the_same_seed_gives_the_same_weights(plain: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(str(plain), str(tmp_path / name), model=Model(dim=4), training=settings(epochs=1, seed=seed))
    a, b, c = (
        dict(np.load(open_artifact(tmp_path / name, "trained_towers").path("towers.npz"))) for name in ("a", "b", "c")
    )
    assert all(np.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert not all(np.allclose(a[name], c[name], atol=1e-3) for name in a)


def test_the_best_epochs_weights_are_kept(plain: Path, tmp_path: Path) -> None:
    training = settings(learning_rate=0.5, epochs=6, patience=2)
    train(str(plain), str(tmp_path / "out"), model=Model(dim=4), training=training)
    network, trained = load_network(str(tmp_path / "out"))
    history = trained.json("history.json")
    data = TrainingData.load(open_artifact(plain, "prepared_data"), model=network.model, training=training)
    trainer = Trainer(data, training)
    for name, variable in trainer.network.weights().items():
        variable.assign(network.weights()[name])
    assert trainer.validate() == pytest.approx(max(history["validation_recall"]), abs=1e-6)
    assert len(history["epoch"]) <= history["best_epoch"] + 2


def test_a_loss_that_is_not_finite_names_step_and_learning_rate(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d+ \(epoch 1\) at the learning rate 1e\+30"):
        train(
            str(plain),
            str(tmp_path / "out"),
            model=Model(dim=4, normalize=False),
            training=settings(learning_rate=1e30),
        )
    with pytest.raises(ArtifactError):
        open_artifact(tmp_path / "out", "trained_towers")


def test_items_never_bought_share_the_unknown_id(tiny: Path) -> None:
    data = TrainingData.load(open_artifact(tiny, "prepared_data"), model=Model(dim=4), training=settings())
    assert len(data.network.item_ids) == ITEMS - COLD
    assert data.item_ids.tolist() == [*range(2, ITEMS - COLD + 2), *[1] * COLD]
    assert data.sampling_probability.sum() == pytest.approx(1)


def test_recall_counts_ties_against_us() -> None:
    candidates = np.array([[3.0], [2.0], [2.0], [1.0]], dtype=np.float32)
    queries = np.ones((1, 1), dtype=np.float32)

    def recall(relevant: list[int], k: int) -> float:
        return exact_recall(queries, candidates, [np.array(relevant, dtype=np.int32)], k=k)

    assert recall([0], 1) == 1
    assert recall([1], 2) == 0  # item 2 may stand before it
    assert recall([0, 1], 3) == 1
    assert recall([0, 3], 3) == 0.5
    assert recall([3], 4) == 1
