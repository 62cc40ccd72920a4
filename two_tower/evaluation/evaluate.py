"""The `evaluation` artefact: a version against exact search, baselines and the champion, and the gate's decision."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower import config
from two_tower.artifacts import ArtifactReader, content_hash, open_artifact, read_manifest, write_artifact
from two_tower.data import PROFILE, read_profile
from two_tower.errors import NoQueries
from two_tower.evaluation import embedding_space as space
from two_tower.evaluation.comparison import CHALLENGER, CHAMPION, Comparison
from two_tower.evaluation.gate import run_gate
from two_tower.evaluation.queries import Queries, Split
from two_tower.evaluation.shown import default_shown
from two_tower.evaluation.window import window_of
from two_tower.profile import compare_profiles, incomplete_days

log = logging.getLogger("two_tower")

KIND = "evaluation"
TRIED = {
    "decision": "try",
    "reason": "Measured on validation queries: nothing is decided, and no test query was read.",
    "checks": [],
}
"""The `gate` section of an evaluation on validation queries."""
SECTIONS = ("systems", "comparisons", "slices")
"""What metrics.json holds by name, empty where there is no query."""


def evaluate(
    prepared: str | Path,
    query_tower: str | Path,
    index: str | Path,
    embeddings: str | Path | None,
    out: str | Path,
    *,
    evaluation: config.EvaluationSettings,
    version: str,
    champion: str | Path | None = None,
    profile: str | Path | None = None,
    before_refit: str | Path | None = None,
    split: Split = "test",
) -> str:
    """The gate's decision, `promote`, `refuse` or `keep`, once the `evaluation` artefact has been written.

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
        evaluation: The configuration's section.
        version: The version's id.
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
    data = open_artifact(prepared, "prepared_data")
    items = _candidate_table(data)
    described = None if profile is None else read_profile(profile)
    champion = champion if split == "test" else None
    drift, days = _profiles(described, champion)
    metrics: dict[str, Any] = {
        "split": split,
        "ks": sorted(evaluation.ks),
        "shown": evaluation.shown or default_shown(evaluation.ks),
        "candidates": pc.sum(items["available"]).as_py() or 0,
        "champion_candidates": None,
        "exclude_seen": evaluation.exclude_seen,
        "repeats": None,
        "confidence": evaluation.confidence,
        "smallest_slice": evaluation.smallest_slice,
        "version": version,
        "champion": None if champion is None else Path(champion).name,
        "champion_error": None,
        "window": window_of(data, query_tower, split=split),
        "drift": drift,
        "days": days,
        "queries": 0,
        "left_out": {},
        **{name: {} for name in SECTIONS},
        "loss": [],
        "before_refit": before_refit and open_artifact(before_refit, "before_refit").json("figures.json"),
        **dict.fromkeys(("discovery", "popularity", "users", "ranker", "index")),
    }
    sources = {"prepared_data": prepared, "query_tower": query_tower, "index": index}
    if embeddings is not None:
        sources["candidate_embeddings"] = embeddings
    measured = None
    try:
        queries = Queries.load(data, exclude_seen=evaluation.exclude_seen, repeats=evaluation.repeats, split=split)
    except NoQueries as error:
        log.warning("%s", error)
    else:
        metrics["repeats"] = queries.repeated
        measured = Comparison(data, items, queries, evaluation, prepared=prepared)
        measured.challenger(query_tower, index, embeddings)
        measured.baselines()
        if champion is not None and metrics["champion"] != version:
            metrics |= measured.champion(Path(champion))
        metrics |= measured.figures()
        metrics["index"] |= {name: read_manifest(index, "index").measured.get(name) for name in ("target", "unmet")}
    decides = split == "test"
    metrics["gate"] = run_gate(evaluation.checks, metrics, default=evaluation.gate_is_default) if decides else TRIED
    with write_artifact(out, KIND, data_seen_until=data.manifest.data_seen_until) as artifact:
        artifact.manifest.config = evaluation.model_dump(mode="json")
        artifact.manifest.made_from = {kind: content_hash(folder) for kind, folder in sources.items()}
        artifact.write_json("metrics.json", metrics)
        artifact.write_json("examples.json", measured.examples() if measured else [])
        if described is not None:
            artifact.write_json(PROFILE, described)
        if measured:
            artifact.write_table("per_query.parquet", measured.per_query())
        if measured and embeddings is not None:
            artifact.write_json(space.FILE, measured.space())
    decision: str = metrics["gate"]["decision"]
    log.info("the gate: %s", metrics["gate"]["reason"])
    return decision


def headlines(evaluation: str | Path) -> dict[str, float]:
    """The main figures of an `evaluation` artefact: end-to-end metrics, the index's recall and latency, by name."""
    metrics = open_artifact(evaluation, KIND).json("metrics.json")
    ours = metrics["systems"].get(CHALLENGER, {"metrics": {}})["metrics"]
    found = {"queries": metrics["queries"], **{name: figure["value"] for name, figure in ours.items()}}
    for name, difference in metrics["comparisons"].get(CHAMPION, {}).items():
        if name.startswith("recall@"):
            found[f"{name}_minus_champion"] = difference["difference"]
    index = metrics["index"] or {"latency_ms": {}}
    found |= {f"index_{name}": index[name] for name in index if name.startswith("recall@") and index[name] is not None}
    return found | {f"latency_{name}_ms": value for name, value in index["latency_ms"].items()}


def _profiles(
    profile: dict[str, Any] | None, champion: str | Path | None
) -> tuple[dict[str, Any] | None, dict[str, list[str]] | None]:
    """What has changed in the data since the champion was trained, and the days that are missing from it.

    The first is None where one of the two profiles is missing, the second where the data tells no days.
    """
    if profile is None:
        return None, None
    path = None if champion is None else Path(champion) / KIND / PROFILE
    earlier = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None
    drift = earlier and compare_profiles(earlier, profile, skip=profile["not_compared"])
    per_day = profile.get("per_day") or {"day": []}
    return drift, incomplete_days(per_day, earlier and earlier.get("per_day")) if per_day["day"] else None


def _candidate_table(data: ArtifactReader) -> pa.Table:
    """What is needed of the candidate table: `item_id`, `train_count`, `available` and the `display.` columns."""
    names = pq.read_schema(data.path("items.parquet")).names
    display = [name for name in names if name.startswith("display.")]
    return data.table("items.parquet", ["item_id", "train_count", "available", *display])
