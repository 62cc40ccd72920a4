"""The candidate space for people to look at: how scores are spread, a map in two dimensions, nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import Float32, Int64
from two_tower.evaluation.popularity import GROUPS, ItemPopularity
from two_tower.evaluation.queries import Queries

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "space.json"
BINS = 40
QUERIES, NEGATIVES = 1000, 20
"""Queries whose scores are taken, and candidates drawn at random for each."""
POINTS, CATEGORIES, MOST_DISTINCT = 3000, 8, 60
WELL_KNOWN, NEIGHBOURS = 10, 5
UNIT = 1e-12


def describe_space(
    data: ArtifactReader, items: pa.Table, vectors: Float32, known: Int64, queries: Queries, query_vectors: Float32,
    *, rows: Int64, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The content of space.json.

    Args:
        data: The `prepared_data` artefact, for a column to colour the map by.
        items: The candidate table with `item_id`, `train_count` and the `display.` columns.
        vectors: The candidates' embeddings `[items, dim]`.
        known: The numbers of the items that have one.
        queries: The queries.
        query_vectors: The embeddings `[rows, dim]` of those of them at `rows`.
        rows: See `query_vectors`.
        seed: Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    if not len(known):
        return {"scores": None, "map": None, "neighbours": []}
    return {
        "scores": _scores(vectors, known, queries, query_vectors, rows=rows, rng=rng),
        "map": _map(data, items, vectors, known, rng=rng),
        "neighbours": _neighbours(items, vectors, known),
    }


def directions(vectors: Float32) -> Float32:
    """The vectors `[items, dim]` at length 1, zeros as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32 = vectors / np.maximum(lengths, np.float32(UNIT))
    return scaled


def _scores(
    vectors: Float32, known: Int64, queries: Queries, query_vectors: Float32, *, rows: Int64, rng: np.random.Generator
) -> dict[str, Any]:
    """Histograms of the scores of relevant items and of candidates drawn at random, on the same edges."""
    relevant = queries.take(rows).relevant
    owners, members = relevant.keys // max(relevant.items, 1), relevant.members
    there = np.isin(members, known)
    positives = np.einsum("nd,nd->n", query_vectors[owners[there]], vectors[members[there]])
    drawn = rng.choice(known, size=(len(rows), NEGATIVES))
    negatives = np.einsum("qd,qnd->qn", query_vectors, vectors[drawn]).reshape(-1)
    both = np.concatenate([positives, negatives])
    low, high = np.quantile(both, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    clipped = [np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] for scores in (positives, negatives)]
    return {"edges": edges.tolist(), "positives": clipped[0].tolist(), "negatives": clipped[1].tolist()}


def _map(
    data: ArtifactReader, items: pa.Table, vectors: Float32, known: Int64, *, rng: np.random.Generator
) -> dict[str, Any]:
    """Some candidates on the first two principal components of their directions."""
    chosen = np.sort(rng.choice(known, size=min(POINTS, len(known)), replace=False))
    centred = directions(vectors[chosen]).astype(np.float64)
    centred -= centred.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(chosen), 2))
    places[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    explained = sizes**2 / max(float((sizes**2).sum()), UNIT)
    column, names, numbers = _categories(data, chosen) or _by_popularity(items, chosen)
    return {
        "column": column,
        "categories": names,
        "explained": [float(share) for share in explained[:2]],
        "points": [
            [round(float(x), 4), round(float(y), 4), number] for (x, y), number in zip(places, numbers, strict=True)
        ],
    }


def _categories(data: ArtifactReader, chosen: Int64) -> tuple[str, list[str], list[int]] | None:
    """The first column of the candidate table with few distinct texts: its name, its values, and each item's."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = pq.read_schema(data.path("items.parquet"))
    for prefix in ("display.", "feature.", "attribute."):
        for name in schema.names:
            if not name.startswith(prefix) or not pa.types.is_string(schema.field(name).type):
                continue
            texts = pc.fill_null(data.table("items.parquet", [name])[name].take(chosen), "").to_pylist()
            values, counts = np.unique(texts, return_counts=True)
            if 2 <= len(values) <= MOST_DISTINCT:
                largest = [str(value) for value in values[np.argsort(-counts, kind="stable")] if value][:CATEGORIES]
                names = [*largest, "other"]
                place = {value: number for number, value in enumerate(names)}
                return name.partition(".")[2], names, [place.get(text, len(largest)) for text in texts]
    return None


def _by_popularity(items: pa.Table, chosen: Int64) -> tuple[str, list[str], list[int]]:
    """In the place of a column: how popular an item is."""
    counts = items["train_count"].to_numpy()
    group = np.where(counts > 0, ItemPopularity(counts).group, len(GROUPS))
    return "popularity", [*GROUPS, "no event"], group[chosen].tolist()


def _neighbours(items: pa.Table, vectors: Float32, known: Int64) -> list[dict[str, Any]]:
    """The items with most training events, each with the candidates that point the same way."""
    counts = items["train_count"].to_numpy()[known]
    famous = known[np.argsort(-counts, kind="stable")[:WELL_KNOWN]]
    cosines = directions(vectors) @ directions(vectors[famous]).T
    cosines[~np.isin(np.arange(len(vectors)), known)] = -np.inf
    cosines[famous, np.arange(len(famous))] = -np.inf  # itself
    shown = items.select([name for name in items.column_names if name == "item_id" or name.startswith("display.")])

    def described(number: int) -> dict[str, Any]:
        (row,) = shown.slice(number, 1).to_pylist()
        return {name.removeprefix("display."): value for name, value in row.items()}

    found = []
    for column, number in enumerate(famous.tolist()):
        best = np.argsort(-cosines[:, column], kind="stable")[: min(NEIGHBOURS, len(known) - 1)]
        neighbours = [{**described(int(other)), "cosine": float(cosines[other, column])} for other in best]
        count = items["train_count"][number].as_py()
        found.append({"item": described(number), "train_count": count, "neighbours": neighbours})
    return found
