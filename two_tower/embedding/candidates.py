"""The candidate table through the exported candidate tower, as a Beam pipeline over record batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import content_hash, open_artifact, write_artifact
from two_tower.beam import pipeline, spread
from two_tower.config import Beam, Embedding
from two_tower.features import FittedFeature, load_features

ROWS_PER_SHARD = 65536
"""Candidates of one output file, one element of the Beam pipeline."""


def embed(candidate_tower: str, prepared: str, out: str, *, embedding: Embedding, beam: Beam) -> None:
    """Embeds every candidate of the prepared data and writes the `candidate_embeddings` artefact to `out`.

    Raises:
        ArtifactError: An input is no complete artefact.
    """
    tower = open_artifact(candidate_tower, "candidate_tower")
    data = open_artifact(prepared, "prepared_data")
    items = str(data.path("items.parquet"))
    rows = pq.ParquetFile(items).metadata.num_rows
    shards = [(start, min(start + ROWS_PER_SHARD, rows)) for start in range(0, max(rows, 1), ROWS_PER_SHARD)]
    made_from = {**tower.manifest.made_from, "candidate_tower": content_hash(candidate_tower)}
    seen = tower.manifest.data_seen_until
    with write_artifact(
        out, "candidate_embeddings", config=embedding.model_dump(mode="json"), data_seen_until=seen, made_from=made_from
    ) as writer:
        work = EmbedShard(
            model=str(tower.path("saved_model")),
            inputs=tower.json("signature.json")["inputs"],
            features=data.json("features.json")["item"],
            items=items,
            out=str(writer.folder),
            batch_size=embedding.batch_size,
        )
        one_model = beam.model_copy(update={"workers": 1})  # TensorFlow itself uses all cores
        with pipeline(one_model) as steps:
            _ = spread(steps, "Shards", shards) | apache_beam.ParDo(work)
        writer.manifest.rows["candidates"] = rows


class EmbedShard(apache_beam.DoFn):  # type: ignore[misc]
    """Writes the embeddings of a range of rows of the candidate table to a file named after the range's start."""

    def __init__(
        self,
        *,
        model: str,
        inputs: dict[str, dict[str, Any]],
        features: dict[str, Any],
        items: str,
        out: str,
        batch_size: int,
    ) -> None:
        self._model_path, self._inputs, self._feature_entries = model, inputs, features
        self._items, self._out, self._batch_size = items, out, batch_size

    def setup(self) -> None:
        """Loads the SavedModel, once a worker."""
        import tensorflow as tf

        self._features: dict[str, FittedFeature] = load_features(self._feature_entries)
        self._model = tf.saved_model.load(self._model_path)
        self._serve = self._model.signatures["serving_default"]

    def process(self, shard: tuple[int, int]) -> Iterator[str]:
        """Embeds the rows from the first number of `shard` to before the second."""
        start, stop = shard
        path = Path(self._out) / f"part-{start:010d}.parquet"
        columns = ["available", *(spec["column"] for spec in self._inputs.values())]
        table = pq.read_table(self._items, columns=columns).slice(start, stop - start)
        with pq.ParquetWriter(path, self._schema(table.slice(0, 1)), compression="zstd") as writer:
            for at in range(0, table.num_rows, self._batch_size):
                writer.write_table(self._embed(table.slice(at, self._batch_size), start + at))
        yield path.name

    def _schema(self, row: pa.Table) -> pa.Schema:
        return self._embed(row, 0).schema

    def _embed(self, table: pa.Table, start: int) -> pa.Table:
        import tensorflow as tf

        inputs = {
            name: tf.constant(self._raw(table, name, spec["column"]), spec["dtype"])
            for name, spec in self._inputs.items()
        }
        outputs = self._serve(**inputs)
        return pa.table(
            {
                "item": pa.array(np.arange(start, start + table.num_rows, dtype=np.int32)),
                "item_id": table["item_id"],
                "available": table["available"],
                "embedding": _vectors(outputs["embedding"].numpy()),
                "history_vector": _vectors(outputs["history_vector"].numpy().astype(np.float16)),
            }
        )

    def _raw(self, table: pa.Table, name: str, column: str) -> Any:
        if column == "item_id":
            return np.array(table["item_id"].to_pylist(), dtype=object)
        return self._features[name].raw(table[column])


def _vectors(values: np.ndarray[Any, np.dtype[Any]]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
