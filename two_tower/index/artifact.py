"""The built index as an object."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from two_tower.artifacts import Artifact
from two_tower.contracts import Float32

if TYPE_CHECKING:
    from two_tower.index.base import SearchIndex

KIND = "index"


class Index(Artifact):
    """The candidates of an `index` artefact, searchable; it is loaded when it is first asked."""

    kind = KIND

    def search(self, queries: Float32, k: int) -> tuple[npt.NDArray[Any], Float32]:
        """The ids `[queries, k]` and scores float32 `[queries, k]` of each query's best candidates, best first.

        Where there are fewer than `k` candidates the rest is None and -inf.

        Args:
            queries: `[queries, dim]`, as the query tower gives them.
            k: How many candidates.

        Raises:
            ValueError: The queries have another width, or one is not finite.
        """
        rows, scores = self.loaded.search(queries, k)
        ids = np.array([*self.loaded.item_ids.to_pylist(), None], dtype=object)  # -1 is the last one
        return ids[rows], scores

    @cached_property
    def loaded(self) -> SearchIndex:
        """The index in memory, which knows filters and exclusions too."""
        from two_tower.index.build import load_index

        return load_index(self.folder)

    @property
    def measured(self) -> dict[str, Any]:
        """What the build has measured: its seconds, and recall and latency of what was chosen where it had a target."""
        return self.manifest.measured

    def __len__(self) -> int:
        return len(self.loaded)

    def _in_words(self) -> str:
        settings = self._reader.json("settings.json")
        return str(settings["kind"])
