"""What the towers reach before their refit, with the weights that validation chose: like for like with published rows.

A refit trains on the validation events too, which published models of leave-last-out data do not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.artifacts import ArtifactReader, Place, content_hash, open_artifact, write_artifact
from two_tower.config import EvaluationSettings
from two_tower.contracts import Float32, Int32
from two_tower.errors import NoQueries
from two_tower.evaluation import Queries, interval, measure, resampled_means
from two_tower.features import MISSING, FittedFeature
from two_tower.index import ExactIndex
from two_tower.model.embedder import Embedder
from two_tower.model.network import BEFORE_REFIT, KIND, encoded_ids, load_network
from two_tower.padding import padded
from two_tower.retrievers import TwoTowerRetriever

log = logging.getLogger("two_tower")


def measure_before_refit(prepared: Place, trained: Place, out: Place, *, evaluation: EvaluationSettings) -> None:
    """Writes the `before_refit` artefact: the metrics of the weights before the refit on the test queries.

    Its figures.json holds `queries` and by metric `value`, `low` and `high`, by exact search; null where there was no
    refit, and where there is no query.

    Args:
        prepared: The `prepared_data` artefact that the towers were trained on.
        trained: The `trained_towers` artefact.
        out: The artefact's folder.
        evaluation: The configuration's section, for the Ks, the exclusion of seen items and the bootstrap.

    Raises:
        ArtifactError: An input is no complete artefact.
    """
    data, towers = open_artifact(prepared, "prepared_data"), open_artifact(trained, KIND)
    with write_artifact(out, BEFORE_REFIT) as writer:
        writer.manifest.config = {"evaluation": evaluation.model_dump(mode="json")}
        writer.manifest.made_from = {"prepared_data": content_hash(prepared), KIND: content_hash(trained)}
        refitted = towers.manifest.config["training"]["refit"]
        writer.write_json("figures.json", _figures(data, trained, evaluation) if refitted else None)


def _figures(data: ArtifactReader, trained: Place, evaluation: EvaluationSettings) -> dict[str, Any] | None:
    try:
        queries = Queries.load(data, exclude_seen=evaluation.exclude_seen, repeats=evaluation.repeats)
    except NoQueries as error:
        log.warning("%s", error)
        return None
    tower, ids = _Tower(trained, data), data.table("items.parquet", ["item_id"])["item_id"].combine_chunks()
    retriever = TwoTowerRetriever(tower, tower.index(), items=ids, features={})
    found = measure("two_tower before its refit", retriever, queries, ks=evaluation.ks, ties_against=True)
    values = np.stack(list(found.metrics.values()), axis=1)
    resampled = resampled_means(values, samples=evaluation.bootstrap_samples, seed=evaluation.seed)
    low, high = interval(resampled, confidence=evaluation.confidence)
    means = values.mean(axis=0, dtype=np.float64)
    metrics = {
        name: {"value": float(means[at]), "low": float(low[at]), "high": float(high[at])}
        for at, name in enumerate(found.metrics)
    }
    return {"queries": len(queries), "metrics": metrics}


class _Tower:
    """The query tower of a network that is not exported, and the index of its candidates."""

    def __init__(self, trained: Place, data: ArtifactReader) -> None:
        network, _ = load_network(trained, before_refit=True)
        items, users = data.table("items.parquet"), data.table("users.parquet", ["user_id"])
        features = {name: feature.encode(items[f"feature.{name}"]) for name, feature in network.item_features.items()}
        self._made_from = {KIND: content_hash(trained)}
        self._network = network
        self._embedder = Embedder(network, _encoded(items["item_id"], network.item_ids), features)
        self._user_ids = np.append(_encoded(users["user_id"], network.user_ids), np.int32(MISSING))
        self._items = items.select(["item_id", "available"])

    @property
    def made_from(self) -> dict[str, str]:
        """What stands for an export in the check that tower and index belong together."""
        return self._made_from

    def index(self) -> ExactIndex:
        """The candidates that can be recommended."""
        available = self._items["available"]
        ids = self._items["item_id"].filter(available).combine_chunks()
        index = ExactIndex(self._embedder.embed_candidates()[available.to_numpy()], ids)
        index.made_from = self._made_from
        return index

    def embed_prepared(
        self, queries: pa.Table, *, items: pa.StringArray, features: Mapping[str, FittedFeature]
    ) -> Float32:
        """The embeddings float32 `[queries, dim]` of queries over the candidate table that the network was made for."""
        return self._embedder.embed_queries(
            padded(queries["history"], last=self._network.history_length),
            self._user_ids[queries["user"].to_numpy()],
            {name: feature.encode(queries[name]) for name, feature in self._network.query_features.items()},
        )


def _encoded(ids: pa.ChunkedArray, vocabulary: list[str]) -> Int32:
    """The encoded ids of a table whose rows are in the order of the vocabulary."""
    return encoded_ids(np.asarray(pc.is_in(ids, value_set=pa.array(vocabulary, pa.string()))))
