"""Hard negatives, mined with the model that is being trained."""

from __future__ import annotations

import numpy as np

from two_tower.config import MiningSettings
from two_tower.contracts import Float32, Int32, Int64
from two_tower.index import SearchIndex


class Mined:
    """What the model ranked high for each training query when it was last asked; nothing before the first mining."""

    def __init__(self, settings: MiningSettings, *, keys: int) -> None:
        self._settings = settings
        self._best: Int32 = np.full((keys, settings.top), -1, dtype=np.int32)

    def look_up(self, keys: Int64, queries: Float32, index: SearchIndex) -> None:
        """Keeps the best candidates of queries `[n, dim]` under their `keys` `[n]`; the index's rows are item numbers.

        Raises:
            ValueError: A query is not finite.
        """
        top, skip = self._settings.top, self._settings.skip
        items, _ = index.search(queries, skip + top)
        self._best[keys] = items[:, skip:]

    def draw(self, keys: Int64, *, rng: np.random.Generator) -> Int32:
        """`[n, per_query]` item numbers of the queries' best, drawn at random; -1 where nothing was mined yet."""
        columns = rng.integers(0, self._best.shape[1], (len(keys), self._settings.per_query))
        return self._best[keys[:, None], columns]
