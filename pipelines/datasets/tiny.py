"""A small made-up shop with every type of feature, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.datasets.synthetic import (
    DAY,
    START,
    draw_world,
    ids,
    nearest_direction,
    vectors,
    write_interactions,
    write_table,
)

COLOURS = ("red", "blue", "green", "black", "white", "yellow", "purple", "orange")
KINDS = ("mug", "lamp", "chair", "scarf", "kettle", "notebook", "basket", "candle", "clock", "cushion", "frame", "tray")
COUNTRIES = ("Norway", "France", "Japan", "Brazil", "Kenya")


def make_tiny(folder: Path, *, users: int = 500, items: int = 2_000, per_user: int = 20, seed: int = 42) -> None:
    """Writes interactions.parquet, items.parquet and users.parquet; the same options give the same files.

    What a feature says follows from the latent vectors, so that features help.
    """
    world = draw_world(
        users=users, items=items, per_user=per_user, dim=10, sharpness=3.0, noise=0.3, pool=items, seed=seed
    )
    rng = np.random.default_rng([seed, 5])
    events = rng.choice(["purchase", "view"], size=users * per_user, p=[0.7, 0.3])
    write_interactions(folder, world, days=140, seed=seed, event=pa.array(events))

    colour = nearest_direction(world.attributes[:, :5], directions=len(COLOURS), seed=seed)
    kind = nearest_direction(world.attributes[:, 5:], directions=len(KINDS), seed=seed)
    mood = np.where(world.attributes[:, :3] > 0.3, ["soft", "large", "modern"], "")
    price = np.exp(2 + 0.5 * world.attributes[:, 0] + 0.3 * rng.standard_normal(items)).round(2)
    added = START - rng.integers(0, 365 * DAY, items)
    write_table(
        folder / "items.parquet",
        item_id=ids("i", np.arange(items)),
        title=pa.array([f"{COLOURS[c]} {KINDS[k]}".capitalize() for c, k in zip(colour, kind, strict=True)]),
        category=pa.array([KINDS[k] if some > 0.05 else None for k, some in zip(kind, rng.random(items), strict=True)]),
        tags=pa.array([[tag for tag in row if tag] for row in mood.tolist()]),
        price=pa.array([value if some > 0.05 else None for value, some in zip(price, rng.random(items), strict=True)]),
        added=pa.array(added * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        attributes=vectors(world.attributes),
    )
    country = nearest_direction(world.interests, directions=len(COUNTRIES), seed=seed)
    write_table(
        folder / "users.parquet",
        user_id=ids("u", np.arange(users)),
        country=pa.array([COUNTRIES[number] for number in country]),
        age=pa.array((40 + 4 * world.interests[:, 0] + rng.integers(-9, 10, users)).astype(np.int64)),
    )
