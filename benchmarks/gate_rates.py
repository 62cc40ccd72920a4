"""How many retrainings the default gate lets through: ten that are as good as the champion, and some that are worse.

    python benchmarks/gate_rates.py
    python benchmarks/gate_rates.py --set training.refit=false   # a faster training, the same for all
    python benchmarks/gate_rates.py --quick                      # small towers, three trainings, to see that it runs

`configs/ml_100k.yaml` is trained with the seed that it has: that is the champion. Trained again with ten other seeds,
it gives versions that differ from it by nothing but chance; trained for two epochs, versions that are worse. Each is
exported, embedded, searched exactly and compared with the champion on the same test queries, by the product's own
steps, and the gate that a configuration without `gate` has decides. The baselines are left out: their checks advise
only. A champion that chance has made better or worse than most shifts the rate for all ten.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from quality import prepare_once, run_version, say, train_once  # noqa: E402
from quality_inputs import find_inputs  # noqa: E402

from two_tower.config import Config, load_config  # noqa: E402
from two_tower.errors import UserError  # noqa: E402

CONFIG = ROOT / "configs" / "ml_100k.yaml"
FIXED = ["evaluation.gate=null", "evaluation.baselines=[]", "evaluation.examples=0", "index.kind=exact"]
TWO_EPOCHS = "training.epochs=2"
QUICK = [
    "model.dim=16", "model.history={type: mean}", "training.epochs=6", "training.refit=false",
    "evaluation.bootstrap_samples=200",
]  # fmt: skip


def main() -> None:
    """Trains the champion and its challengers and prints how many the gate let through."""
    options = parse()
    overrides = [*FIXED, *(QUICK if options.quick else []), *options.overrides]
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.out or Path(temporary)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        try:
            champion = Champion.begin(load_config(CONFIG, overrides), out)
            equal = [champion.challenged_by(champion.config, seed=seed) for seed in range(1, options.equal + 1)]
            hasty = load_config(CONFIG, [*overrides, TWO_EPOCHS])
            two_epochs = [champion.challenged_by(hasty, seed=seed) for seed in range(1, options.two_epochs + 1)]
        except UserError as error:
            raise SystemExit(str(error)) from error
    figures = {
        "passed": sum(found["decision"] == "promote" for found in equal),
        "of": len(equal),
        "two_epochs_passed": sum(found["decision"] == "promote" for found in two_epochs),
        "two_epochs": len(two_epochs),
        "champion": champion.recall,
        "equal_versions": equal,
        "two_epoch_versions": two_epochs,
        "queries": champion.queries,
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
class Champion:
    """The champion, exported to `out/champion`."""

    config: Config
    prepared: Path
    out: Path
    metric: str
    """What the default gate compares."""
    recall: float
    """The champion's."""
    queries: int

    @classmethod
    def begin(cls, config: Config, out: Path) -> Champion:
        """Trains and exports the champion.

        Raises:
            DataError: The data set is not there.
        """
        inputs = find_inputs(config, ROOT / "data", out, quick=False, cold=0.0, validation=False)
        prepared = prepare_once(config, inputs, out)
        trained, _ = train_once(config, prepared, out, seed=config.training.seed)
        metrics = run_version(config, prepared, trained, out / "champion", split="test", baselines=True)
        metric = str(config.evaluation.checks[0].model_dump()["metric"])
        recall = metrics["systems"]["two_tower"]["metrics"][metric]["value"]
        say(f"the champion, seed {config.training.seed}: {metric} {recall:.4f} on {metrics['queries']} queries")
        return cls(config, prepared, out, metric, recall, metrics["queries"])

    def challenged_by(self, config: Config, *, seed: int) -> dict[str, Any]:
        """What the gate says of a training: its decision, and the recall's paired difference from the champion's."""
        trained, seconds = train_once(config, self.prepared, self.out, seed=seed)
        metrics = run_version(
            config, self.prepared, trained, self.out / "version", split="test", baselines=True,
            champion=self.out / "champion",
        )  # fmt: skip
        gc.collect()
        gate = metrics["gate"]
        say(f"seed {seed}, at most {config.training.epochs} epochs, {seconds:.0f} s: {gate['reason']}")
        say("\n".join(f"  {check['status']}: {check['name']}: {check['reason']}" for check in gate["checks"]))
        return {
            "seed": seed,
            "decision": gate["decision"],
            self.metric: metrics["systems"]["two_tower"]["metrics"][self.metric]["value"],
            **metrics["comparisons"]["champion"][self.metric],
        }


if __name__ == "__main__":
    main()
