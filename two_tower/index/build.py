"""Building the `index` artefact, and loading it in another process."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from two_tower import config
from two_tower.artifacts import ArtifactReader, ArtifactWriter, Place, open_artifact, write_artifact
from two_tower.contracts import Float32
from two_tower.errors import ArtifactError, ConfigError
from two_tower.index.artifact import KIND, Index
from two_tower.index.base import Effort, IndexKind, Layout, SearchIndex
from two_tower.index.embeddings import PREFIX, CandidateEmbeddings, attributes_in, load_embeddings
from two_tower.index.exact import EXACT_BELOW, ExactIndex
from two_tower.index.quantized import ScannIndex
from two_tower.index.sharded import ShardedIndex
from two_tower.index.tuning import MeasuredSetting, tune
from two_tower.index.vector_search import write_vector_search_input

log = logging.getLogger("two_tower")

STORAGES = ("float32", "bfloat16", "int8")
"""From the most exact to the smallest."""
KINDS: dict[str, type[IndexKind]] = {kind.kind: kind for kind in (ExactIndex, ScannIndex)}


def build_index(
    embeddings: Place, out: Place, *, index: config.IndexSettings | None = None, queries: Float32 | None = None
) -> Index:
    """Writes the `index` artefact of the candidates, and the input of Vertex Vector Search, to `out`; the artefact.

    With a target, kind and parameters are chosen for it on `queries`; what they give stands in the manifest.

    Args:
        embeddings: The `candidate_embeddings` artefact.
        out: The artefact's folder; what it held is replaced.
        index: The configuration's section; its defaults if not given.
        queries: Embeddings `[queries, dim]` of real queries; without them the settings are taken as given.

    Raises:
        ArtifactError: The embeddings are damaged, or one is not finite.
        ConfigError: No storage fits into the memory that the target allows.
    """
    settings = index or config.IndexSettings()
    candidates = load_embeddings(embeddings)
    facts = {"config": settings.model_dump(mode="json"), "made_from": candidates.made_from}
    with write_artifact(out, KIND, data_seen_until=candidates.manifest.data_seen_until, **facts) as artifact:
        _write_index(artifact, candidates, settings, queries)
        log.info("writing the input of Vector Search")
        write_vector_search_input(
            artifact.path("vector_search"),
            candidates.item_ids,
            candidates.vectors,
            candidates.attributes,
            settings.vector_search,
        )
    return Index.made(out)


def require_memory(items: int, dim: int, *, index: config.IndexSettings) -> None:
    """Checks that an index of so many vectors of this width fits into the memory that its target allows.

    Raises:
        ConfigError: It does not.
    """
    _plans(index, items, dim)


def load_index(folder: Place, *, shard: int | None = None) -> SearchIndex:
    """The index of the `index` artefact in `folder`, wherever it was built.

    Args:
        folder: The artefact's folder.
        shard: One shard alone, by its number from 0; the other shards' files need not be there.

    Raises:
        ArtifactError: The artefact is incomplete or damaged, has no such shard, or holds a file that would be run.
    """
    reader = open_artifact(folder, KIND, part=None if shard is None else _shard_name(shard))
    settings = reader.json("settings.json")
    if settings["kind"] not in KINDS:
        raise ArtifactError(f"{reader.folder}: the index is of the unknown kind {settings['kind']!r}; build it again")
    if shard is not None and not 0 <= shard < len(settings["shards"]):
        raise ArtifactError(
            f"{reader.folder}: there is no shard {shard}, the last one is {len(settings['shards']) - 1}"
        )
    numbers = range(len(settings["shards"])) if shard is None else [shard]
    shards = [_load_shard(reader, settings, number) for number in numbers]
    index = shards[0] if len(shards) == 1 else ShardedIndex(shards)
    index.made_from = reader.manifest.made_from
    return index


@dataclass(frozen=True)
class Built:
    """An index in memory."""

    kind: str
    shards: list[IndexKind]
    build_seconds: float

    @property
    def index(self) -> SearchIndex:
        return self.shards[0] if len(self.shards) == 1 else ShardedIndex(self.shards)


def _write_index(
    artifact: ArtifactWriter, candidates: CandidateEmbeddings, settings: config.IndexSettings, queries: Float32 | None
) -> None:
    """Builds, tunes and saves the shards; the manifest gets what was measured."""
    plans = _plans(settings, *candidates.vectors.shape)
    if settings.target is None or queries is None or not len(queries):
        chosen = _build(*plans[0], candidates, settings)
    else:
        chosen, measured = _choose(plans, candidates, settings, queries, settings.target)
        facts = {"build_seconds": round(chosen.build_seconds, 2), **measured.facts()}
        artifact.manifest.measured = {"target": settings.target.model_dump(mode="json"), **facts}
        _tell(measured)
    items, shards = _items(candidates), []
    for number, shard in enumerate(chosen.shards):
        parameters = _save_shard(artifact, number, shard, items.slice(0, len(shard)))
        shards.append({"rows": len(shard), "parameters": parameters})
        items = items.slice(len(shard))
    artifact.manifest.rows["candidates"] = len(candidates.item_ids)
    artifact.write_json(
        "settings.json", {"kind": chosen.kind, "dimension": candidates.vectors.shape[1], "shards": shards}
    )


def _choose(
    plans: Sequence[tuple[str, Layout]],
    candidates: CandidateEmbeddings,
    settings: config.IndexSettings,
    queries: Float32,
    target: config.IndexTargetSettings,
) -> tuple[Built, MeasuredSetting]:
    """The first of the plans that keeps the target; else the one that comes closest."""
    best: tuple[Built, MeasuredSetting] | None = None
    for kind, layout in plans:
        built = _build(kind, layout, candidates, settings)
        measured = tune(built.index, candidates.vectors, queries, target)
        if best is None or measured.closeness() > best[1].closeness():
            best = built, measured
        if not measured.unmet():
            break
        log.info("the %s index, %s: %s", kind, layout.storage, "; ".join(measured.unmet()))
    assert best is not None  # there is always a plan
    return best


def _plans(settings: config.IndexSettings, items: int, dim: int) -> list[tuple[str, Layout]]:
    """What may be built, the first choice first.

    Raises:
        ConfigError: Nothing fits into the memory that the target allows.
    """
    storages = STORAGES if settings.storage == "auto" else (settings.storage,)
    scann = [("scann", Layout(storage, settings.soar)) for storage in storages]
    exact = [("exact", Layout())]
    if items == 0 or settings.kind == "exact":  # there is nothing to quantise without items
        plans = exact
    elif settings.kind == "scann":
        plans = scann
    else:
        plans = exact + scann if items < EXACT_BELOW else scann + exact
    most = settings.target.memory_gb if settings.target else None
    if most is None:
        return [plan for plan in plans if plan[1].storage == storages[0] or plan[0] == "exact"]
    fitting = [plan for plan in plans if KINDS[plan[0]].memory_bytes(items, dim, plan[1]) <= most * 1e9]
    if not fitting:
        least, storage = min((KINDS[kind].memory_bytes(items, dim, layout), layout.storage) for kind, layout in plans)
        raise ConfigError(
            f"index.target.memory_gb: {items:,} vectors of width {dim} need at least {least / 1e9:.3g} GB as "
            f"{storage}, {most:g} are allowed; raise it, or lower model.dim"
        )
    return fitting


def _build(kind: str, layout: Layout, candidates: CandidateEmbeddings, settings: config.IndexSettings) -> Built:
    items, dim = candidates.vectors.shape
    log.info("building the %s index of %s candidates, %s wide, as %s", kind, f"{items:,}", dim, layout.storage)
    effort = Effort(reorder=settings.reorder, leaves_to_search=settings.leaves_to_search)
    started = time.monotonic()
    bounds = np.linspace(0, items, min(settings.shards, max(1, items)) + 1).astype(np.int64)
    shards = [
        KINDS[kind].build(candidates.vectors[start:stop], candidates.item_ids[start:stop], layout=layout, effort=effort)
        for start, stop in itertools.pairwise(bounds)
    ]
    return Built(kind, shards, time.monotonic() - started)


def _tell(measured: MeasuredSetting) -> None:
    """Logs what was chosen, and warns where it is not what was asked for."""
    if measured.chosen is None:
        return
    times = ", ".join(f"{name} {value:.3f} ms" for name, value in measured.chosen.latency_ms.items())
    log.info("chosen on %s queries: recall@%s %.4f, %s", measured.queries, measured.k, measured.chosen.recall, times)
    if unmet := measured.unmet():
        log.warning("no index keeps index.target: %s", "; ".join(unmet))


def _items(candidates: CandidateEmbeddings) -> pa.Table:
    """The ids and the attributes of the candidates, under the names that they have in files."""
    names = [f"{PREFIX}{name}" for name in candidates.attributes.column_names]
    return candidates.attributes.rename_columns(names).add_column(0, "item_id", candidates.item_ids)


def _save_shard(artifact: ArtifactWriter, number: int, shard: IndexKind, items: pa.Table) -> dict[str, Any]:
    name = _shard_name(number)
    artifact.write_table(f"{name}/items.parquet", items)
    return shard.save(artifact.path(f"{name}/index/files").parent)


def _load_shard(reader: ArtifactReader, settings: dict[str, Any], number: int) -> IndexKind:
    name = _shard_name(number)
    items = reader.table(f"{name}/items.parquet")
    item_ids = items["item_id"].combine_chunks()
    kind, parameters = KINDS[settings["kind"]], settings["shards"][number]["parameters"]
    shard = kind.load(reader.folder / name / "index", item_ids, dim=settings["dimension"], parameters=parameters)
    shard.attributes = attributes_in(items)
    return shard


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"
