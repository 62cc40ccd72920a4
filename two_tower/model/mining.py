"""Hard negatives, mined with the model that is being trained."""

from __future__ import annotations

import numpy as np

from two_tower.config import Mining
from two_tower.contracts import Float32, Int32, Int64

BLOCK = 512


class Mined:
    """What the model ranked high for each training query when it was last asked; nothing before the first mining."""

    def __init__(self, settings: Mining, *, keys: int) -> None:
        self._settings = settings
        self._best: Int32 = np.full((keys, settings.top), -1, dtype=np.int32)

    def look_up(self, keys: Int64, queries: Float32, candidates: Float32) -> None:
        """Keeps the best candidates of queries `[n, dim]` under their `keys` `[n]`, by exact search."""
        top, skip = self._settings.top, self._settings.skip
        wanted = min(top + skip, len(candidates))
        for start in range(0, len(queries), BLOCK):
            scores = -(queries[start : start + BLOCK] @ candidates.T)
            best = np.argpartition(scores, wanted - 1, axis=1)[:, :wanted]
            if skip:
                order = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1)
                best = np.take_along_axis(best, order, axis=1)[:, skip:]
            self._best[keys[start : start + BLOCK], : best.shape[1]] = best

    def draw(self, keys: Int64, *, rng: np.random.Generator) -> Int32:
        """`[n, per_query]` item numbers of the queries' best, drawn at random; -1 where nothing was mined yet."""
        columns = rng.integers(0, self._best.shape[1], (len(keys), self._settings.per_query))
        return self._best[keys[:, None], columns]
