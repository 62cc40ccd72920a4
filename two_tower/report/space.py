"""The candidate space: score distributions, a map, and the nearest neighbours of well-known items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from two_tower.artifacts import ArtifactReader
from two_tower.report import plots
from two_tower.report.examples import Item, readable_item
from two_tower.report.svg import Picture

_FILE = "space.json"
_MOST_ITEMS = 12
_MOST_NEIGHBOURS = 10
_MOST_POINTS = 5000


@dataclass(frozen=True)
class ScoreHistogram:
    """The scores of relevant items and of random candidates."""

    picture: Picture
    above: float | None
    """In which share of the pairs the relevant item has the higher score."""


@dataclass(frozen=True)
class CandidateMap:
    """Some candidates on the plane."""

    picture: Picture
    column: str | None
    """Whose values colour it."""
    points: int


@dataclass(frozen=True)
class Neighbourhood:
    """A well-known item and its neighbours."""

    item: Item
    train_count: int
    neighbours: list[Item]


@dataclass(frozen=True)
class SpaceSection:
    """What the evaluation tells of the candidate space."""

    scores: ScoreHistogram | None
    map: CandidateMap | None
    neighbours: list[Neighbourhood]


def space_section(evaluation: ArtifactReader, *, display: Sequence[str]) -> SpaceSection | None:
    """What the evaluation tells of the candidate space; None where it tells nothing.

    Args:
        evaluation: The artefact.
        display: The columns of the items that people know them by, in the order to show them in.
    """
    if _FILE not in evaluation.manifest.files:
        return None
    space = evaluation.json(_FILE)
    scores, places, neighbours = (space.get(name) for name in ("scores", "map", "neighbours"))
    if not scores and not (places and places["points"]) and not neighbours:
        return None
    return SpaceSection(
        scores=_scores(scores) if scores else None,
        map=_map(places) if places and places["points"] else None,
        neighbours=[_neighbourhood(found, display=display) for found in (neighbours or [])[:_MOST_ITEMS]],
    )


def _scores(scores: Mapping[str, Any]) -> ScoreHistogram:
    return ScoreHistogram(
        picture=plots.score_distributions(scores["edges"], scores["positives"], scores["negatives"]),
        above=_above(scores["positives"], scores["negatives"]),
    )


def _above(positives: Sequence[int], negatives: Sequence[int]) -> float | None:
    """In which share of the pairs the positive has the higher score, as far as the bins tell; None without pairs."""
    above, below = np.asarray(positives, float), np.asarray(negatives, float)
    pairs = above.sum() * below.sum()
    return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs else None


def _map(places: Mapping[str, Any]) -> CandidateMap:
    points = np.asarray(places["points"][:_MOST_POINTS], float)
    picture = plots.candidate_map(points, places["categories"], explained=places["explained"])
    return CandidateMap(picture, places["column"], len(points))


def _neighbourhood(found: Mapping[str, Any], *, display: Sequence[str]) -> Neighbourhood:
    """A well-known item and its neighbours, whose cosine stands where an example has the score."""
    neighbours = [
        {**{key: value for key, value in item.items() if key != "cosine"}, "score": item["cosine"]}
        for item in found["neighbours"][:_MOST_NEIGHBOURS]
    ]
    return Neighbourhood(
        item=readable_item(found["item"], display=display),
        train_count=found["train_count"],
        neighbours=[readable_item(item, display=display) for item in neighbours],
    )
