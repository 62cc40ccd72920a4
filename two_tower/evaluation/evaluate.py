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
from two_tower.evaluation.table_metrics import default_shown
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
    settings = evaluation or config.EvaluationSettings()
    made_from = {"prepared_data": prepared, "query_tower": query_tower, "index": index}
    if embeddings is not None:
        made_from["candidate_embeddings"] = embeddings
    work = _Evaluation(made_from, settings, split, profile, None if champion is None else Path(champion))
    found = work.measured(work.begun(version, before_refit))
    decided = run_gate(settings.checks, found, default=settings.gate_is_default) if split == "test" else TRIED
    work.write(out, found.model_copy(update={"gate": decided}))
    log.info("the gate: %s", decided.reason)
    return Evaluation.open(out)


class _Evaluation:
    """The work of `evaluate` on its artefacts."""

    def __init__(
        self,
        made_from: dict[str, Place],
        settings: config.EvaluationSettings,
        split: Split,
        profile: Place | None,
        champion: Path | None,
    ) -> None:
        self.made_from, self.settings, self.split = made_from, settings, split
        self.data = open_artifact(made_from["prepared_data"], "prepared_data")
        self.items = _candidate_table(self.data)
        self.profile = None if profile is None else read_profile(profile)
        self.champion = champion if split == "test" else None
        self.comparison: Comparison | None = None
        """None where there is no query."""

    def begun(self, version: str, before_refit: Place | None) -> Evaluation:
        """What is known without asking anything."""
        drift, days = _profiles(self.profile, self.champion)
        return Evaluation(
            split=self.split,
            ks=sorted(self.settings.ks),
            shown=self.settings.shown or default_shown(self.settings.ks),
            candidates=pc.sum(self.items["available"]).as_py() or 0,
            champion_candidates=None,
            exclude_seen=self.settings.exclude_seen,
            repeats=None,
            confidence=self.settings.confidence,
            smallest_slice=self.settings.smallest_slice,
            version=version,
            champion=None if self.champion is None else self.champion.name,
            champion_error=None,
            window=window_of(self.data, self.made_from["query_tower"], split=self.split),
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

    def measured(self, found: Evaluation) -> Evaluation:
        """The same with the figures of the version, the baselines and the champion, where there are queries."""
        exclude_seen, repeats = self.settings.exclude_seen, self.settings.repeats
        try:
            queries = Queries.load(self.data, exclude_seen=exclude_seen, repeats=repeats, split=self.split)
        except NoQueries as error:
            log.warning("%s", error)
            return found
        prepared, tower, index = (self.made_from[kind] for kind in ("prepared_data", "query_tower", "index"))
        comparison = Comparison(self.data, self.items, queries, self.settings, prepared=prepared)
        comparison.challenger(tower, index, self.made_from.get("candidate_embeddings"))
        comparison.baselines()
        if self.champion is not None and found.champion != found.version:
            comparison.champion(self.champion)
        self.comparison = comparison
        counts = RepeatCounts(**asdict(queries.repeated)) if queries.repeated else None
        return comparison.completed(found.model_copy(update={"repeats": counts}))

    def write(self, out: Place, found: Evaluation) -> None:
        """Writes the artefact."""
        with write_artifact(out, KIND, data_seen_until=self.data.manifest.data_seen_until) as artifact:
            artifact.manifest.config = self.settings.model_dump(mode="json")
            artifact.manifest.made_from = {kind: content_hash(place) for kind, place in self.made_from.items()}
            artifact.write_json(FILE, found.to_json())
            artifact.write_json("examples.json", self.comparison.examples() if self.comparison else [])
            if self.profile is not None:
                artifact.write_json(PROFILE, self.profile)
            if self.comparison:
                artifact.write_table("per_query.parquet", self.comparison.per_query())
            if self.comparison and "candidate_embeddings" in self.made_from:
                artifact.write_json(space.FILE, self.comparison.space())


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
