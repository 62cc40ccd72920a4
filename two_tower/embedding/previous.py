"""The vectors of an earlier `candidate_embeddings` artefact, found by the fingerprint of what they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from two_tower.artifacts import open_artifact
from two_tower.contracts import Int64
from two_tower.data import located
from two_tower.embedding.fingerprints import METHOD, UInt64, from_binary
from two_tower.progress import log

VECTORS = ("embedding", "history_vector")


@dataclass(frozen=True)
class PreviousVectors:
    """The parts of an earlier artefact in the order of their rows; what a worker has read of them stays with it."""

    parts: tuple[str, ...]
    """Paths or URLs."""

    def find(self, wanted: UInt64) -> pa.Array:
        """The row, int64 `[rows]`, at which each fingerprint `[rows, 2]` stands; null where it does not."""
        words, rows, known = self._index
        at = np.minimum(np.searchsorted(words, wanted[:, 0]), len(words) - 1)
        found = rows[at]
        return pa.array(found, mask=(known[found] != wanted).any(axis=1))

    def take(self, rows: Int64) -> dict[str, npt.NDArray[Any]]:
        """The vectors `[rows, width]` at those rows, by column; of the parts only those are read that hold some."""
        found: dict[str, npt.NDArray[Any]] = {}
        number = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(number):
            mine = number == part
            first = self._ends[part] - _rows(self.parts[part])
            table = _read(self.parts[part], list(VECTORS))
            for name in VECTORS:
                vectors = matrix(table[name])
                found.setdefault(name, np.empty((len(rows), vectors.shape[1]), vectors.dtype))
                found[name][mine] = vectors[rows[mine] - first]
        return found

    @cached_property
    def _index(self) -> tuple[UInt64, Int64, UInt64]:
        """The fingerprints' first words, ascending, with the row of each, and the fingerprints by row."""
        columns = [_read(part, ["fingerprint"])["fingerprint"] for part in self.parts]
        known = np.concatenate([from_binary(column) for column in columns])
        rows = np.argsort(known[:, 0], kind="stable")
        return known[rows, 0], rows, known

    @cached_property
    def _ends(self) -> Int64:
        """For each part the row after its last."""
        return np.cumsum([_rows(part) for part in self.parts])


def open_previous(folder: str, *, tower: str) -> PreviousVectors | None:
    """The earlier artefact in `folder`; None if it is of no use, which the log tells.

    Args:
        folder: A `candidate_embeddings` artefact.
        tower: The content hash of the candidate tower whose vectors are wanted.

    Raises:
        ArtifactError: It is no complete artefact, or a file of it is damaged.
    """
    reader = open_artifact(folder, "candidate_embeddings")
    manifest = reader.manifest
    earlier = manifest.made_from.get("candidate_tower")
    if earlier != tower:
        reason = f"made by the candidate tower {earlier}, now it is {tower}"
    elif manifest.extra.get("fingerprint") != METHOD:
        reason = "made by another release, whose fingerprints differ"
    elif not manifest.rows.get("candidates"):
        reason = "empty"
    else:
        parts = sorted(name for name in manifest.files if name.endswith(".parquet"))
        return PreviousVectors(tuple(str(reader.path(part)) for part in parts))
    log.info("embed_candidates: every candidate is embedded, since %s is %s", Path(folder), reason)
    return None


def matrix(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A fixed_size_list column as `[rows, width]`."""
    array = column.combine_chunks()
    lists = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    values: npt.NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), lists.type.list_size)


def _read(part: str, columns: list[str]) -> pa.Table:
    path, filesystem = located(part)
    return pq.read_table(path, columns=columns, filesystem=filesystem, use_threads=False)


def _rows(part: str) -> int:
    path, filesystem = located(part)
    rows: int = pq.read_metadata(path, filesystem=filesystem).num_rows
    return rows
