"""Synthetic interactions of any size whose true affinities are known."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.errors import ConfigError
from two_tower.progress import Progress

log = logging.getLogger("two_tower")

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

MAX_PAIRS = 10**9
"""Up to so many user-item pairs every item is weighed for every user; above it, the items of the user's pool."""
BLOCK_PAIRS = 1 << 23
"""User-item pairs that are weighed at once by one thread."""
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
DAY = 86_400
MOST_DAYS = 36_500


@dataclass(frozen=True)
class World:
    """Users, items and who took what; the true affinity is `interests @ attributes.T`."""

    interests: Float32
    """`[users, dim]`."""
    attributes: Float32
    """`[items, dim]`."""
    chosen: Int64
    """`[users, per_user]` item numbers, distinct within a user, in no order."""


def make_synthetic(
    folder: Path,
    *,
    users: int = 10_000,
    items: int = 100_000,
    per_user: int = 20,
    dim: int = 10,
    sharpness: float = 4.0,
    noise: float = 0.5,
    days: int = 140,
    pool: int = 10_000,
    seed: int = 42,
) -> None:
    """Writes interactions.parquet, items.parquet and users.parquet; the same options give the same files.

    The vectors `interest` (users) and `attributes` (items) are the generator's own, so their dot product is the
    true affinity that an oracle ranks by.

    Args:
        folder: An empty folder.
        users: How many users.
        items: How many items.
        per_user: How many different items each user takes.
        dim: Width of the latent vectors.
        sharpness: Standard deviation of a user's affinities over the items; larger is easier to predict.
        noise: Standard deviation of what is added to each affinity before the draw and never shown.
        days: The span of the interactions.
        pool: From 10^9 user-item pairs on, how many of the most promising items a user draws from.
        seed: Of everything.

    Raises:
        ConfigError: The sizes do not fit together.
    """
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"{days} days: expected 1 to {MOST_DAYS}")
    world = draw_world(
        users=users, items=items, per_user=per_user, dim=dim, sharpness=sharpness, noise=noise, pool=pool, seed=seed
    )
    write_interactions(folder, world, days=days, seed=seed)
    category = nearest_direction(world.attributes, directions=50, seed=seed)
    write_table(
        folder / "items.parquet",
        item_id=ids("i", np.arange(items)),
        category=ids("c", category),
        attributes=vectors(world.attributes),
    )
    write_table(folder / "users.parquet", user_id=ids("u", np.arange(users)), interest=vectors(world.interests))


def draw_world(
    *, users: int, items: int, per_user: int, dim: int, sharpness: float, noise: float, pool: int, seed: int
) -> World:
    """Users whose items are drawn without replacement from softmax(interest · attributes + noise).

    The draw is the Gumbel top-k trick: the k largest of logit + Gumbel noise are k draws without replacement (Kool
    et al., "Stochastic Beams and Where to Find Them", 2019).

    Raises:
        ConfigError: A size is not positive, or users take more items than they can choose from.
    """
    if min(users, items, per_user, dim, pool) < 1 or per_user > min(items, pool):
        raise ConfigError(
            f"{users} users taking {per_user} of {items} items with pools of {pool}: all have to be positive, and "
            "per_user no more than items and pool"
        )
    rng = np.random.default_rng([seed, 0])
    interests = rng.standard_normal((users, dim), dtype=np.float32)
    interests *= np.float32(sharpness) / np.linalg.norm(interests, axis=1, keepdims=True)
    attributes = rng.standard_normal((items, dim), dtype=np.float32)
    blocks: Iterator[tuple[Int64, Int64 | None]]
    if users * items > MAX_PAIRS:
        blocks = _blocks_with_pools(interests, attributes, pool=pool, at_least=per_user, seed=seed)
    else:
        blocks = ((rows, None) for rows in _cut(np.arange(users), items))

    def draw(numbered: tuple[int, tuple[Int64, Int64 | None]]) -> tuple[Int64, Int64]:
        number, (rows, candidates) = numbered
        block_rng = np.random.default_rng([seed, 1, number])  # so that the number of threads changes nothing
        found = attributes if candidates is None else attributes[candidates]
        positions = _gumbel_top_k(interests[rows], found, per_user, noise=noise, rng=block_rng)
        return rows, positions if candidates is None else candidates[positions]

    chosen = np.empty((users, per_user), np.int64)
    progress = Progress("synthetic", total=users, unit="users")
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for rows, taken in threads.map(draw, enumerate(blocks)):
            chosen[rows] = taken
            progress.advance(len(rows))
    return World(interests, attributes, chosen)


def write_interactions(folder: Path, world: World, *, days: int, seed: int, **columns: pa.Array) -> None:
    """Writes interactions.parquet: user_id, item_id, time (microseconds, UTC), in the order of time.

    `columns` are further ones, one value an interaction, users' interactions together.
    """
    users, per_user = world.chosen.shape
    rng = np.random.default_rng([seed, 2])
    times = START * 1_000_000 + rng.integers(0, days * DAY * 1_000_000, users * per_user)
    order = np.argsort(times, kind="stable")
    write_table(
        folder / "interactions.parquet",
        user_id=ids("u", np.repeat(np.arange(users), per_user)[order]),
        item_id=ids("i", world.chosen.ravel()[order]),
        time=pa.array(times[order]).cast(pa.timestamp("us", tz="UTC")),
        **{name: column.take(pa.array(order)) for name, column in columns.items()},
    )


def write_table(path: Path, **columns: pa.Array) -> None:
    """Writes a Parquet file of these columns."""
    table = pa.table(columns)
    pq.write_table(table, path, compression="zstd")
    log.info("%s with %s rows", path.name, f"{table.num_rows:,}")


def ids(prefix: str, numbers: npt.NDArray[np.integer]) -> pa.Array:
    """Strings such as `u17`."""
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def vectors(values: Float32) -> pa.Array:
    """The rows of `[n, dim]` as lists of float32."""
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values.ravel())


def nearest_direction(points: Float32, *, directions: int, seed: int) -> Int64:
    """`[points]`: which of so many random directions each point lies closest to."""
    axes = np.random.default_rng([seed, 3]).standard_normal((points.shape[1], directions), dtype=np.float32)
    axes /= np.linalg.norm(axes, axis=0)
    return np.concatenate([(points[rows] @ axes).argmax(axis=1) for rows in _cut(np.arange(len(points)), directions)])


def _gumbel_top_k(interests: Float32, attributes: Float32, k: int, *, noise: float, rng: np.random.Generator) -> Int64:
    """`[users, k]` positions drawn without replacement from softmax(interests · attributes + noise)."""
    scores = interests @ attributes.T
    scores += np.float32(noise) * rng.standard_normal(scores.shape, dtype=np.float32)
    exponential = rng.standard_exponential(scores.shape, dtype=np.float32)
    scores -= np.log(np.maximum(exponential, np.finfo(np.float32).tiny))  # minus log of Exp(1) is Gumbel noise
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def _cut(rows: Int64, items: int) -> Iterator[Int64]:
    size = max(1, BLOCK_PAIRS // items)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _blocks_with_pools(
    interests: Float32, attributes: Float32, *, pool: int, at_least: int, seed: int
) -> Iterator[tuple[Int64, Int64 | None]]:
    """Groups of like-minded users, each with the about `pool` items of the largest affinity to one of them."""
    users, items = len(interests), len(attributes)
    rng = np.random.default_rng([seed, 4])
    centres = interests[rng.choice(users, min(users, max(64, min(4096, users // 256))), replace=False)]
    group = np.concatenate(
        [(interests[rows] @ centres.T).argmax(axis=1) for rows in _cut(np.arange(users), len(centres))]
    )
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(centres) + 1))
    sample = attributes[rng.integers(0, items, min(items, 1 << 16))]
    for number, centre in enumerate(centres):
        rows = order[bounds[number] : bounds[number + 1]]
        # The pool's threshold is estimated on a sample: exact selection over all items costs ten times as much.
        threshold = np.quantile(sample @ centre, max(0.0, 1 - pool / items))
        affinity = attributes @ centre
        candidates = np.flatnonzero(affinity >= threshold)
        if len(candidates) < at_least:
            candidates = np.argpartition(affinity, -at_least)[-at_least:]
        for block in _cut(rows, len(candidates)):
            yield block, candidates
