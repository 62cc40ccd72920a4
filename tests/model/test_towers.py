"""The towers' parts: hidden ids, cross layers, the starting point, the two-tower rule."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from plain_settings import plain_model, plain_training
from tiny_towers import write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import Gru, MeanPool, ModelSettings, TowerSettings, TrainingSettings, Transformer
from two_tower.contracts import Float32
from two_tower.errors import TrainingError
from two_tower.features import OOV
from two_tower.model.inputs import TrainingData
from two_tower.model.network import Network
from two_tower.model.towers import (
    CandidateTowerLayers,
    ItemEncoder,
    QueryTowerLayers,
    apply_output,
    hide_ids,
    output_layers,
    spread,
)
from two_tower.model.training import Trainer

TRAINING = plain_training(loss={"type": "in_batch"})
KINDS: list[Any] = [MeanPool(decay=0.9), Gru(), Transformer()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("plain") / "prepared", features=False)


def trainer(prepared: Path, model: ModelSettings, training: TrainingSettings = TRAINING) -> Trainer:
    reader = open_artifact(prepared, "prepared_data")
    return Trainer(TrainingData.load(reader, model=model, training=training), training)


def randomise(made: Trainer) -> None:
    rng = np.random.default_rng(0)
    for variable in made.network.weights().values():
        variable.assign(rng.normal(0, 0.5, variable.shape))


def test_a_share_of_the_ids_is_hidden() -> None:
    tf.random.set_seed(0)
    ids = tf.range(2, 20_002)
    hidden = hide_ids(ids, share=0.25).numpy()
    assert (hidden == OOV).mean() == pytest.approx(0.25, abs=0.02)
    assert (hidden[hidden != OOV] == ids.numpy()[hidden != OOV]).all()
    assert (hide_ids(ids, share=0.0).numpy() == ids.numpy()).all()


def test_ids_alone_without_layers_are_a_matrix_factorisation() -> None:
    model = plain_model(dim=3, normalize=False, candidate={"linear": False})
    items = ItemEncoder(model, {}, vocabulary_size=4)
    vectors = items(tf.constant([2, 5]), {})
    tower = CandidateTowerLayers(model)
    np.testing.assert_array_equal(tower.embed(vectors), tf.gather(items.layers["id"].embeddings, [2, 5]))
    assert list(items.named_weights()) == ["id/0"] and not tower.named_weights()


def test_the_linear_map_starts_as_if_it_were_not_there() -> None:
    tower, vectors = CandidateTowerLayers(plain_model(dim=3, normalize=False)), tf.random.normal([2, 3])
    np.testing.assert_array_equal(tower.embed(vectors), vectors)
    np.testing.assert_array_equal(tower.layers["output"].kernel, np.eye(3))


def test_normalised_means_a_length_of_one() -> None:
    vectors = tf.random.normal([3, 4])
    lengths = np.linalg.norm(CandidateTowerLayers(plain_model(dim=4)).embed(vectors), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_an_item_bias_is_added_to_the_product_of_the_other_coordinates(normalize: bool) -> None:
    model = plain_model(dim=4, normalize=normalize, item_bias=True, query={"use_id": True, "id_dropout": 0})
    items = np.array([[0.5, 3, 0, 4], [-2, 0, 1, 0]], dtype=np.float32)
    tower = QueryTowerLayers(model, {}, vocabulary_size=1, history_length=0)
    tower.layers["id"].build(None)
    tower.layers["id"].set_weights([np.array([[0] * 4, [0] * 4, [9, 0, 0, 2]])])
    for training in (True, False):
        query = tower.embed(None, tf.constant([2]), {}, training=training).numpy()
        scores = query @ CandidateTowerLayers(model).embed(tf.constant(items), training=training).numpy().T
        np.testing.assert_allclose(scores, [[0.5 + (0.8 if normalize else 8), -2]], rtol=1e-6)


def test_a_bias_is_spread_over_all_coordinates() -> None:
    vectors = np.array([[3, 0, 0, 0], [1, 2, 3, 4]], dtype=np.float32)
    found = spread(tf.constant(vectors)).numpy()
    np.testing.assert_allclose(found[0], [1.5] * 4, rtol=1e-6)
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, rtol=1e-6)


def test_layers_start_as_if_they_were_not_there() -> None:
    tower, vectors = TowerSettings(cross=2, hidden=[5, 7]), tf.random.normal([3, 4])
    np.testing.assert_allclose(apply_output(output_layers(tower, dim=4), tower, vectors, training=False), vectors)


def test_a_cross_layer_multiplies_its_input_with_a_linear_map_of_it() -> None:
    tower, vectors = TowerSettings(cross=2), np.array([[1.0, 2.0]], dtype=np.float32)
    layers = output_layers(tower, dim=2)
    apply_output(layers, tower, tf.constant(vectors), training=False)
    layers["cross.0"].set_weights([np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0])])
    layers["cross.1"].set_weights([np.eye(2), np.zeros(2)])
    # x1 = x0 + x0 * (2 + 1, 1) = (4, 4); x2 = x1 + x0 * x1 = (8, 12)
    np.testing.assert_allclose(apply_output(layers, tower, tf.constant(vectors), training=False), [[8, 12]])


def test_the_query_tower_takes_nothing_of_the_scored_candidate() -> None:
    assert list(inspect.signature(QueryTowerLayers.embed).parameters) == [
        "self",
        "state",
        "ids",
        "features",
        "training",
    ]


@pytest.mark.parametrize("history", KINDS, ids=lambda kind: kind.type)
def test_items_of_the_same_basket_and_later_ones_do_not_change_a_query(plain: Path, history: Any) -> None:
    made = trainer(plain, plain_model(dim=4, history=history))
    randomise(made)
    examples = made.data.examples
    queries = np.arange(11)  # those of the first user
    first, last = int(examples.first[3]), int(examples.last[3])

    def embeddings(event: int | None) -> Float32:
        """The first user's queries, one event being another item."""
        changed = examples.shown.copy()
        if event is not None:
            changed[event] = (changed[event] + 1) % 50
        shown = replace(examples, items=changed, shown=changed)
        batches = shown.batches(10**6, rng=np.random.default_rng(0), sequences=made._sequences)
        batch = next(batches)
        found = made.embedder.embed_batch(*made._query_inputs(batch)).numpy()
        return found[np.argsort(batch.keys)][queries]

    unchanged = embeddings(None)
    for event in range(first, last):
        changed = np.abs(embeddings(event) - unchanged).max(axis=1)
        assert (changed[:4] < 1e-7).all()  # the event's own basket is the fourth
        assert changed[4] > 1e-5
    assert np.abs(embeddings(first - 1) - unchanged).max(axis=1)[3] > 1e-5


@pytest.mark.parametrize("history", KINDS[1:], ids=lambda kind: kind.type)
def test_a_query_in_a_sequence_has_the_embedding_of_its_own_history(plain: Path, history: Any) -> None:
    made = trainer(plain, plain_model(dim=4, history=history))
    randomise(made)
    rng = np.random.default_rng(0)
    (together,) = made.data.examples.batches(10**6, rng=rng, sequences=True)
    (alone,) = made.data.examples.batches(10**6, rng=rng, sequences=False)
    found = made.embedder.embed_batch(*made._query_inputs(together)).numpy()[np.argsort(together.keys)]
    expected = made.embedder.embed_batch(*made._query_inputs(alone)).numpy()[np.argsort(alone.keys)]
    short = made.data.examples.seen_to - made.data.examples.start <= 1  # no cut can shorten these
    np.testing.assert_allclose(found[short], expected[short], atol=1e-5)
    pieces = together.places[np.argsort(together.keys)]
    uncut = pieces[:, 1] + 1 == made.data.examples.seen_to - made.data.examples.seen_from
    assert uncut.sum() > short.sum()
    np.testing.assert_allclose(found[uncut], expected[uncut], atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_untrained_towers_rank_by_popularity(plain: Path, shared: bool) -> None:
    keras.utils.set_random_seed(0)
    made = trainer(plain, plain_model(dim=16, shared_items=shared))
    counts = np.bincount(made.data.examples.items, minlength=len(made.data.item_ids))
    queries = made.data.validation
    inputs = tf.constant(queries.history), None, tf.constant(queries.ids), queries.features
    embeddings = made.embedder.embed_batch(*inputs).numpy()
    scores = (embeddings @ made.embedder.embed_candidates().T)[:, counts > 0]
    assert np.corrcoef(scores.mean(axis=0), counts[counts > 0])[0, 1] > 0.5


@pytest.mark.parametrize("history", KINDS, ids=lambda kind: kind.type)
def test_item_biases_start_as_log_popularity(plain: Path, history: Any) -> None:
    made = trainer(
        plain, plain_model(dim=16, candidate={"id_dropout": 0}, temperature=0.1, item_bias=True, history=history)
    )
    logs = np.log1p(np.bincount(made.data.examples.items, minlength=len(made.data.item_ids)))
    embeddings, known = made.embedder.candidates(tf.range(len(logs)), training=True).numpy(), made.data.item_ids > OOV
    biases = embeddings[:, 0] / 0.1
    np.testing.assert_allclose(biases[known], logs[known] - logs[known].mean(), atol=1e-5)
    np.testing.assert_allclose(biases[~known], biases[known].min(), atol=1e-5)


def test_a_tower_without_any_input_is_refused(plain: Path) -> None:
    with pytest.raises(TrainingError, match=r"model\.candidate"):
        trainer(plain, plain_model(candidate={"use_id": False}))
    with pytest.raises(TrainingError, match=r"model\.query"):
        Network(
            model=plain_model(history=None),
            item_features={},
            query_features={},
            item_ids=["a"],
            user_ids=[],
            history_length=3,
        )
