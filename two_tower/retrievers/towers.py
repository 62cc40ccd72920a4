"""The two towers: the exported query tower, and the index of the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from two_tower.contracts import Float32, Int32, Retrieved
from two_tower.errors import ArtifactError
from two_tower.features import FittedFeature
from two_tower.retrievers.ranking import excluded, exclusions, first_kept

if TYPE_CHECKING:
    import pyarrow as pa

    from two_tower.index import SearchIndex

BLOCK = 256
"""Queries that are searched together; those with equally many exclusions stand in one block."""


class PreparedQueryTower(Protocol):
    """What embeds prepared queries: an exported query tower, or one that is still in training."""

    @property
    def made_from(self) -> dict[str, str]:
        """The content hashes, by kind, of the artefacts that the tower was made from."""

    def embed_prepared(
        self, queries: pa.Table, *, items: pa.StringArray, features: Mapping[str, FittedFeature]
    ) -> Float32:
        """The embeddings float32 `[queries, dim]` of prepared queries; see `QueryTower`."""


class TwoTowerRetriever:
    """Embeds queries and searches the index; its results are numbers of the *current* candidate table.

    The index may be that of another version, with other items: they are matched by their ids, and those that the
    current table lacks are dropped.
    """

    def __init__(
        self,
        tower: PreparedQueryTower,
        index: SearchIndex,
        *,
        items: pa.StringArray,
        features: Mapping[str, FittedFeature],
    ) -> None:
        """The retriever for queries over the candidate table with the ids `items`, by number.

        Args:
            tower: The query tower.
            index: The index; an `ExactIndex` of the embeddings for exact search.
            items: The current candidate table's ids.
            features: The prepared data's user and context features, by column of the queries.

        Raises:
            ArtifactError: Tower and index were not made together.
        """
        import pyarrow.compute as pc

        refuse_mix(tower.made_from, index.made_from)
        self.tower, self.index, self.items, self.features = tower, index, items, features
        self._numbers: Int32 = pc.fill_null(pc.index_in(index.item_ids, value_set=items), -1).to_numpy()

    def retrieve(self, queries: pa.Table, k: int, *, exclude: Int32 | None = None) -> Retrieved:
        """The `k` best candidates of each query that are not excluded."""
        vectors = self.embed(queries)
        order = np.argsort(exclusions(exclude, queries=len(queries)), kind="stable")
        items = np.empty((len(queries), k), dtype=np.int32)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), BLOCK):
            rows = order[start : start + BLOCK]
            found = self._search(vectors[rows], k, exclude=None if exclude is None else exclude[rows])
            items[rows], scores[rows] = found.items, found.scores
        return Retrieved(items, scores)

    def embed(self, queries: pa.Table) -> Float32:
        """The query embeddings float32 `[queries, dim]`."""
        return self.tower.embed_prepared(queries, items=self.items, features=self.features)

    def with_index(self, index: SearchIndex) -> TwoTowerRetriever:
        """The same query tower with another index, such as exact search.

        Raises:
            ArtifactError: Tower and index were not made together.
        """
        return TwoTowerRetriever(self.tower, index, items=self.items, features=self.features)

    def _search(self, vectors: Float32, k: int, *, exclude: Int32 | None) -> Retrieved:
        """The best candidates, searched deeper until every query has `k` or the index has no more."""
        depth = k + int(exclusions(exclude, queries=len(vectors)).max(initial=0))
        while True:
            depth = min(depth, len(self.index))
            rows, scores = self.index.search(vectors, depth)
            items = np.where(rows >= 0, self._numbers[rows], np.int32(-1)) if depth else rows
            keep = (items >= 0) & ~excluded(items, exclude, count=len(self.items))
            if depth == len(self.index) or (keep.sum(axis=1) >= k).all():
                return first_kept(items, scores, keep, k)
            depth *= 2


def refuse_mix(tower: Mapping[str, str], index: Mapping[str, str]) -> None:
    """Checks that a query tower and an index were made from the same artefacts.

    Args:
        tower: The content hashes, by kind, of what the tower was made from.
        index: Those of the index.

    Raises:
        ArtifactError: They name different artefacts of one kind, or none in common.
    """
    shared = sorted(tower.keys() & index.keys())
    if not shared:
        raise ArtifactError(
            "query tower and index cannot be shown to belong together, their manifests name no artefact in common; "
            "export and build both again"
        )
    for kind in shared:
        if tower[kind] != index[kind]:
            raise ArtifactError(
                f"query tower and index do not belong together: the tower was made from the {kind} {tower[kind]}, the "
                f"index from {index[kind]}; use the two of one version"
            )
