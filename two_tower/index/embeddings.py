"""The candidate embeddings as arrays, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from two_tower.artifacts import Artifact, Manifest, Place, content_hash, open_artifact
from two_tower.contracts import Float32
from two_tower.errors import ArtifactError
from two_tower.restricts import without_nan

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "candidate_embeddings"
PREFIX = "attribute."
"""What the columns of the attributes begin with in files that have others as well."""


@dataclass(frozen=True)
class CandidateEmbeddings:
    """The id and the vector of every candidate that is available, in the order of the item numbers."""

    item_ids: pa.StringArray
    vectors: Float32
    """`[items, dim]`, finite."""
    attributes: pa.Table
    """One row an item, a column for each of `data.items.attributes`, perhaps none."""
    manifest: Manifest
    made_from: dict[str, str]
    """The content hashes, by kind, of the embeddings and of what they were made from."""


def load_embeddings(folder: Place) -> CandidateEmbeddings:
    """The `candidate_embeddings` artefact in `folder`.

    Raises:
        ArtifactError: The artefact is incomplete or damaged, an item number or id is missing or stands twice, or a
            vector is missing or not finite; the message names the item.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    reader = open_artifact(folder, KIND)
    parts = sorted(name for name in reader.manifest.files if name.endswith(".parquet"))
    if not parts:
        raise ArtifactError(
            f"{reader.folder}: these candidate embeddings hold no Parquet file; run embed_candidates again"
        )
    columns = ["item", "item_id", "available", "embedding"]
    columns += [name for name in pq.read_schema(reader.path(parts[0])).names if name.startswith(PREFIX)]
    table = pa.concat_tables([reader.table(part, columns) for part in parts]).combine_chunks()
    item_ids = table["item_id"].cast(pa.string()).combine_chunks()
    if not np.array_equal(table["item"].to_numpy(), np.arange(len(table))):
        raise ArtifactError(f"{reader.folder}: the item numbers are not 0, 1, 2 and so on; run embed_candidates again")
    if item_ids.null_count or pc.count_distinct(item_ids).as_py() != len(item_ids):
        raise ArtifactError(f"{reader.folder}: an item id is missing or stands twice; run embed_candidates again")
    made_from = {**reader.manifest.made_from, KIND: content_hash(folder)}
    vectors, attributes = _vectors(table, reader.folder), without_nan(attributes_in(table))
    available = table["available"].to_numpy()
    if not available.all():
        mask = pa.array(available)
        item_ids, vectors, attributes = item_ids.filter(mask), vectors[available], attributes.filter(mask)
    return CandidateEmbeddings(item_ids, vectors, attributes, reader.manifest, made_from)


def attributes_in(table: pa.Table) -> pa.Table:
    """The columns whose names begin with `attribute.`, named without it."""
    names = [name for name in table.column_names if name.startswith(PREFIX)]
    return table.select(names).rename_columns([name.removeprefix(PREFIX) for name in names])


def _vectors(table: pa.Table, folder: Path) -> Float32:
    """The embedding column as `[items, dim]`."""
    import pyarrow as pa

    column = table["embedding"].combine_chunks()
    if not isinstance(column.type, pa.FixedSizeListType):
        raise ArtifactError(f"{folder}: the column embedding is {column.type}, expected a fixed_size_list of float32")
    if column.null_count:
        raise ArtifactError(f"{folder}: an embedding is missing; run embed_candidates again")
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    vectors: Float32 = values.reshape(len(column), column.type.list_size)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        item = table["item_id"][int(bad[0])].as_py()
        raise ArtifactError(
            f"{folder}: {len(bad)} embedding(s) are not finite, the first is that of item {item!r} (row {bad[0]}); "
            "the candidate tower is broken, look at the training's loss"
        )
    return vectors


class Embeddings(Artifact):
    """The vectors of a `candidate_embeddings` artefact: those of every candidate that is available."""

    kind = KIND

    @property
    def item_ids(self) -> pa.StringArray:
        """The candidates' ids, in the order of the vectors."""
        return self._candidates.item_ids

    @property
    def vectors(self) -> Float32:
        """`[candidates, dim]`, finite."""
        return self._candidates.vectors

    def table(self) -> pa.Table:
        """One row a candidate: `item_id`, its attributes, and the vector as `embedding`."""
        import pyarrow as pa

        found = self._candidates
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.vectors.ravel()), found.vectors.shape[1])
        attributes = dict(zip(found.attributes.column_names, found.attributes.columns, strict=True))
        return pa.table({"item_id": found.item_ids, **attributes, "embedding": vectors})

    @cached_property
    def _candidates(self) -> CandidateEmbeddings:
        return load_embeddings(self.folder)
