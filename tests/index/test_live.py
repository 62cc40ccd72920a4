"""The live index against a dictionary, through restarts, kills, rebuilds and damaged files."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from two_tower import config
from two_tower.artifacts import open_artifact, write_artifact
from two_tower.errors import ArtifactError, DataError
from two_tower.index import (
    Allowed,
    ExactIndex,
    LiveIndex,
    build_index,
    generations,
    live as live_module,
    load_embeddings,
    load_index,
)

DIM = 4
TOWER = "c0ffee"
EXACT = config.IndexSettings(kind="exact")
Items = dict[str, tuple[np.ndarray, Any]]
"""Vector and colour of each item, in the order of a fresh build: an update moves an item to the end."""


def vectors_of(items: int, dim: int = DIM, *, seed: int = 0) -> np.ndarray:
    """Multiples of 1/8 with many ties, whose products and sums are exact in float32."""
    return np.random.default_rng(seed).integers(-8, 9, size=(items, dim)).astype(np.float32) / 8


def write_embeddings(
    folder: Path, ids: list[str], vectors: np.ndarray, attributes: dict[str, Any] | None = None, *, tower: str = TOWER
) -> Path:
    columns = {
        "item": pa.array(np.arange(len(ids), dtype=np.int32)),
        "item_id": pa.array(ids, pa.string()),
        "available": pa.array([True] * len(ids), pa.bool_()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    columns |= {f"attribute.{name}": values for name, values in (attributes or {}).items()}
    with write_artifact(folder, "candidate_embeddings", made_from={"candidate_tower": tower}) as artifact:
        artifact.write_table("part-0.parquet", pa.table(columns))
    return folder


def names(count: int) -> list[str]:
    return [f"item-{number}" for number in range(count)]


def make_live(
    folder: Path, items: int = 20, *, index: config.IndexSettings = EXACT, **options: Any
) -> tuple[LiveIndex, Items]:
    vectors = vectors_of(items)
    colours = [("red", "blue", None)[number % 3] for number in range(items)]
    embeddings = write_embeddings(
        folder / "embeddings", names(items), vectors, {"colour": pa.array(colours, pa.string())}
    )
    live = LiveIndex.create(folder / "live", embeddings, index=index, **options)
    return live, dict(zip(names(items), zip(vectors, colours, strict=True), strict=True))


def add(live: LiveIndex, model: Items, ids: list[str], vectors: np.ndarray, colours: list[Any] | None = None) -> None:
    table = None if colours is None else pa.table({"colour": pa.array(colours, pa.string())})
    live.add(ids, vectors, tower=TOWER, attributes=table)
    for item_id, vector, colour in zip(ids, vectors, colours or [None] * len(ids), strict=True):
        model.pop(item_id, None)
        model[item_id] = vector, colour


def remove(live: LiveIndex, model: Items, ids: list[str]) -> None:
    assert live.remove(ids) == len(set(ids) & model.keys())
    for item_id in ids:
        model.pop(item_id, None)


def expected(model: Items, query: np.ndarray, k: int) -> tuple[list[Any], list[float]]:
    ids, vectors = list(model), np.array([vector for vector, _ in model.values()]).reshape(len(model), len(query))
    scores = vectors @ query
    order = np.argsort(-scores, kind="stable")[:k]
    missing = k - len(order)
    return [ids[row] for row in order] + [None] * missing, scores[order].tolist() + [-np.inf] * missing


def assert_same(live: LiveIndex, model: Items, *, k: int | None = None, seed: int = 1) -> None:
    assert live.item_ids.to_pylist() == list(model) and len(live) == len(model)
    queries, k = vectors_of(3, live.dim, seed=seed), len(model) + 2 if k is None else k
    for asked in (queries, queries[:1]):
        found = live.search(asked, k)
        for number, query in enumerate(asked):
            ids, scores = expected(model, query, k)
            assert found.item_ids[number].tolist() == ids
            assert found.scores[number].tolist() == scores


def abandon(live: LiveIndex) -> None:
    """What a kill does: the operating system drops the lock, and nothing else happens."""
    assert live._lock is not None
    live._lock.release()


IDS = st.sampled_from([f"item-{number}" for number in range(8)] + ["Köln 東京", "quote ' \" \\", "new\nline", "z\x00"])
BATCH = st.lists(IDS, min_size=1, max_size=5)
COLOURS = st.sampled_from(["red", "blue", None])


class LiveMachine(RuleBasedStateMachine):
    """Any order of changes, searches, restarts, kills and rebuilds, with a reader beside the writer."""

    @initialize(items=st.integers(0, 6))
    def create(self, items: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.live, self.model = make_live(self.folder, items)
        self.reader = LiveIndex.open(self.folder / "live", read_only=True)
        self.red = Allowed({"colour": ["red"]})

    @rule(batch=st.lists(st.tuples(IDS, COLOURS), min_size=1, max_size=5), seed=st.integers(0, 99), plain=st.booleans())
    def add(self, batch: list[tuple[str, Any]], seed: int, plain: bool) -> None:
        ids, colours = [item_id for item_id, _ in batch], [colour for _, colour in batch]
        add(self.live, self.model, ids, vectors_of(len(ids), seed=seed), None if plain else colours)

    @rule(batch=BATCH)
    def remove(self, batch: list[str]) -> None:
        remove(self.live, self.model, batch)

    @rule(k=st.integers(0, 15), seed=st.integers(0, 99))
    def search(self, k: int, seed: int) -> None:
        assert_same(self.live, self.model, k=k, seed=seed)

    @rule(
        k=st.integers(1, 15),
        seed=st.integers(0, 99),
        exclude=st.lists(st.sets(IDS), min_size=2, max_size=2),
        red=st.booleans(),
        only=st.none() | BATCH,
    )
    def search_filtered(self, k: int, seed: int, exclude: list[set[str]], red: bool, only: list[str] | None) -> None:
        queries, allowed = vectors_of(2, seed=seed), self.red if red else None
        kept = {item_id: entry for item_id, entry in self.model.items() if not red or entry[1] == "red"}
        if only is not None:
            allowed = Allowed({"item_id": only} | ({"colour": ["red"]} if red else {}))
            kept = {item_id: entry for item_id, entry in kept.items() if item_id in only}
        found = self.live.search(queries, k, allowed=allowed, exclude=exclude)
        for number, query in enumerate(queries):
            left = {item_id: entry for item_id, entry in kept.items() if item_id not in exclude[number]}
            ids, scores = expected(left, query, k)
            assert found.item_ids[number].tolist() == ids and found.scores[number].tolist() == scores

    @rule()
    def restart(self) -> None:
        self.live.close()
        self.live = LiveIndex.open(self.folder / "live")

    @rule()
    def kill(self) -> None:
        abandon(self.live)
        self.live = LiveIndex.open(self.folder / "live")

    @rule()
    def rebuild(self) -> None:
        self.live.rebuild()
        assert self.live.delta_share == 0 and not self.live.rebuild_due
        assert len(list((self.folder / "live").glob("generation-*"))) == 1

    @rule()
    def refresh_reader(self) -> None:
        self.reader.refresh()
        assert not self.reader.refresh()
        assert_same(self.reader, self.model)
        assert self.reader.delta_share == self.live.delta_share

    @precondition(lambda self: hasattr(self, "live"))
    @invariant()
    def holds_the_same_items(self) -> None:
        assert self.live.item_ids.to_pylist() == list(self.model)

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.live.close()
            self.reader.close()
            shutil.rmtree(self.folder)


LiveMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrderOfEvents = LiveMachine.TestCase

CHILD = """
import json, random, sys, threading
import numpy as np
from two_tower.index import LiveIndex
folder, seed = sys.argv[1], int(sys.argv[2])
live, draw = LiveIndex.open(folder), random.Random(seed)

def rebuild():
    while True:
        live.rebuild()

threading.Thread(target=rebuild, daemon=True).start()
while True:
    ids = [f"item-{draw.randrange(60)}" for _ in range(draw.choice([1, 5, 50]))]
    number = draw.randrange(1000) if draw.random() < 0.6 else None
    print(json.dumps(["try", ids, number]), flush=True)
    if number is None:
        live.remove(ids)
    else:
        vectors = np.random.default_rng(number).integers(-8, 9, size=(len(ids), 4)).astype(np.float32) / 8
        live.add(ids, vectors, tower="c0ffee")
    print(json.dumps(["done", live.sequence]), flush=True)
"""


def run_and_kill(folder: Path, seed: int, seconds: float) -> list[list[Any]]:
    """What a child said that changed the index until it was killed; a line cut short is left out."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(seed)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline()]
    killer = threading.Timer(seconds, child.send_signal, [signal.SIGKILL])
    killer.start()
    lines += child.stdout.readlines()
    assert child.wait() == -signal.SIGKILL
    return [json.loads(line) for line in lines if line.endswith("\n")]


def replay(model: Items, ids: list[str], number: int | None) -> None:
    vectors = [None] * len(ids) if number is None else vectors_of(len(ids), seed=number)
    for item_id, vector in zip(ids, vectors, strict=True):
        model.pop(item_id, None)
        if vector is not None:
            model[item_id] = vector, None


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, rounds: int) -> None:
    live, model = make_live(tmp_path)
    draw, acknowledged = random.Random(rounds), 0
    for number in range(rounds):
        live.close()
        said = run_and_kill(tmp_path / "live", seed=100 * rounds + number, seconds=draw.uniform(0.05, 1.0))
        for trial, answer in zip(said, [*said[1:], None], strict=True):
            if trial[0] == "done":
                acknowledged = trial[1]
            elif answer is not None:
                replay(model, *trial[1:])
        live = LiveIndex.open(tmp_path / "live")
        assert live.sequence >= acknowledged
        if said[-1][0] == "try" and live.sequence > acknowledged:  # done, but killed before it said so
            replay(model, *said[-1][1:])
        assert_same(live, model)
        assert len(list((tmp_path / "live").glob("generation-*"))) == 1
    live.close()


TORN = """
import os, signal, sys
from two_tower.index import LiveIndex
connection = LiveIndex.open(sys.argv[1])._log._connection
connection.execute("PRAGMA cache_size = 10")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE head SET content = 'torn'")
connection.execute("DELETE FROM changes")
rows = ((number, str(number), bytes(500), None, 0) for number in range(100, 5000))
connection.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", rows)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_transaction_that_was_torn_has_not_happened(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    add(live, model, ["new", "item-3"], vectors_of(2, seed=5))
    live.close()
    before = (tmp_path / "live/delta.sqlite").read_bytes()
    subprocess.run([sys.executable, "-c", TORN, str(tmp_path / "live")], check=False)
    assert (tmp_path / "live/delta.sqlite").read_bytes() != before
    with LiveIndex.open(tmp_path / "live") as again:
        assert_same(again, model)


def change_much(live: LiveIndex, model: Items, *, changes: int, pool: int, vectors: np.ndarray) -> None:
    """Adds, updates and removes in batches of a thousand, each batch a random half or so of each; rebuilds when due."""
    draw = np.random.default_rng(7)
    for start in range(0, changes, 1000):
        ids = [f"item-{number}" for number in draw.integers(0, pool, size=1000)]
        if draw.random() < 0.3:
            remove(live, model, ids)
        else:
            add(live, model, ids, vectors[start : start + 1000])
        if live.rebuild_due:
            live.rebuild()


def fresh_build(folder: Path, model: Items, index: config.IndexSettings) -> Any:
    vectors = np.array([vector for vector, _ in model.values()])
    build_index(write_embeddings(folder / "fresh", list(model), vectors), folder / "fresh-index", index=index)
    return load_index(folder / "fresh-index")


@pytest.mark.parametrize("rebuild_share", [1e9, 1.0])
def test_after_100_000_changes_exact_search_is_that_of_a_fresh_build(tmp_path: Path, rebuild_share: float) -> None:
    live, model = make_live(tmp_path, 20_000, rebuild_share=rebuild_share)
    change_much(live, model, changes=100_000, pool=30_000, vectors=vectors_of(100_000, seed=3))
    fresh, queries = fresh_build(tmp_path, model, EXACT), vectors_of(40, seed=4)
    for _ in ("delta", "reopened", "rebuilt"):
        assert live.item_ids.equals(fresh.item_ids)
        for asked in (queries, queries[:1]):
            rows, scores = fresh.search(asked, 100)
            found = live.search(asked, 100)
            np.testing.assert_array_equal(found.item_ids, np.array(list(model), dtype=object)[rows])
            np.testing.assert_array_equal(found.scores, scores)
        live.close()
        live = LiveIndex.open(tmp_path / "live")
        if _ == "reopened":
            live.rebuild()
    live.close()


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "rebuild_share"), [(5000, 1e9), (100_000, 1e9), (100_000, 1.0)])
def test_after_many_changes_scann_recalls_as_much_as_a_fresh_build(
    tmp_path: Path, changes: int, rebuild_share: float
) -> None:
    scann = config.IndexSettings(kind="scann", target=None, reorder=300)
    draw = np.random.default_rng(5)
    vectors = draw.normal(size=(130_000, 32)).astype(np.float32)
    model: Items = {name: (vector, None) for name, vector in zip(names(30_000), vectors[:30_000], strict=True)}
    embeddings = write_embeddings(tmp_path / "embeddings", names(30_000), vectors[:30_000])
    live = LiveIndex.create(tmp_path / "live", embeddings, index=scann, rebuild_share=rebuild_share)
    change_much(live, model, changes=changes, pool=40_000, vectors=vectors[30_000:])
    fresh, queries = fresh_build(tmp_path, model, scann), draw.normal(size=(200, 32)).astype(np.float32)
    ids = np.array(list(model), dtype=object)
    exact = ExactIndex(np.array([vector for vector, _ in model.values()]), fresh.item_ids).search(queries, 100)[0]

    def recall(found: np.ndarray) -> float:
        hits = [len(set(of.tolist()) & set(ids[best])) for of, best in zip(found, exact, strict=True)]
        return float(np.mean(hits)) / 100

    ours, of_fresh = recall(live.search(queries, 100).item_ids), recall(ids[fresh.search(queries, 100)[0]])
    assert ours >= of_fresh - 0.005
    live.close()


def test_the_nearest_thousand_removed_leave_a_hundred_others(tmp_path: Path) -> None:
    scann = config.IndexSettings(kind="scann", target=None, reorder=100)
    vectors = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    live = LiveIndex.create(tmp_path / "live", write_embeddings(tmp_path / "e", names(3000), vectors), index=scann)
    query = vectors[:1]
    order = np.argsort(-(vectors @ query[0]), kind="stable")
    gone = {f"item-{row}" for row in order[:1000]}
    assert live.remove(sorted(gone)) == 1000
    found = live.search(query, 100).item_ids[0].tolist()
    assert len(set(found)) == 100 and not gone & set(found)
    assert len(set(found) & {f"item-{row}" for row in order[1000:1100]}) > 90
    few = [f"item-{row}" for row in order[950:1040]]
    live.add(["new"], query, tower=TOWER)
    allowed = live.search(query, 60, allowed=Allowed({"item_id": [*few, "new"]}), exclude=[few[50:55]])
    assert allowed.item_ids[0].tolist() == ["new", *few[55:], *[None] * 24]
    live.remove(["new"])
    everything = live.search(query, 2500)
    assert len(set(everything.item_ids[0].tolist())) == 2001 and None in everything.item_ids[0]
    live.close()


def test_changes_during_a_rebuild_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, model = make_live(tmp_path)
    add(live, model, ["before", "gone", "changed"], vectors_of(3, seed=2), ["red", None, "blue"])
    started, go_on, build = threading.Event(), threading.Event(), generations.build_index

    def slow(*args: Any, **kwargs: Any) -> None:
        build(*args, **kwargs)
        started.set()
        assert go_on.wait(60)

    monkeypatch.setattr(generations, "build_index", slow)
    rebuild = threading.Thread(target=live.rebuild)
    rebuild.start()
    assert started.wait(60)
    add(live, model, ["during", "changed", "item-4"], vectors_of(3, seed=8), ["red", "red", None])
    remove(live, model, ["gone", "item-5", "unknown"])
    add(live, model, ["brief"], vectors_of(1, seed=9))
    remove(live, model, ["brief"])
    assert_same(live, model)
    go_on.set()
    rebuild.join()
    assert_same(live, model)
    assert live.delta_share == 6 / 23
    found = live.search(vectors_of(1), 30, allowed=Allowed({"colour": ["red"]})).item_ids[0].tolist()
    assert {"before", "during", "changed"} <= set(found)
    live.close()
    with LiveIndex.open(tmp_path / "live") as again:
        assert_same(again, model)


def test_a_rebuild_that_fails_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, model = make_live(tmp_path)
    add(live, model, ["new"], vectors_of(1, seed=2))

    def fail(*_: Any, **__: Any) -> None:
        raise ArtifactError("no space left")

    monkeypatch.setattr(generations, "build_index", fail)
    with pytest.raises(ArtifactError, match="no space left"):
        live.rebuild()
    monkeypatch.undo()
    assert [folder.name for folder in (tmp_path / "live").glob("generation-*")] == ["generation-000001"]
    assert_same(live, model)
    live.rebuild()
    assert_same(live, model)
    live.close()


def test_a_rebuild_is_a_fresh_build_byte_for_byte(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    add(live, model, ["new", "item-2"], vectors_of(2, seed=2))
    remove(live, model, ["item-0"])
    live.rebuild()
    held = load_embeddings(tmp_path / "live/generation-000002/embeddings")
    assert held.item_ids.to_pylist() == list(model)
    np.testing.assert_array_equal(held.vectors, np.array([vector for vector, _ in model.values()]))
    vectors, colours = np.array([vector for vector, _ in model.values()]), [colour for _, colour in model.values()]
    fresh = write_embeddings(tmp_path / "fresh", list(model), vectors, {"colour": pa.array(colours, pa.string())})
    build_index(fresh, tmp_path / "fresh-index", index=EXACT)
    ours, others = (
        open_artifact(folder, "index").manifest.files
        for folder in (tmp_path / "live/generation-000002/index", tmp_path / "fresh-index")
    )
    assert ours == others
    live.close()


def test_a_closed_index_is_changed_no_more(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    live.close()
    live.close()
    with LiveIndex.open(tmp_path / "live") as other:
        other.rebuild()
        for change in (lambda: live.add(["x"], vectors_of(1), tower=TOWER), lambda: live.remove(["x"]), live.rebuild):
            with pytest.raises(ArtifactError, match="has been closed; open it again"):
                change()
        assert_same(live, model)
        assert_same(other, model)
    assert (tmp_path / "live/generation-000002").exists()


def test_a_refresh_that_fails_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, model = make_live(tmp_path)
    reader, before = LiveIndex.open(tmp_path / "live", read_only=True), dict(model)
    add(live, model, ["new"], vectors_of(1, seed=3))

    def fail(*_: Any, **__: Any) -> None:
        raise ArtifactError("cannot be read")

    monkeypatch.setattr(live_module.DeltaLog, "read", fail)
    with pytest.raises(ArtifactError, match="cannot be read"):
        reader.refresh()
    assert_same(reader, before)
    monkeypatch.undo()
    assert reader.refresh()
    assert_same(reader, model)
    live.close()


def test_what_a_killed_rebuild_leaves_is_removed(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    live.close()
    shutil.copytree(tmp_path / "live/generation-000001", tmp_path / "live/generation-000002")
    LiveIndex.open(tmp_path / "live", read_only=True).close()
    assert (tmp_path / "live/generation-000002").exists()
    with LiveIndex.open(tmp_path / "live") as again:
        assert not (tmp_path / "live/generation-000002").exists()
        assert_same(again, model)


def test_a_rebuild_is_due_above_the_share(tmp_path: Path) -> None:
    live, model = make_live(tmp_path, 100, rebuild_share=0.03)
    add(live, model, ["item-0", "new", "new"], vectors_of(3, seed=2))
    remove(live, model, ["item-1"])
    assert live.delta_share == 0.03 and not live.rebuild_due
    remove(live, model, ["item-2"])
    live.close()
    with LiveIndex.open(tmp_path / "live") as again:
        assert again.rebuild_due and again.sequence == 4


def test_vectors_of_another_tower_are_refused(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    with pytest.raises(ArtifactError, match=r"candidate_tower c0ffee, these come from decaf.*create a live index"):
        live.add(["new"], vectors_of(1), tower="decaf")
    assert_same(live, model)
    live.close()
    other = tmp_path / "other"
    LiveIndex.create(
        other, write_embeddings(tmp_path / "e", names(3), vectors_of(3), tower="decaf"), index=EXACT
    ).close()
    shutil.rmtree(tmp_path / "live/generation-000001")
    shutil.copytree(other / "generation-000001", tmp_path / "live/generation-000001")
    with pytest.raises(ArtifactError, match=r"embeddings: made with the candidate_tower decaf.*c0ffee"):
        LiveIndex.open(tmp_path / "live")
    with write_artifact(tmp_path / "f", "candidate_embeddings") as artifact:
        shutil.copy(tmp_path / "e/part-0.parquet", artifact.path("part-0.parquet"))
    with pytest.raises(ArtifactError, match="names no candidate_tower"):
        LiveIndex.create(tmp_path / "another", tmp_path / "f", index=EXACT)


def test_index_and_embeddings_of_two_generations_are_refused(tmp_path: Path) -> None:
    live, _ = make_live(tmp_path)
    shutil.copytree(tmp_path / "live/generation-000001/index", tmp_path / "index")
    live.remove(["item-0"])
    live.rebuild()
    live.close()
    shutil.rmtree(tmp_path / "live/generation-000002/index")
    shutil.copytree(tmp_path / "index", tmp_path / "live/generation-000002/index")
    with pytest.raises(ArtifactError, match="generation-000002: the index is that of the candidate_embeddings"):
        LiveIndex.open(tmp_path / "live")


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    with pytest.raises(ArtifactError, match="another writer has this live index open"):
        LiveIndex.open(tmp_path / "live")
    with pytest.raises(ArtifactError, match="another writer"):
        LiveIndex.create(tmp_path / "live", tmp_path / "embeddings", index=EXACT)
    reader = LiveIndex.open(tmp_path / "live", read_only=True)
    for change in (lambda: reader.add(["x"], vectors_of(1), tower=TOWER), lambda: reader.remove(["x"]), reader.rebuild):
        with pytest.raises(ArtifactError, match="open for reading only"):
            change()
    live.close()
    with pytest.raises(ArtifactError, match="there is a live index already"):
        LiveIndex.create(tmp_path / "live", tmp_path / "embeddings", index=EXACT)
    assert_same(reader, model)
    with LiveIndex.open(tmp_path / "live") as again:
        assert_same(again, model)


def test_a_reader_opens_while_a_rebuild_replaces_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, model = make_live(tmp_path)
    add(live, model, ["new"], vectors_of(1, seed=3))
    load, loaded = live_module.load_generation, []

    def late(folder: Path, *, tower: str) -> Any:
        loaded.append(folder.name)
        if len(loaded) == 1:
            live.rebuild()
        return load(folder, tower=tower)

    monkeypatch.setattr(live_module, "load_generation", late)
    reader = LiveIndex.open(tmp_path / "live", read_only=True)
    assert loaded[0] == "generation-000001" and loaded[-1] == "generation-000002"
    assert_same(reader, model)
    live.close()


def test_searches_and_changes_in_several_threads(tmp_path: Path) -> None:
    """An item that is updated without end is found by every search, once, with one of its vectors."""
    live, _ = make_live(tmp_path, 200)
    query, over = np.ones((1, DIM), np.float32), threading.Event()
    failures: list[Any] = []

    def search() -> None:
        while not over.is_set():
            found = live.search(query, 3)
            if found.item_ids[0, 0] != "best" or "best" in found.item_ids[0, 1:]:
                failures.append(found)

    live.add(["best"], np.full((1, DIM), 9, np.float32), tower=TOWER)
    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(300):
        live.add(["best"], np.full((1, DIM), 9 + number % 3, np.float32), tower=TOWER)
        if number % 100 == 50:
            live.rebuild()
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    live.close()


def filled(tmp_path: Path) -> tuple[Path, Items]:
    live, model = make_live(tmp_path)
    add(live, model, [f"new-{number}" for number in range(300)], vectors_of(300, seed=2))
    remove(live, model, names(5))
    live.close()
    return tmp_path / "live", model


def test_no_altered_byte_of_the_log_goes_unnoticed(tmp_path: Path) -> None:
    folder, model = filled(tmp_path)
    path = folder / "delta.sqlite"
    content, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for place in [*range(0, 100, 7), *(draw.randrange(len(content)) for _ in range(150))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :])
        try:
            again = LiveIndex.open(folder, read_only=True)
        except ArtifactError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # a byte that says nothing, such as one between the rows of a page
            assert again.item_ids.to_pylist() == list(model)
            assert_same(again, model)
            again.close()
    assert refused > 50


@pytest.mark.parametrize(
    "alteration",
    [
        "UPDATE changes SET vector = zeroblob(16) WHERE sequence = 7",
        "UPDATE changes SET vector = 'text' WHERE sequence = 7",
        "UPDATE changes SET vector = NULL WHERE sequence = 7",
        "UPDATE changes SET item_id = CAST('another' AS BLOB) WHERE sequence = 7",
        "DELETE FROM changes WHERE sequence = 7",
        "UPDATE changes SET sequence = 1000 WHERE sequence = 7",
        "UPDATE head SET content = replace(content, '305', '304')",
        "DELETE FROM head",
        "DROP TABLE changes",
    ],
)
def test_an_altered_row_is_refused(tmp_path: Path, alteration: str) -> None:
    folder, _ = filled(tmp_path)
    with contextlib.closing(sqlite3.connect(folder / "delta.sqlite", isolation_level=None)) as connection:
        assert connection.execute(alteration).rowcount
    with pytest.raises(ArtifactError, match=r"delta\.sqlite"):
        LiveIndex.open(folder)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_log_is_refused_by_name(tmp_path: Path, share: float) -> None:
    folder, _ = filled(tmp_path)
    path = folder / "delta.sqlite"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ArtifactError, match=r"delta\.sqlite"):
        LiveIndex.open(folder)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"no delta\.sqlite here"):
        LiveIndex.open(folder)


@pytest.mark.parametrize("name", ["embeddings/candidates.parquet", "embeddings/manifest.json", "index/manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_generation_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    folder, _ = filled(tmp_path)
    path = folder / "generation-000001" / name
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=f"generation-000001/{Path(name).parent}"):
        LiveIndex.open(folder)


def test_an_altered_index_file_is_refused_by_name(tmp_path: Path) -> None:
    folder, _ = filled(tmp_path)
    (path,) = (folder / "generation-000001/index").rglob("vectors.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"vectors\.npy"):
        LiveIndex.open(folder)


def test_a_pickle_in_a_generation_is_refused(tmp_path: Path) -> None:
    live, _ = make_live(tmp_path, index=config.IndexSettings(kind="scann"))
    live.close()
    (live.folder / "generation-000001/index/shard-00000/index/scann_docids.pkl").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"generation-000001/.*scann_docids\.pkl: not loaded"):
        LiveIndex.open(live.folder)


def test_a_killed_create_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live_module.DeltaLog, "create", die)
    with pytest.raises(KeyboardInterrupt):
        make_live(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="no complete live index"):
        LiveIndex.open(tmp_path / "live")
    live, model = make_live(tmp_path)
    assert_same(live, model)
    live.close()


def test_an_empty_main_index_and_everything_removed(tmp_path: Path) -> None:
    live, model = make_live(tmp_path, 0)
    assert_same(live, model, k=3)
    for _ in range(2):
        add(live, model, ["a", "b"], vectors_of(2, seed=3))
        assert_same(live, model)
        assert live.rebuild_due
        remove(live, model, ["a", "b"])
        assert_same(live, model, k=3)
        live.rebuild()
        assert_same(live, model, k=3)
    add(live, model, ["a"], vectors_of(1, seed=3))
    live.rebuild()
    remove(live, model, ["a"])
    live.rebuild()
    assert_same(live, model, k=3)
    add(live, model, ["a"], vectors_of(1, seed=4))
    assert_same(live, model)
    live.close()


def test_many_updates_of_few_items_keep_the_delta_small(tmp_path: Path) -> None:
    live, model = make_live(tmp_path)
    for number in range(300):
        add(live, model, ["item-1", f"new-{number % 7}"], vectors_of(2, seed=number))
    assert_same(live, model)
    assert len(live._view.delta.table) < 100
    assert live.delta_share == 8 / 20
    live.close()


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a"], vectors_of(1, 5), r"shape \[1, 4\], got \[1, 5\]"),
        (["a", "b"], vectors_of(1), r"shape \[2, 4\], got \[1, 4\]"),
        (["a", ""], vectors_of(2), "row 1: .* not empty"),
        (["a", None], vectors_of(2), "row 1: .* None"),
        ("ab", vectors_of(2), "several item ids"),
        (["a", "\ud800"], vectors_of(2), "item_id"),
        (["a", "b"], np.array([[0] * 4, [np.nan] * 4], np.float32), "not finite, .* item 'b'"),
        (["a"], np.full((1, 4), 1e300), "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_items_are_refused_as_a_whole(tmp_path: Path, ids: Any, vectors: np.ndarray, message: str) -> None:
    live, model = make_live(tmp_path)
    with pytest.raises(DataError, match=message):
        live.add(ids, vectors, tower=TOWER)
    assert_same(live, model)
    assert live.sequence == 0
    live.close()


def test_bad_attributes_and_filters_are_refused(tmp_path: Path) -> None:
    live, _ = make_live(tmp_path)
    with pytest.raises(DataError, match=r"no attribute 'size'.*colour"):
        live.add(["a"], vectors_of(1), tower=TOWER, attributes=pa.table({"size": [1]}))
    with pytest.raises(DataError, match="attributes of 1 items, got 2"):
        live.add(["a"], vectors_of(1), tower=TOWER, attributes=pa.table({"colour": ["red", "red"]}))
    with pytest.raises(DataError, match="colour: not the string"):
        live.add(["a"], vectors_of(1), tower=TOWER, attributes=pa.table({"colour": [["red"]]}))
    with pytest.raises(DataError, match=r"no attribute 'size' to filter by; .*'colour'"):
        live.search(vectors_of(1), 3, allowed=Allowed({"size": ["1"]}))
    with pytest.raises(ValueError, match="of 1 queries, got those of 2"):
        live.search(vectors_of(1), 3, exclude=[["a"], []])
    with pytest.raises(ValueError, match="got a string"):
        live.search(vectors_of(1), 3, exclude=["item-1"])
    with pytest.raises(ValueError, match=r"shape \[n, 4\]"):
        live.search(vectors_of(1, 5), 3)
    live.close()
    embeddings = write_embeddings(tmp_path / "e", ["a"], vectors_of(1), {"when": pa.array([0], pa.timestamp("us"))})
    with pytest.raises(ArtifactError, match=r"attribute when is timestamp"):
        LiveIndex.create(tmp_path / "other", embeddings, index=EXACT)


def test_attributes_of_every_type_survive_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    values = {
        "flag": pa.array([True, None]),
        "count": pa.array([2**62, None], pa.int64()),
        "price": pa.array([0.1, None], pa.float32()),
        "tags": pa.array([["a", "ü\n"], None], pa.list_(pa.string())),
    }
    embeddings = write_embeddings(tmp_path / "e", names(2), vectors_of(2), values)
    live = LiveIndex.create(tmp_path / "live", embeddings, index=EXACT)
    assert live.attributes.names == list(values)
    live.add(["x", "y"], vectors_of(2), tower=TOWER, attributes=pa.table(values))
    rows = live._view.items().drop_columns(["item_id"]).to_pylist()
    assert rows == pa.table(values).to_pylist() * 2
    live.close()
    with LiveIndex.open(tmp_path / "live") as again:
        assert again._view.items().drop_columns(["item_id"]).to_pylist() == rows
        again.rebuild()
        assert again._view.items().drop_columns(["item_id"]).to_pylist() == rows


def test_100_000_changes_take_seconds(tmp_path: Path) -> None:
    live, _ = make_live(tmp_path)
    vectors, started = vectors_of(10_000), time.monotonic()
    for number in range(10):
        live.add([f"new-{number}-{row}" for row in range(10_000)], vectors, tower=TOWER)
    assert time.monotonic() - started < 60  # 2 s on a free machine
    live.close()
