"""The `evaluation` artefact: a version against exact search, baselines and the champion, and the gate's decision."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower import config
from two_tower.artifacts import ArtifactReader, Place, content_hash, open_artifact, write_artifact
from two_tower.data import PROFILE, read_profile
from two_tower.errors import NoQueries
from two_tower.evaluation import embedding_space as space
from two_tower.evaluation.comparison import CHAMPION, Comparison
from two_tower.evaluation.gate import run_gate
from two_tower.evaluation.queries import Queries, Split
from two_tower.evaluation.shown import default_shown
from two_tower.evaluation.window import window_of
from two_tower.metrics_file import (
    CHALLENGER,
    FILE,
    KIND,
    Days,
    Drift,
    Evaluation,
    Gate,
    IndexFigures,
    RepeatCounts,
    System,
    values_of,
)
from two_tower.profile import compare_profiles, incomplete_days

log = logging.getLogger("two_tower")

TRIED = Gate(
    decision="try",
    reason="Measured on validation queries: nothing is decided, and no test query was read.",
    checks=[],
)
"""What the gate says of an evaluation on validation queries."""


def evaluate(
    prepared: Place,
    query_tower: Place,
    index: Place,
    embeddings: Place | None,
    out: Place,
    *,
    evaluation: config.EvaluationSettings | None = None,
    version: str,
    champion: Place | None = None,
    profile: Place | None = None,
    before_refit: Place | None = None,
    split: Split = "test",
) -> Evaluation:
    """The figures of a version and the decision of the gate, once the `evaluation` artefact has been written to `out`.

    On validation queries, which choose settings, nothing is decided (`try`), and the champion, which may have been
    trained on them, plays no part.

    All candidates are ranked, ties count against the two towers, and queries see only what was before their cut-off.

    Args:
        prepared: The `prepared_data` artefact, for its queries and the baselines.
        query_tower: The version's `query_tower` artefact.
        index: Its `index` artefact.
        embeddings: The `candidate_embeddings` artefact that the index was built from, for exact search; without it
            what the index loses is not told.
        out: The folder of the artefact.
        evaluation: The configuration's section; its defaults if not given.
        version: The version's id, as `version_id` gives it.
        champion: The champion's folder in the registry, named by its id.  It is evaluated on the same queries, unless
            it is this version; where it cannot be, metrics.json says why in `champion_error`.
        profile: The `data_profile` artefact of the data that the version was trained on.  It is kept with the
            evaluation, and its drift from the champion's goes into metrics.json.
        before_refit: The `before_refit` artefact of the same training; its figures go into metrics.json.
        split: Whose queries: `validation` for choosing settings, `test` for what is reported.

    Raises:
        ArtifactError: An artefact is damaged, or they do not belong together.
        ConfigError: A column of `evaluation.slices` is not there.
    """
    evaluation = evaluation or config.EvaluationSettings()
    data = open_artifact(prepared, "prepared_data")
    items = _candidate_table(data)
    described = None if profile is None else read_profile(profile)
    champion = champion if split == "test" else None
    drift, days = _profiles(described, champion)
    found = Evaluation(
        split=split,
        ks=sorted(evaluation.ks),
        shown=evaluation.shown or default_shown(evaluation.ks),
        candidates=pc.sum(items["available"]).as_py() or 0,
        champion_candidates=None,
        exclude_seen=evaluation.exclude_seen,
        repeats=None,
        confidence=evaluation.confidence,
        smallest_slice=evaluation.smallest_slice,
        version=version,
        champion=None if champion is None else Path(champion).name,
        champion_error=None,
        window=window_of(data, query_tower, split=split),
        drift=drift,
        days=days,
        queries=0,
        left_out={},
        systems={},
        comparisons={},
        slices={},
        loss=[],
        before_refit=None if before_refit is None else _before_refit(before_refit),
        discovery=None,
        popularity=None,
        users=None,
        ranker=None,
        index=None,
    )
    sources = {"prepared_data": prepared, "query_tower": query_tower, "index": index}
    if embeddings is not None:
        sources["candidate_embeddings"] = embeddings
    measured = None
    try:
        queries = Queries.load(data, exclude_seen=evaluation.exclude_seen, repeats=evaluation.repeats, split=split)
    except NoQueries as error:
        log.warning("%s", error)
    else:
        measured = Comparison(data, items, queries, evaluation, prepared=prepared)
        measured.challenger(query_tower, index, embeddings)
        measured.baselines()
        if champion is not None and found.champion != version:
            measured.champion(Path(champion))
        repeats = RepeatCounts(**asdict(queries.repeated)) if queries.repeated else None
        found = measured.completed(found.model_copy(update={"repeats": repeats}))
    decides = split == "test"
    gate = run_gate(evaluation.checks, found, default=evaluation.gate_is_default) if decides else TRIED
    found = found.model_copy(update={"gate": gate})
    with write_artifact(out, KIND, data_seen_until=data.manifest.data_seen_until) as artifact:
        artifact.manifest.config = evaluation.model_dump(mode="json")
        artifact.manifest.made_from = {kind: content_hash(folder) for kind, folder in sources.items()}
        artifact.write_json(FILE, found.to_json())
        artifact.write_json("examples.json", measured.examples() if measured else [])
        if described is not None:
            artifact.write_json(PROFILE, described)
        if measured:
            artifact.write_table("per_query.parquet", measured.per_query())
        if measured and embeddings is not None:
            artifact.write_json(space.FILE, measured.space())
    log.info("the gate: %s", gate.reason)
    return Evaluation.open(out)


def headlines(measured: Evaluation) -> dict[str, float]:
    """The main figures of an evaluation: end-to-end metrics, the index's recall and latency, by name."""
    ours = measured.systems.get(CHALLENGER, System())
    found: dict[str, float] = {"queries": measured.queries, **values_of(ours.metrics)}
    for name, difference in measured.comparisons.get(CHAMPION, {}).items():
        if name.startswith("recall@"):
            found[f"{name}_minus_champion"] = difference.difference
    index = measured.index or IndexFigures()
    found |= {f"index_recall@{k}": value for k, value in index.recall.items() if value is not None}
    return found | {f"latency_{name}_ms": value for name, value in index.latency_ms.items() if value is not None}


def _profiles(profile: dict[str, Any] | None, champion: Place | None) -> tuple[Drift | None, Days | None]:
    """What has changed in the data since the champion was trained, and the days that are missing from it.

    The first is None where one of the two profiles is missing, the second where the data tells no days.
    """
    if profile is None:
        return None, None
    path = None if champion is None else Path(champion) / KIND / PROFILE
    earlier = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None
    changes = earlier and compare_profiles(earlier, profile, skip=profile["not_compared"])
    drift = Drift.model_validate(changes) if changes else None
    per_day = profile.get("per_day") or {"day": []}
    if not per_day["day"]:
        return drift, None
    return drift, Days.model_validate(incomplete_days(per_day, earlier and earlier.get("per_day")))


def _candidate_table(data: ArtifactReader) -> pa.Table:
    """What is needed of the candidate table: `item_id`, `train_count`, `available` and the `display.` columns."""
    names = pq.read_schema(data.path("items.parquet")).names
    display = [name for name in names if name.startswith("display.")]
    return data.table("items.parquet", ["item_id", "train_count", "available", *display])


def _before_refit(folder: Place) -> System | None:
    """What the towers had before their refit; None where there was none."""
    figures = open_artifact(folder, "before_refit").json("figures.json")
    return figures and System.model_validate(figures)
