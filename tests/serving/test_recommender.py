"""A recommender: one query or several, with what is known of users, with conditions and exclusions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embeddings import write_embeddings as attributed_embeddings
from random_artefacts import (
    DAY,
    item_ids,
    random_log,
    write_embeddings,
    write_prepared,
    write_query_tower,
    write_version,
)
from strict_bucket import BUCKET, StrictBucket
from whole_version import write_whole_version

from two_tower import config
from two_tower.artifacts import content_hash
from two_tower.config import Range
from two_tower.data import EveryUser, open_prepared
from two_tower.errors import ArtifactError, DataError
from two_tower.index import Allowed, build_index
from two_tower.registry import Registry, Version
from two_tower.serving import KnownUsers, Recommender

ITEMS, USERS, KNOWN = 60, 12, 50
IDS = item_ids(ITEMS)
QUERIES = [{"history": [IDS[3], IDS[8]]}, {"history": [IDS[20]], "user.age": 30.0}, {"user.age": 50.0}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, and a version of which the tower knows the first 50 items."""
    folder = tmp_path_factory.mktemp("world")
    log = [*random_log(users=USERS - 1, items=ITEMS, events=400), (USERS - 1, 3, 119 * DAY)]
    write_prepared(folder / "prepared", log, items=ITEMS)
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    write_version(folder / "version", vectors, IDS, known=KNOWN)
    return folder


@pytest.fixture(scope="module")
def users(world: Path) -> KnownUsers:
    return EveryUser(open_prepared(world / "prepared"))


@pytest.fixture(scope="module")
def recommender(world: Path) -> Recommender:
    return Recommender.open(world / "version")


def test_several_queries_get_what_each_alone_would(recommender: Recommender) -> None:
    excluded = [[IDS[1]], [], [IDS[5], "unknown"]]
    batch = recommender.recommend(QUERIES, 7, exclude_seen=True, exclude=excluded)
    assert len(batch) == 3 and repr(batch) == "RecommendedBatch(3 queries)"
    for found, query, less in zip(batch, QUERIES, excluded, strict=True):
        alone = recommender.recommend(query, 7, exclude_seen=True, exclude=less)
        assert found.item_ids == alone.item_ids and len(alone) == 7
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-5)
        assert not {*less, *query.get("history", [])} & set(found.item_ids)
    as_table = pa.Table.from_pylist([{"history": query.get("history"), "user.age": query.get("user.age")}
                                     for query in QUERIES])  # fmt: skip
    again = recommender.recommend(as_table, 7, exclude_seen=True, exclude=excluded)
    assert again.to_arrow() == batch.to_arrow()


def test_many_queries_are_answered_in_blocks(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recommender.recommend(QUERIES * 4, 5)
    monkeypatch.setattr("two_tower.serving.recommender.BATCH", 5)
    assert recommender.recommend(QUERIES * 4, 5).item_ids == whole.item_ids
    assert len(recommender.recommend([], 5)) == 0


def test_results_become_tables(recommender: Recommender) -> None:
    batch = recommender.recommend([QUERIES[0], {"history": ["gone"]}, QUERIES[1]], 3)
    assert batch.reasons == [None, "unknown_history", None] and batch.unknown_history == [[], ["gone"], []]
    rows = batch.to_arrow().to_pylist()
    assert [(row["query"], row["rank"]) for row in rows] == [(query, rank) for query in (0, 2) for rank in (1, 2, 3)]
    assert [row["item_id"] for row in rows] == batch[0].item_ids + batch[2].item_ids
    assert batch[1].item_ids == [] and "1 without items" in repr(batch)
    assert list(batch.to_pandas().columns) == ["query", "rank", "item_id", "score"]
    alone = batch[0].to_pandas()
    assert list(alone["item_id"]) == batch[0].item_ids and alone["score"].is_monotonic_decreasing


def test_what_a_query_leaves_out_is_what_is_known_of_its_user(world: Path, users: KnownUsers) -> None:
    knowing = Recommender.open(world / "version", users=users)
    known = users.one("u4")
    assert known is not None and known["history"]
    plain = Recommender.open(world / "version")
    assert knowing.recommend({"user_id": "u4"}).item_ids == plain.recommend(known).item_ids
    own = {"user_id": "u4", "history": [IDS[2]]}
    assert knowing.recommend(own).item_ids == plain.recommend({**own, "user.age": known["user.age"]}).item_ids
    seen = knowing.recommend([{"user_id": "u4"}, own], ITEMS, exclude_seen=True)
    assert not set(known["seen"]) & set(seen[0].item_ids) and set(seen[1].item_ids) == set(IDS) - {IDS[2]}
    with pytest.raises(DataError, match="the logs hold no user 'nobody'"):
        knowing.recommend({"user_id": "nobody"})
    new = {"user_id": "nobody", "history": [IDS[2]]}
    assert knowing.recommend(new).item_ids == plain.recommend(new).item_ids


def test_conditions_say_which_items_may_be_returned(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(ITEMS, 8)).astype(np.float32)
    kinds = ["odd" if number % 2 else "even" for number in range(ITEMS)]
    attributes = pa.table({"kind": kinds, "price": range(ITEMS)})
    embeddings = attributed_embeddings(tmp_path / "embeddings", vectors, ids=IDS, attributes=attributes)
    write_query_tower(tmp_path / "query_tower", vectors, IDS, embeddings=embeddings)
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(kind="exact"))
    recommender = Recommender.open(tmp_path)
    odd = Allowed({"kind": ["odd"]})
    for allowed, expected in (
        (odd, IDS[1::2]),
        ({"kind": ["even"], "price": Range(max=9)}, IDS[0:10:2]),
        ({"item_id": [IDS[7], IDS[4], "gone"]}, [IDS[4], IDS[7]]),
    ):
        assert sorted(recommender.recommend(QUERIES[0], ITEMS, allowed=allowed).item_ids) == expected
    less = recommender.recommend(QUERIES[:2], ITEMS, allowed=odd, exclude=[[IDS[1]], [IDS[2]]])
    assert [sorted(found.item_ids) for found in less] == [IDS[3::2], IDS[1::2]]
    with pytest.raises(DataError, match="no attribute 'colour'"):
        recommender.recommend(QUERIES, allowed={"colour": ["red"]})


def test_wrong_queries_are_refused(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="takes no context shop"):
        recommender.recommend([{"history": [IDS[0]]}, {"context.shop": "x"}])
    with pytest.raises(DataError, match="none of the history's 2 items"):
        recommender.recommend({"history": ["gone", "lost"]})
    with pytest.raises(DataError, match=r"user\.age: expected a number"):
        recommender.recommend({"user.age": "old"})
    with pytest.raises(DataError, match="excluded items of 3 queries, got those of 1"):
        recommender.recommend(QUERIES, exclude=[[IDS[0]]])
    with pytest.raises(ArtifactError, match="not finite"):
        recommender.recommend({"history": [IDS[0]], "user.age": 1e300})


def test_a_version_is_opened_where_it_lies(world: Path, recommender: Recommender, tmp_path: Path) -> None:
    shutil.copytree(world / "version", tmp_path / "[team] work")
    assert Recommender.open(tmp_path / "[team] work").recommend(QUERIES[0]).item_ids
    stored = Recommender.open(Version("4f0c", world / "version", "champion"))
    assert repr(stored) == "Recommender(version 4f0c, 60 items, seen until unknown)"
    assert stored.recommend(QUERIES[0]).item_ids == recommender.recommend(QUERIES[0]).item_ids


def test_of_a_version_on_a_bucket_comes_what_answers(world: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    parts = write_whole_version(tmp_path / "version", world / "prepared", vectors, IDS, config={"name": "shop"})
    with StrictBucket() as storage:
        registry = Registry(f"gs://{BUCKET}/registry", "shop")
        version = registry.promote(parts)
        place = f"{registry.place}/versions/{version}"
        del storage.requests[:]
        away = Recommender.open(place)
        assert not any("trained_towers" in target or "evaluation" in target for _, target in storage.requests)
        assert repr(away).startswith(f"Recommender(version {version}, 60 items")
        assert (
            away.recommend(QUERIES[0]).item_ids == Recommender.open(tmp_path / "version").recommend(QUERIES[0]).item_ids
        )


def test_a_mix_is_refused(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "version" / "query_tower", tmp_path / "query_tower")
    vectors = np.ones((ITEMS, 8), np.float32)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, IDS, made_from={"candidate_tower": "another"})
    build_index(embeddings, tmp_path / "index", index=config.IndexSettings(kind="exact"))
    assert content_hash(embeddings) != content_hash(world / "version" / "embeddings")
    with pytest.raises(ArtifactError, match="query tower and index do not belong together"):
        Recommender.open(tmp_path)
