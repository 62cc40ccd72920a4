from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.datasets import make_dataset
from pipelines.datasets.text_search import typed
from two_tower.errors import DataError

LINES = [
    # invoice, code, description, quantity, price
    ("1", "85123A", " WHITE HANGING HEART T-LIGHT HOLDER", 6.0, 2.5),
    ("1", "71053", "WHITE METAL LANTERN", 6.0, 3.5),
    ("1", "84406", "CREAM CUPID HEARTS", 6.0, 3.0),
    ("1", "POST", "POSTAGE", 1.0, 18.0),
    ("2", "71053", "WHITE METAL LANTERN", 1.0, 4.5),
    ("2", "71053", "damaged", 1.0, 3.5),
    ("2", "22222", None, 1.0, 3.5),
    ("3", "33333", "FREE GIFT", 1.0, 0.0),
    ("C4", "71053", "WHITE METAL LANTERN", -6.0, 3.5),
]


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    (tmp_path / "online_retail").mkdir()
    start = datetime(2010, 12, 1, 8)
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice")
    columns = {name: list(values) for name, values in zip(names, zip(*LINES, strict=True), strict=True)}
    columns["InvoiceDate"] = [start + timedelta(hours=number) for number in range(len(LINES))]
    pq.write_table(pa.table(columns), tmp_path / "online_retail" / "online_retail.parquet")
    return tmp_path


def test_only_sold_goods_are_searched_for(data_root: Path) -> None:
    folder = make_dataset("text_search", data_root)
    log = pq.read_table(folder / "interactions.parquet").to_pylist()
    assert [row["item_id"] for row in log] == ["85123A", "71053", "84406", "71053"]
    descriptions = {"85123A": LINES[0][2], "71053": LINES[1][2], "84406": LINES[2][2]}
    for row in log:
        words = row["search"].split()
        assert len(words) == 2
        assert set(words) <= set(str(descriptions[row["item_id"]]).lower().replace("-", " ").split())
    items = pq.read_table(folder / "items.parquet").to_pylist()
    assert items[0] == {"item_id": "71053", "description": "WHITE METAL LANTERN", "price": 4.0}
    assert items[2]["description"] == "WHITE HANGING HEART T-LIGHT HOLDER"


def test_an_invoice_begins_with_a_few_searches_only(data_root: Path) -> None:
    folder = make_dataset("text_search", data_root, per_invoice=1)
    log = pq.read_table(folder / "interactions.parquet").to_pylist()
    assert len(log) == 2
    assert log[1]["item_id"] == "71053"


def test_words_keep_the_order_of_the_description() -> None:
    draw = np.array([0.5, 0.1, 0.9, 0.2])
    assert typed("LUNCH BAG  RED RETROSPOT", 2, draw) == "bag retrospot"
    assert typed("LUNCH BAG  RED RETROSPOT", 9, draw) == "lunch bag red retrospot"
    assert typed("SET OF 4 SET", 2, draw) == "set"


def test_without_online_retail_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWO_TOWER_DATA", raising=False)
    with pytest.raises(DataError, match="Online Retail is not fetched"):
        make_dataset("text_search", tmp_path)
    assert not (tmp_path / "text_search").exists()
