"""A made-up shop's orders and products as CSV files, as an export has them: what docs/quickstart.md starts from."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import csv

from pipelines.datasets.tiny import make_tiny


def make_shop(folder: Path, *, users: int = 1_500, items: int = 1_000, per_user: int = 20, seed: int = 42) -> None:
    """Writes orders.csv (`customer`, `sku`, `ordered_at`) and products.csv; the same options give the same files."""
    make_tiny(folder, users=users, items=items, per_user=per_user, seed=seed)
    orders = pq.read_table(folder / "interactions.parquet", columns=["user_id", "item_id", "time"])
    products = pq.read_table(folder / "items.parquet", columns=["item_id", "title", "category", "price"])
    csv.write_csv(orders.rename_columns(["customer", "sku", "ordered_at"]), folder / "orders.csv")
    csv.write_csv(products.rename_columns(["sku", "title", "category", "price"]), folder / "products.csv")
    for made in folder.glob("*.parquet"):
        made.unlink()
