"""What the quality benchmark feeds the pipeline with: all of a data set, some of its users, or less some items."""

from __future__ import annotations

import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipelines.datasets import MAKERS, make_dataset
from two_tower.config import Config, DataSettings, Given, GlobalTime
from two_tower.contracts import Float32
from two_tower.data import open_prepared, resolve_sources
from two_tower.index import ExactIndex
from two_tower.retrievers import TwoTowerRetriever

SEED = 42
QUICK_SYNTHETIC = {"users": 2000, "items": 10_000}
QUICK_USERS = 1000


@dataclass(frozen=True)
class Inputs:
    """The `data` section that is run, its files, and where the data set lies."""

    data: DataSettings
    sources: dict[str, list[Any]]
    folder: Path


def find_inputs(config: Config, root: Path, out: Path, *, quick: bool, cold: float, validation: bool) -> Inputs:
    """The inputs of a run; reduced logs are written below `out`, once.

    Args:
        config: The configuration.
        root: The folder of the data sets.
        out: The benchmark's folder.
        quick: A tenth of the users, and at least 1,000.
        cold: The share of the items that is held out of training.
        validation: Whether held-out items stand among what validates, too.

    Raises:
        DataError: The data set is not there.
    """
    dataset = config.dataset or config.name
    synthetic_quick = dataset == "synthetic" and quick
    if synthetic_quick:
        root = out / "data"
        make_dataset(dataset, root, **QUICK_SYNTHETIC)
    elif dataset in MAKERS:
        make_dataset(dataset, root)
    sources = resolve_sources(config.data, dataset=dataset, data_root=str(root))
    folder = Path(sources["interactions"][0]["path"]).parent
    fewer_users = quick and not synthetic_quick
    if not fewer_users and not cold:
        return Inputs(config.data, sources, folder)
    name = f"logs{'-quick' if fewer_users else ''}{f'-cold{cold:g}' if cold else ''}{'-validation' * validation}"
    reduced = out / f"{dataset}-{name}"
    if not reduced.exists():
        _write_reduced(config.data, sources, reduced, fewer_users=fewer_users, cold=cold, validation=validation)
    data = config.data.model_copy(
        update={
            "interactions": _moved(config.data.interactions, sorted(reduced.glob("*"))),
            "items": _moved(config.data.items, [file["path"] for file in sources["items"]]),
            "users": _moved(config.data.users, [file["path"] for file in sources["users"]]),
        }
    )
    return Inputs(data, resolve_sources(data, dataset=dataset), folder)


def _moved(source: Any, paths: list[Any]) -> Any:
    return source and source.model_copy(update={"path": [str(path) for path in paths]})


def _write_reduced(
    data: DataSettings, sources: dict[str, list[Any]], folder: Path, *, fewer_users: bool, cold: float, validation: bool
) -> None:
    """Writes the log files less some rows, under their own names."""
    columns = data.interactions.columns
    paths = [Path(file["path"]) for file in sources["interactions"]]
    logs = pl.concat(
        [pl.read_parquet(path).with_columns(pl.lit(number).alias("__file")) for number, path in enumerate(paths)]
    )
    if fewer_users:
        users = logs[columns.user].n_unique()
        share = max(0.1, QUICK_USERS / users)
        logs = logs.filter(pl.col(columns.user).hash(SEED) < int(min(share, 1.0) * (2**64 - 1)))
    if cold:
        # Sorted, since the order of the distinct ids is none; drawn over all the logs, as a new item is no rare one.
        ids = np.sort(logs[columns.item].drop_nulls().unique().to_numpy())
        chosen = np.random.default_rng(SEED).choice(ids, size=round(cold * len(ids)), replace=False)
        held = pl.col(columns.item).is_in(pl.Series(chosen).implode())
        logs = logs.filter(~held.fill_null(False) | _may_hold_cold(data, paths, validation=validation))
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, path in enumerate(paths):
        logs.filter(pl.col("__file") == number).drop("__file").write_parquet(temporary / path.name)
    temporary.rename(folder)


def _may_hold_cold(data: DataSettings, paths: list[Path], *, validation: bool) -> pl.Expr:
    """The rows that are no part of training: what tests, and with `validation` what validates, too."""
    split, columns = data.split, data.interactions.columns
    if isinstance(split, GlobalTime):
        window = split.test + (split.validation if validation else type(split.test)(0))
        return pl.col(columns.time) > pl.col(columns.time).max() - window
    if isinstance(split, Given):
        tests = [number for number, path in enumerate(paths) if fnmatch.fnmatch(path.name, split.test)]
        return pl.col("__file").is_in(tests)
    place = pl.col(columns.time or columns.order).rank("ordinal", descending=False)
    after = pl.len().over(columns.user) - place.over(columns.user).cast(pl.Int64)
    return after < split.k * (2 if validation else 1)


def oracle(folder: Path, prepared: Path) -> TwoTowerRetriever:
    """Ranks by the generator's true affinity, without its noise: the best that any retriever can do on average.

    Args:
        folder: The folder of the synthetic data set.
        prepared: Its prepared data, for the candidates.
    """
    users, items = pl.read_parquet(folder / "users.parquet"), pl.read_parquet(folder / "items.parquet")
    attributes = dict(zip(items["item_id"], _matrix(items["attributes"]), strict=True))
    ids = open_prepared(prepared).items(["item_id"])["item_id"].combine_chunks()
    index = ExactIndex(np.stack([attributes[item] for item in ids.to_pylist()]), ids)
    tower = TrueInterests(dict(zip(users["user_id"], _matrix(users["interest"]), strict=True)))
    index.made_from = tower.made_from
    return TwoTowerRetriever(tower, index, items=ids, features={})


class TrueInterests:
    """In the place of a query tower: the users' interests, from which the generator drew."""

    made_from = {"data_set": "synthetic"}

    def __init__(self, interests: dict[str, Float32]) -> None:
        self._interests = interests

    def embed(self, queries: pa.Table, **_: Any) -> Float32:
        """The interests float32 `[queries, dim]`."""
        return np.stack([self._interests[user] for user in queries["user_id"].to_pylist()])


def _matrix(column: pl.Series) -> Float32:
    vectors: npt.NDArray[np.float32] = np.stack(column.to_numpy()).astype(np.float32)
    return vectors
