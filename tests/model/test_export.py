"""The SavedModels: the same numbers as in training, in a process that has TensorFlow and nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from plain_settings import plain_model, plain_training
from tiny_towers import COLD, HISTORY, ITEMS, write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import BeamSettings, EmbeddingSettings, Gru, MeanPool, ModelSettings, Transformer
from two_tower.contracts import Float32
from two_tower.embedding import embed_candidates
from two_tower.errors import ArtifactError
from two_tower.features import OOV, lookup
from two_tower.model import export_candidate_tower, export_query_tower, train
from two_tower.model.inputs import TrainingData
from two_tower.model.network import Network, load_network
from two_tower.model.training import Trainer

LAYERS = {"hidden": [16], "cross": 1, "use_id": True}
MODEL = plain_model(dim=8, candidate=LAYERS, query=LAYERS, history=MeanPool(decay=0.9))
TRAINING = plain_training(loss={"type": "full_softmax"}, epochs=1, batch_size=64, learning_rate=0.02, monitor_k=10)
VARIANTS = {
    "main": MODEL,
    "gru": plain_model(dim=8, history=Gru(), normalize=False),
    "transformer": plain_model(dim=8, history=Transformer(), shared_items=False, item_bias=True),
    "no_history": plain_model(
        dim=8, history=None, candidate={"linear": False}, query={"use_id": True, "linear": False}
    ),
}

NAMES = ["main", *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "main")]

FRESH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("two_tower", "components", "pipelines", "tensorflow_recommenders", "tf_keras"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf
for folder, inputs, out in zip(*[iter(sys.argv[1:])] * 3):
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    given = np.load(inputs, allow_pickle=True)
    types = serve.structured_input_signature[1]
    outputs = serve(**{name: tf.constant(given[name], types[name].dtype) for name in given.files})
    np.savez(out, **{name: value.numpy() for name, value in outputs.items()})
"""


def embed_items(network: Network, items: pa.Table) -> tuple[Float32, Float32]:
    """Embeddings and history vectors of candidate table rows, by the Arrow encoding that training uses."""
    ids = np.maximum(lookup(items["item_id"], network.item_ids), OOV)
    encoded = {name: feature.encode(items[f"feature.{name}"]) for name, feature in network.item_features.items()}
    ids = tf.constant(ids)
    return network.candidate.embed(network.items(ids, encoded)).numpy(), network.past_items(ids, encoded).numpy()


@dataclass
class Exports:
    """The folders of one training's artefacts."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / name)


class Variants(dict[str, Exports]):
    """Each is trained and exported when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Exports:
        self[name] = run(self.folder / name, VARIANTS[name], features=name == "main")
        return self[name]


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    return Variants(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def exports(variants: Variants) -> Exports:
    return variants["main"]


def run(folder: Path, model: ModelSettings, **data: Any) -> Exports:
    made = Exports(folder)
    write_tiny(folder / "prepared", **data)
    train(made.prepared, made.trained, model=model, training=TRAINING)
    export_candidate_tower(made.trained, made.candidate_tower)
    embed_candidates(
        made.candidate_tower,
        made.prepared,
        made.embeddings,
        embedding=EmbeddingSettings(batch_size=7),
        beam=BeamSettings(),
    )
    export_query_tower(made.trained, made.embeddings, made.query_tower)
    return made


def inputs_of(tower: str, table: pa.Table, features: dict[str, Any], **given: Any) -> dict[str, Any]:
    """What signature.json says that each input takes from the prepared table."""
    spec = json.loads((Path(tower) / "signature.json").read_text())["inputs"]
    values = {}
    for name, entry in spec.items():
        column = entry["column"]
        values[name] = given[column] if column in given else features[column].raw(table[column])
    return values


class Fresh(dict[str, dict[str, Any]]):
    """A variant's SavedModels' outputs for all items and all validation queries, from one such process."""

    def __init__(self, variants: Variants, folder: Path) -> None:
        self.variants, self.folder = variants, folder

    def __missing__(self, name: str) -> dict[str, Any]:
        made = self.variants[name]
        _, data, queries = rounded_embeddings(made)
        items = open_artifact(made.prepared, "prepared_data").table("items.parquet")
        given = {"candidate_tower": item_inputs(made, items), "query_tower": query_inputs(made, data, queries)}
        arguments, outputs = [], {}
        for tower, inputs in given.items():
            file, outputs[tower] = self.folder / f"{name}.{tower}.in.npz", self.folder / f"{name}.{tower}.npz"
            np.savez(file, **inputs)
            arguments += [f"{made.folder / tower}/saved_model", str(file), str(outputs[tower])]
        command = [sys.executable, "-P", "-c", FRESH, *arguments]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        self[name] = {tower: np.load(file) for tower, file in outputs.items()}
        return self[name]


@pytest.fixture(scope="module")
def fresh(variants: Variants, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(variants, tmp_path_factory.mktemp("fresh"))


def rounded_embeddings(exports: Exports) -> tuple[Float32, TrainingData, pa.Table]:
    """The training code's validation embeddings, the history's vectors rounded to float16 as in the export."""
    network, _ = load_network(exports.trained)
    reader = open_artifact(exports.prepared, "prepared_data")
    data = TrainingData.load(reader, model=network.model, training=TRAINING)
    vectors = embed_items(network, reader.table("items.parquet"))[1].astype(np.float16).astype(np.float32)
    queries = data.validation
    mask = (queries.history >= 0).astype(np.float32)
    history = vectors[np.maximum(queries.history, 0)]
    features = {name: tf.constant(values) for name, values in queries.features.items()}
    state = network.query.encoder.last(tf.constant(history), tf.constant(mask)) if network.reads_history else None
    embeddings = network.query.embed(state, tf.constant(queries.ids), features).numpy()
    return embeddings, data, reader.table("validation")


def item_inputs(exports: Exports, items: pa.Table, ids: list[str] | None = None) -> dict[str, Any]:
    network, _ = load_network(exports.trained)
    features = {f"feature.{name}": feature for name, feature in network.item_features.items()}
    names = np.array(ids or items["item_id"].to_pylist(), dtype=object)
    return inputs_of(exports.candidate_tower, items, features, item_id=names)


def query_inputs(exports: Exports, data: TrainingData, table: pa.Table) -> dict[str, Any]:
    names = np.array([*(f"item {number}" for number in range(ITEMS)), ""], dtype=object)
    return inputs_of(
        exports.query_tower,
        table,
        data.network.query_features,
        history=names[data.validation.history],
        user_id=np.array(table["user_id"].to_pylist(), dtype=object),
    )


@pytest.mark.parametrize("name", NAMES)
def test_candidates_in_a_fresh_process_equal_the_training_code(variants: Variants, fresh: Fresh, name: str) -> None:
    network, _ = load_network(variants[name].trained)
    items = open_artifact(variants[name].prepared, "prepared_data").table("items.parquet")
    outputs = fresh[name]["candidate_tower"]
    embeddings, vectors = embed_items(network, items)
    assert outputs["embedding"].dtype == np.float32
    assert outputs["embedding"].shape == (ITEMS, 8)
    np.testing.assert_allclose(outputs["embedding"], embeddings, atol=1e-5)
    np.testing.assert_allclose(outputs["history_vector"], vectors, atol=1e-5)
    shared = network.past_items is network.items
    assert shared == (name != "transformer")
    own = network.items(tf.range(2, 6), {}).numpy() if name != "main" else vectors[:4]
    assert np.allclose(outputs["history_vector"][:4], own, atol=1e-5) == shared


@pytest.mark.parametrize("name", NAMES)
def test_queries_in_a_fresh_process_equal_the_training_code(variants: Variants, fresh: Fresh, name: str) -> None:
    expected, _, table = rounded_embeddings(variants[name])
    outputs = fresh[name]["query_tower"]
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)
    assert outputs["unknown_history"].tolist() == [0] * table.num_rows
    assert np.ptp(outputs["embedding"], axis=0).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_trainer_itself_differs_by_the_rounding_alone(variants: Variants, name: str) -> None:
    expected, data, _ = rounded_embeddings(variants[name])
    trainer = Trainer(data, TRAINING)
    network, _ = load_network(variants[name].trained)
    for weight, variable in trainer.network.weights().items():
        variable.assign(network.weights()[weight])
    queries = data.validation
    inputs = tf.constant(queries.history), None, tf.constant(queries.ids), queries.features
    assert np.abs(trainer.embedder.queries(*inputs).numpy() - expected).max() < 2e-3
    np.testing.assert_allclose(
        trainer.embedder.candidates(tf.range(ITEMS), training=False), exported_embeddings(variants[name])[0], atol=1e-5
    )


def exported_embeddings(exports: Exports) -> tuple[Float32, Float32]:
    table = open_artifact(exports.embeddings, "candidate_embeddings").table("part-0000000000.parquet")
    return tuple(np.array(table[name].to_pylist(), dtype=np.float32) for name in ("embedding", "history_vector"))


@pytest.mark.parametrize("name", NAMES[:3])
def test_history_vectors_in_place_of_ids_give_the_same(variants: Variants, name: str) -> None:
    expected, data, table = rounded_embeddings(variants[name])
    model = tf.saved_model.load(f"{variants[name].query_tower}/saved_model")
    inputs = query_inputs(variants[name], data, table)
    del inputs["history"]
    vectors = exported_embeddings(variants[name])[1]
    inputs["history_vectors"] = vectors[np.maximum(data.validation.history, 0)]
    inputs["history_mask"] = (data.validation.history >= 0).astype(np.float32)
    serve = model.signatures["from_history_vectors"]
    types = serve.structured_input_signature[1]
    outputs = serve(**{name: tf.constant(value, types[name].dtype) for name, value in inputs.items()})
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES[:3])
def test_unknown_history_is_masked_and_counted(variants: Variants, name: str) -> None:
    exports = variants[name]
    _, data, table = rounded_embeddings(exports)
    serve = tf.saved_model.load(f"{exports.query_tower}/saved_model").signatures["serving_default"]
    types = serve.structured_input_signature[1]

    def outputs(history: list[list[str]]) -> Any:
        inputs = query_inputs(exports, data, table) | {"history": np.array(history * table.num_rows, dtype=object)}
        return serve(**{name: tf.constant(value, types[name].dtype) for name, value in inputs.items()})

    known, mixed = outputs([["item 1", "item 2"]]), outputs([["item 1", "no such item", "item 2", ""]])
    np.testing.assert_allclose(mixed["embedding"], known["embedding"], atol=1e-6)
    assert set(mixed["unknown_history"].numpy()) == {1}
    nothing, unknown = outputs([[""]]), outputs([["no such item"]])
    np.testing.assert_allclose(unknown["embedding"], nothing["embedding"], atol=1e-6)
    assert np.isfinite(nothing["embedding"]).all()
    inputs = query_inputs(exports, data, table) | {"history": np.zeros((table.num_rows, 0), dtype=object)}
    none = serve(**{name: tf.constant(value, types[name].dtype) for name, value in inputs.items()})
    np.testing.assert_allclose(none["embedding"], nothing["embedding"], atol=1e-6)
    assert outputs([["item 1"] * (HISTORY * 2)])["embedding"].shape == known["embedding"].shape


def test_unseen_items_are_told_apart_by_their_features_alone(exports: Exports) -> None:
    items = open_artifact(exports.prepared, "prepared_data").table("items.parquet")
    serve = tf.saved_model.load(f"{exports.candidate_tower}/saved_model").signatures["serving_default"]
    types = serve.structured_input_signature[1]
    inputs = item_inputs(exports, items.slice(ITEMS - COLD), ["brand new", "never seen", "also new", "item 57"])
    embeddings = serve(**{name: tf.constant(value, types[name].dtype) for name, value in inputs.items()})["embedding"]
    a, b, c, d = embeddings.numpy()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(c, d)
    assert a @ c / np.linalg.norm(a) / np.linalg.norm(c) < 0.99


def test_without_users_the_query_tower_has_no_history(tmp_path: Path) -> None:
    made = run(tmp_path, MODEL, users=False)
    signatures = json.loads((Path(made.query_tower) / "signature.json").read_text())["signatures"]
    assert {name: sorted(entry["inputs"]) for name, entry in signatures.items()} == {
        "serving_default": ["context_shop", "user_id"]
    }
    serve = tf.saved_model.load(f"{made.query_tower}/saved_model").signatures["serving_default"]
    outputs = serve(context_shop=tf.constant(["shop 1", "", "elsewhere"]), user_id=tf.constant(["", "", ""]))
    assert outputs["embedding"].shape == (3, 8)
    assert outputs["unknown_history"].numpy().tolist() == [0, 0, 0]


@pytest.mark.slow
def test_towers_and_embeddings_of_two_trainings_do_not_mix(variants: Variants, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not made with the towers"):
        export_query_tower(variants["gru"].trained, variants["main"].embeddings, str(tmp_path / "query_tower"))
