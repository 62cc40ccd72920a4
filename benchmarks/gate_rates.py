"""How many retrainings the default gate lets through: ten that are as good as the champion, and some that are worse.

    python benchmarks/gate_rates.py
    python benchmarks/gate_rates.py --set training.refit=false   # a faster training, the same for all
    python benchmarks/gate_rates.py --quick                      # small towers, three trainings, to see that it runs

`configs/ml_100k.yaml` is trained with the seed that it has, and again with ten others, which gives eleven versions that
differ by nothing but chance; trained for two epochs, it gives versions that are worse. Each is exported, embedded,
searched exactly and measured on the same test queries by the product's own steps. The comparison of the default gate
then decides on them by its own functions: `nights` takes the versions one after the other, each against the champion of
its time, which it replaces if it passes, as a nightly retraining does; `pairs` holds each of the equal versions against
each other one, so that the luck of a single champion decides nothing; `two_epochs` those of two epochs against each of
the equal ones.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import itertools
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from quality import prepare_once, run_version, say, train_once  # noqa: E402
from quality_inputs import find_inputs  # noqa: E402

from two_tower.config import Config, load_config  # noqa: E402
from two_tower.contracts import Float32  # noqa: E402
from two_tower.errors import UserError  # noqa: E402
from two_tower.evaluation import paired_difference, resampled_means  # noqa: E402
from two_tower.metrics_file import Evaluation  # noqa: E402

CONFIG = ROOT / "configs" / "ml_100k.yaml"
FIXED = ["evaluation.gate=null", "evaluation.baselines=[]", "evaluation.examples=0", "index.kind=exact"]
TWO_EPOCHS = "training.epochs=2"
QUICK = [
    "model.dim=16", "model.history={type: mean}", "training.epochs=6", "training.refit=false",
    "evaluation.bootstrap_samples=200",
]  # fmt: skip


def main() -> None:
    """Trains the versions and prints how many of them the default gate lets through."""
    options = parse()
    overrides = [*FIXED, *(QUICK if options.quick else []), *options.overrides]
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.out or Path(temporary)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        try:
            config = load_config(CONFIG, overrides)
            inputs = find_inputs(config, ROOT / "data", out, quick=False, cold=0.0, validation=False)
            prepared = prepare_once(config, inputs, out)
            seeds = [config.training.seed, *range(1, options.equal + 1)]
            equal = [trained_version(config, prepared, out, seed=seed) for seed in seeds]
            hasty = load_config(CONFIG, [*overrides, TWO_EPOCHS])
            worse = [trained_version(hasty, prepared, out, seed=seed) for seed in range(1, options.two_epochs + 1)]
        except UserError as error:
            raise SystemExit(str(error)) from error
    gate = config.evaluation.checks[0]
    nights, champion = [], equal[0]
    for version in equal[1:]:
        found = gate.check(compared(config, champion, version))
        say(f"night of seed {version.seed}, against seed {champion.seed}: {found.status}: {found.reason}")
        nights.append(found.status == "passed")
        champion = version if nights[-1] else champion
    pairs = [passes(config, a, b) for a, b in itertools.permutations(equal, 2)]
    hasty_pairs = [passes(config, a, b) for a, b in itertools.product(equal, worse)]
    figures = {
        "nights": {"passed": sum(nights), "of": len(nights)},
        "pairs": {"passed": sum(pairs), "of": len(pairs)},
        "two_epochs": {"passed": sum(hasty_pairs), "of": len(hasty_pairs)},
        "metric": metric_of(config),
        "equal_versions": {version.seed: round(version.mean, 4) for version in equal},
        "two_epoch_versions": {version.seed: round(version.mean, 4) for version in worse},
        "queries": len(equal[0].values),
        "quick": options.quick,
        "settings": options.overrides,
        "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "numpy")}
        | {"python": platform.python_version()},
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--equal", type=int, default=10, help="retrainings with other seeds, 1, 2, ...")
    parser.add_argument("--two-epochs", type=int, default=3, help="trainings of two epochs")
    parser.add_argument("--quick", action="store_true", help="small towers, two such retrainings and one such training")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="of all trainings"
    )
    parser.add_argument("--out", type=Path, help="a folder that is kept; what lies there is not trained again")
    options = parser.parse_args()
    if options.quick:
        options.equal, options.two_epochs = min(options.equal, 2), min(options.two_epochs, 1)
    return options


@dataclass(frozen=True)
class Version:
    """A training's metric on the test queries."""

    seed: int
    values: Float32
    """`[queries]`."""

    @property
    def mean(self) -> float:
        """Over the queries."""
        return float(self.values.mean(dtype=np.float64))


def metric_of(config: Config) -> str:
    """What the default gate compares."""
    return str(config.evaluation.checks[0].model_dump()["metric"])


def trained_version(config: Config, prepared: Path, out: Path, *, seed: int) -> Version:
    """Trains with a seed, exports and measures."""
    trained, seconds = train_once(config, prepared, out, seed=seed)
    run_version(config, prepared, trained, out / "version", split="test", baselines=True)
    table = pq.read_table(out / "version" / "evaluation" / "per_query.parquet")
    metric = metric_of(config)
    version = Version(seed, table[f"two_tower/{metric}"].to_numpy())
    say(f"seed {seed}, at most {config.training.epochs} epochs, {seconds:.0f} s: {metric} {version.mean:.4f}")
    gc.collect()
    return version


def compared(config: Config, champion: Version, challenger: Version) -> Evaluation:
    """What the comparison with the champion reads of an evaluation."""
    evaluation = config.evaluation
    values = np.stack([challenger.values, champion.values], axis=1)
    ours, theirs = resampled_means(values, samples=evaluation.bootstrap_samples, seed=evaluation.seed).T
    difference = challenger.mean - champion.mean
    found = paired_difference(ours, theirs, difference=difference, confidence=evaluation.confidence)
    return Evaluation(
        version="challenger",
        champion="champion",
        champion_error=None,
        confidence=evaluation.confidence,
        comparisons={"champion": {metric_of(config): found}},
    )


def passes(config: Config, champion: Version, challenger: Version) -> bool:
    """Whether the default gate's comparison lets the challenger through."""
    return config.evaluation.checks[0].check(compared(config, champion, challenger)).status == "passed"


if __name__ == "__main__":
    main()
