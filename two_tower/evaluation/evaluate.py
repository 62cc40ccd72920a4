"""The `evaluation` artefact: a version against exact search, baselines and the champion, and the gate's decision."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower import config
from two_tower.artifacts import ArtifactReader, content_hash, open_artifact, write_artifact
from two_tower.contracts import Float32, Int64
from two_tower.data import PROFILE, compare_profiles, read_profile
from two_tower.errors import ArtifactError
from two_tower.evaluation.confidence import interval, paired_difference, resampled_means
from two_tower.evaluation.examples import example_queries
from two_tower.evaluation.gate import run_gate
from two_tower.evaluation.index_quality import index_quality
from two_tower.evaluation.measure import Measured, Subsets, measure
from two_tower.evaluation.queries import QueryBlock, TestQueries
from two_tower.evaluation.sets import Bool, ItemSets
from two_tower.index import ExactIndex, load_embeddings, load_index
from two_tower.retrievers import QueryTower, TwoTowerRetriever, query_features

log = logging.getLogger("two_tower")

KIND = "evaluation"
CHALLENGER, EXACT, CHAMPION = "two_tower", "two_tower_exact", "champion"
INDEX_SAMPLE = 1000
"""Queries, evenly spread, on which the index is compared with exact search."""


@dataclass(frozen=True)
class System:
    """A retriever that was measured, and its part in the comparison."""

    kind: Literal["challenger", "exact", "baseline", "champion"]
    measured: Measured


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
) -> str:
    """The gate's decision, `promote`, `refuse` or `keep`, once the `evaluation` artefact has been written.

    All candidates are ranked, ties count against the two towers, and queries see only what was before their cut-off.

    Args:
        prepared: The `prepared_data` artefact, for its test queries and the baselines.
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

    Raises:
        ArtifactError: An artefact is damaged, or they do not belong together.
        DataError: There is no test query.
    """
    data = open_artifact(prepared, "prepared_data")
    queries = TestQueries.load(data, exclude_seen=evaluation.exclude_seen)
    items = _candidate_table(data)
    challenger, exact = _challenger(query_tower, index, embeddings, data=data, items=items)
    measured = partial(
        measure, queries=queries, ks=evaluation.ks, subsets=_relevant_slices(items["train_count"].to_numpy())
    )
    systems = {
        CHALLENGER: System("challenger", measured(CHALLENGER, challenger, ties_against=True)),
        EXACT: System("exact", measured(EXACT, challenger.with_index(exact), ties_against=True)),
    }
    for settings in evaluation.baselines:
        baseline = settings.build(str(prepared), split="test")
        systems[settings.name] = System("baseline", measured(settings.name, baseline, ties_against=False))
    champion_id = None if champion is None else Path(champion).name
    champion_error = None
    if champion is not None and champion_id != version:
        try:
            retriever = _retriever(Path(champion) / "query_tower", Path(champion) / "index", data=data, items=items)
            systems[CHAMPION] = System("champion", measured(CHAMPION, retriever, ties_against=True))
        except Exception as error:  # whatever is wrong with it, the challenger's figures still count
            champion_error = str(error) or type(error).__name__
            log.warning("the champion %s cannot be evaluated: %s", champion_id, champion_error)
    metrics: dict[str, Any] = {
        "queries": len(queries),
        "ks": sorted(evaluation.ks),
        "candidates": pc.sum(items["available"]).as_py(),
        "exclude_seen": evaluation.exclude_seen,
        "confidence": evaluation.confidence,
        "version": version,
        "champion": champion_id,
        "champion_error": champion_error,
        **_figures(systems, evaluation),
        "index": _index_section(challenger, exact, queries),
        "slices": _slices(systems[CHALLENGER].measured, queries.new_users(), evaluation),
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


def _index_section(challenger: TwoTowerRetriever, exact: ExactIndex, queries: TestQueries) -> dict[str, Any]:
    """The `index` section, on evenly spread queries."""
    rows = np.unique(np.linspace(0, len(queries) - 1, min(INDEX_SAMPLE, len(queries))).astype(np.int64))
    log.info("comparing the index with exact search on %s queries", f"{len(rows):,}")
    return index_quality(challenger.index, exact, challenger.embed(queries.take(rows).table))


def _relevant_slices(train_count: Int64) -> Subsets:
    """The slices by relevant item: never trained on, new to the user, and seen by the user before."""

    def subsets(block: QueryBlock) -> dict[str, ItemSets]:
        return {
            "cold_items": block.relevant.where(train_count[block.relevant.members] == 0),
            "new_to_user": block.relevant.difference(block.seen),
            "repeated": block.relevant.intersection(block.seen),
        }

    return subsets


def _figures(systems: Mapping[str, System], evaluation: config.Evaluation) -> dict[str, Any]:
    """The `systems` and `comparisons` sections: means, intervals, and paired differences on the same resamples."""
    names = list(systems[CHALLENGER].measured.metrics)
    values = np.stack([system.measured.metrics[name] for system in systems.values() for name in names], axis=1)
    log.info("bootstrapping %s figures %s times", values.shape[1], f"{evaluation.bootstrap_samples:,}")
    resampled = resampled_means(values, samples=evaluation.bootstrap_samples, seed=evaluation.seed)
    means = values.mean(axis=0, dtype=np.float64)
    low, high = interval(resampled, confidence=evaluation.confidence)
    column = {pair: number for number, pair in enumerate((system, name) for system in systems for name in names)}
    figures: dict[str, Any] = {"systems": {}, "comparisons": {}}
    for name, system in systems.items():
        metrics = {}
        for metric in names:
            at = column[name, metric]
            metrics[metric] = {"value": float(means[at]), "low": float(low[at]), "high": float(high[at])}
        curve = {"k": list(system.measured.curve), "recall": list(system.measured.curve.values())}
        figures["systems"][name] = {"kind": system.kind, "metrics": metrics, "curve": curve}
        if system.kind in ("baseline", "champion"):
            figures["comparisons"][name] = {
                metric: paired_difference(
                    resampled[:, ours := column[CHALLENGER, metric]],
                    resampled[:, theirs := column[name, metric]],
                    difference=means[ours] - means[theirs],
                    confidence=evaluation.confidence,
                )
                for metric in names
            }
    return figures


def _slices(measured: Measured, new_user: Bool, evaluation: config.Evaluation) -> dict[str, Any]:
    """The `slices` section, of the two towers end to end."""
    recalls = {name: values for name, values in measured.metrics.items() if name.startswith("recall@")}
    users = {"new_users": new_user, "returning_users": ~new_user}
    slices = {name: {metric: values[of] for metric, values in recalls.items()} for name, of in users.items()}
    for name, metrics in measured.slices.items():
        slices[name] = {metric: values[np.isfinite(values)] for metric, values in metrics.items()}
    return {name: _slice(metrics, evaluation) for name, metrics in slices.items()}


def _slice(metrics: Mapping[str, Float32], evaluation: config.Evaluation) -> dict[str, Any]:
    """The number of queries and the mean of each metric with its interval, None without a query."""
    values = np.stack(list(metrics.values()), axis=1)
    if not len(values):
        return {"queries": 0, **dict.fromkeys(metrics)}
    resampled = resampled_means(values, samples=evaluation.bootstrap_samples, seed=evaluation.seed)
    ends = interval(resampled, confidence=evaluation.confidence)
    figures = zip(metrics, values.mean(axis=0, dtype=np.float64), *ends, strict=True)
    named = {name: {"value": float(mean), "low": float(low), "high": float(high)} for name, mean, low, high in figures}
    return {"queries": len(values), **named}


def _per_query(systems: Mapping[str, System], rows: Int64) -> pa.Table:
    columns = {"query": pa.array(rows, pa.int32())}
    for name, system in systems.items():
        columns |= {f"{name}/{metric}": pa.array(values) for metric, values in system.measured.metrics.items()}
    return pa.table(columns)
