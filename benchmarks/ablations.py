"""What each choice is worth: one setting of a configuration changed at a time, by validation recall.

    python benchmarks/ablations.py amazon_beauty gowalla complete_journey
    python benchmarks/ablations.py amazon_beauty --only loss encoder --quick

Every row trains `configs/DATASET.yaml` with some settings replaced, without the refit, and gives the best validation
Recall@`monitor_k` over its epochs (exact search over all candidates); the first row changes nothing. The test queries
are not touched.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from quality_inputs import find_inputs  # noqa: E402

from two_tower.config import Config, load_config  # noqa: E402
from two_tower.errors import DataError, UserError  # noqa: E402

DATASETS = ("amazon_beauty", "gowalla", "complete_journey", "online_retail", "ml_100k")
MEAN = "model.history={type: mean, decay: 0.9}"
SAMPLED = "training.loss={type: sampled_softmax, negatives: 4096, popular_share: %s, logq: %s}"
VARIANTS: dict[str, dict[str, list[str]]] = {
    "loss": {
        "full softmax": ["training.loss={type: full_softmax, precision: bfloat16}"],
        "sampled softmax": [SAMPLED % (0.5, "positive_aware")],
        "in-batch softmax": ["training.loss={type: in_batch}", "training.batch_size=1024"],
        "BPR": ["training.loss={type: bpr}"],
        "cosine contrastive": ["training.loss={type: cosine_contrastive}"],
    },
    "negatives": {
        "uniform": [SAMPLED % (0.0, "positive_aware")],
        "by popularity": [SAMPLED % (1.0, "positive_aware")],
        "mixed, and mined": [
            SAMPLED % (0.5, "positive_aware"),
            "training.mining={after: 2, top: 100, skip: 10, per_query: 4}",
        ],
    },
    "logQ": {
        "none": [SAMPLED % (1.0, "none")],
        "standard": [SAMPLED % (1.0, "standard")],
        "positive-aware": [SAMPLED % (1.0, "positive_aware")],
    },
    "encoder": {
        "mean": [MEAN],
        "gru": ["model.history={type: gru, dropout: 0.3}"],
        "transformer": ["model.history={type: transformer, dropout: 0.3}"],
        "user id alone": ["model.history=null", "model.query.use_id=true", "training.batch_size=16384"],
    },
    "features": {"none": ["data.items.features={}"]},
    "parameters": {"separate": ["model.shared_items=false"]},
    "bias": {"none": ["model.item_bias=false"], "one an item": ["model.item_bias=true"]},
    "normalisation": {"dot product": ["model.normalize=false", "model.temperature=1"]},
}
"""By axis and name: the settings that differ from the configuration."""
QUICK = ["training.epochs=2", "training.validation_queries=2000"]


def main() -> None:
    """Runs the variants of each data set and prints their recalls."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("datasets", nargs="+", choices=DATASETS)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS), metavar="AXIS")
    parser.add_argument("--quick", action="store_true", help="two epochs")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for dataset in options.datasets:
        try:
            figures[dataset] = ablate(dataset, options.only, [*(QUICK if options.quick else []), *options.overrides])
        except DataError as error:
            print(f"skipped, {dataset}: {error}", file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "numpy")}
    figures |= {"versions": versions | {"python": platform.python_version()}, "cores": os.cpu_count()}
    print(json.dumps({**figures, "quick": options.quick, "settings": options.overrides}))


def ablate(dataset: str, axes: list[str], overrides: list[str]) -> dict[str, Any]:
    """The recall and the seconds of the configuration and of each of its variants."""
    path = ROOT / "configs" / f"{dataset}.yaml"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = load_config(path, [*overrides, "training.refit=false"])
        prepared = prepare(base, Path(folder) / "prepared")
        others = Path(folder) / "prepared-otherwise"
        found["as configured"] = measured(base, prepared, Path(folder) / "trained")
        for axis in axes:
            for name, changes in VARIANTS[axis].items():
                label = f"{axis}: {name}"
                try:
                    config = load_config(path, [*overrides, "training.refit=false", *changes])
                    data = prepared if config.data == base.data else prepare(config, others)
                    found[label] = measured(config, data, Path(folder) / "trained")
                except UserError as error:  # such as a query tower that is left without an input
                    found[label] = {"error": str(error)}
                print(f"{dataset}, {label}: {json.dumps(found[label])}", file=sys.stderr, flush=True)
    return found


def prepare(config: Config, folder: Path) -> Path:
    """The prepared data of a configuration.

    Raises:
        DataError: The data set is not there, or cannot be prepared.
    """
    from two_tower import data

    inputs = find_inputs(config, ROOT / "data", folder.parent, quick=False, cold=0.0, validation=False)
    data.prepare(inputs.sources, out=folder, data=inputs.data, beam=config.beam)
    return folder


def measured(config: Config, prepared: Path, folder: Path) -> dict[str, Any]:
    """What the best epoch reached, which it was, and how long the training took."""
    from two_tower.artifacts import open_artifact
    from two_tower.model import train

    started = time.monotonic()
    train(str(prepared), str(folder), model=config.model, training=config.training)
    history = open_artifact(folder, "trained_towers").json("history.json")
    best = history["best_epoch"]
    recall = history["validation_recall"][history["epoch"].index(best)]
    return {history["monitor"]: recall, "best_epoch": best, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    main()
