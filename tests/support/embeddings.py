"""Candidate embeddings without towers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import write_artifact


def write_embeddings(
    folder: Path,
    vectors: np.ndarray,
    *,
    parts: int = 2,
    ids: list[str] | None = None,
    unavailable: tuple[int, ...] = (),
    attributes: pa.Table | None = None,
) -> Path:
    """The `candidate_embeddings` artefact of `vectors` `[items, dim]` with the ids item-0, item-1 and so on."""
    attributes = pa.table({}) if attributes is None else attributes
    ids = ids if ids is not None else [f"item-{row}" for row in range(len(vectors))]
    made_from = {"candidate_tower": "c0ffee", "prepared_data": "beef"}
    with write_artifact(folder, "candidate_embeddings", made_from=made_from, data_seen_until=7) as artifact:
        for part, rows in enumerate(np.array_split(np.arange(len(vectors)), parts)):
            values = pa.array(vectors[rows].reshape(-1), pa.float32())
            table = pa.table(
                {
                    "item": pa.array(rows, pa.int32()),
                    "item_id": pa.array([ids[row] for row in rows], pa.string()),
                    "available": pa.array([row not in unavailable for row in rows], pa.bool_()),
                    "embedding": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
                    **{f"attribute.{name}": attributes[name].take(rows) for name in attributes.column_names},
                }
            )
            pq.write_table(table, artifact.path(f"part-{part:05d}.parquet"))
    return folder
