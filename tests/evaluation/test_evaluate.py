"""The evaluation artefact of a small world, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from random_artefacts import (
    DAY,
    TEST_FROM,
    Log,
    item_ids,
    random_log,
    write_embeddings,
    write_prepared,
    write_query_tower,
)

from two_tower import config
from two_tower.artifacts import open_artifact, write_artifact
from two_tower.columns import column_hashes
from two_tower.errors import ArtifactError, ConfigError
from two_tower.evaluation import evaluate
from two_tower.index import build_index
from two_tower.profile import describe, sketch

ITEMS = 80
IDS = item_ids(ITEMS)
KS = [5, 20, 1000]
METRICS = ("recall", "hit_rate", "precision", "mrr", "ndcg", "map")
BASELINES = [{"type": "popularity"}, {"type": "recent_popularity"}, {"type": "personal_frequency"}]
GATE = [
    {"type": "enough_queries", "at_least": 5},
    {"type": "index_recall", "at_least": 0.99},
    {"type": "not_worse_than_champion", "metric": "recall@20", "margin": 0.05},
]


@pytest.fixture(scope="module")
def log() -> Log:
    cold = [(40, ITEMS - 1, TEST_FROM), (0, ITEMS - 2, TEST_FROM + DAY)]  # the first by a new user
    return random_log(users=40, items=ITEMS - 5, events=2000) + cold


def write_version(
    folder: Path, vectors: np.ndarray, ids: list[str], *, seen_until: int | None = None, kind: str = "auto"
) -> Path:
    embeddings = write_embeddings(folder / "embeddings", vectors, ids, made_from={"candidate_tower": "c0ffee"})
    write_query_tower(folder / "query_tower", vectors, ids, embeddings=embeddings, seen_until=seen_until)
    build_index(embeddings, folder / "index", index=config.IndexSettings.model_validate({"kind": kind}))
    return folder


def vectors_of(seed: int, items: int = ITEMS) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_prepared(folder / "prepared", log, items=ITEMS)
    write_version(folder / "challenger", vectors_of(0), IDS)
    write_version(folder / "old", vectors_of(1, ITEMS - 9), [*IDS[: ITEMS - 10][::-1], "gone"])
    return folder


def run(
    world: Path, out: Path, *, champion: Path | None = None, profile: Path | None = None, **settings: Any
) -> tuple[str, Any]:
    section = {
        "ks": KS,
        "baselines": BASELINES,
        "gate": GATE,
        "bootstrap_samples": 200,
        "smallest_slice": 1,
        **settings,
    }
    new = world / "challenger"
    measured = evaluate(
        world / "prepared",
        new / "query_tower",
        new / "index",
        new / "embeddings",
        out,
        evaluation=config.EvaluationSettings.model_validate(section),
        version="new",
        champion=champion,
        profile=profile,
    )
    return measured.gate.decision, open_artifact(out, "evaluation").json("metrics.json")


def test_without_a_champion(world: Path, tmp_path: Path, log: Log) -> None:
    decision, metrics = run(world, tmp_path / "evaluation")
    queries = pq.read_table(world / "prepared/test")
    assert decision == metrics["gate"]["decision"] == "promote"
    assert [check["status"] for check in metrics["gate"]["checks"]] == ["skipped", "passed", "passed", "skipped"]
    assert metrics["queries"] == len(queries) and metrics["candidates"] == ITEMS and metrics["ks"] == KS
    assert (metrics["version"], metrics["champion"], metrics["champion_error"]) == ("new", None, None)
    kinds = {name: system["kind"] for name, system in metrics["systems"].items()}
    assert kinds == {
        "two_tower": "challenger",
        "two_tower_exact": "exact",
        "popularity": "baseline",
        "recent_popularity": "baseline",
        "personal_frequency": "baseline",
    }
    for system in metrics["systems"].values():
        assert set(system["metrics"]) == {f"{m}@{k}" for m in METRICS for k in KS}
        assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in system["metrics"].values())
        assert system["curve"]["k"] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
        assert system["curve"]["recall"][2] == pytest.approx(system["metrics"]["recall@5"]["value"])
        assert system["metrics"]["recall@1000"]["value"] == 1
    assert set(metrics["comparisons"]) == {"popularity", "recent_popularity", "personal_frequency"}
    for name, comparison in metrics["comparisons"].items():
        ours, theirs = (metrics["systems"][system]["metrics"]["recall@5"]["value"] for system in ("two_tower", name))
        assert comparison["recall@5"]["difference"] == pytest.approx(ours - theirs)
        assert set(comparison["recall@5"]) == {"difference", "low", "high", "probability_better"}
    assert metrics["index"] | {"latency_ms": None} == {
        "kind": "exact", "recall@10": 1, "recall@100": 1, "latency_ms": None, "target": None, "unmet": None
    }  # fmt: skip
    assert set(metrics["index"]["latency_ms"]) == {"p50", "p95", "p99"}


def test_recall_is_that_of_counting_by_hand(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation")
    vectors = vectors_of(0)
    rows = pq.read_table(world / "prepared/test").to_pylist()
    expected: dict[str, list[float]] = {}
    for row in rows:
        query = sum((vectors[item] for item in row["history"]), np.zeros(8)) + 1e-3
        found = set(np.argsort(-(query * (1 + (row["user.age"] or 0) / 100)) @ vectors.T)[:5].tolist())
        relevant = set(row["relevant"])
        expected.setdefault("all", []).append(len(found & relevant) / len(relevant))
        expected.setdefault("new_users" if row["new_user"] else "returning_users", []).append(expected["all"][-1])
        for name, part in (("repeated", relevant & set(row["seen"])), ("new_to_user", relevant - set(row["seen"]))):
            if part:
                expected.setdefault(name, []).append(len(found & part) / len(part))
    recall = metrics["systems"]["two_tower"]["metrics"]["recall@5"]["value"]
    assert recall == pytest.approx(np.mean(expected.pop("all")))
    for name, values in expected.items():
        assert metrics["slices"][name]["queries"] == len(values)
        recall_of_slice = metrics["slices"][name]["systems"]["two_tower"]["metrics"]["recall@5"]["value"]
        assert recall_of_slice == pytest.approx(np.mean(values), abs=1e-6)
    assert metrics["slices"]["cold_items"]["queries"] == 2
    per_query = pq.read_table(tmp_path / "evaluation/per_query.parquet")
    assert per_query["query"].to_pylist() == list(range(len(rows)))
    assert np.mean(per_query["two_tower/recall@5"].to_numpy()) == pytest.approx(recall)


def group_of(counts: list[int]) -> list[str]:
    """The popularity group of each item, counted one after the other."""
    groups, before = [""] * len(counts), 0
    for item in sorted(range(len(counts)), key=lambda item: (-counts[item], item)):
        thirds = 3 * before / sum(counts)
        groups[item] = "head" if thirds < 1 else "middle" if thirds < 2 else "tail"
        before += counts[item]
    return groups


def test_every_system_is_measured_on_every_slice(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation", champion=world / "old")
    items = pq.read_table(world / "prepared/items.parquet").to_pydict()
    counts, groups = items["train_count"], group_of(items["train_count"])
    popular = np.argsort(-(np.array(counts) + items["validation_count"]), kind="stable")[:5].tolist()
    expected: dict[str, list[float]] = {}
    for row in pq.read_table(world / "prepared/test").to_pylist():
        parts = {
            name: {item for item in row["relevant"] if groups[item] == name} for name in ("head", "middle", "tail")
        }
        parts["warm_new_to_user"] = {item for item in set(row["relevant"]) - set(row["seen"]) if counts[item]}
        for name, part in parts.items():
            if part:
                expected.setdefault(name, []).append(len(part & set(popular)) / len(part))
    assert metrics["popularity"]["items"] == {name: groups.count(name) for name in ("head", "middle", "tail")}
    for name, values in expected.items():
        found = metrics["slices"][name]
        assert found["queries"] == len(values) and set(found["systems"]) == set(metrics["systems"])
        theirs, ours = (found["systems"][who]["metrics"]["recall@5"]["value"] for who in ("popularity", "two_tower"))
        assert theirs == pytest.approx(np.mean(values), abs=1e-6)
        assert set(found["comparisons"]) == {"popularity", "recent_popularity", "personal_frequency", "champion"}
        compared = found["comparisons"]["popularity"]["recall@5"]
        assert compared["difference"] == pytest.approx(ours - theirs)
        assert compared["low"] <= compared["difference"] <= compared["high"]


def test_discovery_is_about_new_items_with_the_past_excluded(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation")
    items = pq.read_table(world / "prepared/items.parquet").to_pydict()
    order = np.argsort(-(np.array(items["train_count"]) + items["validation_count"]), kind="stable").tolist()
    expected = []
    for row in pq.read_table(world / "prepared/test").to_pylist():
        new = set(row["relevant"]) - set(row["seen"])
        if new:
            expected.append(len(new & set([item for item in order if item not in row["seen"]][:5])) / len(new))
    discovery = metrics["discovery"]
    assert discovery["queries"] == len(expected) < metrics["queries"]
    assert discovery["systems"]["popularity"]["metrics"]["recall@5"]["value"] == pytest.approx(np.mean(expected))
    assert set(discovery["systems"]) == set(metrics["systems"])
    assert discovery["comparisons"]["popularity"].keys() == metrics["comparisons"]["popularity"].keys()
    _, excluding = run(world, tmp_path / "excluding", exclude_seen=True, repeats="leave_out")
    assert excluding["discovery"] is None
    for name, system in excluding["systems"].items():
        assert discovery["systems"][name]["metrics"] == system["metrics"]


def test_what_is_recommended_is_set_against_what_is_consumed(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation")
    items = pq.read_table(world / "prepared/items.parquet").to_pydict()
    counts, groups = np.array(items["train_count"]), group_of(items["train_count"])
    consumed = [item for row in pq.read_table(world / "prepared/test").to_pylist() for item in row["relevant"]]
    top = np.argsort(-(counts + items["validation_count"]), kind="stable")[:5]  # the same for everybody
    for taken, found in (
        (consumed, metrics["popularity"]["consumed"]),
        (top.tolist(), {name: metrics["popularity"]["recommended"]["popularity"][f"{name}@5"] for name in
                        ("head", "middle", "tail", "log_count", "coverage")}),
    ):  # fmt: skip
        for name in ("head", "middle", "tail"):
            assert found[name] == pytest.approx(np.mean([groups[item] == name for item in taken]))
        assert found["log_count"] == pytest.approx(np.mean(np.log(1 + counts[taken])))
        assert found["coverage"] == pytest.approx(len(set(taken)) / ITEMS)


def test_validation_queries_can_be_measured(world: Path, tmp_path: Path) -> None:
    version, section = world / "challenger", {"ks": KS, "baselines": BASELINES, "bootstrap_samples": 200}
    evaluate(
        world / "prepared", version / "query_tower", version / "index", version / "embeddings", tmp_path / "evaluation",
        evaluation=config.EvaluationSettings.model_validate(section), version="new", split="validation",
    )  # fmt: skip
    metrics = open_artifact(tmp_path / "evaluation", "evaluation").json("metrics.json")
    rows = pq.read_table(world / "prepared/validation").to_pylist()
    counts = np.array(pq.read_table(world / "prepared/items.parquet")["train_count"])
    popular = set(np.argsort(-counts, kind="stable")[:5].tolist())
    assert metrics["split"] == "validation" and metrics["queries"] == len(rows)
    assert metrics["systems"]["popularity"]["metrics"]["recall@5"]["value"] == pytest.approx(
        np.mean([len(popular & set(row["relevant"])) / len(row["relevant"]) for row in rows])
    )


def test_a_champion_with_another_vocabulary_is_compared(world: Path, tmp_path: Path) -> None:
    decision, metrics = run(world, tmp_path / "evaluation", champion=world / "old")
    assert metrics["champion"] == "old" and metrics["champion_error"] is None
    assert metrics["systems"]["champion"]["kind"] == "champion"
    assert metrics["systems"]["champion"]["metrics"]["recall@1000"]["value"] < 1  # it lacks the ten newest items
    assert metrics["gate"]["checks"][2]["value"] is not None
    assert decision in ("promote", "refuse")


def test_the_champion_itself_is_kept_and_not_evaluated_twice(world: Path, tmp_path: Path) -> None:
    champion = tmp_path / "new"
    shutil.copytree(world / "challenger", champion)
    decision, metrics = run(world, tmp_path / "evaluation", champion=champion)
    assert decision == "keep" and metrics["champion"] == "new" and "champion" not in metrics["systems"]
    settings = {"gate": [{"type": "enough_queries", "at_least": 10_000}]}
    assert run(world, tmp_path / "refused", champion=champion, **settings)[0] == "refuse"


@pytest.mark.parametrize("damage", ["no folder", "no manifest", "mixed"])
def test_an_unreadable_champion_fails_its_check(world: Path, tmp_path: Path, damage: str) -> None:
    champion = tmp_path / "old"
    if damage != "no folder":
        shutil.copytree(world / "old", champion)
    if damage == "no manifest":
        (champion / "index/manifest.json").unlink()
    if damage == "mixed":
        shutil.rmtree(champion / "index")
        shutil.copytree(world / "challenger/index", champion / "index")
    decision, metrics = run(world, tmp_path / "evaluation", champion=champion)
    assert decision == "refuse" and "champion" not in metrics["systems"] and "champion" not in metrics["comparisons"]
    expected = "do not belong together" if damage == "mixed" else "no manifest.json"
    assert expected in metrics["champion_error"] and expected in metrics["gate"]["reason"]
    assert run(world, tmp_path / "ungated", champion=champion, gate=[])[0] == "promote"


def test_repeats_that_are_left_out_leave_new_items_alone(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation", exclude_seen=True, repeats="leave_out")
    rows = pq.read_table(world / "prepared/test").to_pylist()
    left = [number for number, row in enumerate(rows) if set(row["relevant"]) - set(row["seen"])]
    assert 0 < len(left) < len(rows) and metrics["queries"] == len(left) and metrics["exclude_seen"]
    assert metrics["slices"]["repeated"] == {
        "queries": 0, "systems": {}, "comparisons": {}, "group": "items", "label": "repeated", "too_small": True
    }  # fmt: skip
    for system in metrics["systems"].values():
        assert system["metrics"]["recall@1000"]["value"] == 1
    assert pq.read_table(tmp_path / "evaluation/per_query.parquet")["query"].to_pylist() == left
    for example in json.loads((tmp_path / "evaluation/examples.json").read_text()):
        seen = {item["item_id"] for item in example["history"]}
        assert not seen & {item["item_id"] for item in example["recommended"]}


def test_repeats_count_as_misses_where_seen_items_are_excluded(world: Path, tmp_path: Path) -> None:
    """Popularity's figures are counted by hand: every query stays, whatever it asks for, and no repeat is found."""
    _, metrics = run(world, tmp_path / "evaluation", exclude_seen=True)
    rows = pq.read_table(world / "prepared/test").to_pylist()
    items = pq.read_table(world / "prepared/items.parquet").to_pydict()
    order = np.argsort(-(np.array(items["train_count"]) + items["validation_count"]), kind="stable").tolist()
    sets = [(set(row["relevant"]), set(row["seen"])) for row in rows]
    places = [[item in relevant for item in order if item not in seen] for relevant, seen in sets]
    recall = [sum(hits[:5]) / len(relevant) for hits, (relevant, _) in zip(places, sets, strict=True)]
    gains = 1 / np.log2(np.arange(2, 7))
    ndcg = [
        sum(gains[rank] for rank in np.flatnonzero(hits[:5])) / sum(gains[: len(relevant)])
        for hits, (relevant, _) in zip(places, sets, strict=True)
    ]
    found = metrics["systems"]["popularity"]["metrics"]
    assert metrics["queries"] == len(rows) and metrics["exclude_seen"] and metrics["discovery"] is None
    assert found["recall@5"]["value"] == pytest.approx(np.mean(recall))
    assert found["ndcg@5"]["value"] == pytest.approx(np.mean(ndcg))
    per_query = pl.read_parquet(tmp_path / "evaluation/per_query.parquet")
    assert per_query["popularity/recall@5"].to_list() == pytest.approx(recall)
    of_old = [relevant <= seen for relevant, seen in sets]
    assert not per_query.filter(of_old).drop("query").sum_horizontal().sum()
    assert metrics["repeats"] == {
        "counted": "miss",
        "queries": sum(of_old),
        "of_queries": len(rows),
        "relevant": sum(len(relevant & seen) for relevant, seen in sets),
        "of_relevant": sum(len(relevant) for relevant, _ in sets),
    }
    assert 0 < sum(of_old) < len(rows)
    best = np.mean([min(len(relevant - seen), 1000) / len(relevant) for relevant, seen in sets])
    assert metrics["loss"][-1]["ceiling"] == pytest.approx(best)
    assert metrics["loss"][-1]["end_to_end"] == pytest.approx(best), "all that may be found is found"
    slices = {name: part["systems"]["two_tower"]["metrics"]["recall@1000"] for name, part in metrics["slices"].items()
              if name in ("repeated", "new_to_user")}  # fmt: skip
    assert slices["repeated"]["value"] == 0 and slices["new_to_user"]["value"] == 1


def test_without_repeats_both_ways_to_count_them_are_the_same(world: Path, tmp_path: Path, log: Log) -> None:
    first_time = tmp_path / "world"
    shutil.copytree(world, first_time)
    shutil.rmtree(first_time / "prepared")
    first = {(user, item): time for user, item, time in sorted(log, key=lambda event: -event[2])}
    events = sorted((*pair, time) for pair, time in first.items())
    write_prepared(first_time / "prepared", events, items=ITEMS)
    found = {how: run(first_time, tmp_path / how, exclude_seen=True, repeats=how)[1] for how in ("miss", "leave_out")}
    for how, metrics in found.items():
        del metrics["index"]["latency_ms"]
        counts = metrics.pop("repeats")
        assert (counts["counted"], counts["queries"], counts["relevant"]) == (how, 0, 0)
    assert found["miss"] == found["leave_out"] and found["miss"]["queries"] > 10


def test_examples_are_readable(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "evaluation", examples=4)
    examples = json.loads((tmp_path / "evaluation/examples.json").read_text())
    assert len(examples) == 4
    for example in examples:
        assert example["query"]["user_id"].startswith("u") and example["query"]["cutoff"] == TEST_FROM
        assert all(item["title"] == f"Title of {int(item['item_id'][1:])}" for item in example["relevant"])
        relevant = {item["item_id"] for item in example["relevant"]}
        assert len(example["recommended"]) == 10
        for item in example["recommended"]:
            assert item["hit"] == (item["item_id"] in relevant) and isinstance(item["score"], float)
    run(world, tmp_path / "none", examples=0)
    assert json.loads((tmp_path / "none/examples.json").read_text()) == []


def test_the_same_inputs_give_the_same_figures(world: Path, tmp_path: Path) -> None:
    first, second = (run(world, tmp_path / name, champion=world / "old")[1] for name in "ab")
    for metrics in (first, second):
        del metrics["index"]["latency_ms"]
    assert first == second
    assert (tmp_path / "a/per_query.parquet").read_bytes() == (tmp_path / "b/per_query.parquet").read_bytes()
    assert (tmp_path / "a/examples.json").read_bytes() == (tmp_path / "b/examples.json").read_bytes()


def test_the_manifest_says_what_was_evaluated(world: Path, tmp_path: Path, log: Log) -> None:
    run(world, tmp_path / "evaluation")
    manifest = open_artifact(tmp_path / "evaluation", "evaluation").manifest
    assert set(manifest.made_from) == {"prepared_data", "query_tower", "index", "candidate_embeddings"}
    assert manifest.data_seen_until == max(time for *_, time in log)
    assert manifest.config["ks"] == KS


def test_an_index_of_other_embeddings_is_refused(world: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "world"
    shutil.copytree(world, mixed)
    shutil.rmtree(mixed / "challenger/index")
    shutil.copytree(world / "old/index", mixed / "challenger/index")
    with pytest.raises(ArtifactError, match="do not belong together"):
        run(mixed, tmp_path / "evaluation")
    shutil.rmtree(mixed / "challenger/query_tower")
    shutil.copytree(world / "old/query_tower", mixed / "challenger/query_tower")
    with pytest.raises(ArtifactError, match="not built from the embeddings"):
        run(mixed, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_window_without_queries_is_refused(world: Path, tmp_path: Path) -> None:
    empty = tmp_path / "world"
    shutil.copytree(world, empty)
    write_prepared(empty / "prepared", [(0, 1, DAY), (0, 2, 2 * DAY)], items=ITEMS)
    decision, metrics = run(empty, tmp_path / "evaluation")
    assert decision == "refuse" and "data.split.test" in metrics["gate"]["reason"]
    assert metrics["queries"] == 0 and metrics["systems"] == metrics["slices"] == {} and metrics["index"] is None


def test_small_slices_have_figures_but_no_verdict(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation", smallest_slice=10)
    small, large = metrics["slices"]["cold_items"], metrics["slices"]["returning_users"]
    assert small["too_small"] and small["queries"] == 2 and small["systems"] and not small["comparisons"]
    assert not large["too_small"] and large["comparisons"] and large["group"] == "users"


def test_slices_by_history_and_by_columns(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation", slices=["item.kind"])
    rows = pq.read_table(world / "prepared/test").to_pylist()
    lengths = [len(row["history"]) for row in rows]
    for name, fewest, most in (("history 1-5", 1, 5), ("history 6-20", 6, 20), ("history 21+", 21, 10**9)):
        assert metrics["slices"][name]["queries"] == sum(fewest <= length <= most for length in lengths)
    found = metrics["slices"]["item.kind=even"]
    assert (found["group"], found["label"]) == ("item.kind", "even")
    assert found["queries"] == sum(any(item % 2 == 0 for item in row["relevant"]) for row in rows)
    with pytest.raises(ConfigError, match=r"evaluation\.slices: .* no column 'item\.colour'; there are: .*item\.kind"):
        run(world, tmp_path / "unknown", slices=["item.colour"])
    with pytest.raises(ConfigError, match=r"user\.age is of the type double"):
        run(world, tmp_path / "number", slices=["user.age"])


def test_exact_search_on_a_sample(world: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "world"
    shutil.copytree(world, quantized)
    shutil.rmtree(quantized / "challenger")
    write_version(quantized / "challenger", vectors_of(0), IDS, kind="scann")
    _, metrics = run(quantized, tmp_path / "evaluation", exact_queries=7)
    exact = metrics["systems"]["two_tower_exact"]
    assert exact["queries"] == 7 < metrics["queries"] == metrics["systems"]["two_tower"]["queries"]
    per_query = pl.read_parquet(tmp_path / "evaluation/per_query.parquet")
    sampled = per_query.filter(pl.col("two_tower_exact/recall@5").is_not_null())
    assert len(sampled) == 7
    loss = metrics["loss"][0]
    assert (loss["k"], loss["queries"]) == (5, 7)
    assert loss["exact"] == pytest.approx(exact["metrics"]["recall@5"]["value"])
    assert loss["exact"] == pytest.approx(sampled["two_tower_exact/recall@5"].mean())
    assert loss["end_to_end"] == pytest.approx(sampled["two_tower/recall@5"].mean())
    assert loss["ceiling"] >= loss["exact"]
    beside = exact["end_to_end"]["metrics"]
    assert set(beside) == set(exact["metrics"])
    assert beside["recall@5"]["value"] == pytest.approx(loss["end_to_end"])
    assert beside["ndcg@20"]["value"] == pytest.approx(sampled["two_tower/ndcg@20"].mean())


def test_without_embeddings_nothing_is_said_of_exact_search(world: Path, tmp_path: Path) -> None:
    section = config.EvaluationSettings.model_validate({"ks": KS, "bootstrap_samples": 200})
    new, out = world / "challenger", tmp_path / "evaluation"
    evaluate(world / "prepared", new / "query_tower", new / "index", None, out, evaluation=section, version="new")
    metrics = open_artifact(out, "evaluation").json("metrics.json")
    assert set(metrics["systems"]) == {"two_tower"} and metrics["loss"][0]["exact"] is None
    assert metrics["index"]["recall@100"] is None and metrics["index"]["latency_ms"]["p99"] > 0
    assert not (out / "space.json").exists()


@pytest.mark.parametrize("which", ["challenger", "champion"])
def test_a_version_that_has_seen_the_window_is_refused(world: Path, tmp_path: Path, which: str) -> None:
    trained = tmp_path / "world"
    shutil.copytree(world, trained)
    shutil.rmtree(trained / "challenger")
    write_version(trained / "challenger", vectors_of(0), IDS, seen_until=TEST_FROM if which == "challenger" else 0)
    champion = write_version(trained / "seen", vectors_of(1), IDS, seen_until=TEST_FROM)
    decision, metrics = run(trained, tmp_path / "evaluation", champion=None if which == "challenger" else champion)
    assert decision == "refuse" and metrics["window"]["start"] == TEST_FROM / 1e6
    assert metrics["window"]["overlaps"] == (which == "challenger")
    if which == "champion":
        assert "was trained on events until 1970-04-21 00:00" in metrics["champion_error"]
        assert metrics["champion_candidates"] == ITEMS and "champion" not in metrics["systems"]


def test_users_and_what_the_ranker_needs(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation")
    per_query = pl.read_parquet(tmp_path / "evaluation/per_query.parquet")
    users = pq.read_table(world / "prepared/test")["user"].to_pylist()
    served = {user for user, hit in zip(users, per_query["two_tower/hit_rate@5"], strict=True) if hit}
    assert metrics["users"]["count"] == len(set(users))
    without = metrics["users"]["without_good_candidate"]["two_tower"]
    assert without["5"] == pytest.approx(1 - len(served) / len(set(users))) and without["1000"] == 0
    ranker = metrics["ranker"]
    assert ranker["depth"] == 1000 and ranker["recall"] == pytest.approx(1)
    few, more, most = (ranker["candidates"][share] for share in ("0.9", "0.95", "0.99"))
    assert 1 <= few <= more <= most <= ITEMS
    curve = metrics["systems"]["two_tower"]["curve"]
    assert all((recall >= 0.9 - 1e-9) == (k >= few) for k, recall in zip(curve["k"], curve["recall"], strict=True))


def test_the_space_of_the_candidates(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation")
    space = json.loads((tmp_path / "evaluation/space.json").read_text())
    assert len(space["scores"]["edges"]) == 41 and len(space["scores"]["positives"]) == 40
    rows = pq.read_table(world / "prepared/test").to_pylist()
    assert sum(space["scores"]["positives"]) == sum(len(row["relevant"]) for row in rows)
    assert sum(space["scores"]["negatives"]) == 20 * len(rows)
    assert space["map"]["column"] == "kind" and set(space["map"]["categories"]) == {"even", "odd", "other"}
    assert len(space["map"]["points"]) == ITEMS and 0 < space["map"]["explained"][1] <= space["map"]["explained"][0] < 1
    vectors = vectors_of(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(space["neighbours"]) == 10
    for entry in space["neighbours"]:
        number = IDS.index(entry["item"]["item_id"])
        expected = [IDS[other] for other in np.argsort(-vectors @ vectors[number]) if other != number][:5]
        assert [neighbour["item_id"] for neighbour in entry["neighbours"]] == expected
    recommended = metrics["popularity"]["recommended"]["two_tower"]
    assert 0 < recommended["diversity@5"] < 2 and recommended["diversity@1000"] is None


def test_a_better_tower_is_told_apart_from_a_worse(world: Path, tmp_path: Path) -> None:
    better = tmp_path / "world"
    shutil.copytree(world, better)
    shutil.rmtree(better / "challenger")
    # A vector an item that says nothing but which item it is: the history is found again.
    write_version(better / "challenger", np.eye(ITEMS, dtype=np.float32), IDS)
    gate = [{"type": "better_than_baseline", "metric": "recall@5", "baseline": "popularity"}]
    assert run(better, tmp_path / "better", gate=gate)[0] == "promote"
    assert run(world, tmp_path / "worse", gate=gate)[0] == "refuse"


def test_without_checks_a_worse_version_is_refused_and_an_equal_one_is_not(world: Path, tmp_path: Path) -> None:
    champion = write_version(tmp_path / "better", np.eye(ITEMS, dtype=np.float32), IDS)
    decision, metrics = run(world, tmp_path / "worse", champion=champion, gate=None)
    ours, theirs = (metrics["systems"][name]["metrics"]["recall@20"]["value"] for name in ("two_tower", "champion"))
    assert ours < theirs - 0.1 and decision == "refuse" and metrics["gate"]["configured"] == "default"
    statuses = {check["name"]: (check["status"], check["blocking"]) for check in metrics["gate"]["checks"]}
    assert statuses["recall@20 not worse than champion (auto margin)"] == ("failed", True)
    assert statuses["recall@20 above personal_frequency"] == ("failed", False)
    assert metrics["gate"]["reason"].startswith("Refused by the default gate, since recall@20 not worse than champion")
    equal = tmp_path / "equal"
    shutil.copytree(world / "challenger", equal)
    assert run(world, tmp_path / "same", champion=equal, gate=None)[0] == "promote"
    assert run(world, tmp_path / "ungated", champion=champion, gate=[])[0] == "promote"


def test_a_better_baseline_is_named_in_the_reason(world: Path, tmp_path: Path) -> None:
    _, metrics = run(world, tmp_path / "evaluation", ks=[20])
    assert metrics["comparisons"]["personal_frequency"]["recall@20"]["high"] < 0
    theirs, ours = (
        metrics["systems"][name]["metrics"]["recall@20"]["value"] for name in ("personal_frequency", "two_tower")
    )
    word = f"but the baseline personal_frequency is better: recall@20 {theirs:.4f} against {ours:.4f}."
    assert metrics["gate"]["decision"] == "promote" and metrics["gate"]["reason"].endswith(f"; {word}")


def test_a_baseline_that_cannot_be_fitted_is_left_out_and_the_others_count(world: Path, tmp_path: Path) -> None:
    baselines = [*BASELINES, {"type": "ease", "max_items": 5}, {"type": "ials", "factors": 500, "regularization": 0}]
    above_ease = {"type": "better_than_baseline", "metric": "recall@5", "baseline": "ease"}
    floor = {"type": "minimum", "metric": "coverage@5", "system": "ials", "at_least": 0}
    advisory = [{**check, "blocking": False} for check in (above_ease, floor)]
    decision, metrics = run(world, tmp_path / "advisory", baselines=baselines, gate=advisory)
    assert decision == "promote"
    assert set(metrics["systems"]) == {"two_tower", "two_tower_exact", *(each["type"] for each in BASELINES)}
    assert set(metrics["left_out"]) == {"ease", "ials"} and metrics["left_out"]["ease"].startswith("7")
    _, ease, ials = metrics["gate"]["checks"]
    assert (ease["status"], ials["status"]) == ("skipped", "skipped")
    assert "the baseline ease does not fit: 7" in ease["reason"] and "the baseline ials does not fit" in ials["reason"]
    decision, metrics = run(world, tmp_path / "blocking", baselines=baselines, gate=[above_ease])
    assert decision == "refuse" and "the baseline ease does not fit" in metrics["gate"]["reason"]


def write_profile(folder: Path, amounts: list[float]) -> Path:
    frame = pl.DataFrame({"amount": amounts, "at": range(len(amounts))})
    described = describe(sketch(frame, hashes=column_hashes(frame), keys=np.arange(frame.height, dtype=np.uint64)))
    per_day = {"day": ["2024-01-01"], "events": [len(amounts)]}
    content = {"tables": {"interactions": described}, "per_day": per_day}
    with write_artifact(folder, "data_profile") as artifact:
        artifact.write_json("profile.json", content | {"not_compared": {"interactions.at": "Times move on."}})
    return folder


def test_the_drift_from_the_champions_data_is_measured_and_the_profile_is_kept(world: Path, tmp_path: Path) -> None:
    gate = [{"type": "data_drift", "at_most": 0.25}]
    before = write_profile(tmp_path / "before", [float(n % 10) for n in range(2000)])
    after = write_profile(tmp_path / "after", [float(n % 10) + 5 for n in range(2000)])
    champion = tmp_path / "champion"
    shutil.copytree(world / "old", champion)
    decision, metrics = run(world, champion / "evaluation", profile=before, gate=gate)
    assert decision == "promote" and metrics["drift"] is None, "there is no champion yet"
    decision, metrics = run(world, tmp_path / "same", champion=champion, profile=before, gate=gate)
    assert decision == "promote" and metrics["drift"]["columns"]["interactions.amount"]["psi"] == 0
    decision, metrics = run(world, tmp_path / "other", champion=champion, profile=after, gate=gate)
    assert decision == "refuse" and metrics["drift"]["largest"]["column"] == "interactions.amount"
    assert metrics["drift"]["columns"]["interactions.at"]["reason"] == "Times move on."
    assert open_artifact(tmp_path / "other", "evaluation").json("profile.json")["tables"]
