"""Training on a small data set: recall rises, runs repeat, faults are named."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from plain_settings import plain_model, plain_training
from tiny_towers import BASKETS, COLD, DAY, ITEMS, USERS, write_tiny

from two_tower.artifacts import content_hash, open_artifact, write_artifact
from two_tower.config import Gru, MeanPool, MiningSettings, ModelSettings, TrainingSettings, Transformer
from two_tower.errors import ArtifactError, TrainingError
from two_tower.index import ExactIndex
from two_tower.model import train
from two_tower.model.inputs import TrainingData
from two_tower.model.mining import Mined
from two_tower.model.network import BEFORE_REFIT, load_network
from two_tower.model.training import LOWEST_TEMPERATURE, Trainer
from two_tower.model.validation_recall import exact_recall
from two_tower.model.warm_start import BEFORE_REFIT_SEEN, Start, find_start, start_from_champion

LOSSES: list[dict[str, Any]] = [
    {"type": "full_softmax"},
    {"type": "in_batch"},
    {"type": "sampled_softmax", "negatives": 30},
    {"type": "bpr", "negatives": 30},
    {"type": "cosine_contrastive", "negatives": 30, "margin": 0.2},
]
SAMPLED = LOSSES[2]
LATE = ITEMS - 1
"""An item that nobody bought in training."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("plain") / "prepared", features=False, late=LATE)


@pytest.fixture(scope="module")
def champion(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two epochs with user ids and a learned temperature."""
    folder = tmp_path_factory.mktemp("champion") / "trained"
    model = plain_model(dim=4, query={"use_id": True}, learn_temperature=True, temperature=0.5)
    train(str(plain), str(folder), model=model, training=settings(epochs=2))
    return str(folder)


def settings(loss: dict[str, Any] | None = None, **values: Any) -> TrainingSettings:
    defaults = {"epochs": 8, "batch_size": 64, "learning_rate": 0.02, "monitor_k": 10, "patience": 8}
    return plain_training(loss=loss or LOSSES[0], **{**defaults, **values})


def run(prepared: Path, out: Path, model: ModelSettings, training: TrainingSettings, **others: Any) -> dict[str, Any]:
    """The history.json of a training."""
    train(str(prepared), str(out), model=model, training=training, **others)
    history: dict[str, Any] = open_artifact(out, "trained_towers").json("history.json")
    return history


def trainer(prepared: Path, model: ModelSettings, training: TrainingSettings) -> Trainer:
    reader = open_artifact(prepared, "prepared_data")
    return Trainer(TrainingData.load(reader, model=model, training=training), training)


def step(made: Trainer) -> float:
    """Takes the first step of an epoch."""
    batch = next(made._batches())
    return float(made._step(*made._query_inputs(batch), made._loss_batch(batch)))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["type"])
def test_recall_rises_with_every_loss(plain: Path, tmp_path: Path, loss: dict[str, Any]) -> None:
    history = run(plain, tmp_path / "out", plain_model(dim=8), settings(loss))
    trained = open_artifact(tmp_path / "out", "trained_towers")
    assert max(history["validation_recall"]) > 0.85  # the ten items of a shelf can be told from the history
    assert history["loss"][-1] < history["loss"][0]
    assert history["monitor"] == "recall@10" and history["refit"] is None
    assert history["validation_recall"][history["best_epoch"] - 1] == max(history["validation_recall"])
    assert len(history["steps"]["step"]) == len(history["steps"]["loss"])
    assert trained.manifest.data_seen_until == (BASKETS - 2) * DAY


@pytest.mark.parametrize(
    "history",
    [MeanPool(), Gru(dropout=0), pytest.param(Transformer(layers=1, dropout=0), marks=pytest.mark.slow)],
    ids=lambda kind: kind.type,
)
def test_every_encoder_learns_with_mined_negatives_and_few_retracings(
    plain: Path, tmp_path: Path, history: Any
) -> None:
    mining = MiningSettings(after=2, every=2, top=10, skip=1, per_query=3)
    made = trainer(plain, plain_model(dim=8, history=history), settings(SAMPLED, mining=mining, epochs=14))
    made.fit(tmp_path / "curves")
    assert max(recall or 0.0 for recall in made.history.validation_recall) > 0.85
    assert made._step.experimental_get_tracing_count() <= 4
    assert made.embedder.embed_batch.experimental_get_tracing_count() <= 4
    assert made._mined is not None
    numbers = np.arange(made.data.examples.keys)
    drawn = made._mined.draw(numbers, rng=np.random.default_rng(0))
    assert drawn.shape == (len(numbers), 3) and drawn.min() >= 0
    shelf = made.data.examples.user % 6
    assert (drawn % 6 == shelf[:, None]).mean() > 0.6  # a trained model ranks the user's own shelf first


def test_unordered_events_are_learned_from_the_other_groups(tmp_path: Path) -> None:
    prepared = write_tiny(tmp_path / "prepared", features=False, ordered=False)
    mining = MiningSettings(after=1, top=10, per_query=2)
    training = settings(SAMPLED, mining=mining, known_positives="user", refit=True, epochs=4)
    history = run(prepared, tmp_path / "out", plain_model(dim=8), training)
    assert max(history["validation_recall"]) > 0.85
    assert history["refit"]["epochs"] == history["best_epoch"]


@pytest.mark.slow
def test_features_layers_and_history_items_of_its_own_learn_too(tiny: Path, tmp_path: Path) -> None:
    candidate = {"use_id": False, "hidden": [16], "cross": 1, "dropout": 0.1}
    model = plain_model(
        dim=8, candidate=candidate, query={"hidden": [16], "use_id": True, "cross": 1}, shared_items=False
    )
    history = run(tiny, tmp_path / "out", model, settings(monitor_k=12))  # two shelves' twelve items look alike
    assert max(history["validation_recall"]) > 0.85
    network, _ = load_network(str(tmp_path / "out"))
    weights = network.weights()
    assert np.abs(weights["past_items/project/0"] - weights["items/project/0"]).max() > 1e-3
    assert np.abs(weights["candidate/cross.0/0"]).max() > 1e-3 and np.abs(weights["query/cross.0/0"]).max() > 1e-3


def test_without_users_the_context_is_the_query(tmp_path: Path) -> None:
    prepared = write_tiny(tmp_path / "prepared", users=False, features=False)
    history = run(prepared, tmp_path / "out", plain_model(dim=8), settings(refit=True))
    assert max(history["validation_recall"]) > 0.85


def test_ids_alone_are_a_matrix_factorisation(plain: Path, tmp_path: Path) -> None:
    model = plain_model(dim=8, history=None, query={"use_id": True, "id_dropout": 0.0})
    made = trainer(plain, model, settings())
    assert made.data.examples.keys == USERS  # one query a user
    made.fit(tmp_path)
    assert max(recall or 0.0 for recall in made.history.validation_recall) > 0.85


@pytest.fixture
def deterministic() -> Any:
    from tensorflow.python.framework.config import disable_op_determinism

    yield settings(SAMPLED, epochs=2, deterministic=True, mining=MiningSettings(after=1, top=10, per_query=2))
    disable_op_determinism()


def test_deterministic_runs_are_equal_to_the_last_bit(
    plain: Path, tmp_path: Path, deterministic: TrainingSettings
) -> None:
    histories = [
        run(plain, tmp_path / name, plain_model(dim=4, query={"dropout": 0.1}), deterministic) for name in ("a", "b")
    ]
    for key in ("loss", "validation_recall", "temperature", "steps"):
        assert histories[0][key] == histories[1][key]
    first, second = (dict(np.load(tmp_path / name / "towers.npz")) for name in ("a", "b"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_seed_decides_on_the_weights(plain: Path) -> None:
    a, b, c = (trainer(plain, plain_model(dim=4), settings(seed=seed)) for seed in (1, 1, 2))
    # Trainer alone seeds the batches; `train` the weights
    assert next(a._batches()).positives.tolist() == next(b._batches()).positives.tolist()
    assert next(a._batches()).positives.tolist() != next(c._batches()).positives.tolist()


def test_the_best_epochs_weights_are_kept(plain: Path, tmp_path: Path) -> None:
    training = settings(learning_rate=0.5, epochs=6, patience=2)
    history = run(plain, tmp_path / "out", plain_model(dim=4), training)
    network, _ = load_network(str(tmp_path / "out"))
    made = trainer(plain, network.model, training)
    for name, variable in made.network.weights().items():
        variable.assign(network.weights()[name])
    assert made.validate() == pytest.approx(max(history["validation_recall"]), abs=1e-6)
    assert len(history["epoch"]) <= history["best_epoch"] + 2


def test_a_refit_trains_on_validation_events_for_as_many_epochs(plain: Path, tmp_path: Path) -> None:
    history = run(plain, tmp_path / "out", plain_model(dim=4), settings(epochs=2, refit=True))
    assert history["refit"]["epochs"] == history["best_epoch"] == len(history["refit"]["loss"])
    trained = open_artifact(tmp_path / "out", "trained_towers")
    assert trained.manifest.data_seen_until == (BASKETS - 1) * DAY
    items = trained.table("vocabulary.parquet")["item_id"].drop_null().to_pylist()
    assert f"item {LATE}" in items and len(items) == ITEMS - COLD + 1
    curves = [path.parent.name for path in (tmp_path / "out" / "tensorboard").glob("*/events.out.*")]
    assert sorted(curves) == ["refit", "selection"]
    assert sum(name.startswith("tensorboard/") for name in trained.manifest.files) == 2


def test_stopping_while_the_learning_rate_is_high_says_what_to_do(plain: Path, tmp_path: Path) -> None:
    history = run(plain, tmp_path / "high", plain_model(dim=4), settings(learning_rate=1e-9, epochs=30, patience=1))
    stopped = len(history["epoch"])
    assert history["stopped_early"].startswith(f"stopped after epoch {stopped} of 30 with the learning rate at ")
    assert "training.patience" in history["stopped_early"]
    history = run(plain, tmp_path / "done", plain_model(dim=4), settings(epochs=2, patience=2))
    assert history["stopped_early"] is None


def test_without_a_refit_an_item_of_the_validation_window_is_unknown(plain: Path) -> None:
    made = trainer(plain, plain_model(dim=4), settings())
    assert f"item {LATE}" not in made.network.item_ids
    assert any(LATE in relevant for relevant in made.data.validation.relevant)


def test_each_epoch_is_told_of_and_may_end_the_training(plain: Path, tmp_path: Path) -> None:
    told = []

    def epoch_end(epoch: int, recall: float | None) -> None:
        told.append((epoch, recall))
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plain, tmp_path / "out", plain_model(dim=4), settings(), epoch_end=epoch_end)
    assert [epoch for epoch, _ in told] == [1, 2] and all(0 <= (recall or -1) <= 1 for _, recall in told)
    with pytest.raises(ArtifactError):
        open_artifact(tmp_path / "out", "trained_towers")


def test_a_loss_that_is_not_finite_names_step_learning_rate_and_items(plain: Path, tmp_path: Path) -> None:
    pattern = r"step \d+ \(epoch 1\) at the learning rate .*e\+(29|30), in a batch with the items item \d+, .*clip_norm"
    with pytest.raises(TrainingError, match=pattern):
        run(plain, tmp_path / "out", plain_model(dim=4, normalize=False), settings(learning_rate=1e30))
    with pytest.raises(ArtifactError):
        open_artifact(tmp_path / "out", "trained_towers")


def test_mining_names_embeddings_that_are_not_finite(plain: Path) -> None:
    made = trainer(plain, plain_model(dim=4), settings(SAMPLED, mining=MiningSettings(after=1)))
    table = made.network.weights()["items/id/0"]
    table.assign(tf.fill(table.shape, np.nan))
    with pytest.raises(TrainingError, match=r"an embedding is not finite .*lower training\.learning_rate"):
        made._mine()


def test_a_refit_has_no_validation_queries(plain: Path) -> None:
    reader = open_artifact(plain, "prepared_data")
    assert TrainingData.load(reader, model=plain_model(dim=4), training=settings(), refit=True).validation is None


def test_without_validation_queries_the_last_epoch_is_kept(plain: Path, tmp_path: Path) -> None:
    whole = open_artifact(plain, "prepared_data")
    with write_artifact(tmp_path / "prepared", "prepared_data", config=whole.manifest.config) as artifact:
        for name in whole.manifest.files:
            shutil.copy(plain / name, artifact.path(name))
        artifact.write_table("validation/part-00000.parquet", whole.table("validation").slice(0, 0))
    made = trainer(tmp_path / "prepared", plain_model(dim=4), settings(epochs=2))
    made.fit(tmp_path / "curves")
    assert made.data.validation is None
    assert made.history.validation_recall == [None, None] and made.history.best_epoch == 2


def test_a_batch_without_any_weight_is_passed_over(plain: Path, tmp_path: Path) -> None:
    made = trainer(plain, plain_model(dim=4), settings(epochs=1, batch_size=2))
    made.data.examples.weights[20:] = 0.0
    made.fit(tmp_path)
    assert np.isfinite(made.history.loss).all() and int(made._optimizer.iterations) <= 20


def test_a_learned_temperature_moves_and_has_a_floor(champion: str, plain: Path, tmp_path: Path) -> None:
    moved = open_artifact(champion, "trained_towers").json("history.json")["temperature"]
    assert moved[-1] < moved[0] < 0.5
    made = trainer(
        plain, plain_model(dim=4, learn_temperature=True, temperature=1e-3), settings(epochs=1, learning_rate=1e-5)
    )
    made.fit(tmp_path)
    assert made.history.temperature == [pytest.approx(LOWEST_TEMPERATURE, rel=0.1)]
    assert float(made._temperature) >= np.float32(LOWEST_TEMPERATURE)
    fixed = trainer(plain, plain_model(dim=4, temperature=0.3), settings())
    step(fixed)
    assert float(fixed._temperature) == pytest.approx(0.3)


def test_weight_decay_leaves_biases_scales_and_the_temperature_alone(plain: Path) -> None:
    model = plain_model(dim=4, history=Transformer(), query={"hidden": [3]}, learn_temperature=True)
    made = trainer(plain, model, settings(weight_decay=0.5, learning_rate=0.1))
    for variable in made._variables:
        variable.assign(tf.ones_like(variable))
    made._optimizer.apply_gradients((tf.zeros_like(variable), variable) for variable in made._variables)
    ranks = set()
    for variable in made._variables:
        np.testing.assert_allclose(variable, 1.0 if variable.shape.rank < 2 else 0.95, rtol=1e-6)
        ranks.add(variable.shape.rank)
    assert ranks == {0, 1, 2}


def test_a_clipped_gradient_moves_little(plain: Path) -> None:
    moved = []
    for clip_norm in (None, 1e-10):  # far below Adam's epsilon
        made = trainer(plain, plain_model(dim=4), settings(clip_norm=clip_norm))
        before = made.network.weights()["items/id/0"].numpy()
        step(made)
        moved.append(np.abs(made.network.weights()["items/id/0"].numpy() - before).max())
    assert moved[1] < 0.01 * moved[0]


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_learning_rate_rises_and_falls(plain: Path, warmup: float) -> None:
    made = trainer(plain, plain_model(dim=4), settings(warmup=warmup))
    total = 8 * made.steps_per_epoch
    rates = [float(made._optimizer._learning_rate(step)) for step in range(total + 1)]
    top = int(np.argmax(rates))
    assert top == int(warmup * total) and rates[top] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0.0002, rel=0.01) and (np.diff(rates[top:]) < 0).all()
    assert (np.diff(rates[: top + 1]) > 0).all()


def test_validation_leaves_out_what_was_seen_if_asked(plain: Path) -> None:
    made = {
        exclude: trainer(plain, plain_model(dim=4), settings(exclude_seen=exclude, repeats="leave_out"))
        for exclude in (False, True)
    }
    seen = open_artifact(plain, "prepared_data").table("validation")["seen"].to_pylist()
    relevant = open_artifact(plain, "prepared_data").table("validation")["relevant"].to_pylist()
    assert made[False].data.validation.exclude is None
    queries = made[True].data.validation
    assert queries.exclude is not None
    new = [(sorted(set(ours) - set(past)), past) for ours, past in zip(relevant, seen, strict=True)]
    new = [(ours, past) for ours, past in new if ours]
    assert 0 < len(new) < len(relevant)
    assert [sorted(ours.tolist()) for ours in queries.relevant] == [ours for ours, _ in new]
    assert [[item for item in row if item >= 0] for row in queries.exclude.tolist()] == [past for _, past in new]
    assert len(queries.history) == len(queries.ids) == len(new)
    assert made[True].validate() is not None


def test_validation_misses_what_was_seen_as_the_test_does(plain: Path) -> None:
    queries = trainer(plain, plain_model(dim=4), settings(exclude_seen=True, repeats="miss")).data.validation
    table = open_artifact(plain, "prepared_data").table("validation")
    assert [sorted(ours.tolist()) for ours in queries.relevant] == table["relevant"].to_pylist()
    excluded = [[item for item in row if item >= 0] for row in queries.exclude.tolist()]
    assert excluded == table["seen"].to_pylist()
    assert any(set(ours) <= set(past) for ours, past in zip(table["relevant"].to_pylist(), excluded, strict=True))


def test_few_validation_queries_are_spread_evenly(plain: Path) -> None:
    queries = trainer(plain, plain_model(dim=4), settings(validation_queries=3)).data.validation
    table = open_artifact(plain, "prepared_data").table("validation")
    assert [list(ours) for ours in queries.relevant] == [table["relevant"][row].as_py() for row in (0, 23, 47)]


def test_items_never_bought_share_the_unknown_id(tiny: Path) -> None:
    data = trainer(tiny, plain_model(dim=4), settings()).data
    assert len(data.network.item_ids) == ITEMS - COLD
    assert data.item_ids.tolist() == [*range(2, ITEMS - COLD + 2), *[1] * COLD]
    assert data.sampling_probability.sum() == pytest.approx(1)


def test_a_warm_start_follows_the_ids(champion: str, plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs, _ = load_network(champion)
    made = trainer(plain, theirs.model, settings())
    ours = made.network
    items = ["new item", *ours.item_ids[:3:-1]]  # four gone, one new, the others the other way round
    object.__setattr__(ours, "item_ids", items)
    ours.items.layers["id"].embeddings = tf.Variable(tf.fill([len(items) + 2, 4], 9.0))
    with caplog.at_level(logging.INFO, "two_tower"):
        start_from_champion(ours, champion)
    found, known = ours.weights()["items/id/0"].numpy(), theirs.weights()["items/id/0"].numpy()
    np.testing.assert_array_equal(found[:2], known[:2])
    np.testing.assert_array_equal(found[2], [9.0] * 4)
    for row, text in enumerate(items[1:], start=3):
        np.testing.assert_array_equal(found[row], known[2 + theirs.item_ids.index(text)])
    np.testing.assert_array_equal(ours.weights()["query/id/0"], theirs.weights()["query/id/0"])
    assert "all fit" in caplog.text


def test_a_warm_start_follows_the_values_of_a_vocabulary(tiny: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path / "out", plain_model(dim=4), settings(epochs=1))
    theirs, _ = load_network(str(tmp_path / "out"))
    ours = trainer(tiny, theirs.model, settings()).network
    words = ours.item_features["shelf"].statistics["vocabulary"]
    ours.item_features["shelf"].statistics["vocabulary"] = words[::-1]
    start_from_champion(ours, str(tmp_path / "out"))
    found, known = (network.weights()["items/feature.shelf/0"].numpy() for network in (ours, theirs))
    np.testing.assert_array_equal(found[2:], known[2:][::-1])


def test_a_warm_start_leaves_what_does_not_fit_and_says_so(
    champion: str, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = trainer(plain, plain_model(dim=4, query={"use_id": True, "hidden": [3]}, history=Gru()), settings()).network
    before = ours.weights()["query/hidden.0/0"].numpy()
    with caplog.at_level(logging.INFO, "two_tower"):
        start_from_champion(ours, champion)
    np.testing.assert_array_equal(ours.weights()["query/hidden.0/0"], before)
    assert "fresh: " in caplog.text and "query/hidden.0/0" in caplog.text and "items/id/0" not in caplog.text


def test_a_warm_start_begins_where_the_champion_ended(champion: str, plain: Path, tmp_path: Path) -> None:
    network, trained = load_network(champion)
    cold, warm = (
        run(plain, tmp_path / str(start), network.model, settings(epochs=1, warm_start=start), champion=champion)
        for start in (False, True)
    )
    assert warm["loss"][0] < cold["loss"][0]
    assert warm["loss"][0] < trained.json("history.json")["loss"][0]


@pytest.fixture(scope="module")
def refitted(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A champion whose weights have seen its validation window."""
    folder = tmp_path_factory.mktemp("refitted") / "trained"
    run(plain, folder, plain_model(dim=4), settings(epochs=2, refit=True))
    return str(folder)


TRAINED, REFITTED = (BASKETS - 2) * DAY, (BASKETS - 1) * DAY
"""The newest training event of the small data set, and that of its validation window."""


def with_windows(prepared: Path, folder: Path, *, validation: int | None = REFITTED, test: int | None = None) -> Path:
    """The prepared data as if they had been split by time, their windows beginning there."""
    shutil.copytree(prepared, folder)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["extra"] |= {"validation_from": validation, "test_from": (validation or 0) + DAY if test is None else test}
    file.write_text(json.dumps(manifest))
    return folder


def of_an_earlier_release(refitted: str, folder: Path) -> str:
    """The champion without its weights before the refit."""
    shutil.copytree(refitted, folder)
    shutil.rmtree(folder / BEFORE_REFIT)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["extra"][BEFORE_REFIT_SEEN]
    manifest["files"] = {name: facts for name, facts in manifest["files"].items() if not name.startswith(BEFORE_REFIT)}
    file.write_text(json.dumps(manifest))
    return str(folder)


def test_the_weights_before_a_refit_are_those_of_the_best_epoch(plain: Path, refitted: str) -> None:
    network, reader = load_network(refitted, before_refit=True)
    assert reader.manifest.extra[BEFORE_REFIT_SEEN] == TRAINED < reader.manifest.data_seen_until == REFITTED
    assert f"item {LATE}" not in network.item_ids
    made = trainer(plain, network.model, settings())
    for name, variable in made.network.weights().items():
        variable.assign(network.weights()[name])
    assert made.validate() == pytest.approx(max(reader.json("history.json")["validation_recall"]), abs=1e-6)


def test_what_validation_judges_starts_before_the_champions_refit_and_the_refit_after_it(
    plain: Path, refitted: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tonight = with_windows(plain, tmp_path / "tonight")
    loaded = open_artifact(tonight, "prepared_data")
    assert find_start(refitted, loaded, refit=False) == Start(refitted, True, seen_until=TRAINED, judged=True)
    assert find_start(refitted, loaded, refit=True) == Start(refitted, False, seen_until=REFITTED, judged=False)
    with caplog.at_level(logging.INFO, "two_tower"):
        training = settings(epochs=1, refit=True, warm_start=True)
        history = run(tonight, tmp_path / "out", plain_model(dim=4), training, champion=refitted)
    assert [record.message for record in caplog.records if "starting from" in record.message] == [
        "train: starting from the champion's weights before its refit; all fit",
        "train: starting from the champion's weights; all fit",
    ]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert history["validation_recall"][0] > 0
    manifest = open_artifact(tmp_path / "out", "trained_towers").manifest
    assert manifest.made_from["champion"] == content_hash(refitted)


@pytest.mark.parametrize("validation", [REFITTED, None], ids=["by time", "each user's last"])
def test_a_warm_start_is_not_judged_by_what_the_champion_has_seen(
    plain: Path, refitted: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, validation: int | None
) -> None:
    tonight = with_windows(plain, tmp_path / "tonight", validation=validation) if validation else plain
    earlier = of_an_earlier_release(refitted, tmp_path / "champion")
    training = settings(epochs=3, warm_start=True, patience=1)
    history = run(tonight, tmp_path / "out", plain_model(dim=4), training, champion=earlier)
    assert history["validation_recall"] == [None] * 3 and history["best_epoch"] == 3
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "no epoch is judged" in warning


def test_a_champion_that_is_older_than_the_validation_window_needs_no_care(
    plain: Path, refitted: str, tmp_path: Path
) -> None:
    tonight = open_artifact(with_windows(plain, tmp_path / "tonight", validation=REFITTED + DAY), "prepared_data")
    start = find_start(of_an_earlier_release(refitted, tmp_path / "champion"), tonight, refit=False)
    assert start == Start(str(tmp_path / "champion"), False, seen_until=REFITTED, judged=True)


def test_a_champion_that_has_seen_the_test_window_is_no_start(
    plain: Path, refitted: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = with_windows(plain, tmp_path / "old", validation=TRAINED + 1, test=REFITTED)
    training = settings(epochs=1, refit=True, warm_start=True)
    warm = run(old, tmp_path / "warm", plain_model(dim=4), training, champion=refitted)
    fresh = run(old, tmp_path / "fresh", plain_model(dim=4), settings(epochs=1, refit=True))
    assert warm["loss"] == fresh["loss"]
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "training starts fresh" in warning and "1970-01-12 00:00" in warning


def test_what_a_champion_has_seen_is_passed_on(plain: Path, refitted: str, tmp_path: Path) -> None:
    training = settings(epochs=1, warm_start=True)
    earlier = of_an_earlier_release(refitted, tmp_path / "champion")
    run(plain, tmp_path / "out", plain_model(dim=4), training, champion=earlier)
    manifest = open_artifact(tmp_path / "out", "trained_towers").manifest
    assert manifest.data_seen_until == REFITTED, "although its own training part ends before"


def on_a_line(items: int) -> ExactIndex:
    """Items with the vectors 0, 1, 2 and so on."""
    return ExactIndex(np.arange(items, dtype=np.float32)[:, None], pa.array([f"item {item}" for item in range(items)]))


def test_mined_negatives_are_the_best_but_the_very_best() -> None:
    index = on_a_line(6)
    mined = Mined(MiningSettings(top=2, skip=1, per_query=50), keys=4)
    rng = np.random.default_rng(0)
    assert (mined.draw(np.array([1, 3]), rng=rng) == -1).all()
    mined.look_up(np.array([3, 0]), np.array([[1.0], [-1.0]], dtype=np.float32), index)
    drawn = mined.draw(np.array([0, 1, 3]), rng=rng)
    assert drawn.dtype == np.int32 and drawn.shape == (3, 50)
    assert [set(row) for row in drawn.tolist()] == [{1, 2}, {-1}, {3, 4}]


def test_mining_more_than_there_is_leaves_places_empty() -> None:
    mined = Mined(MiningSettings(top=5, skip=1, per_query=100), keys=1)
    mined.look_up(np.array([0]), np.ones((1, 1), np.float32), on_a_line(3))
    assert set(mined.draw(np.array([0]), rng=np.random.default_rng(0))[0].tolist()) == {-1, 0, 1}


CANDIDATES = np.array([[3.0], [2.0], [2.0], [1.0]], dtype=np.float32)


def recall(relevant: list[int], k: int, exclude: list[int] | None = None) -> float:
    out = None if exclude is None else np.array([exclude], dtype=np.int32).reshape(1, -1)
    return exact_recall(np.ones((1, 1), np.float32), CANDIDATES, [np.array(relevant, np.int32)], k=k, exclude=out)


def test_recall_counts_ties_against_us() -> None:
    assert recall([0], 1) == 1
    assert recall([1], 2) == 0  # item 2 may stand before it
    assert recall([0, 1], 3) == 1
    assert recall([0, 3], 3) == 0.5
    assert recall([3], 4) == 1


def test_recall_without_what_is_excluded() -> None:
    assert recall([1], 1, [0, -1]) == 0  # tied with item 2
    assert recall([1], 1, [0, 2]) == 1
    assert recall([3], 1, [0, 2]) == 0
    assert recall([3], 1, [0, 1, 2]) == 1
    assert recall([0], 1, [-1]) == recall([0], 1, []) == 1
    assert recall([0, 3], 2, [0]) == 0
    assert recall([0, 3], 3, [0]) == 0.5, "what is excluded is never found"
    assert recall([0, 3], 4, [0]) == recall([0, 3], 9, [0]) == 0.5, "even where all candidates count"
    assert recall([0], 3, [0, 1]) == 0


def test_recall_is_the_mean_over_queries_in_any_number_of_blocks() -> None:
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(1100, 3)).astype(np.float32), rng.normal(size=(30, 3)).astype(np.float32)
    relevant = [rng.choice(30, size=2, replace=False).astype(np.int32) for _ in queries]
    exclude = rng.integers(-1, 30, (1100, 4)).astype(np.int32)
    scores = queries @ candidates.T
    for row, out in enumerate(exclude):
        scores[row, out[out >= 0]] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :5]
    expected = np.mean([np.isin(ours, top).mean() for ours, top in zip(relevant, best, strict=True)])
    assert exact_recall(queries, candidates, relevant, k=5, exclude=exclude) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"temperature": 1e-6, "learn_temperature": True}, {"seed": 2**32 - 1, "loss": SAMPLED, "user_balance": 1}),
        ({}, {"batch_size": 2**31 - 1, "validation_queries": 2**31 - 1, "monitor_k": 1_000_000, "half_life": "1s"}),
    ],
)
def test_settings_at_their_bounds_train_all_the_same(
    tiny: Path, tmp_path: Path, model: dict[str, Any], training: dict[str, Any]
) -> None:
    found = plain_model(**{"dim": 4} | model)
    assert run(tiny, tmp_path / "out", found, settings(**{"epochs": 1} | training))["best_epoch"] == 1
