"""A night that trains on from the champion against one that trains from scratch: recall, and the time of training.

    python benchmarks/warm_start.py
    python benchmarks/warm_start.py --quick
    python benchmarks/warm_start.py --out /tmp/nights --seeds 42 --incremental training.epochs=3  # to choose
    python benchmarks/warm_start.py --refit --champions night  # the refit too, on the test queries: to confirm

Tonight's logs are those of `configs/complete_journey.yaml`; the logs of an earlier night are what had happened so many
days before their end, windows included. A champion was trained in full on the logs of one night ago (`night`) or of a
week ago (`week`), or it is the last of six incremental nights in a row that follow such a week-old one (`chain`). For
each seed the towers are then trained tonight from scratch and, in turn with that, from each champion with the
incremental settings, and measured on the same validation queries: exported SavedModels, exact search over all
candidates. No side does its refit, since a refit has seen the validation window. What is timed is the step
`train_towers`, on the clock and in seconds of the cores; the ratio is the median of those of the seeds. Recalls are
means over the seeds query by query, with bootstrap intervals over the queries, and the difference is a paired one.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from quality import key, prepare_once, run_version, say  # noqa: E402
from quality_inputs import Inputs, find_inputs  # noqa: E402

from two_tower.config import Config, load_config  # noqa: E402
from two_tower.contracts import Float64  # noqa: E402
from two_tower.errors import DataError, UserError  # noqa: E402

CONFIG = ROOT / "configs" / "complete_journey.yaml"
INCREMENTAL = ["training.epochs=2", "training.learning_rate=0.003"]
"""What `docs/training.md` recommends for the nights between two full trainings; chosen by validation recall."""
QUICK = ["training.epochs=6", "model.dim=64", "evaluation.bootstrap_samples=200"]
QUICK_INCREMENTAL = ["training.epochs=2"]
CLOCKS = ("seconds", "core_seconds")
"""What the step took on the clock, and of all cores together, which other work on the machine changes less."""
CHAMPIONS = {"night": 1, "week": 7, "chain": 7}
"""By name: how many days ago the last full training was."""


def main() -> None:
    """Runs the nights and prints their figures."""
    options = parse()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("two_tower")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # Beam and Abseil give the root logger a handler of its own
    try:
        with tempfile.TemporaryDirectory() as temporary:
            out = (options.out or Path(temporary)).resolve()
            out.mkdir(parents=True, exist_ok=True)
            try:
                nights = Nights.find(options, out)
            except DataError as error:
                say(f"skipped, the data set is not there: {error}")
                return
            figures = compare(nights, options.champions, seeds=options.seeds)
    except UserError as error:
        raise SystemExit(str(error)) from error
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "numpy")}
    figures |= {
        "settings": options.overrides,
        "incremental": nights.incremental,
        "quick": options.quick,
        "seeds": options.seeds,
        "versions": versions | {"python": platform.python_version()},
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--champions", nargs="+", choices=CHAMPIONS, default=list(CHAMPIONS))
    parser.add_argument("--seeds", default="42,43,44", help="such as 1,2,3; the champions have the first")
    parser.add_argument("--quick", action="store_true", help="1,000 households, few epochs, narrow towers, one seed")
    parser.add_argument("--refit", action="store_true", help="both sides with their refit, on the test queries")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="of both sides"
    )
    parser.add_argument(
        "--incremental", action="append", metavar="KEY=VALUE", help=f"instead of {' '.join(INCREMENTAL)}"
    )
    parser.add_argument("--out", type=Path, help="a folder that is kept; what lies there is not trained again")
    options = parser.parse_args()
    options.seeds = [int(seed) for seed in options.seeds.split(",")][: 1 if options.quick else None]
    return options


@dataclass
class Nights:
    """The logs as they were some nights ago, prepared and trained on."""

    overrides: list[str]
    incremental: list[str]
    """What is different in an incremental night."""
    quick: bool
    out: Path
    ends: Any
    """The newest event of the logs."""
    split: Any
    """Of the queries that are measured."""
    _prepared: dict[int, Path] = field(default_factory=dict)

    @classmethod
    def find(cls, options: argparse.Namespace, out: Path) -> Nights:
        """The nights of the data set.

        Raises:
            DataError: It is not there.
        """
        overrides = [
            *(QUICK if options.quick else []),
            f"training.refit={str(options.refit).lower()}",
            "evaluation.ks=[100]",
            "evaluation.gate=[]",
            "evaluation.slices=[]",
            "evaluation.examples=0",
            "index.kind=exact",
            *options.overrides,
        ]
        incremental = options.incremental or (QUICK_INCREMENTAL if options.quick else INCREMENTAL)
        config = load_config(CONFIG, overrides)
        inputs = find_inputs(config, ROOT / "data", out, quick=options.quick, cold=0.0, validation=False)
        column = config.data.interactions.columns.time
        ends = max(
            pl.read_parquet(file["path"], columns=[column])[column].max() for file in inputs.sources["interactions"]
        )
        split = "test" if options.refit else "validation"
        return cls(overrides, incremental, quick=options.quick, out=out, ends=ends, split=split)

    def config(self, ago: int, *, incremental: bool = False, seed: int) -> Config:
        """The configuration of a night, so many days ago."""
        column = load_config(CONFIG).data.interactions.columns.time
        until = (self.ends - timedelta(days=ago)).isoformat()
        window = [f"data.interactions.filters=[{{column: {column}, op: '<=', value: '{until}'}}]"] if ago else []
        warm = [*self.incremental, "training.warm_start=true"] if incremental else []
        return load_config(CONFIG, [*self.overrides, *window, *warm, f"training.seed={seed}"])

    def inputs(self, config: Config) -> Inputs:
        """The files of a night."""
        return find_inputs(config, ROOT / "data", self.out, quick=self.quick, cold=0.0, validation=False)

    def prepared(self, ago: int, config: Config) -> Path:
        """The prepared data of a night."""
        if ago not in self._prepared:
            self._prepared[ago] = prepare_once(config, self.inputs(config), self.out)
        return self._prepared[ago]

    def train(self, ago: int, *, seed: int, champion: Path | None = None) -> Path:
        """The towers of a night, trained from scratch or on from a champion; how long it took lies beside them."""
        from pipelines.dag.pipeline import code_fingerprints
        from two_tower.artifacts import MANIFEST
        from two_tower.model import train

        config = self.config(ago, incremental=champion is not None, seed=seed)
        prepared = self.prepared(ago, config)
        code = code_fingerprints(config)["train_towers"]
        parts = (prepared.name, config.model, config.training, champion and champion.name, code)
        folder = self.out / f"trained-{key(*parts)}"
        if (folder / MANIFEST).exists() and seconds_file(folder).exists():
            say(f"{folder} is used again")
            return folder
        gc.collect()
        clocks = (time.monotonic, time.process_time)
        started = [clock() for clock in clocks]
        train(str(prepared), str(folder), model=config.model, training=config.training, champion=str(champion or ""))
        took = [round(clock() - start, 1) for clock, start in zip(clocks, started, strict=True)]
        seconds_file(folder).write_text(json.dumps(dict(zip(CLOCKS, took, strict=True))))
        return folder

    def recalls(self, trained: Path, *, seed: int) -> Float64:
        """Recall@100 `[queries]` of tonight's queries."""
        import pyarrow.parquet as pq

        config = self.config(0, seed=seed)
        prepared = self.prepared(0, config)
        version = self.out / "version"
        run_version(config, prepared, trained, version, split=self.split, baselines=False)
        column = pq.read_table(version / "evaluation" / "per_query.parquet")["two_tower/recall@100"]
        values: Float64 = column.to_numpy().astype(np.float64)
        return values

    def champion(self, name: str, *, seed: int) -> Path:
        """The towers that the incremental night starts from."""
        ago = CHAMPIONS[name]
        say(f"champion {name}: trained in full {ago} nights ago")
        towers = self.train(ago, seed=seed)
        if name == "chain":
            for night in range(ago - 1, 0, -1):
                say(f"champion {name}: the incremental night {night} nights ago")
                towers = self.train(night, seed=seed, champion=towers)
        return towers


@dataclass
class Side:
    """What a way of training gave, seed by seed."""

    recalls: list[Float64] = field(default_factory=list)
    took: list[dict[str, float]] = field(default_factory=list)
    """By `CLOCKS`."""
    best_epochs: list[int] = field(default_factory=list)

    def add(self, nights: Nights, trained: Path, *, seed: int) -> None:
        """Measures a training."""
        from two_tower.artifacts import open_artifact

        self.recalls.append(nights.recalls(trained, seed=seed))
        self.took.append(json.loads(seconds_file(trained).read_text()))
        self.best_epochs.append(open_artifact(trained, "trained_towers").json("history.json")["best_epoch"])
        say(f"{self.recalls[-1].mean():.4f} after {self.took[-1]}, best epoch {self.best_epochs[-1]}")


def compare(nights: Nights, names: list[str], *, seeds: list[int]) -> dict[str, Any]:
    """Tonight from scratch and from each champion."""
    champions = {name: nights.champion(name, seed=seeds[0]) for name in names}
    full, warm = Side(), {name: Side() for name in names}
    for seed in seeds:
        say(f"seed {seed}: from scratch")
        full.add(nights, nights.train(0, seed=seed), seed=seed)
        for name, champion in champions.items():
            say(f"seed {seed}: from the champion {name}")
            warm[name].add(nights, nights.train(0, seed=seed, champion=champion), seed=seed)
    return {
        "split": nights.split,
        "queries": len(full.recalls[0]),
        "full": figures_of(nights, full),
        "warm": {
            name: figures_of(nights, side, stale=nights.recalls(champions[name], seed=seeds[0]), full=full)
            for name, side in warm.items()
        },
    }


def figures_of(nights: Nights, side: Side, *, full: Side | None = None, stale: Float64 | None = None) -> dict[str, Any]:
    """The recall of a side with its interval and its seconds; beside those of `full`, what it is against them.

    `stale` are the recalls of the champion that the side started from, had it been left alone.
    """
    from two_tower.evaluation import interval, paired_difference, resampled_means

    settings = load_config(CONFIG, nights.overrides).evaluation
    sides = [side] if full is None else [side, full]
    columns = np.stack([np.mean(each.recalls, axis=0) for each in sides], axis=1)
    means = resampled_means(columns, samples=settings.bootstrap_samples, seed=settings.seed)
    low, high = interval(means, confidence=settings.confidence)
    found: dict[str, Any] = {
        "recall@100": columns[:, 0].mean(),
        "low": low[0],
        "high": high[0],
        "by_seed": [recalls.mean() for recalls in side.recalls],
        "best_epochs": side.best_epochs,
        **{clock: [took[clock] for took in side.took] for clock in CLOCKS},
    }
    if full is not None:
        difference = columns[:, 0].mean() - columns[:, 1].mean()
        found |= {
            "against_full": paired_difference(
                means[:, 0], means[:, 1], difference=difference, confidence=settings.confidence
            ).to_json(),
            "within_interval_of_full": bool(columns[:, 0].mean() >= low[1]),
            **{
                f"{clock}_ratio": statistics.median(
                    ours[clock] / theirs[clock] for ours, theirs in zip(side.took, full.took, strict=True)
                )
                for clock in CLOCKS
            },
        }
    if stale is not None:
        found["champion_left_alone"] = stale.mean()
    return found


def seconds_file(trained: Path) -> Path:
    """Where the seconds of a training are written down."""
    return trained.with_suffix(".seconds")


if __name__ == "__main__":
    main()
