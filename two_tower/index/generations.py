"""The generations of a live index: embeddings and an index of them, in a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from two_tower import config
from two_tower.artifacts import Place, content_hash, open_artifact, sync_folder, write_artifact
from two_tower.contracts import Float32
from two_tower.errors import ArtifactError
from two_tower.index.build import build_index, load_index
from two_tower.index.delta import Rows, View
from two_tower.index.delta_log import Changes
from two_tower.index.embeddings import KIND as EMBEDDINGS, PREFIX, CandidateEmbeddings

CANDIDATES = "candidates.parquet"
TOWER = "candidate_tower"


def generation_name(number: int) -> str:
    """The name of a generation's folder."""
    return f"generation-{number:06d}"


def write_generation(
    folder: Path,
    table: pa.Table,
    vectors: Float32,
    facts: dict[str, Any],
    *,
    index: config.IndexSettings,
    queries: Float32 | None,
) -> None:
    """Writes the embeddings and the index of the items in `table`, durably.

    Args:
        folder: The generation's folder; what it held is replaced.
        table: `item_id` and attributes.
        vectors: `[items, dim]`.
        facts: What the manifest of the embeddings says.
        index: See `build_index`.
        queries: See `build_index`.
    """
    columns = {
        "item": pa.array(np.arange(len(table), dtype=np.int32)),
        "item_id": table["item_id"],
        "available": pa.array(np.ones(len(table), dtype=np.bool_)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    columns |= {f"{PREFIX}{name}": table[name] for name in table.column_names if name != "item_id"}
    with write_artifact(folder / "embeddings", EMBEDDINGS, **facts) as artifact:
        artifact.write_table(CANDIDATES, pa.table(columns))
    build_index(folder / "embeddings", folder / "index", index=index, queries=queries)
    sync_folder(folder)
    sync_folder(folder.parent)


def load_generation(folder: Path, *, tower: str) -> View:
    """The generation's index without changes.

    Raises:
        ArtifactError: A file is damaged, the index is not that of the embeddings, or they come from another tower.
    """
    reader = open_artifact(folder / "embeddings", EMBEDDINGS)
    index = load_index(folder / "index")
    held, of = content_hash(reader.folder), index.made_from.get(EMBEDDINGS)
    if held != of:
        raise ArtifactError(f"{folder}: the index is that of the {EMBEDDINGS} {of}, beside it lie {held}")
    for made_from, where in ((reader.manifest.made_from, "embeddings"), (index.made_from, "index")):
        if made_from.get(TOWER) != tower:
            raise ArtifactError(
                f"{folder / where}: made with the {TOWER} {made_from.get(TOWER)}, the log beside it says {tower}; put "
                "the folder back from a copy, or create the live index again"
            )
    return View.of(index, Rows(_with_ids(index.attributes, index.item_ids)))


def replayed(view: View, changes: Changes) -> View:
    """The view with the changes of the log."""
    schema = view.main_rows.table.schema
    rows = [{"item_id": item_id, **values} for item_id, values in zip(changes.added, changes.attributes, strict=True)]
    return view.without(changes.removed).with_items(pa.Table.from_pylist(rows, schema=schema), changes.vectors)


def table_of(candidates: CandidateEmbeddings, folder: Place) -> pa.Table:
    """Ids and attributes of the candidates, whose artefact is in `folder`."""
    for name, kind in zip(candidates.attributes.column_names, candidates.attributes.schema.types, strict=True):
        if name == "item_id" or not _storable(kind):
            raise ArtifactError(
                f"{folder}: the attribute {name} is {kind}; attributes of a live index are booleans, whole numbers, "
                "float32, float64, text or lists of them, and none is called item_id"
            )
    return _with_ids(candidates.attributes, candidates.item_ids)


def _with_ids(attributes: pa.Table, item_ids: pa.StringArray) -> pa.Table:
    return attributes.add_column(0, "item_id", item_ids).replace_schema_metadata(None).combine_chunks()


def _storable(kind: pa.DataType) -> bool:
    """Whether the values of an Arrow type come back from JSON as they were."""
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    same = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_string)
    return any(is_kind(kind) for is_kind in same)
