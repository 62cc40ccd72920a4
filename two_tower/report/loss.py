"""Where recall is lost: out of reach, by the model, by the index; and the index itself."""

from __future__ import annotations

from dataclasses import dataclass

from two_tower.artifacts import ArtifactReader
from two_tower.metrics_file import Evaluation, IndexFigures, LossStage
from two_tower.report import plots
from two_tower.report.svg import Picture
from two_tower.report.values import readable


@dataclass(frozen=True)
class Stage:
    """Where recall goes at one K, in shares of the relevant items."""

    k: int
    ceiling: float
    exact: float
    end_to_end: float
    index: float | None
    """The index's own recall, against exact search."""

    @property
    def lost_index(self) -> float:
        """What exact search finds and the index does not."""
        return self.exact - self.end_to_end

    @property
    def lost_model(self) -> float:
        """What is in reach and exact search does not find."""
        return max(0.0, self.ceiling - max(self.exact, self.end_to_end))

    @property
    def out_of_reach(self) -> float:
        """What no ranking would find."""
        return max(0.0, 1 - self.ceiling)


@dataclass(frozen=True)
class LossSection:
    """The stages at every K, and a sentence on one of them."""

    stages: list[Stage]
    queries: int | None
    """Those that exact search was measured on, where these are not all."""
    sentence: str | None
    advice: str | None


def loss_section(evaluation: Evaluation) -> LossSection:
    """Where recall is lost."""
    index = (evaluation.index or IndexFigures()).recall
    stages = [
        Stage(stage.k, stage.ceiling, stage.exact, stage.end_to_end, index.get(stage.k))
        for stage in sorted(evaluation.loss, key=lambda stage: stage.k)
        if stage.exact is not None
    ]
    at = next((stage for stage in evaluation.loss if stage.k == evaluation.main_k), None)
    main = next((stage for stage in stages if stage.k == evaluation.main_k), None)
    repeats = evaluation.repeats
    missed = repeats is not None and repeats.counted == "miss" and repeats.relevant > 0
    return LossSection(
        stages,
        queries=at.queries if at and at.queries != evaluation.queries else None,
        sentence=_found(at) if at else None,
        advice=_advice(main, repeats=missed) if main else None,
    )


def _found(stage: LossStage) -> str:
    """How many of 100 relevant items are found, by exact search and by the index."""
    k, index = stage.k, 100 * stage.end_to_end
    if stage.exact is None:
        return f"Of 100 relevant items, {index:.1f} are in the index's first {k:,}; exact search was not measured."
    exact = 100 * stage.exact
    decimals = 0 if round(exact) != round(index) else 1
    return (
        f"Of 100 relevant items, {exact:.{decimals}f} are in the exact first {k:,}, {index:.{decimals}f} in the "
        f"index's."
    )


def _advice(stage: Stage, *, repeats: bool) -> str:
    """Where the rest of the recall went, and what would bring it back.

    `repeats` tells whether some relevant items cannot be found, as the user has had them.
    """
    k, model, index, reach = stage.k, stage.lost_model, stage.lost_index, stage.out_of_reach
    parts = [f"{model:.4f} is missed by the model (exact search does not find it either)"]
    parts.append(f"{index:.4f} by the index (exact search finds it)" if index >= 0.00005 else "nothing by the index")
    if reach >= 0.00005:
        had = " or ask for items that the user has had" if repeats else ""
        parts.append(f"{reach:.4f} is out of reach, since some queries have more than {k:,} relevant items{had}")
    where = (
        "better towers, not a wider search, would raise recall"
        if model >= index
        else "a wider search in the index would raise recall first"
    )
    missing = 1 - stage.end_to_end
    return f"Of the {missing:.4f} that is missing, {', '.join(parts[:-1])} and {parts[-1]}: {where}."


@dataclass(frozen=True)
class IndexSection:
    """The index's kind and settings, its latency, and what the tuning found."""

    kind: str
    recall: dict[int, float | None]
    latency: dict[str, float | None]
    settings: dict[str, str]
    unmet: list[str]
    picture: Picture | None
    queries: int | None
    """Those that it was tuned on."""


def index_section(evaluation: Evaluation, index: ArtifactReader) -> IndexSection:
    """The index, as it was built and as it was measured."""
    found = evaluation.index or IndexFigures()
    settings = index.json("settings.json")
    shards = settings["shards"]
    tuning = index.manifest.measured
    shown = {"dimension": settings["dimension"], "shards": len(shards), **(shards[0]["parameters"] if shards else {})}
    points = [point for point in tuning.get("points", []) if point["effort"] is not None]
    chosen = tuning.get("chosen")
    return IndexSection(
        kind=found.kind or settings["kind"],
        recall=dict(sorted(found.recall.items())),
        latency={**found.latency_ms},
        settings={key.replace("_", " "): readable(value) for key, value in shown.items()},
        unmet=tuning.get("unmet") or [],
        picture=plots.index_tuning(points, chosen, tuning["target"]) if points and chosen else None,
        queries=tuning.get("queries"),
    )
