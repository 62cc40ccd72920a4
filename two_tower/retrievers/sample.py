"""Embeddings of some of the prepared queries."""

from __future__ import annotations

from typing import Literal

import numpy as np

from two_tower.artifacts import Place, open_artifact
from two_tower.contracts import Float32
from two_tower.towers import QueryTower, query_features


def sample_queries(query_tower: Place, prepared: Place, *, split: Literal["validation", "test"], most: int) -> Float32:
    """The embeddings `[queries, dim]` of at most `most` of the split's queries, evenly spread.

    Args:
        query_tower: A `query_tower` artefact.
        prepared: The `prepared_data` artefact.
        split: Whose queries.
        most: How many.

    Raises:
        ArtifactError: An artefact is incomplete or damaged, or the tower takes what the queries lack.
    """
    data = open_artifact(prepared, "prepared_data")
    queries = data.table(split)
    rows = np.unique(np.linspace(0, max(0, len(queries) - 1), min(most, len(queries))).astype(np.int64))
    return QueryTower.open(query_tower).embed_prepared(
        queries.take(rows),
        items=data.table("items.parquet", ["item_id"])["item_id"].combine_chunks(),
        features=query_features(data.json("features.json")),
    )
