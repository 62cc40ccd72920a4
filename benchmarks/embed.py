"""Batch embedding of the candidates against a bare `tf.function` over arrays in memory.

    python benchmarks/embed.py             # 1 and 2 million candidates
    python benchmarks/embed.py --quick     # 100,000 and 200,000
    python benchmarks/embed.py --items N   # N and 2 N

The candidates have a category, a number, a list of tags, a title, a hashed seller and a brand with an embedding each;
half of them have an id embedding too. The tower has hidden layers of 128 and 64 and is exported by the product's own
code; its weights are those it starts from, since their values cost no time.

Ours is the step as the pipeline calls it: it checks its inputs, reads the candidate table, embeds, and writes checked
Parquet files. The peer calls the same signature in a plain loop over NumPy batches that are in memory already (strings
as bytes, the form that TensorFlow takes fastest), and throws the result away. Both run in processes of their own, in
turn, on the same cores with TensorFlow's own number of threads; starting Python, importing TensorFlow and loading the
model are in neither's time for the ratio, and in `seconds_whole` for ours. Peak memory is the operating system's
figure (VmHWM) of our process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 16384
DIM = 64
HIDDEN = [128, 64]
SEED = 11
WORDS, TAGS, CATEGORIES, BRANDS, SELLERS = 20_000, 300, 200, 20_000, 50_000
TITLE, MOST_TAGS = 6, 4
MADE_AT_ONCE = 65_536


def features() -> dict[str, Any]:
    """The six features, one of each kind that looks something up or computes something."""
    from two_tower.features.categorical import Categorical
    from two_tower.features.hashed import Hashed
    from two_tower.features.id import Id
    from two_tower.features.multi_categorical import MultiCategorical
    from two_tower.features.numeric import Numeric
    from two_tower.features.text import Text

    return {
        "brand": Id(dim=32),
        "category": Categorical(dim=16),
        "price": Numeric(log=True),
        "seller": Hashed(dim=16, buckets=20_000),
        "tags": MultiCategorical(dim=16),
        "title": Text(dim=32, buckets=20_000, max_tokens=8),
    }


def candidates(items: int) -> Any:
    """A candidate table with one value in a hundred missing in each feature."""
    import pyarrow as pa

    parts = [_some(start, min(MADE_AT_ONCE, items - start)) for start in range(0, items, MADE_AT_ONCE)]
    return pa.concat_tables(parts)


def _some(start: int, count: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    rng = np.random.default_rng([SEED, start])

    def names(kind: str, numbers: Any) -> pa.Array:
        return pc.binary_join_element_wise(kind, pa.array(numbers).cast(pa.string()), " ")

    def holes() -> pa.Array:
        return pa.array(rng.random(count) < 0.01)

    def missing(column: pa.Array) -> pa.Array:
        return pc.if_else(holes(), pa.scalar(None, column.type), column)

    def lists(kind: str, known: int, lengths: Any) -> pa.Array:
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, names(kind, rng.integers(0, known, lengths.sum())), mask=holes())

    title = pc.binary_join(lists("word", WORDS, np.full(count, TITLE)), " ")
    return pa.table(
        {
            "item_id": names("sku", np.arange(start, start + count)),
            "available": pa.array(rng.random(count) < 0.98),
            "feature.brand": missing(names("brand", rng.integers(0, BRANDS, count))),
            "feature.category": missing(names("category", rng.integers(0, CATEGORIES, count))),
            "feature.price": missing(pa.array(rng.lognormal(3, 1, count))),
            "feature.seller": missing(names("seller", rng.integers(0, SELLERS, count))),
            "feature.tags": lists("tag", TAGS, rng.integers(1, MOST_TAGS + 1, count)),
            "feature.title": title,
        }
    )


def make(folder: Path, items: int) -> None:
    """The prepared data (its candidate table and features) and the exported candidate tower."""
    from two_tower.artifacts import content_hash, write_artifact
    from two_tower.config import ModelSettings, TowerSettings
    from two_tower.features import fit_features
    from two_tower.model import export_candidate_tower
    from two_tower.model.network import Network

    table = candidates(items)
    fitted = fit_features(features(), table, prefix="feature")
    with write_artifact(folder / "prepared", "prepared_data") as artifact:
        artifact.write_table("items.parquet", table, row_group_rows=MADE_AT_ONCE)
        content = {"item": {name: feature.to_json() for name, feature in fitted.items()}, "user": {}, "context": {}}
        artifact.write_json("features.json", content)
    model = ModelSettings(dim=DIM, candidate=TowerSettings(hidden=HIDDEN))
    network = Network(
        model=model,
        item_features=fitted,
        query_features={},
        item_ids=table["item_id"][: items // 2].to_pylist(),
        user_ids=[],
        history_length=10,
    )
    with write_artifact(folder / "trained", "trained_towers") as artifact:
        artifact.manifest.config = {"model": model.model_dump(mode="json")}
        artifact.manifest.made_from = {"prepared_data": content_hash(folder / "prepared")}
        artifact.manifest.extra = {"history_length": network.history_length}
        weights = {name: weight.numpy() for name, weight in network.weights().items()}
        np.savez(artifact.path("towers.npz"), allow_pickle=False, **weights)
        artifact.write_json("features.json", network.features_json())
        artifact.write_table("vocabulary.parquet", network.vocabulary())
    export_candidate_tower(str(folder / "trained"), str(folder / "tower"))


def run_ours(folder: Path, out: Path) -> dict[str, float]:
    """The step as the pipeline calls it, and the process's peak memory."""
    import tensorflow as tf

    from two_tower.config import BeamSettings, EmbeddingSettings
    from two_tower.embedding import embed_candidates

    tf.constant(0.0)  # what TensorFlow starts up with
    embedding = EmbeddingSettings(batch_size=BATCH)
    started, busy = time.perf_counter(), time.process_time()
    embed_candidates(
        str(folder / "tower"), str(folder / "prepared"), str(out), embedding=embedding, beam=BeamSettings()
    )
    return taken(started, busy)


def run_bare(folder: Path) -> dict[str, float]:
    """The same signature over batches in memory."""
    import pyarrow.parquet as pq
    import tensorflow as tf

    from two_tower.artifacts import open_artifact
    from two_tower.features import load_features, raw_text

    data, tower = (
        open_artifact(folder / "prepared", "prepared_data"),
        open_artifact(folder / "tower", "candidate_tower"),
    )
    fitted, inputs = load_features(data.json("features.json")["item"]), tower.json("signature.json")["inputs"]
    batches = []
    for rows in pq.ParquetFile(data.path("items.parquet")).iter_batches(BATCH):
        table = pa_table(rows)
        batch = {name: feature.raw(table[f"feature.{name}"]) for name, feature in fitted.items()}
        batches.append({"item_id": raw_text(table["item_id"]), **batch})
    tf.constant(0.0)
    started, busy = time.perf_counter(), time.process_time()
    model = tf.saved_model.load(str(tower.path("saved_model")))
    serve = model.signatures["serving_default"]
    for batch in batches:
        outputs = serve(**{name: tf.constant(array, inputs[name]["dtype"]) for name, array in batch.items()})
        for vectors in outputs.values():
            vectors.numpy()
    return taken(started, busy)


def taken(started: float, busy: float) -> dict[str, float]:
    """Seconds by the clock and by the processor since then, and the process's peak memory."""
    seconds, cpu = time.perf_counter() - started, time.process_time() - busy
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak_gb()}


def pa_table(rows: Any) -> Any:
    """A record batch as a table."""
    import pyarrow as pa

    return pa.Table.from_batches([rows])


def peak_gb() -> float:
    """The most memory that this process has had resident, in 10^9 bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9


def measure(maker: str, folder: Path, out: Path) -> dict[str, float]:
    """One run in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--worker", maker, str(folder), str(out)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{maker} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"seconds_whole": time.perf_counter() - started}


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Makes the candidates and towers, measures and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 candidates, one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="an existing folder where the data and results go, and stay")
    parser.add_argument("--worker", nargs=3, metavar=("MAKER", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        maker, folder, out = options.worker
        print(json.dumps(run_ours(Path(folder), Path(out)) if maker == "ours" else run_bare(Path(folder))))
        return
    items, repeats = (100_000, 1) if options.quick else (options.items, options.repeats)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        figures = compare(options.folder or Path(temporary), items=items, repeats=repeats)
    print(json.dumps(figures))


def compare(folder: Path, *, items: int, repeats: int) -> dict[str, Any]:
    """All the measurements."""
    sizes = {"once": items, "twice": 2 * items}
    for count in sizes.values():
        made = folder / f"{count}"
        if not (made / "tower" / "manifest.json").exists():
            say(f"making {count:,} candidates and their tower")
            make(made, count)
    runs_of: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for maker, size in (("ours", "once"), ("bare", "once"), ("ours", "twice")):
            made = folder / f"{sizes[size]}"
            found = measure(maker, made, made / maker)
            runs_of.setdefault(f"{maker} {size}", []).append(found)
            clock, cores = found["seconds"], found["cpu_seconds"]
            say(f"{maker} {sizes[size]:,}: {clock:.2f} s ({cores:.2f} s of the cores), {found['peak_gb']:.2f} GB")
    check(folder / f"{items}")
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in runs_of.items()}
    peaks = {name: max(run["peak_gb"] for run in runs) for name, runs in runs_of.items()}
    return {
        "vs_bare": round(seconds["bare once"] / seconds["ours once"], 3),
        "peak_gb": round(peaks["ours once"], 3),
        "peak_gb_twice": round(peaks["ours twice"], 3),
        "items_per_s": round(items / seconds["ours once"]),
        "linear": round(seconds["ours twice"] / seconds["ours once"] / 2, 3),
        "seconds": {name: round(one, 2) for name, one in seconds.items()},
        "cpu_seconds": {
            name: round(statistics.median(run["cpu_seconds"] for run in runs), 2) for name, runs in runs_of.items()
        },
        "seconds_whole": round(statistics.median(run["seconds_whole"] for run in runs_of["ours once"]), 2),
        "runs": {name: [round(run["seconds"], 2) for run in runs] for name, runs in runs_of.items()},
        "items": items,
        "repeats": repeats,
        "seed": SEED,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in ("apache-beam", "pyarrow", "tensorflow")}
        | {"python": platform.python_version()},
    }


def check(folder: Path) -> None:
    """Compares the first and the last shard's vectors with the model's own."""
    import tensorflow as tf

    from two_tower.artifacts import open_artifact
    from two_tower.features import load_features, raw_text

    reader = open_artifact(folder / "ours", "candidate_embeddings")
    data = open_artifact(folder / "prepared", "prepared_data")
    fitted = load_features(data.json("features.json")["item"])
    model = tf.saved_model.load(str(folder / "tower" / "saved_model"))
    for part in (min(reader.manifest.files), max(reader.manifest.files)):
        written = reader.table(part).slice(0, 1000)
        rows = data.table("items.parquet").slice(written["item"][0].as_py(), len(written))
        assert written["item_id"].equals(rows["item_id"])
        raw = {name: tf.constant(feature.raw(rows[f"feature.{name}"])) for name, feature in fitted.items()}
        outputs = model.signatures["serving_default"](item_id=tf.constant(raw_text(rows["item_id"])), **raw)
        for name, vectors in outputs.items():
            found = np.array(written[name].to_pylist(), dtype=np.float32)
            np.testing.assert_allclose(found, vectors.numpy(), atol=2e-3)
    say("the vectors are the model's")


if __name__ == "__main__":
    main()
