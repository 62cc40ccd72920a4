"""What `auto` chooses beside what was tuned: the data section of an example alone, against the whole example.

    python benchmarks/defaults.py                      # five data sets, about half an hour on two cores
    python benchmarks/defaults.py ml_100k gowalla --out build/defaults

Both trainings are on the same prepared data, without a refit, and are judged by the best validation recall of their
epochs, by exact search. What the recall is measured by is the example's: `training.monitor_k`, `validation_queries` and
`evaluation.exclude_seen`. With `--out`, prepared data and trained towers are kept there and used again by whatever has
the same inputs, settings and code.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from quality import prepare_once, say, train_once  # noqa: E402
from quality_inputs import find_inputs  # noqa: E402

from two_tower.config import Config, load_config  # noqa: E402
from two_tower.errors import DataError, UserError  # noqa: E402

DATASETS = ("ml_100k", "online_retail", "amazon_beauty", "complete_journey", "gowalla")
JUDGED_BY = ("monitor_k", "validation_queries", "exclude_seen", "seed")
"""Settings of `training` that say how a training is judged, and not how it is done."""


def main() -> None:
    """Trains twice on every data set and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("datasets", nargs="*", metavar="NAME", help=f"of {', '.join(DATASETS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="a tenth of the users (at least 1,000), two epochs")
    parser.add_argument("--out", type=Path, help="a folder that is kept, and used again")
    options = parser.parse_args()
    if unknown := set(options.datasets) - set(DATASETS):
        parser.error(f"no such data set: {', '.join(sorted(unknown))}")
    log = logging.getLogger("two_tower")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    log.propagate = False
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.out or Path(temporary)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        for name in options.datasets or DATASETS:
            try:
                figures[name] = compared(name, out, quick=options.quick)
            except DataError as error:
                say(f"skipped, {name} is not there: {error}")
            except UserError as error:
                raise SystemExit(str(error)) from error
            else:
                say(f"{name}: {json.dumps(figures[name])}")
    print(json.dumps({**figures, "python": platform.python_version(), "cores": os.cpu_count(), "quick": options.quick}))


def compared(name: str, out: Path, *, quick: bool) -> dict[str, Any]:
    """The best validation recall of the defaults and of the example, and what `auto` chose.

    Raises:
        DataError: The data set is not there.
    """
    tuned = load_config(ROOT / "configs" / f"{name}.yaml", ["training.refit=false", *["training.epochs=2"] * quick])
    inputs = find_inputs(tuned, ROOT / "data", out, quick=quick, cold=0.0, validation=True)
    prepared = prepare_once(tuned, inputs, out)
    found = {
        kind: best_of(config, prepared, out) for kind, config in (("tuned", tuned), ("default", by_default(tuned)))
    }
    (tuned_recall, _), (default_recall, chosen) = found["tuned"], found["default"]
    return {
        "default": round(default_recall, 4),
        "tuned": round(tuned_recall, 4),
        "ratio": round(default_recall / tuned_recall, 3),
        "chosen": chosen,
        "metric": f"recall@{tuned.training.monitor_k}",
    }


def by_default(tuned: Config) -> Config:
    """The configuration with the example's `data` alone, judged as the example is."""
    judged = {name: getattr(tuned.training, name) for name in JUDGED_BY}
    return Config.model_validate(
        {
            "name": tuned.name,
            "data": tuned.data.model_dump(mode="json"),
            "training": {**judged, "refit": False},
            "beam": tuned.beam.model_dump(mode="json"),
        }
    )


def best_of(config: Config, prepared: Path, out: Path) -> tuple[float, str]:
    """The best validation recall of a training's epochs, and which recipe `auto` followed for what reason."""
    folder, _ = train_once(config, prepared, out, seed=config.training.seed)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    chosen = history["chosen"]
    return max(history["validation_recall"]), f"{chosen['recipe']}, since {chosen['why']}" if chosen else ""


if __name__ == "__main__":
    main()
