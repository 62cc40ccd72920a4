"""The input of Vertex AI Vector Search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from two_tower.contracts import Float32

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 16_384


def write_vector_search(path: Path, item_ids: pa.StringArray, vectors: Float32) -> None:
    """Writes JSON Lines `{"id": ..., "embedding": [...]}`, as Vector Search's input format asks.

    https://cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure

    Args:
        path: The file, whose name has to end in `.json`.
        item_ids: One a vector.
        vectors: `[items, dim]`, finite; written with the fewest digits that give the same float32 again.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with path.open("wb") as file:
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            digits = pc.cast(pa.array(block.reshape(-1)), pa.string())
            offsets = pa.array(np.arange(len(block) + 1, dtype=np.int32) * block.shape[1])
            lists = pc.binary_join(pa.ListArray.from_arrays(offsets, digits), ",")
            ids = pa.array(
                [json.dumps(item_id) for item_id in item_ids[start : start + BLOCK].to_pylist()], pa.string()
            )
            lines = pc.binary_join_element_wise('{"id":', ids, ',"embedding":[', lists, "]}", "")
            file.write("\n".join(lines.to_pylist()).encode() + b"\n")
