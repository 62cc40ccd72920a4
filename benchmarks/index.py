"""The index against others, on the vectors and queries of trained towers, all in one run.

    pip install faiss-cpu hnswlib
    python benchmarks/index.py                       # 1 million candidates, widths 64 and 128
    python benchmarks/index.py --quick               # 30,000 candidates, to see that it runs

Towers are trained on synthetic logs with the product's own steps until their Recall@100 is several times popularity's
(printed). Each system is built, tuned on validation queries and measured on test queries in a process of its own.
Recall is against exact search; latency is that of single queries on one thread; builds may use all cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

Float32 = npt.NDArray[np.float32]
Search = Callable[[Float32], npt.NDArray[Any]]
"""Queries `[n, dim]` to rows `[n, K]`."""
K, RECALL, COMPACT_RECALL, P99_MS = 100, 0.98, 0.97, 1.0
SYSTEMS = ("ours", "ours_compact", "faiss", "hnswlib", "exact", "ours_sharded", "ours_live")
TUNING, TEST, TIMED = 500, 2000, 4000
MODEL = [
    "model.candidate={use_id: true, id_dropout: 0.2, hidden: [128]}",
    "model.query={use_id: false, hidden: [128]}",
    "model.normalize=true",
    "model.temperature=0.05",
    "training.learning_rate=0.002",
    "training.epochs=2",
    "training.validation_queries=1000",
]


def main() -> None:
    """Runs all systems at all widths and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--quick", action="store_true", help="30,000 candidates of width 32")
    parser.add_argument("--out", type=Path, help="keeps the vectors here, and takes them from here")
    parser.add_argument("--picture", type=Path, help="an SVG file for recall against latency")
    parser.add_argument("--child", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_system(options.child[0], Path(options.child[1]))))
        return
    if options.quick:
        options.dims, options.items, options.users = [32], 30_000, 5_000
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for dim in options.dims:
            folder = (options.out or Path(temporary)) / f"{options.items}x{dim}"
            if not (folder / "trained.json").exists():
                make_vectors(folder, items=options.items, users=options.users, dim=dim)
            figures[str(dim)] = {"towers": json.loads((folder / "trained.json").read_text())}
            print(f"{options.items:,} x {dim}: {json.dumps(figures[str(dim)]['towers'])}", file=sys.stderr, flush=True)
            for system in options.systems:
                figures[str(dim)][system] = in_child(system, folder)
                shown = {name: value for name, value in figures[str(dim)][system].items() if name != "points"}
                print(f"{dim}, {system}: {json.dumps(shown)}", file=sys.stderr, flush=True)
    if options.picture:
        draw(figures, options.picture)
    print(json.dumps(summary(figures)))


def make_vectors(folder: Path, *, items: int, users: int, dim: int) -> None:
    """Trains towers on synthetic logs; writes vectors.npy, tuning.npy, test.npy (queries) and trained.json."""
    from pipelines.datasets import make_dataset
    from two_tower import data
    from two_tower.config import load_config
    from two_tower.data import resolve_sources
    from two_tower.embedding import embed_candidates
    from two_tower.index import load_embeddings
    from two_tower.model import export_candidate_tower, export_query_tower, train
    from two_tower.retrievers import sample_queries

    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(ROOT / "configs" / "synthetic.yaml", [*MODEL, f"model.dim={dim}"])
    make_dataset("synthetic", folder.parent / f"data-{items}", items=items, users=users)
    sources = resolve_sources(config.data, dataset="synthetic", data_root=str(folder.parent / f"data-{items}"))
    prepared, trained, towers = folder.parent / f"prepared-{items}", folder / "trained", folder / "towers"
    if not (prepared / "manifest.json").exists():
        data.prepare(sources, out=prepared, data=config.data, beam=config.beam)
    started = time.monotonic()
    train(str(prepared), str(trained), model=config.model, training=config.training)
    seconds = time.monotonic() - started
    export_candidate_tower(str(trained), str(towers / "candidate"))
    embed_candidates(
        str(towers / "candidate"), str(prepared), str(towers / "embeddings"), embedding=config.embedding,
        beam=config.beam,
    )  # fmt: skip
    export_query_tower(str(trained), str(towers / "embeddings"), str(towers / "query"))
    np.save(folder / "vectors.npy", load_embeddings(towers / "embeddings").vectors)
    for name, split, most in (("tuning", "validation", TUNING), ("test", "test", TEST)):
        np.save(folder / f"{name}.npy", sample_queries(towers / "query", prepared, split=split, most=most))
    facts = {**recall_of_towers(prepared, towers), "train_s": round(seconds, 1)}
    (folder / "trained.json").write_text(json.dumps(facts))


def recall_of_towers(prepared: Path, towers: Path) -> dict[str, float]:
    """Recall@100 of the towers, by exact search, and of popularity, on the same test queries."""
    from two_tower.artifacts import open_artifact
    from two_tower.data import open_prepared
    from two_tower.index import ExactIndex, load_embeddings
    from two_tower.retrievers import TwoTowerRetriever
    from two_tower.towers import QueryTower, query_features

    data = open_prepared(prepared)
    candidates = load_embeddings(towers / "embeddings")
    index = ExactIndex(candidates.vectors, candidates.item_ids)
    index.made_from = candidates.made_from
    retriever = TwoTowerRetriever(
        QueryTower.open(towers / "query"),
        index,
        items=data.items(["item_id"])["item_id"].combine_chunks(),
        features=query_features(open_artifact(prepared, "prepared_data").json("features.json")),
    )
    queries = data.queries("test").slice(0, TEST)
    popular = np.argsort(-data.items(["train_count"])["train_count"].to_numpy(), kind="stable")[: 2 * K]
    relevant, seen = (queries[name].to_pylist() for name in ("relevant", "seen"))
    found = retriever.retrieve(queries, 2 * K).items
    shares = []
    for ranking in (found, np.broadcast_to(popular, found.shape)):
        firsts = [
            [item for item in row.tolist() if item not in set(old)][:K] for row, old in zip(ranking, seen, strict=True)
        ]
        hits = [len(set(first) & set(right)) / len(right) for first, right in zip(firsts, relevant, strict=True)]
        shares.append(float(np.mean(hits)))
    return {"recall@100": round(shares[0], 4), "popularity_recall@100": round(shares[1], 4)}


def in_child(system: str, folder: Path) -> dict[str, Any]:
    """The figures of a system that is built and measured in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--child", system, str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        return {"error": (finished.stderr.strip().splitlines() or ["?"])[-1]}
    found: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return found


def run_system(system: str, folder: Path) -> dict[str, Any]:
    """Builds, saves, loads, tunes and measures one system."""
    vectors, tuning, test = (np.load(folder / f"{name}.npy") for name in ("vectors", "tuning", "test"))
    with tempfile.TemporaryDirectory() as temporary:
        search, figures = globals()[f"_{system}"](vectors, tuning, Path(temporary))
        return {**measured(search, vectors, test), **figures, "peak_gb": peak_gb()}


def measured(search: Search, vectors: Float32, queries: Float32, *, timed: int = TIMED) -> dict[str, float]:
    """Recall against exact search, and latency."""
    from two_tower.index import latency, search_among, share_found

    best = search_among(vectors, queries, K)[1]
    rows = np.concatenate([search(query[None]) for query in queries])
    scores = np.where(rows >= 0, np.einsum("qd,qkd->qk", queries, vectors[rows]), np.float32(-np.inf))
    times = latency(search, queries, timed=timed)
    found = {f"{name}_ms": round(value, 4) for name, value in times.items()}
    return {"recall@100": round(float(share_found(best, scores).mean()), 4), **found}


def peak_gb() -> float:
    """The largest resident size of this process so far (of this program alone, unlike `ru_maxrss`)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kilobytes) / 1e6, 3)


def _ours(vectors: Float32, tuning: Float32, folder: Path, **settings: Any) -> tuple[Search, dict[str, Any]]:
    from two_tower.config import IndexSettings

    target = settings.pop("target", {"recall": RECALL, "k": K, "p99_ms": P99_MS})
    return _product(vectors, tuning, folder, IndexSettings(kind="scann", target=target, **settings))


def _ours_compact(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    return _ours(vectors, tuning, folder, storage="int8", target={"recall": COMPACT_RECALL, "k": K})


def _ours_sharded(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    """Two shards: what merging costs, beside `ours`."""
    return _ours(vectors, tuning, folder, shards=2)


def _ours_live(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    """A live index of which 1 % has changed, half of it updated and half new, beside the same one unchanged."""
    from two_tower.config import IndexSettings
    from two_tower.index import LiveIndex, latency

    write_vectors(folder / "embeddings", vectors)
    target = {"recall": RECALL, "k": K, "p99_ms": P99_MS}
    live = LiveIndex.create(
        folder / "live", folder / "embeddings", index=IndexSettings(kind="scann", target=target), queries=tuning
    )

    def search(queries: Float32) -> npt.NDArray[Any]:
        found = live.search(queries, K).item_ids
        return np.array([[rows[item_id] for item_id in row] for row in found.tolist()])

    before = latency(lambda query: live.search(query, K), tuning, timed=TIMED)
    rng = np.random.default_rng(0)
    count = len(vectors) // 200
    changed, copied = rng.choice(len(vectors), (2, count), replace=False)
    new = [f"new-{number}" for number in range(count)]
    live.add([str(row) for row in changed] + new, np.vstack([vectors[copied], vectors[changed]]), tower=live.tower)
    # A new item has the vector that an updated one had before, so that exact search over `vectors` stays the measure
    # but for the copies, which score as high as the first ones.
    rows = {str(row): row for row in range(len(vectors))} | dict(zip(new, changed.tolist(), strict=True))
    rows |= dict(zip(map(str, changed), copied.tolist(), strict=True))
    after = latency(lambda query: live.search(query, K), tuning, timed=TIMED)
    added = {f"adds_{name}_ms": round(after[name] - before[name], 4) for name in before}
    return search, {"changed": 2 * count, **added}


def _exact(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    from two_tower.config import IndexSettings

    return _product(vectors, tuning, folder, IndexSettings(kind="exact", target=None))


def _product(vectors: Float32, tuning: Float32, folder: Path, settings: Any) -> tuple[Search, dict[str, Any]]:
    """The product's own step, from an artefact of embeddings to a loaded index."""
    from two_tower.artifacts import read_manifest
    from two_tower.index import build_index, load_index

    write_vectors(folder / "embeddings", vectors)
    started = time.monotonic()
    build_index(folder / "embeddings", folder / "index", index=settings, queries=tuning)
    seconds = time.monotonic() - started
    found = read_manifest(folder / "index", "index").measured
    started = time.monotonic()
    index = load_index(folder / "index")
    figures = {
        "build_s": found.get("build_seconds", round(seconds, 2)),
        "step_s": round(seconds, 2),
        "load_s": round(time.monotonic() - started, 2),
        "disk_over_raw": disk_over_raw(folder / "index", vectors, leave_out="vector_search"),
        "points": [[point["recall"], point["latency_ms"]["p50"]] for point in found.get("points", [])],
        "settings": found.get("chosen", {}).get("effort") if found else None,
    }
    return lambda queries: index.search(queries, K)[0], figures


def write_vectors(folder: Path, vectors: Float32) -> None:
    """The vectors as an artefact of candidate embeddings whose ids are the row numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from two_tower.artifacts import write_artifact

    with write_artifact(folder, "candidate_embeddings", made_from={"candidate_tower": "benchmark"}) as artifact:
        columns = {
            "item": pa.array(np.arange(len(vectors), dtype=np.int32)),
            "item_id": pa.array(np.arange(len(vectors))).cast(pa.string()),
            "available": pa.array(np.ones(len(vectors), bool)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
        }
        pq.write_table(pa.table(columns), artifact.path("part-0.parquet"))


def _faiss(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    """IVF, product quantisation with fast scan, refinement by the vectors themselves."""
    import faiss

    lists = round(4 * len(vectors) ** 0.5 / 8) * 8
    started = time.monotonic()
    index = faiss.index_factory(
        vectors.shape[1], f"IVF{lists},PQ{vectors.shape[1] // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
    )
    index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[: 64 * lists]])
    index.add(vectors)
    seconds = time.monotonic() - started
    faiss.write_index(index, str(folder / "index.faiss"))
    started = time.monotonic()
    index = faiss.read_index(str(folder / "index.faiss"))
    loaded = time.monotonic() - started
    faiss.omp_set_num_threads(1)

    def set_effort(effort: tuple[int, int]) -> None:
        index.k_factor = effort[1]
        faiss.extract_index_ivf(index.base_index).nprobe = effort[0]

    def search(queries: Float32) -> npt.NDArray[Any]:
        return index.search(queries, K)[1]

    efforts = [(probes, factor) for probes in (2, 4, 8, 16, 32, 64, 128, 256) for factor in (1, 2, 4, 8, 16)]
    tuned = tune_peer(search, set_effort, efforts, vectors, tuning)
    return search, {
        **tuned,
        "build_s": round(seconds, 2),
        "load_s": round(loaded, 2),
        "disk_over_raw": disk_over_raw(folder, vectors),
    }


def _hnswlib(vectors: Float32, tuning: Float32, folder: Path) -> tuple[Search, dict[str, Any]]:
    import hnswlib

    started = time.monotonic()
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=16, ef_construction=200, random_seed=0)
    index.add_items(vectors)
    seconds = time.monotonic() - started
    index.save_index(str(folder / "index.hnsw"))
    started = time.monotonic()
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.load_index(str(folder / "index.hnsw"))
    loaded = time.monotonic() - started

    def search(queries: Float32) -> npt.NDArray[Any]:
        return index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)

    efforts = [100, 120, 150, 200, 300, 500, 800, 1200]
    tuned = tune_peer(search, index.set_ef, efforts, vectors, tuning)
    return search, {
        **tuned,
        "build_s": round(seconds, 2),
        "load_s": round(loaded, 2),
        "disk_over_raw": disk_over_raw(folder, vectors),
    }


def tune_peer(
    search: Search, set_effort: Callable[[Any], Any], efforts: list[Any], vectors: Float32, tuning: Float32
) -> dict[str, Any]:
    """Sets the fastest effort with the recall that is asked for, else the one with the highest recall."""
    points = []
    for effort in efforts:
        set_effort(effort)
        points.append((effort, measured(search, vectors, tuning, timed=200)))
    good = [point for point in points if point[1]["recall@100"] >= RECALL]
    best = min(good, key=lambda point: point[1]["p50_ms"]) if good else max(points, key=lambda p: p[1]["recall@100"])
    set_effort(best[0])
    return {"settings": best[0], "points": [[found["recall@100"], found["p50_ms"]] for _, found in points]}


def disk_over_raw(folder: Path, vectors: Float32, *, leave_out: str = " ") -> float:
    """The bytes of the folder's files over those of the float32 vectors."""
    files = [path for path in folder.rglob("*") if path.is_file() and leave_out not in path.parts]
    return round(sum(path.stat().st_size for path in files) / vectors.nbytes, 3)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Recall against median latency, all settings of all systems."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    picture, axes = pyplot.subplots(1, len(figures), figsize=(5.5 * len(figures), 4), sharey=True, squeeze=False)
    for axis, (dim, systems) in zip(axes[0], figures.items(), strict=True):
        for number, name in enumerate(("ours", "ours_compact", "faiss", "hnswlib")):
            if points := systems.get(name, {}).get("points"):
                front = pareto(points)
                axis.plot(
                    [p[1] for p in front], [p[0] for p in front], marker="o", ms=3, label=name, color=f"C{number}"
                )
        axis.axhline(RECALL, color="grey", lw=0.8, ls="--")
        axis.set(
            xscale="log", xlabel="median of a single query, ms, one thread", title=f"width {dim}", ylim=(0.8, 1.002)
        )
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("Recall@100 against exact search")
    axes[0][0].legend()
    picture.tight_layout()
    picture.savefig(path)


def pareto(points: list[list[float]]) -> list[list[float]]:
    front: list[list[float]] = []
    for recall, milliseconds in sorted(points, key=lambda point: (point[1], -point[0])):
        if not front or recall > front[-1][0]:
            front.append([recall, milliseconds])
    return front


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """The systems of the first width by name, the other widths below `widths`."""
    names = ("numpy", "scann", "faiss-cpu", "hnswlib")
    versions: dict[str, str] = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    shown = {
        dim: {name: {key: value for key, value in found.items() if key != "points"} for name, found in systems.items()}
        for dim, systems in figures.items()
    }
    first, *others = shown
    return {
        **shown[first],
        "widths": {dim: shown[dim] for dim in others},
        "versions": versions,
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
