"""The trained towers as SavedModels that take raw features and need no project code.

Only variables, constants and graphs are saved: no Keras layer, no asset file, no table to initialise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from two_tower.artifacts import ArtifactReader, ArtifactWriter, Place, content_hash, open_artifact, write_artifact
from two_tower.errors import ArtifactError
from two_tower.features import FIRST, OOV, FittedFeature, lookup_tensor
from two_tower.model.network import Network, load_network
from two_tower.towers import CandidateTower, QueryTower

Inputs = Mapping[str, tf.Tensor]
Outputs = dict[str, tf.Tensor]


def export_candidate_tower(trained: Place, out: Place) -> CandidateTower:
    """Writes the `candidate_tower` artefact, a SavedModel from an item's raw id and features to its vectors, to `out`.

    Raises:
        ArtifactError: `trained` is no complete `trained_towers` artefact.
    """
    network, reader = load_network(trained)
    features = network.item_features

    def serve(inputs: Inputs) -> Outputs:
        ids = tf.maximum(lookup_tensor(inputs["item_id"], network.item_ids), OOV)
        encoded = {name: feature.encode_tensor(inputs[name]) for name, feature in features.items()}
        vectors = network.items(ids, encoded)
        past = vectors if network.past_items is network.items else network.past_items(ids, encoded)
        return {"embedding": network.candidate.embed(vectors), "history_vector": past}

    inputs = {"item_id": _spec("string", (None,), "item_id")}
    inputs.update({name: _feature_spec(feature, f"feature.{name}") for name, feature in features.items()})
    with write_artifact(out, "candidate_tower", **_facts(reader)) as writer:
        weights = [value for name, value in network.weights().items() if not name.startswith("query/")]
        _save(writer, weights, {"serving_default": (serve, inputs)})
    return CandidateTower.made(out)


def export_query_tower(trained: Place, embeddings: Place, out: Place) -> QueryTower:
    """Writes the `query_tower` artefact, a SavedModel from a raw query to its embedding, to `out`.

    `embeddings` is the `candidate_embeddings` artefact that the exported candidate tower of the same training gave;
    its history vectors become the frozen table that the tower looks its history up in.

    Raises:
        ArtifactError: An input is no complete artefact, or the two come from different trainings.
    """
    network, reader = load_network(trained)
    items = open_artifact(embeddings, "candidate_embeddings")
    if items.manifest.made_from.get("trained_towers") != content_hash(trained):
        raise ArtifactError(f"{items.folder}: these embeddings were not made with the towers in {reader.folder}")
    # Named also where there is no history to look up, so that a tower cannot be paired with another one's index.
    made_from = {**items.manifest.made_from, "candidate_embeddings": content_hash(embeddings)}
    facts = {**_facts(reader), "made_from": made_from}
    if network.reads_history:
        weights, signatures = _with_history(network, *_history_table(items))
    else:
        weights, signatures = _without_history(network)
    with write_artifact(out, "query_tower", **facts) as writer:
        _save(writer, [*network.query.named_weights().values(), *weights], signatures)
    return QueryTower.made(out)


Signature = tuple[Callable[[Inputs], Outputs], dict[str, dict[str, Any]]]


def _with_history(
    network: Network, item_ids: list[str], vectors: np.ndarray[Any, np.dtype[np.float16]]
) -> tuple[list[tf.Variable], dict[str, Signature]]:
    """The frozen table, and the two signatures: history by item ids and history by vectors."""
    table = tf.Variable(vectors, trainable=False, name="history_vectors")

    def from_ids(inputs: Inputs) -> Outputs:
        ids = lookup_tensor(inputs["history"], item_ids)
        known = ids >= FIRST
        history = tf.cast(tf.gather(table, tf.where(known, ids - FIRST, 0)), tf.float32)
        unknown = tf.reduce_sum(tf.cast(tf.equal(ids, OOV), tf.int32), axis=1)
        return _embed(network, inputs, history, tf.cast(known, tf.float32), unknown)

    def from_vectors(inputs: Inputs) -> Outputs:
        mask = inputs["history_mask"]
        unknown = tf.zeros(tf.shape(mask)[:1], tf.int32)
        return _embed(network, inputs, inputs["history_vectors"], mask, unknown)

    others = _query_inputs(network)
    by_ids = {"history": _spec("string", (None, None), "history")}
    by_vectors = {
        "history_vectors": _spec("float32", (None, None, network.model.dim), "history"),
        "history_mask": _spec("float32", (None, None), "history"),
    }
    return [table], {
        "serving_default": (from_ids, {**by_ids, **others}),
        "from_history_vectors": (from_vectors, {**by_vectors, **others}),
    }


def _without_history(network: Network) -> tuple[list[tf.Variable], dict[str, Signature]]:
    def serve(inputs: Inputs) -> Outputs:
        batch = tf.shape(next(iter(inputs.values())))[:1]
        return _embed(network, inputs, None, None, tf.zeros(batch, tf.int32))

    return [], {"serving_default": (serve, _query_inputs(network))}


def _embed(
    network: Network, inputs: Inputs, history: tf.Tensor | None, mask: tf.Tensor | None, unknown: tf.Tensor
) -> Outputs:
    ids = lookup_tensor(inputs["user_id"], network.user_ids) if network.model.query.use_id else None
    encoded = {
        name: feature.encode_tensor(inputs[name.replace(".", "_", 1)])
        for name, feature in network.query_features.items()
    }
    state = None if history is None else network.query.encoder.last(history, mask)
    return {"embedding": network.query.embed(state, ids, encoded), "unknown_history": unknown}


def _query_inputs(network: Network) -> dict[str, dict[str, Any]]:
    """The inputs beside the history."""
    inputs = {"user_id": _spec("string", (None,), "user_id")} if network.model.query.use_id else {}
    features = network.query_features.items()
    return {**inputs, **{name.replace(".", "_", 1): _feature_spec(feature, name) for name, feature in features}}


def _history_table(items: ArtifactReader) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float16]]]:
    """The candidates' ids and history vectors float16 `[items, width]`."""
    parts = sorted(name for name in items.manifest.files if name.endswith(".parquet"))
    table = pa.concat_tables([items.table(name, ["item_id", "history_vector"]) for name in parts]).combine_chunks()
    vectors = table["history_vector"].combine_chunks()
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    return table["item_id"].to_pylist(), values.astype(np.float16)


def _spec(dtype: str, shape: tuple[int | None, ...], column: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "column": column}


def _feature_spec(feature: FittedFeature, column: str) -> dict[str, Any]:
    return _spec(*feature.raw_spec(), column)


def _facts(reader: ArtifactReader) -> dict[str, Any]:
    manifest = reader.manifest
    made_from = {**manifest.made_from, "trained_towers": content_hash(reader.folder)}
    return {"config": manifest.config, "data_seen_until": manifest.data_seen_until, "made_from": made_from}


def _save(writer: ArtifactWriter, weights: Any, signatures: Mapping[str, Signature]) -> None:
    """Writes saved_model/ and signature.json; what is saved holds the variables and the signatures' graphs."""
    module = tf.Module()
    module.weights = list(weights)
    functions = {name: _concrete(serve, inputs) for name, (serve, inputs) in signatures.items()}
    folder = writer.path("saved_model/saved_model.pb").parent
    tf.saved_model.save(module, str(folder), signatures=functions)
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # holds a random id, so that equal models would differ
    signature = {name: {"inputs": inputs} for name, (_, inputs) in signatures.items()}
    writer.write_json("signature.json", {**signature["serving_default"], "signatures": signature})


def _concrete(serve: Callable[[Inputs], Outputs], inputs: Mapping[str, Mapping[str, Any]]) -> Any:
    specs = {name: tf.TensorSpec(spec["shape"], spec["dtype"], name=name) for name, spec in inputs.items()}
    return tf.function(lambda **tensors: serve(tensors)).get_concrete_function(**specs)
