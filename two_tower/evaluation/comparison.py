"""The systems that are compared on some queries, and what an evaluation says about them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from two_tower import config
from two_tower.artifacts import ArtifactReader, Place, content_hash, read_manifest
from two_tower.contracts import Float32, Int64, Retriever
from two_tower.errors import ArtifactError, UserError
from two_tower.evaluation import embedding_space as space
from two_tower.evaluation.confidence import interval, paired_difference, resampled_means
from two_tower.evaluation.examples import example_queries
from two_tower.evaluation.index_quality import index_quality
from two_tower.evaluation.measure import Measured, measure
from two_tower.evaluation.popularity import ItemPopularity, Taken
from two_tower.evaluation.queries import Queries
from two_tower.evaluation.slices import Slices
from two_tower.evaluation.window import refuse_overlap
from two_tower.index import ExactIndex, load_embeddings, load_index
from two_tower.metrics_file import (
    CHALLENGER,
    Compared,
    Curve,
    Difference,
    Evaluation,
    Figure,
    IndexFigures,
    KeptTarget,
    LossStage,
    Number,
    PopularityFigures,
    Ranker,
    SliceFigures,
    System,
    Users,
)
from two_tower.retrievers import TwoTowerRetriever
from two_tower.towers import QueryTower, query_features

log = logging.getLogger("two_tower")

EXACT, CHAMPION = "two_tower_exact", "champion"
Kind = Literal["challenger", "exact", "baseline", "champion"]
INDEX_SAMPLE = 1000
"""Queries, evenly spread, on which the index is compared with exact search."""
REACHED = (0.9, 0.95, 0.99)
"""Shares of the recall at the largest K for which the number of candidates is told."""


@dataclass(frozen=True)
class MeasuredSystem:
    """A retriever that was measured, and its part in the comparison."""

    kind: Kind
    measured: Measured
    discovered: Measured | None
    """On items that are new to the user, those of the past excluded; None where that was not measured apart."""
    positions: Int64
    """The positions, among the queries, of those that it was measured on."""


class Comparison:
    """The systems that are measured on some queries, and what an evaluation says about them."""

    def __init__(
        self,
        data: ArtifactReader,
        items: pa.Table,
        queries: Queries,
        evaluation: config.EvaluationSettings,
        *,
        prepared: Place,
    ) -> None:
        self._data, self._items, self._queries, self._evaluation = data, items, queries, evaluation
        self._prepared = prepared
        self._discovery = queries.discovery()
        self._popularity = ItemPopularity(items["train_count"].to_numpy())
        self._slices = Slices(data, queries, self._popularity, columns=evaluation.slices)
        self._systems: dict[str, MeasuredSystem] = {}
        self._champion: dict[str, Any] = {}
        self._left_out: dict[str, str] = {}
        self._directions: Float32 | None = None

    def challenger(self, query_tower: Place, index: Place, embeddings: Place | None) -> None:
        """Measures the version end to end and, given its embeddings, with exact search.

        Raises:
            ArtifactError: They do not belong together.
        """
        self._two_towers = self._retriever(query_tower, index)
        self._built = read_manifest(index, "index").measured
        self._exact = None if embeddings is None else _exact_index(self._two_towers, index, embeddings)
        if self._exact is not None:
            self._vectors, self._known = self._by_number(self._exact)
            self._directions = space.directions(self._vectors)
        ours = self._measured(CHALLENGER, "challenger", self._two_towers)
        if self._exact is None:
            return
        if isinstance(self._two_towers.index, ExactIndex):  # then exact search is what has just been measured
            self._systems[EXACT] = replace(ours, kind="exact")
        else:
            sample = self._queries.spread(self._evaluation.exact_queries)
            self._measured(EXACT, "exact", self._two_towers.with_index(self._exact), sample=sample)

    def baselines(self) -> None:
        """Fits the baselines and measures them; one that cannot be fitted is left out, and the others still count."""
        for settings in self._evaluation.baselines:
            try:
                baseline = settings.build(os.fspath(self._prepared), split=self._queries.split)
                self._measured(settings.name, "baseline", baseline)
            except (UserError, MemoryError) as error:
                why = str(error).removeprefix(f"{settings.name}: ") or type(error).__name__
                self._left_out[settings.name] = why
                log.warning("the baseline %s is left out: %s", settings.name, why)

    def champion(self, folder: Path) -> None:
        """Measures the champion through its own towers and index.

        Whatever is wrong with it, the challenger's figures still count.
        """
        candidates, error = None, None
        try:
            index = load_index(folder / "index")
            candidates = len(index)
            refuse_overlap(self._data, folder, split=self._queries.split)
            self._measured(CHAMPION, "champion", self._retriever(folder / "query_tower", folder / "index"))
        except Exception as caught:
            error = str(caught) or type(caught).__name__
            log.warning("the champion %s cannot be evaluated: %s", folder.name, error)
        self._champion = {"champion_candidates": candidates, "champion_error": error}

    def completed(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with what was measured on the queries, and how many candidates the index holds."""
        log.info("bootstrapping %s times", f"{self._evaluation.bootstrap_samples:,}")
        main = self._main_figures()
        measured = {
            "candidates": len(self._two_towers.index),
            "left_out": self._left_out,
            "queries": main.queries,
            "systems": main.systems,
            "comparisons": main.comparisons,
            "loss": self._loss(),
            "discovery": self._discovery_section(),
            "slices": self._slices_section(),
            "popularity": self._popularity_section(),
            "users": self._users_section(),
            "ranker": self._ranker_section(),
            "index": self._index_section(),
        }
        return evaluation.model_copy(update=self._champion | measured)

    def per_query(self) -> pa.Table:
        """`query`, the row among the prepared queries, and the systems' metrics, null where one was not measured."""
        columns = {"query": pa.array(self._queries.rows, pa.int32())}
        for name, system in self._systems.items():
            for metric, values in system.measured.metrics.items():
                column = np.full(len(self._queries), np.nan, dtype=np.float32)
                column[system.positions] = values
                columns[f"{name}/{metric}"] = pa.array(column, from_pandas=True)
        return pa.table(columns)

    def space(self) -> dict[str, Any]:
        """The content of space.json."""
        rows = self._queries.spread(space.QUERIES)
        return space.describe_space(
            self._data, self._items, self._vectors, self._known, self._queries, self._embedded(rows),
            rows=rows, seed=self._evaluation.seed,
        )  # fmt: skip

    def examples(self) -> list[dict[str, Any]]:
        """The content of examples.json."""
        settings = self._evaluation
        return example_queries(
            self._two_towers, self._queries, self._items, count=settings.examples, seed=settings.seed
        )

    def _measured(self, name: str, kind: Kind, retriever: Retriever, *, sample: Int64 | None = None) -> MeasuredSystem:
        """The system of a retriever, measured and kept; of exact search on a `sample` alone where there are more."""
        settings: dict[str, Any] = {"ks": self._evaluation.ks, "ties_against": kind != "baseline"}
        queries, discovery, positions = self._queries, self._discovery, np.arange(len(self._queries))
        if sample is not None and len(sample) < len(queries):
            queries, discovery, positions = queries.sample(sample), None, sample
        found = measure(name, retriever, queries, subsets=self._slices.subsets, directions=self._directions, **settings)
        new = measure(f"{name} on new items", retriever, discovery, **settings) if discovery else None
        self._systems[name] = MeasuredSystem(kind, found, new, positions)
        return self._systems[name]

    def _retriever(self, query_tower: Place, index: Place) -> TwoTowerRetriever:
        """The retriever of a query tower and an index for the queries."""
        log.info("loading the query tower %s and the index %s", query_tower, index)
        return TwoTowerRetriever(
            QueryTower.open(query_tower),
            load_index(index),
            items=self._items["item_id"].combine_chunks(),
            features=query_features(self._data.json("features.json")),
        )

    def _by_number(self, exact: ExactIndex) -> tuple[Float32, Int64]:
        """The candidates' embeddings `[items, dim]` by item number, zeros for those without, and who has one."""
        numbers = pc.index_in(exact.item_ids, value_set=self._items["item_id"].combine_chunks())
        there = np.asarray(pc.is_valid(numbers))
        known = np.asarray(numbers.drop_null()).astype(np.int64)
        vectors = np.zeros((len(self._items), exact.dim), dtype=np.float32)
        vectors[known] = exact.vectors[there]
        return vectors, np.sort(known)

    def _embedded(self, rows: Int64) -> Float32:
        return self._two_towers.embed(self._queries.take(rows).table)

    @property
    def _everywhere(self) -> dict[str, MeasuredSystem]:
        """The systems that were measured on all queries."""
        return {name: one for name, one in self._systems.items() if len(one.positions) == len(self._queries)}

    def _main_figures(self) -> Compared:
        """The systems and their comparisons on all relevant items of all queries."""
        everywhere = self._compared({name: one.measured.metrics for name, one in self._everywhere.items()})
        systems = {}
        for name, system in self._systems.items():
            figures = everywhere.systems.get(name) or self._beside_end_to_end(system)
            curve = Curve(k=list(system.measured.curve), recall=list(system.measured.curve.values()))
            about = {"kind": system.kind, "queries": len(system.positions), "curve": curve}
            systems[name] = figures.model_copy(update=about)
        return everywhere.model_copy(update={"systems": systems})

    def _beside_end_to_end(self, system: MeasuredSystem) -> System:
        """The figures of a system that was measured on some of the queries, and the challenger's on the same ones."""
        ours = self._systems[CHALLENGER].measured.metrics
        same = {name: values[system.positions] for name, values in ours.items()}
        found = self._compared({EXACT: system.measured.metrics, CHALLENGER: same}).systems
        return found[EXACT].model_copy(update={"end_to_end": found[CHALLENGER]})

    def _compared(self, metrics: Mapping[str, Mapping[str, Float32]]) -> Compared:
        """Queries, means with intervals, and the challenger's paired differences on the same resamples.

        Args:
            metrics: By system and name, `[queries]`.
        """
        names = list(next(iter(metrics.values())))
        values = np.stack([found[name] for found in metrics.values() for name in names], axis=1)
        if not len(values):
            return Compared(queries=0, systems={}, comparisons={})
        confidence = self._evaluation.confidence
        resampled = resampled_means(values, samples=self._evaluation.bootstrap_samples, seed=self._evaluation.seed)
        means = values.mean(axis=0, dtype=np.float64)
        low, high = interval(resampled, confidence=confidence)
        column = {pair: number for number, pair in enumerate((system, name) for system in metrics for name in names)}

        def figure(system: str, name: str) -> Figure:
            at = column[system, name]
            return Figure(value=float(means[at]), low=float(low[at]), high=float(high[at]))

        def difference(system: str, name: str) -> Difference:
            ours, theirs = column[CHALLENGER, name], column[system, name]
            return paired_difference(
                resampled[:, ours], resampled[:, theirs], difference=means[ours] - means[theirs], confidence=confidence
            )

        return Compared(
            queries=len(values),
            systems={system: System(metrics={name: figure(system, name) for name in names}) for system in metrics},
            comparisons={
                system: {name: difference(system, name) for name in names}
                for system in metrics
                if self._systems[system].kind in ("baseline", "champion")
            },
        )

    def _loss(self) -> list[LossStage]:
        """By K the recall of a perfect ranking, of exact search and end to end, on the same queries."""
        exact = self._systems.get(EXACT)
        positions = (exact or self._systems[CHALLENGER]).positions
        sizes, findable = (
            counts[positions] for counts in (self._queries.relevant_counts(), self._queries.findable_counts())
        )

        def recall(system: MeasuredSystem, k: int, at: Int64) -> float:
            return float(system.measured.metrics[f"recall@{k}"][at].mean(dtype=np.float64))

        return [
            LossStage(
                k=k,
                queries=len(positions),
                ceiling=float(np.mean(np.minimum(findable, k) / sizes)),
                exact=recall(exact, k, np.arange(len(positions))) if exact else None,
                end_to_end=recall(self._systems[CHALLENGER], k, positions),
            )
            for k in sorted(self._evaluation.ks)
        ]

    def _discovery_section(self) -> Compared | None:
        """None where all that is relevant is new to the user, or nothing is."""
        found = {name: system.discovered.metrics for name, system in self._systems.items() if system.discovered}
        return self._compared(found) if found else None

    def _slices_section(self) -> dict[str, SliceFigures]:
        """Recall by query and by relevant item."""
        slices: dict[str, dict[str, Mapping[str, Float32]]] = {}
        for name, of in self._slices.queries.items():
            slices[name] = {
                system: {metric: values[of] for metric, values in _recalls(one.measured)}
                for system, one in self._everywhere.items()
            }
        for name in self._systems[CHALLENGER].measured.slices:
            slices[name] = {
                system: {metric: values[np.isfinite(values)] for metric, values in one.measured.slices[name].items()}
                for system, one in self._everywhere.items()
            }
        return {name: self._slice(name, found) for name, found in slices.items()}

    def _slice(self, name: str, metrics: Mapping[str, Mapping[str, Float32]]) -> SliceFigures:
        found = self._compared(metrics)
        too_small = found.queries < self._evaluation.smallest_slice
        about = self._slices.about[name]
        return SliceFigures(
            queries=found.queries,
            systems=found.systems,
            comparisons={} if too_small else found.comparisons,
            group=about.group,
            label=about.label,
            too_small=too_small,
        )

    def _popularity_section(self) -> PopularityFigures:
        """How popular the items are that were consumed and that each system recommends."""
        consumed = Taken(self._queries.items)
        for block in self._queries.blocks():
            consumed.add(block.relevant.members)
        candidates = pc.sum(self._items["available"]).as_py() or 0
        recommended: dict[str, dict[str, Number | None]] = {}
        for name, system in self._systems.items():
            recommended[name] = {**system.measured.recommended.described(self._popularity, candidates=candidates)}
            for k in self._evaluation.ks:
                recommended[name][f"diversity@{k}"] = system.measured.diversity.get(k)
        return PopularityFigures(
            items=self._popularity.sizes(),
            consumed={**consumed.described(self._popularity, candidates=candidates)},
            recommended=recommended,
        )

    def _users_section(self) -> Users | None:
        """The share of the users none of whose queries has a relevant item in the first K; None without users."""
        users = self._queries.users()
        if users is None:
            return None
        of, count = np.unique(users, return_inverse=True)[1], len(np.unique(users))

        def without(system: MeasuredSystem, k: int) -> float:
            served = np.bincount(of, weights=system.measured.metrics[f"hit_rate@{k}"], minlength=count)
            return float(np.mean(served == 0))

        ks = sorted(self._evaluation.ks)
        systems = self._everywhere.items()
        shares = {name: {k: without(one, k) for k in ks} for name, one in systems}
        return Users(count=count, without_good_candidate=shares)

    def _ranker_section(self) -> Ranker:
        """How many candidates, end to end, give which share of the recall at the largest K."""
        recall = self._systems[CHALLENGER].measured.recall_by_rank
        reached = {str(share): int(np.searchsorted(recall, share * recall[-1] - 1e-12)) + 1 for share in REACHED}
        return Ranker(depth=len(recall), recall=float(recall[-1]), candidates=reached)

    def _index_section(self) -> IndexFigures:
        """The index against exact search, and whether it keeps what it was built for."""
        rows = self._queries.spread(INDEX_SAMPLE)
        log.info("comparing the index with exact search on %s queries", f"{len(rows):,}")
        found = index_quality(self._two_towers.index, self._exact, self._embedded(rows))
        target, unmet = self._built.get("target"), self._built.get("unmet")
        kept = None if target is None else KeptTarget.model_validate(target)
        return found.model_copy(update={"target": kept, "unmet": unmet})


def _exact_index(challenger: TwoTowerRetriever, index: Place, embeddings: Place) -> ExactIndex:
    """Exact search over the vectors that the challenger's index was built from.

    Raises:
        ArtifactError: It was built from others.
    """
    if challenger.index.made_from.get("candidate_embeddings") != content_hash(embeddings):
        raise ArtifactError(f"{index}: was not built from the embeddings {embeddings}; use one run's outputs")
    candidates = load_embeddings(embeddings)
    exact = ExactIndex(candidates.vectors, candidates.item_ids)
    exact.made_from = candidates.made_from
    return exact


def _recalls(measured: Measured) -> list[tuple[str, Float32]]:
    return [(name, values) for name, values in measured.metrics.items() if name.startswith("recall@")]
