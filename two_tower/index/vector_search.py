"""The input of Vertex AI Vector Search: the data of an index, what creates it, and what changed since.

https://cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure says how the data is laid out,
https://cloud.google.com/vertex-ai/docs/vector-search/filtering what restricts and crowding tags are, and
https://cloud.google.com/vertex-ai/docs/vector-search/configuring-indexes what creating an index takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from two_tower import config
from two_tower.artifacts import Place, write_json
from two_tower.contracts import Float32, Int64
from two_tower.errors import ArtifactError
from two_tower.index.datapoints import VALUE_KEYS, Datapoints, datapoints_of, json_attributes, json_lines
from two_tower.index.embeddings import CandidateEmbeddings
from two_tower.index.exact import EXACT_BELOW

if TYPE_CHECKING:
    import pyarrow as pa

Algorithm = Literal["auto", "tree_ah", "brute_force"]

FILES_AT_MOST = 5000
"""The documented limit of files in the folder of the data."""
FILE_BYTES = 100_000_000
"""A data file that has reached this size is followed by another."""
SHARDS = {"SHARD_SIZE_SMALL": 2 << 30, "SHARD_SIZE_MEDIUM": 20 << 30, "SHARD_SIZE_LARGE": 50 << 30}
"""The documented bytes that one shard of an index holds."""
TREE = ("approximate_neighbors_count", "leaf_node_embedding_count", "leaf_nodes_to_search_percent")
"""The settings that are parameters of tree-AH alone."""


def write_vector_search_input(
    folder: Place,
    item_ids: pa.StringArray,
    vectors: Float32,
    attributes: pa.Table | None,
    settings: config.VectorSearchSettings,
    *,
    algorithm: Algorithm = "auto",
    file_bytes: int = FILE_BYTES,
) -> None:
    """Writes `data/part-*.json`, the content of an index, and `index.json`, what creates it.

    `index.json` has in `method` the constructor of `aiplatform.MatchingEngineIndex` and in `parameters` its keyword
    arguments; `display_name` and, where `files` is not empty, `contents_delta_uri` (that of `data`) are the caller's.

    Args:
        folder: Where to; its `data` must not hold files yet.
        item_ids: One a vector, each once.
        vectors: `[items, dim]`, finite; written with the fewest digits that give the same float32 again.
        attributes: One row an item, the columns that can restrict: text, whole numbers, truth values or lists of them
            by token, any number by value.  Null and empty text are no restrict.
        settings: The configuration's section.
        algorithm: `auto` is brute force below 20,000 items and tree-AH above.
        file_bytes: The size from which a data file is followed by another.

    Raises:
        ArtifactError: An id is missing, empty, not UTF-8 or stands twice; a vector or a number is not finite; a number
            is out of range; a column does not exist or is of a type that cannot be used; `data` holds files.
        ValueError: The shapes do not match.
    """
    points = datapoints_of(item_ids, vectors, attributes, settings)
    if algorithm == "auto":
        algorithm = "brute_force" if len(points.ids) < EXACT_BELOW else "tree_ah"
    parameters: dict[str, Any] = {
        "dimensions": points.vectors.shape[1],
        "distance_measure_type": "DOT_PRODUCT_DISTANCE",
        "feature_norm_type": "NONE",
        "shard_size": _shard_size(points.bytes),
        "index_update_method": settings.index_update_method,
    }
    if algorithm == "tree_ah":
        parameters |= settings.model_dump(include=set(TREE))
    files = _write_data(_empty(Path(folder) / "data"), points, file_bytes=file_bytes)
    facts = {
        "method": f"create_{algorithm}_index",
        "parameters": parameters,
        "items": len(points.ids),
        "bytes": points.bytes,
        "files": [f"data/{path.name}" for path in files],
        "namespaces": {
            "restricts": list(points.restricts.tokens),
            "numeric_restricts": {
                name: VALUE_KEYS[str(values.type)] for name, values in points.restricts.numbers.items()
            },
            "crowding": settings.crowding,
        },
    }
    write_json(Path(folder) / "index.json", facts)


def write_vector_search_update(
    folder: Place,
    previous: CandidateEmbeddings,
    current: CandidateEmbeddings,
    settings: config.VectorSearchSettings,
    *,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Writes what turns an index of `previous` into one of `current`: `data`, for `update_embeddings`.

    `data/part-*.json` has the items that are new or whose record differs, `data/delete/part-00000.txt` the ids that
    are gone, one a line, and `update.json` the numbers of both: `{"upserts", "deletes", "is_complete_overwrite":
    false}`.  Where nothing changed `data` is empty, and there is nothing to send.

    Args:
        folder: Where to; its `data` must not hold files yet.
        previous: What the index holds now, written with the same settings.
        current: What it shall hold.
        settings: The configuration's section; `previous` may lack columns that it names.
        file_bytes: The size from which a data file is followed by another.

    Raises:
        ArtifactError: The vectors are of two candidate towers, or of two widths, and must not be mixed in one index;
            an id to delete has a line break, which the format has no way to write; or what
            `write_vector_search_input` refuses.
        ValueError: The shapes do not match.
    """
    _check_same_tower(previous, current)
    before, after = (
        datapoints_of(state.item_ids, state.vectors, state.attributes, wanted)
        for state, wanted in ((previous, _within(settings, previous.attributes)), (current, settings))
    )
    upserts = after.take(_changed(before, after))
    deletes = _missing_from(before.ids, after.ids)
    _check_deletes(deletes)
    data = _empty(Path(folder) / "data")
    _write_data(data, upserts, file_bytes=file_bytes)
    _write_deletes(data / "delete", deletes)
    counts = {"upserts": len(upserts.ids), "deletes": len(deletes), "is_complete_overwrite": False}
    write_json(Path(folder) / "update.json", counts)


def _shard_size(size: int) -> str:
    """The smallest shard that holds so many bytes; the largest, several times, where none does.

    https://cloud.google.com/vertex-ai/docs/vector-search/create-manage-index
    """
    return next((name for name, limit in SHARDS.items() if size <= limit), "SHARD_SIZE_LARGE")


def _check_same_tower(previous: CandidateEmbeddings, current: CandidateEmbeddings) -> None:
    towers = [state.made_from.get("candidate_tower") for state in (previous, current)]
    widths = [state.vectors.shape[1] for state in (previous, current)]
    if None in towers or towers[0] != towers[1] or widths[0] != widths[1]:
        before, after = (f"{tower or 'unknown'} ({width} wide)" for tower, width in zip(towers, widths, strict=True))
        raise ArtifactError(
            f"the index is of the candidate tower {before}, the new vectors of {after}; a partial update would mix "
            "vectors of two towers: make a new index, or overwrite this one completely and serve the new query tower"
        )


def _within(settings: config.VectorSearchSettings, attributes: pa.Table) -> config.VectorSearchSettings:
    """The settings, less the columns that these attributes lack."""
    there = attributes.column_names
    restricts, numeric = (
        names if names is None else [name for name in names if name in there]
        for names in (settings.restricts, settings.numeric_restricts)
    )
    crowding = settings.crowding if settings.crowding in there else None
    return settings.model_copy(update={"restricts": restricts, "numeric_restricts": numeric, "crowding": crowding})


def _changed(before: Datapoints, after: Datapoints) -> Int64:
    """The rows of `after` that are new or whose record differs, ascending."""
    import pyarrow.compute as pc

    old_rows = pc.fill_null(pc.index_in(after.ids, value_set=before.ids), -1).to_numpy().astype(np.int64)
    changed = old_rows < 0
    shared = np.flatnonzero(~changed)
    for start in range(0, len(shared), after.block_rows):
        rows = shared[start : start + after.block_rows]
        old, new = before.take(old_rows[rows]), after.take(rows)
        other_attributes = pc.not_equal(json_attributes(old), json_attributes(new)).to_numpy(zero_copy_only=False)
        changed[rows] = (old.vectors != new.vectors).any(axis=1) | other_attributes
    return np.flatnonzero(changed)


def _missing_from(ids: pa.StringArray, others: pa.StringArray) -> pa.StringArray:
    """Those of `ids` that are not among `others`."""
    import pyarrow.compute as pc

    return ids.filter(pc.invert(pc.is_in(ids, value_set=others)))


def _check_deletes(ids: pa.StringArray) -> None:
    """Refuses ids that a file of one id a line cannot hold."""
    import pyarrow.compute as pc

    broken = pc.index(pc.match_substring_regex(ids, r"[\r\n]"), True).as_py()
    if broken >= 0:
        raise ArtifactError(
            f"item {ids[broken].as_py()!r} is to be deleted, but its id has a line break and a file of deletes is one "
            "id a line; overwrite the index completely"
        )


def _empty(folder: Path) -> Path:
    """`folder`, made.

    Raises:
        ArtifactError: It holds something, which Vector Search would read too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArtifactError(f"{folder} holds files, which Vector Search would read as well; give an empty folder")
    return folder


def _write_data(folder: Path, points: Datapoints, *, file_bytes: int) -> list[Path]:
    """The files `part-00000.json` and so on in `folder`; none where there is no record."""
    paths: list[Path] = []
    for block in points.blocks():
        if not paths or paths[-1].stat().st_size >= file_bytes:
            paths.append(folder / f"part-{len(paths):05d}.json")
        if len(paths) > FILES_AT_MOST:
            raise ArtifactError(f"{folder}: Vector Search reads at most {FILES_AT_MOST} files; raise file_bytes")
        with paths[-1].open("ab") as file:
            file.write(json_lines(block))
    return paths


def _write_deletes(folder: Path, ids: pa.StringArray) -> None:
    """`part-00000.txt` with an id a line, where there are ids."""
    if len(ids):
        folder.mkdir()
        (folder / "part-00000.txt").write_bytes("".join(f"{item_id}\n" for item_id in ids.to_pylist()).encode())
