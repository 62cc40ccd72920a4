"""What a run refuses of the item table before it trains: the restricts that the index could not write, and slices."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from prepared_logs import ordinary_log, settings, write_rows

from two_tower.config import Config
from two_tower.data import resolve_run
from two_tower.errors import ConfigError, DataError

TABLE = pa.table(
    {
        "id": ["i1", "i2", "i2", "i3"],
        "title": ["one", "two", "two", None],
        "price": [0.5, 2.0, 3.0, None],
        "infinite": [1.0, 2.0, np.inf, -np.inf],
        "nan": [1.0, np.nan, 2.0, 3.0],
        "large": pa.array([1, 2, 1 << 63, (1 << 64) - 1], pa.uint64()),
        "tags": [["a"], [], None, ["b", ""]],
        "gone": [False, False, False, True],
    }
)


def configured(folder: Path, name: str, items: dict[str, Any], **changes: Any) -> Config:
    """A configuration with TABLE as a file of this name."""
    path = folder / name
    if path.suffix == ".csv":
        pa.csv.write_csv(TABLE.drop_columns(["tags"]), path)
    else:
        pq.write_table(TABLE, path)
    log = write_rows(folder / "log.parquet", ordinary_log())
    data = settings(log, items={"path": str(path), "id": "id"} | items)
    return Config.model_validate({"name": "shop", "data": data.model_dump(mode="json")} | changes)


def resolved(config: Config) -> None:
    resolve_run(config, datetime(2024, 1, 1, tzinfo=UTC))


GONE = [{"column": "gone", "op": "!=", "value": True}]


@pytest.mark.parametrize(
    ("name", "items", "search", "message"),
    [
        ("items.csv", ["price", "title"], {"numeric_restricts": ["price"]},
         r"^index\.vector_search\.numeric_restricts: the column 'price' .* text.*data\.items\.csv\.types: "
         r"{price: number}$"),
        ("items.parquet", ["title"], {"numeric_restricts": ["title"]}, "the column 'title' of .* is text.*write it as"),
        ("items.parquet", ["infinite"], {}, r"^data\.items\.attributes: item 'i3', attribute 'infinite': -inf is not"),
        ("items.parquet", ["large"], {}, "item 'i3', attribute 'large': 18446744073709551615 does not fit"),
        ("items.parquet", ["price"], {"restricts": ["price"]}, "'price' is double.*index.vector_search.restricts"),
        ("items.parquet", ["tags"], {"crowding": "tags"}, r"'tags' is list<.*a restrict or a crowding tag takes text"),
    ],
)  # fmt: skip
def test_what_the_index_would_refuse_is_refused_at_once(
    tmp_path: Path, name: str, items: list[str], search: dict[str, Any], message: str
) -> None:
    config = configured(tmp_path, name, {"attributes": items}, index={"vector_search": search})
    with pytest.raises(DataError, match=message):
        resolved(config)


@pytest.mark.parametrize(
    ("items", "search"),
    [
        ({"attributes": ["price", "nan", "title", "tags"]}, {}),
        ({"attributes": ["large"]}, {"restricts": ["large"]}),
        ({"attributes": ["infinite"]}, {"numeric_restricts": []}),
        ({"attributes": ["infinite", "large"], "available": GONE}, {}),
    ],
)
def test_what_the_index_can_take_is_left_alone(tmp_path: Path, items: dict[str, Any], search: dict[str, Any]) -> None:
    """An infinite number that is no restrict, a large one that is a token, and items that are no candidates."""
    resolved(configured(tmp_path, "items.parquet", items, index={"vector_search": search}))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("item.price", "item.price is of the type double; slices are made of categories"),
        ("item.cost", "item.cost is of the type double"),
        ("context.amount", "context.amount is of the type double"),
    ],
)
def test_slices_by_numbers_with_fractions_are_refused_at_once(tmp_path: Path, column: str, message: str) -> None:
    items = {"attributes": ["price", "large"], "features": {"cost": {"type": "numeric", "column": "price"}}}
    config = configured(tmp_path, "items.parquet", items, index={"vector_search": {"numeric_restricts": ["price"]}})
    query = config.data.query.model_validate({"context": {"amount": {"type": "numeric"}}})
    data = config.data.model_copy(update={"query": query})
    evaluation = config.evaluation.model_copy(update={"slices": [column]})
    with pytest.raises(ConfigError, match=message):
        resolved(config.model_copy(update={"data": data, "evaluation": evaluation}))


def test_slices_by_codes_are_fine(tmp_path: Path) -> None:
    search = {"vector_search": {"restricts": ["large"]}}
    evaluation = {"slices": ["item.large"]}
    resolved(configured(tmp_path, "items.parquet", {"attributes": ["large"]}, index=search, evaluation=evaluation))
