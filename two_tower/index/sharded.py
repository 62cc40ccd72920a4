"""Several indexes searched as one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from two_tower.contracts import Bool, Float32, Int32
from two_tower.index.base import Effort, SearchIndex, ordered

if TYPE_CHECKING:
    import pyarrow as pa


class ShardedIndex(SearchIndex):
    """Indexes of consecutive rows of one corpus, searched at the same time, a thread each, and merged.

    Each shard gives its own first `k`, so that the merged first `k` are what one index of the whole would give, as
    far as each shard finds its own.
    """

    def __init__(self, shards: Sequence[SearchIndex]) -> None:
        import pyarrow as pa

        super().__init__(pa.concat_arrays([shard.item_ids for shard in shards]), shards[0].dim)
        self.kind = shards[0].kind
        self.attributes = _joined_attributes(shards)
        self.shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)], dtype=np.int32)
        self._threads = ThreadPoolExecutor(max(1, len(shards) - 1), thread_name_prefix="shard")

    def _search(self, queries: Float32, k: int, allowed: Bool | None) -> tuple[Int32, Float32]:
        def first(number: int) -> tuple[Int32, Float32]:
            start, stop = self._starts[number], self._starts[number + 1]
            mask = None if allowed is None else allowed[start:stop]
            rows, scores = self.shards[number].search(queries, min(k, int(stop - start)), allowed=mask)
            return np.where(rows >= 0, rows + start, -1), scores

        others = self._threads.map(first, range(1, len(self.shards)))
        found = [first(0), *others]  # the calling thread would only wait
        return ordered(np.hstack([rows for rows, _ in found]), np.hstack([scores for _, scores in found]), k)

    @property
    def approximate(self) -> bool:
        return any(shard.approximate for shard in self.shards)

    @property
    def has_tree(self) -> bool:
        return any(shard.has_tree for shard in self.shards)

    def set_effort(self, effort: Effort) -> None:
        for shard in self.shards:
            shard.set_effort(effort)


def _joined_attributes(shards: Sequence[SearchIndex]) -> pa.Table | None:
    import pyarrow as pa

    tables = [shard.attributes for shard in shards if shard.attributes is not None]
    if len(tables) < len(shards):
        return None
    # Rows of tables without columns are not counted when they are concatenated, hence the ids.
    numbered = [table.add_column(0, "", shard.item_ids) for table, shard in zip(tables, shards, strict=True)]
    return pa.concat_tables(numbered).remove_column(0)
