"""Building the `index` artefact, and loading it in another process."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from two_tower import config
from two_tower.artifacts import open_artifact, write_artifact
from two_tower.errors import ArtifactError
from two_tower.index.base import Index
from two_tower.index.embeddings import load_embeddings
from two_tower.index.exact import ExactIndex
from two_tower.index.quantized import ScannIndex
from two_tower.index.vector_search import write_vector_search

log = logging.getLogger("two_tower")

KIND = "index"
EXACT_BELOW = 20_000
"""Corpus size below which exact search is as fast, as ScaNN's documentation says."""
KINDS: dict[str, type[Index]] = {kind.kind: kind for kind in (ExactIndex, ScannIndex)}


def build_index(embeddings: str | Path, out: str | Path, *, index: config.Index) -> None:
    """Writes the `index` artefact of the candidates, and the input of Vertex Vector Search beside it.

    Args:
        embeddings: The `candidate_embeddings` artefact.
        out: The artefact's folder; what it held is replaced.
        index: The configuration's section.

    Raises:
        ArtifactError: The embeddings are damaged, or one is not finite.
    """
    candidates = load_embeddings(embeddings)
    items, dim = candidates.vectors.shape
    kind = _kind(index, items)
    log.info("building the %s index of %s candidates, %s wide", kind, f"{items:,}", dim)
    facts = {"config": index.model_dump(mode="json"), "made_from": candidates.made_from}
    with write_artifact(out, KIND, data_seen_until=candidates.manifest.data_seen_until, **facts) as artifact:
        artifact.write_table("ids.parquet", pa.table({"item_id": candidates.item_ids}))
        built = KINDS[kind].build(candidates.vectors, candidates.item_ids, settings=index)
        parameters = built.save(artifact.path("index/files").parent)
        artifact.write_json("settings.json", {"kind": kind, "dimension": dim, "parameters": parameters})
        log.info("writing the input of Vector Search")
        write_vector_search(artifact.path("vector_search/embeddings.json"), candidates.item_ids, candidates.vectors)


def load_index(folder: str | Path) -> Index:
    """The index of the `index` artefact in `folder`, wherever it was built.

    Raises:
        ArtifactError: The artefact is incomplete or damaged.
    """
    reader = open_artifact(folder, KIND)
    settings = reader.json("settings.json")
    kind = KINDS.get(settings["kind"])
    if kind is None:
        raise ArtifactError(f"{reader.folder}: the index is of the unknown kind {settings['kind']!r}; build it again")
    item_ids = reader.table("ids.parquet")["item_id"].combine_chunks()
    index = kind.load(reader.folder / "index", item_ids, dim=settings["dimension"], parameters=settings["parameters"])
    index.made_from = reader.manifest.made_from
    return index


def _kind(settings: config.Index, items: int) -> str:
    """The kind of index for a corpus of this size.  There is nothing to quantise without items."""
    if settings.kind == "auto" or items == 0:
        return "exact" if items < EXACT_BELOW else "scann"
    return settings.kind
