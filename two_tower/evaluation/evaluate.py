"""The `evaluation` artefact: a version against exact search, baselines and the champion, and the gate's decision."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower import config
from two_tower.artifacts import ArtifactReader, content_hash, open_artifact, read_manifest, write_artifact
from two_tower.contracts import Float32, Int64, Retriever
from two_tower.data import PROFILE, compare_profiles, read_profile
from two_tower.errors import ArtifactError
from two_tower.evaluation.confidence import interval, paired_difference, resampled_means
from two_tower.evaluation.examples import example_queries
from two_tower.evaluation.gate import run_gate
from two_tower.evaluation.index_quality import index_quality
from two_tower.evaluation.measure import Measured, Subsets, measure
from two_tower.evaluation.popularity import GROUPS, ItemPopularity, Taken
from two_tower.evaluation.queries import Queries, QueryBlock, Split
from two_tower.evaluation.sets import ItemSets
from two_tower.index import ExactIndex, load_embeddings, load_index
from two_tower.retrievers import QueryTower, TwoTowerRetriever, query_features

log = logging.getLogger("two_tower")

KIND = "evaluation"
CHALLENGER, EXACT, CHAMPION = "two_tower", "two_tower_exact", "champion"
Kind = Literal["challenger", "exact", "baseline", "champion"]
INDEX_SAMPLE = 1000
"""Queries, evenly spread, on which the index is compared with exact search."""


@dataclass(frozen=True)
class System:
    """A retriever that was measured, and its part in the comparison."""

    kind: Kind
    measured: Measured
    discovered: Measured | None
    """On items that are new to the user, those of the past excluded; None where that was not measured apart."""


def evaluate(
    prepared: str | Path,
    query_tower: str | Path,
    index: str | Path,
    embeddings: str | Path,
    out: str | Path,
    *,
    evaluation: config.Evaluation,
    version: str,
    champion: str | Path | None = None,
    profile: str | Path | None = None,
    split: Split = "test",
) -> str:
    """The gate's decision, `promote`, `refuse` or `keep`, once the `evaluation` artefact has been written.

    All candidates are ranked, ties count against the two towers, and queries see only what was before their cut-off.

    Args:
        prepared: The `prepared_data` artefact, for its queries and the baselines.
        query_tower: The version's `query_tower` artefact.
        index: Its `index` artefact.
        embeddings: The `candidate_embeddings` artefact that the index was built from, for exact search.
        out: The folder of the artefact.
        evaluation: The configuration's section.
        version: The version's id.
        champion: The champion's folder in the registry, named by its id.  It is evaluated on the same queries, unless
            it is this version; where it cannot be, metrics.json says why in `champion_error`.
        profile: The `data_profile` artefact of the data that the version was trained on.  It is kept with the
            evaluation, and its drift from the champion's goes into metrics.json.
        split: Whose queries: `validation` for choosing settings, `test` for what is reported.

    Raises:
        ArtifactError: An artefact is damaged, or they do not belong together.
        DataError: There is no query.
    """
    data = open_artifact(prepared, "prepared_data")
    queries = Queries.load(data, exclude_seen=evaluation.exclude_seen, split=split)
    discovery = queries.discovery()
    items = _candidate_table(data)
    popularity = ItemPopularity(items["train_count"].to_numpy())
    subsets = _relevant_slices(popularity)

    def measured(name: str, kind: Kind, retriever: Retriever) -> System:
        settings: dict[str, Any] = {"ks": evaluation.ks, "ties_against": kind != "baseline"}
        found = measure(name, retriever, queries, subsets=subsets, **settings)
        new = measure(f"{name} on new items", retriever, discovery, **settings) if discovery else None
        return System(kind, found, new)

    challenger, exact = _challenger(query_tower, index, embeddings, data=data, items=items)
    systems = {CHALLENGER: measured(CHALLENGER, "challenger", challenger)}
    if isinstance(challenger.index, ExactIndex):  # then exact search is what has just been measured
        systems[EXACT] = replace(systems[CHALLENGER], kind="exact")
    else:
        systems[EXACT] = measured(EXACT, "exact", challenger.with_index(exact))
    for settings in evaluation.baselines:
        baseline = settings.build(str(prepared), split=split)
        systems[settings.name] = measured(settings.name, "baseline", baseline)
    champion_id = None if champion is None else Path(champion).name
    champion_error = None
    if champion is not None and champion_id != version:
        try:
            retriever = _retriever(Path(champion) / "query_tower", Path(champion) / "index", data=data, items=items)
            systems[CHAMPION] = measured(CHAMPION, "champion", retriever)
        except Exception as error:  # whatever is wrong with it, the challenger's figures still count
            champion_error = str(error) or type(error).__name__
            log.warning("the champion %s cannot be evaluated: %s", champion_id, champion_error)
    candidates = pc.sum(items["available"]).as_py()
    log.info("bootstrapping %s times", f"{evaluation.bootstrap_samples:,}")
    metrics: dict[str, Any] = {
        "split": split,
        "ks": sorted(evaluation.ks),
        "candidates": candidates,
        "exclude_seen": evaluation.exclude_seen,
        "confidence": evaluation.confidence,
        "version": version,
        "champion": champion_id,
        "champion_error": champion_error,
        **_figures(systems, evaluation),
        "discovery": _discovery(systems, evaluation),
        "slices": _slices(systems, queries, evaluation),
        "popularity": _popularity(systems, queries, popularity, candidates=candidates),
        "index": {
            **_index_section(challenger, exact, queries),
            **{name: read_manifest(index, "index").measured.get(name) for name in ("target", "unmet")},
        },
    }
    described = None if profile is None else read_profile(profile)
    metrics["drift"] = _drift(described, champion)
    metrics["gate"] = run_gate(evaluation.gate, metrics)
    log.info("the gate: %s", metrics["gate"]["reason"])

    sources = {"prepared_data": prepared, "query_tower": query_tower, "index": index}
    sources["candidate_embeddings"] = embeddings
    with write_artifact(out, KIND, data_seen_until=data.manifest.data_seen_until) as artifact:
        artifact.manifest.config = evaluation.model_dump(mode="json")
        artifact.manifest.made_from = {kind: content_hash(folder) for kind, folder in sources.items()}
        artifact.write_json("metrics.json", metrics)
        if described is not None:
            artifact.write_json(PROFILE, described)
        artifact.write_table("per_query.parquet", _per_query(systems, queries.rows))
        examples = example_queries(challenger, queries, items, count=evaluation.examples, seed=evaluation.seed)
        artifact.write_json("examples.json", examples)
    decision: str = metrics["gate"]["decision"]
    return decision


def _drift(profile: dict[str, Any] | None, champion: str | Path | None) -> dict[str, Any] | None:
    """What has changed in the data since the champion was trained; None where one of the two profiles is missing."""
    path = None if champion is None else Path(champion) / KIND / PROFILE
    if profile is None or path is None or not path.is_file():
        return None
    return compare_profiles(json.loads(path.read_text(encoding="utf-8")), profile, skip=profile["not_compared"])


def _candidate_table(data: ArtifactReader) -> pa.Table:
    """What is needed of the candidate table: `item_id`, `train_count`, `available` and the `display.` columns."""
    names = pq.read_schema(data.path("items.parquet")).names
    display = [name for name in names if name.startswith("display.")]
    return data.table("items.parquet", ["item_id", "train_count", "available", *display])


def _challenger(
    query_tower: str | Path, index: str | Path, embeddings: str | Path, *, data: ArtifactReader, items: pa.Table
) -> tuple[TwoTowerRetriever, ExactIndex]:
    """The version's retriever, and exact search over the vectors that its index was built from.

    Raises:
        ArtifactError: They do not belong together.
    """
    retriever = _retriever(query_tower, index, data=data, items=items)
    if retriever.index.made_from.get("candidate_embeddings") != content_hash(embeddings):
        raise ArtifactError(f"{index}: was not built from the embeddings {embeddings}; use one run's outputs")
    candidates = load_embeddings(embeddings)
    exact = ExactIndex(candidates.vectors, candidates.item_ids)
    exact.made_from = candidates.made_from
    return retriever, exact


def _retriever(
    query_tower: str | Path, index: str | Path, *, data: ArtifactReader, items: pa.Table
) -> TwoTowerRetriever:
    """The retriever of a query tower and an index for the queries of the prepared data."""
    log.info("loading the query tower %s and the index %s", query_tower, index)
    return TwoTowerRetriever(
        QueryTower.load(query_tower),
        load_index(index),
        items=items["item_id"].combine_chunks(),
        features=query_features(data.json("features.json")),
    )


def _index_section(challenger: TwoTowerRetriever, exact: ExactIndex, queries: Queries) -> dict[str, Any]:
    """The `index` section, on evenly spread queries."""
    rows = np.unique(np.linspace(0, len(queries) - 1, min(INDEX_SAMPLE, len(queries))).astype(np.int64))
    log.info("comparing the index with exact search on %s queries", f"{len(rows):,}")
    return index_quality(challenger.index, exact, challenger.embed(queries.take(rows).table))


def _relevant_slices(popularity: ItemPopularity) -> Subsets:
    """The slices by relevant item: by the item's training events, and by whether the user saw it before."""

    def subsets(block: QueryBlock) -> dict[str, ItemSets]:
        members = block.relevant.members
        trained = popularity.train_count[members] > 0
        return {
            "repeated": block.relevant.intersection(block.seen),
            "new_to_user": block.relevant.difference(block.seen),
            "warm_new_to_user": block.relevant.where(trained).difference(block.seen),
            "cold_items": block.relevant.where(~trained),
            **{name: block.relevant.where(popularity.group[members] == group) for group, name in enumerate(GROUPS)},
        }

    return subsets


def _compared(
    metrics: Mapping[str, Mapping[str, Float32]], systems: Mapping[str, System], evaluation: config.Evaluation
) -> dict[str, Any]:
    """Queries, means with intervals, and paired differences on the same resamples.

    Args:
        metrics: By system and name, `[queries]`.
        systems: The systems, whose kinds say with which the two towers are compared.
        evaluation: How often to draw, and the intervals' confidence.
    """
    names = list(metrics[CHALLENGER])
    values = np.stack([found[name] for found in metrics.values() for name in names], axis=1)
    if not len(values):
        return {"queries": 0, "systems": {}, "comparisons": {}}
    resampled = resampled_means(values, samples=evaluation.bootstrap_samples, seed=evaluation.seed)
    means = values.mean(axis=0, dtype=np.float64)
    low, high = interval(resampled, confidence=evaluation.confidence)
    column = {pair: number for number, pair in enumerate((system, name) for system in metrics for name in names)}

    def figure(system: str, name: str) -> dict[str, float]:
        at = column[system, name]
        return {"value": float(means[at]), "low": float(low[at]), "high": float(high[at])}

    def difference(system: str, name: str) -> dict[str, float]:
        ours, theirs = column[CHALLENGER, name], column[system, name]
        return paired_difference(
            resampled[:, ours],
            resampled[:, theirs],
            difference=means[ours] - means[theirs],
            confidence=evaluation.confidence,
        )

    return {
        "queries": len(values),
        "systems": {system: {"metrics": {name: figure(system, name) for name in names}} for system in metrics},
        "comparisons": {
            system: {name: difference(system, name) for name in names}
            for system in metrics
            if systems[system].kind in ("baseline", "champion")
        },
    }


def _figures(systems: Mapping[str, System], evaluation: config.Evaluation) -> dict[str, Any]:
    """The sections `queries`, `systems` and `comparisons`: all relevant items of all queries."""
    figures = _compared({name: system.measured.metrics for name, system in systems.items()}, systems, evaluation)
    for name, system in systems.items():
        curve = {"k": list(system.measured.curve), "recall": list(system.measured.curve.values())}
        figures["systems"][name] |= {"kind": system.kind, "curve": curve}
    return figures


def _discovery(systems: Mapping[str, System], evaluation: config.Evaluation) -> dict[str, Any] | None:
    """The `discovery` section; None where all that is relevant is new to the user, or nothing is."""
    found = {name: system.discovered.metrics for name, system in systems.items() if system.discovered}
    return _compared(found, systems, evaluation) if found else None


def _slices(systems: Mapping[str, System], queries: Queries, evaluation: config.Evaluation) -> dict[str, Any]:
    """The `slices` section: recall by user and by relevant item."""
    new = queries.new_users()
    slices: dict[str, dict[str, Mapping[str, Float32]]] = {}
    for user_slice, of in {"returning_users": ~new, "new_users": new}.items():
        slices[user_slice] = {
            name: {metric: values[of] for metric, values in _recalls(system.measured)}
            for name, system in systems.items()
        }
    for item_slice in systems[CHALLENGER].measured.slices:
        slices[item_slice] = {
            name: {metric: values[np.isfinite(values)] for metric, values in system.measured.slices[item_slice].items()}
            for name, system in systems.items()
        }
    return {name: _compared(found, systems, evaluation) for name, found in slices.items()}


def _recalls(measured: Measured) -> list[tuple[str, Float32]]:
    return [(name, values) for name, values in measured.metrics.items() if name.startswith("recall@")]


def _popularity(
    systems: Mapping[str, System], queries: Queries, popularity: ItemPopularity, *, candidates: int
) -> dict[str, Any]:
    """The `popularity` section: how popular the items are that were consumed and that each system recommends."""
    consumed = Taken(queries.items)
    for block in queries.blocks():
        consumed.add(block.relevant.members)
    return {
        "items": popularity.sizes(),
        "consumed": consumed.described(popularity, candidates=candidates),
        "recommended": {
            name: system.measured.recommended.described(popularity, candidates=candidates)
            for name, system in systems.items()
        },
    }


def _per_query(systems: Mapping[str, System], rows: Int64) -> pa.Table:
    columns = {"query": pa.array(rows, pa.int32())}
    for name, system in systems.items():
        columns |= {f"{name}/{metric}": pa.array(values) for metric, values in system.measured.metrics.items()}
    return pa.table(columns)
