"""The evaluation of a version: time and memory for many queries and candidates.

    python benchmarks/evaluate.py                    # 100,000 queries, 1 million candidates
    python benchmarks/evaluate.py --quick            # 3,000 queries, 30,000 candidates, to see that it runs

The towers are trained on synthetic logs as in benchmarks/index.py, whose `--out` folder serves here too.  Evaluated are
the version end to end on all queries, exact search on `evaluation.exact_queries` of them, two baselines, all slices and
the bootstrap, as in the step `evaluate_recall`, for half of the queries and for all of them, each in a process of its
own.  Where the test window holds fewer queries, some are taken twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

DIM, SEED = 64, 3
KS = [10, 100, 1000]


def main() -> None:
    """Makes what is missing, runs the evaluations and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="3,000 queries, 30,000 candidates")
    parser.add_argument("--out", type=Path, help="keeps the towers here, and takes them from here")
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "PREPARED", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*map(Path, options.child))))
        return
    items, queries = (30_000, 3_000) if options.quick else (options.items, options.queries)
    with tempfile.TemporaryDirectory(dir=options.out) as temporary:
        print(json.dumps(compare(options.out or Path(temporary), Path(temporary), items=items, queries=queries)))


def compare(root: Path, scratch: Path, *, items: int, queries: int) -> dict[str, Any]:
    """The figures of half of the queries and of all."""
    import numpy as np
    from index import make_vectors

    from two_tower.config import IndexSettings
    from two_tower.index import build_index

    folder = root / f"{items}x{DIM}"
    if not (folder / "trained.json").exists():
        say(f"training towers for {items:,} candidates")
        make_vectors(folder, items=items, users=max(queries, items // 10), dim=DIM)
    prepared, towers = root / f"prepared-{items}", folder / "towers"
    if not (towers / "index" / "manifest.json").exists():
        say("building the index")
        tuning = np.load(folder / "tuning.npy")
        build_index(towers / "embeddings", towers / "index", index=IndexSettings(), queries=tuning)
    found = {}
    for count in (queries // 2, queries):
        with_queries(prepared, scratch / f"prepared-{count}", count)
        found[count] = in_child(towers, scratch / f"prepared-{count}", scratch / f"evaluation-{count}")
        say(f"{count:,} queries: {found[count]}")
    whole, half = found[queries], found[queries // 2]
    return {
        "minutes": round(whole["seconds"] / 60, 2),
        "peak_gb": whole["peak_gb"],
        "minutes_half": round(half["seconds"] / 60, 2),
        "queries": queries,
        "candidates": items,
        "exact_queries": whole["exact_queries"],
        "recall@100": whole["recall@100"],
        "cores": len(os.sched_getaffinity(0)),
    }


def with_queries(prepared: Path, out: Path, count: int) -> None:
    """Copies the prepared data, as links, with `count` of its test queries."""
    import numpy as np
    import pyarrow.dataset as ds

    from two_tower.artifacts import open_artifact, write_artifact

    source = open_artifact(prepared, "prepared_data")
    table = ds.dataset(prepared / "test").to_table()
    rng = np.random.default_rng(SEED)
    rows = np.concatenate([rng.permutation(len(table)), rng.integers(0, len(table), size=count)])[:count]
    manifest = source.manifest
    facts = {"config": manifest.config, "extra": manifest.extra, "data_seen_until": manifest.data_seen_until}
    with write_artifact(out, "prepared_data", **facts) as artifact:
        for name in manifest.files:
            if not name.startswith("test/"):
                os.link(prepared / name, artifact.path(name))
        artifact.write_table("test/part-00000.parquet", table.take(np.sort(rows)))


def in_child(towers: Path, prepared: Path, out: Path) -> dict[str, Any]:
    """What `measure` finds in a process of its own."""
    command = [sys.executable, __file__, "--child", str(towers), str(prepared), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(towers: Path, prepared: Path, out: Path) -> dict[str, Any]:
    """The evaluation, its seconds and the process's peak memory."""
    from two_tower.config import EvaluationSettings
    from two_tower.evaluation import evaluate

    section = {
        "ks": KS,
        "baselines": [{"type": "popularity"}, {"type": "recent_popularity"}],
        "gate": [{"type": "minimum", "metric": "recall@100", "at_least": 0.0}],
    }
    started = time.perf_counter()
    measured = evaluate(
        prepared, towers / "query", towers / "index", towers / "embeddings", out,
        evaluation=EvaluationSettings.model_validate(section), version="measured",
    )  # fmt: skip
    seconds = time.perf_counter() - started
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    systems = measured.systems
    return {
        "seconds": round(seconds, 1),
        "peak_gb": round(int(line.split()[1]) * 1024 / 1e9, 2),
        "exact_queries": systems["two_tower_exact"].queries,
        "recall@100": round(systems["two_tower"].recall[100].value, 4),
    }


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
