"""One row of the results: a configuration run with the product's own steps, beside its baselines.

    python benchmarks/quality.py amazon_beauty --seeds 1,2,3
    python benchmarks/quality.py complete_journey --validation --set training.epochs=3   # for choosing settings
    python benchmarks/quality.py gowalla --tune-baselines item_item ease ials            # prints YAML for the config
    python benchmarks/quality.py amazon_beauty --cold 0.1 --set 'data.items.features={}' # new items, from ids alone

The steps are those of the DAG on `configs/DATASET.yaml`; the figures come from the exported SavedModels with exact
search over all candidates, the baselines are those of `evaluation.baselines` with the settings stored there. With
`--seeds` the figures are means, `spread` holds their standard deviations, and baselines and paired comparisons belong
to the first seed. `before_refit` has the figures of the weights that validation chose, before the refit: published
models are to be compared with those. `mrr` is that of the longest list. With `--out`, prepared data and trained towers
are kept there and used again by whatever has the same inputs, settings and code.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import yaml  # noqa: E402
from quality_inputs import Inputs, find_inputs, oracle  # noqa: E402

from two_tower.config import Config, Given, canonical_json, load_config  # noqa: E402
from two_tower.errors import DataError, TrainingError, UserError  # noqa: E402
from two_tower.metrics_file import Compared, Evaluation, Metrics  # noqa: E402

DATASETS = ("amazon_beauty", "gowalla", "complete_journey", "online_retail", "ml_100k", "synthetic", "synthetic_ids")
KS = (10, 20, 100, 1000)
FIGURES = {f"recall@{k}": f"recall@{k}" for k in KS} | {"mrr": "mrr@1000"} | {f"ndcg@{k}": f"ndcg@{k}" for k in KS[:3]}
"""The figures of a row, and their names in metrics.json."""
NEW = ("new_to_user", "warm_new_to_user", "cold_items")
GROUPS = ("head", "middle", "tail")
QUICK = ["training.epochs=2", "evaluation.bootstrap_samples=200"]
SPACES: dict[str, dict[str, Any]] = {
    "item_item": {"similarity": ["cosine", "bm25"], "neighbours": [10, 20, 50, 100, 200, 500, 1000]},
    "user_user": {"neighbours": [20, 50, 100, 200, 500, 1000, 2000]},
    "ease": {"regularization": (1.0, 5000.0)},
    "ials": {
        "factors": [64, 128, 256, 512],
        "regularization": (0.001, 1000.0),
        "alpha": (0.1, 100.0),
        "iterations": [5, 10, 15, 20, 30],
    },
    "bpr": {
        "factors": [64, 128, 256, 512],
        "learning_rate": (0.003, 0.3),
        "regularization": (0.0001, 0.1),
        "iterations": [50, 100, 200, 400],
    },
    "personal_frequency": {"half_life": ["3d", "7d", "14d", "21d", "28d", "42d", "56d", "84d", "112d", "168d", "365d"]},
}
"""What `--tune-baselines` searches: a list holds the values, two numbers are the ends of a logarithmic range."""
COUNTED = ("item_item", "user_user", "ease", "ials")
"""The types that can weigh events by how often and, where they have a time, how lately they happened."""
WEIGHTS = {"counts": ["binary", "log"]}
AGES = {"half_life": [None, "28d", "56d", "112d"]}


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs the configuration and prints its figures."""
    options = parse()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("two_tower")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # Beam and Abseil give the root logger a handler of its own
    try:
        config = load(options)
        with tempfile.TemporaryDirectory() as temporary:
            out = (options.out or Path(temporary)).resolve()
            out.mkdir(parents=True, exist_ok=True)
            try:
                inputs = find_inputs(
                    config,
                    ROOT / "data",
                    out,
                    quick=options.quick,
                    cold=options.cold,
                    validation=options.validation,
                )
            except DataError as error:
                say(f"skipped, {options.dataset} is not there: {error}")
                return
            prepared = prepare_once(config, inputs, out)
            if options.tune_baselines is not None:
                figures = tune_baselines(config, prepared, types=options.tune_baselines, trials=options.trials)
            else:
                figures = measure_row(config, inputs, prepared, out, seeds=options.seeds, split=split_of(options))
                figures |= {"quick": options.quick, "cold": options.cold}
    except UserError as error:
        raise SystemExit(str(error)) from error
    packages = ("tensorflow", "numpy", "implicit", "optuna")
    figures |= {
        "dataset": options.dataset,
        "settings": options.overrides,
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--seeds", help="such as 1,2,3; that of the configuration if not given")
    parser.add_argument("--quick", action="store_true", help="two epochs on a tenth of the users (at least 1,000)")
    parser.add_argument("--validation", action="store_true", help="the validation queries instead of the test queries")
    parser.add_argument("--cold", type=float, default=0.0, help="the share of the items held out of training")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="as for two-tower run"
    )
    parser.add_argument(
        "--tune-baselines",
        nargs="*",
        choices=SPACES,
        metavar="TYPE",
        help="searches settings on the validation queries instead; those of the configuration's baselines if none",
    )
    parser.add_argument("--trials", type=int, default=20, help="of --tune-baselines, for each type")
    parser.add_argument("--out", type=Path, help="a folder that is kept, and used again")
    options = parser.parse_args()
    options.seeds = options.seeds and [int(seed) for seed in options.seeds.split(",")]
    if not 0 <= options.cold < 1:
        parser.error("--cold is a share, such as 0.1")
    return options


def split_of(options: argparse.Namespace) -> str:
    """The split whose queries are measured."""
    return "validation" if options.validation else "test"


def load(options: argparse.Namespace) -> Config:
    """The configuration as it is run: every K measured, exact search, no gate.

    Raises:
        ConfigError: It does not validate.
    """
    fixed = [f"evaluation.ks={list(KS)}", "evaluation.gate=[]", "evaluation.examples=0", "index.kind=exact"]
    quick = QUICK if options.quick else []
    honest = ["training.refit=false"] if options.validation else []  # a refit learns from the validation window
    config = load_config(ROOT / "configs" / f"{options.dataset}.yaml", [*fixed, *quick, *options.overrides, *honest])
    if options.cold and options.validation and isinstance(config.data.split, Given):
        raise DataError("--cold with --validation: in a given split the validation rows are drawn from those of train")
    return config


def prepare_once(config: Config, inputs: Inputs, out: Path) -> Path:
    """The folder of the prepared data."""
    from pipelines.dag.pipeline import code_fingerprints
    from two_tower.artifacts import MANIFEST
    from two_tower.data import prepare

    folder = out / f"prepared-{key(inputs.data, inputs.sources, code_fingerprints(config)['prepare_data'])}"
    if (folder / MANIFEST).exists():
        say(f"{folder} is used again")
    else:
        prepare(inputs.sources, out=folder, data=inputs.data, beam=config.beam)
    return folder


def key(*parts: Any) -> str:
    """Sixteen digits that stand for some inputs and settings."""
    return hashlib.sha256("\0".join(map(canonical_json, parts)).encode()).hexdigest()[:16]


def measure_row(
    config: Config, inputs: Inputs, prepared: Path, out: Path, *, seeds: Sequence[int] | None, split: str
) -> dict[str, Any]:
    """The row: figures of the towers, the baselines and, for synthetic data, the oracle."""
    from two_tower.data import open_prepared

    rows: list[dict[str, Any]] = []
    first: Evaluation | None = None
    seeds = seeds or [config.training.seed]
    for seed in seeds:
        trained, seconds = train_once(config, prepared, out, seed=seed)
        found = run_version(config, prepared, trained, out / "version", split=split, baselines=first is None)
        first = first or found
        before = named_figures(found.before_refit.metrics) if found.before_refit else None
        rows.append({**row_of(found, "two_tower"), "before_refit": before, "train_seconds": round(seconds, 1)})
        say(f"seed {seed}: {json.dumps(rows[-1])}")
        gc.collect()
    assert first is not None
    mean = combined(rows, statistics.fmean)
    summary = open_prepared(prepared).summary
    cold, warm = (mean["new_items"][name].get("recall@100") for name in ("cold_items", "warm_new_to_user"))
    return {
        **mean,
        "spread": combined(rows, statistics.stdev) if len(rows) > 1 else None,
        "cold_share": cold / warm if cold is not None and warm else None,
        "baselines": {name: row_of(first, name) for name, system in first.systems.items() if system.kind == "baseline"},
        "paired": {
            "all": paired(first),
            "discovery": paired(first.discovery) if first.discovery else None,
            **{name: paired(first.slices[name]) for name in NEW},
        },
        "oracle": oracle_row(config, inputs, prepared, mean, split=split),
        "split": split,
        "seeds": list(seeds),
        "sizes": {
            **{name: summary[name] for name in ("users", "items", "events")},
            "queries": first.queries,
            "candidates": first.candidates,
        },
    }


def train_once(config: Config, prepared: Path, out: Path, *, seed: int) -> tuple[Path, float]:
    """The trained towers of a seed, and how long the training took."""
    from pipelines.dag.pipeline import code_fingerprints
    from two_tower.artifacts import MANIFEST
    from two_tower.model import train

    training = config.training.model_copy(update={"seed": seed})
    code = code_fingerprints(config)["train_towers"]
    folder = out / f"trained-{key(prepared.name, config.model, training, code)}"
    took = folder.with_suffix(".seconds")
    if (folder / MANIFEST).exists() and took.exists():
        say(f"{folder} is used again")
        return folder, float(took.read_text())
    started = time.monotonic()
    train(prepared, folder, model=config.model, training=training)
    seconds = time.monotonic() - started
    took.write_text(str(seconds))
    return folder, seconds


def run_version(
    config: Config,
    prepared: Path,
    trained: Path,
    folder: Path,
    *,
    split: Any,
    baselines: bool,
) -> Evaluation:
    """The evaluation of trained towers, exported, embedded and searched exactly."""
    from two_tower.embedding import embed_candidates
    from two_tower.evaluation import evaluate
    from two_tower.index import build_index
    from two_tower.model import export_candidate_tower, export_query_tower, measure_before_refit

    shutil.rmtree(folder, ignore_errors=True)
    candidate_tower, embeddings, query_tower, index, evaluation = (
        folder / name for name in ("candidate_tower", "embeddings", "query_tower", "index", "evaluation")
    )
    export_candidate_tower(trained, candidate_tower)
    embed_candidates(candidate_tower, prepared, embeddings, embedding=config.embedding, beam=config.beam)
    export_query_tower(trained, embeddings, query_tower)
    build_index(embeddings, index, index=config.index)
    settings = config.evaluation if baselines else config.evaluation.model_copy(update={"baselines": []})
    before_refit = folder / "before_refit" if config.training.refit else None
    if before_refit:
        measure_before_refit(prepared, trained, before_refit, evaluation=settings.figures_alone())
    return evaluate(
        prepared,
        query_tower,
        index,
        embeddings,
        evaluation,
        evaluation=settings,
        version="benchmark",
        before_refit=before_refit,
        split=split,
    )


def row_of(evaluation: Evaluation, system: str) -> dict[str, Any]:
    """A system's figures, those on items that are new to the user or to everybody, and those by popularity."""
    discovery = evaluation.discovery
    recommended = evaluation.popularity.recommended[system] if evaluation.popularity else {}
    return {
        **figures_of(evaluation, system),
        "new_items": {
            "discovery": {"queries": discovery.queries, **figures_of(discovery, system)} if discovery else None,
            **{
                name: {"queries": part.queries, **figures_of(part, system)}
                for name, part in evaluation.slices.items()
                if name in NEW
            },
        },
        "popularity": {
            **{f"recall@100, {name}": figures_of(evaluation.slices[name], system).get("recall@100") for name in GROUPS},
            **{f"share of {name} in the first 100": recommended.get(f"{name}@100") for name in GROUPS},
        },
    }


def figures_of(part: Compared, system: str) -> dict[str, float]:
    """What a part of an evaluation (the whole, `discovery` or a slice) says of a system."""
    return named_figures(part.systems[system].metrics if system in part.systems else {})


def named_figures(measured: Metrics) -> dict[str, float]:
    """The figures of a row, of a system's metrics."""
    return {name: measured[metric].value for name, metric in FIGURES.items() if metric in measured}


def paired(part: Compared) -> dict[str, Any]:
    """The towers against each baseline: the ratio, and the difference with its paired interval."""
    return {
        name: {
            metric: {"ratio": ratio(part, name, metric), **compared[metric].to_json()}
            for metric in (f"recall@{k}" for k in KS)
            if metric in compared
        }
        for name, compared in part.comparisons.items()
    }


def ratio(part: Compared, system: str, metric: str) -> float | None:
    """The towers' figure divided by the system's; None where the system has 0."""
    ours, theirs = (part.systems[name].metrics[metric].value for name in ("two_tower", system))
    return ours / theirs if theirs else None


def combined(rows: Sequence[Any], how: Any) -> Any:
    """`how` of the fractions at the same place of every row; counts and None, equal in all, stay as they are."""
    if isinstance(rows[0], Mapping):
        return {name: combined([row[name] for row in rows], how) for name in rows[0]}
    return rows[0] if rows[0] is None or isinstance(rows[0], int) else how(rows)


def oracle_row(
    config: Config, inputs: Inputs, prepared: Path, ours: Mapping[str, Any], *, split: Any
) -> dict[str, Any] | None:
    """The oracle's recall, and the towers' as a share of it; None where the true affinities are not known."""
    from two_tower.artifacts import open_artifact
    from two_tower.evaluation import Queries, measure

    if (config.dataset or config.name) != "synthetic":
        return None
    data = open_artifact(prepared, "prepared_data")
    settings = config.evaluation
    queries = Queries.load(data, exclude_seen=settings.exclude_seen, repeats=settings.repeats, split=split)
    found = measure("oracle", oracle(inputs.folder, prepared), queries, ks=(10, 100, 1000), ties_against=False)
    recall = {name: float(values.mean()) for name, values in found.metrics.items() if name.startswith("recall@")}
    return {**recall, "share": {name: ours[name] / value for name, value in recall.items()}}


def tune_baselines(config: Config, prepared: Path, *, types: Sequence[str], trials: int) -> dict[str, Any]:
    """The figures of the best settings of each type on the validation queries; the settings are printed as YAML."""
    from two_tower.artifacts import open_artifact
    from two_tower.evaluation import Queries, measure

    k = config.training.monitor_k
    queries = Queries.load(
        open_artifact(prepared, "prepared_data"),
        exclude_seen=config.evaluation.exclude_seen,
        repeats=config.evaluation.repeats,
        split="validation",
    )
    stored = {
        baseline.type: baseline.model_dump(mode="json", exclude_unset=True) for baseline in config.evaluation.baselines
    }
    best: dict[str, Any] = {}
    for kind in types or [kind for kind in stored if kind in SPACES]:
        tried: dict[str, float] = {}

        def score(changes: Mapping[str, Any], kind: str = kind, tried: dict[str, float] = tried) -> float:
            settings = {**stored.get(kind, {}), "type": kind, **changes}
            text = canonical_json(settings)
            if text not in tried:
                started = time.monotonic()
                checked = type(config.evaluation).model_validate({"baselines": [settings]})
                try:
                    retriever = checked.baselines[0].build(str(prepared), split="validation")
                except (DataError, TrainingError) as error:  # a catalogue too large for EASE, too high a learning rate
                    say(f"{text}: {error}")
                    return 0.0
                found = measure(kind, retriever, queries, ks=[k], ties_against=False)
                tried[text] = float(found.metrics[f"recall@{k}"].mean())
                say(f"{text}: recall@{k} {tried[text]:.4f}, {time.monotonic() - started:.0f} s")
            return tried[text]

        space = SPACES[kind] | (WEIGHTS if kind in COUNTED and not config.evaluation.exclude_seen else {})
        timed = config.data.interactions.columns.time is not None
        search(space | (AGES if kind in COUNTED and timed else {}), score, trials=trials)
        if not tried:
            say(f"{kind} is left out")
            continue
        text = max(tried, key=lambda settings: tried[settings])
        settings = {"type": kind, **json.loads(text)}  # the type stands first
        best[kind] = {"settings": settings, f"recall@{k}": tried[text], "tried": len(tried)}
    found = [entry["settings"] for entry in best.values()]
    print(yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=200))
    return {"tuned": best}


def search(space: Mapping[str, Any], score: Any, *, trials: int) -> None:
    """Scores up to `trials` settings of a space, led by what was found so far."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        settings = {
            # Four digits are what is printed, so that the printed settings are those that were scored.
            name: trial.suggest_categorical(name, values)
            if isinstance(values, list)
            else float(f"{trial.suggest_float(name, *values, log=True):.4g}")
            for name, values in space.items()
        }
        return float(score(settings))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    if all(isinstance(values, list) for values in space.values()):
        study.sampler = optuna.samplers.GridSampler({name: list(values) for name, values in space.items()}, seed=0)
    study.optimize(objective, n_trials=trials)


if __name__ == "__main__":
    main()
