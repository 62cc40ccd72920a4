"""Online Retail (UCI, CC0): 541,909 invoice lines of a British wholesaler; not fetched, but looked for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from two_tower.errors import DataError

log = logging.getLogger("two_tower")

FILE = "online_retail.parquet"


def find_online_retail(data_root: Path) -> Path:
    """The folder that holds `online_retail.parquet`: `data_root/online_retail`, else `$TWO_TOWER_DATA/online_retail`.

    Raises:
        DataError: It is in neither; the message says how to get it.
    """
    roots = [data_root, *([Path(os.environ["TWO_TOWER_DATA"])] if os.environ.get("TWO_TOWER_DATA") else [])]
    for root in roots:
        if (root / "online_retail" / FILE).is_file():
            return root / "online_retail"
    raise DataError(
        f"Online Retail is not fetched. Put its invoice lines as {data_root / 'online_retail' / FILE} (or set "
        "TWO_TOWER_DATA to a folder with online_retail/online_retail.parquet). The original is 'Online Retail' of the "
        "UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/352; its spreadsheet becomes Parquet "
        "with pandas.read_excel(...).astype({'InvoiceNo': str, 'StockCode': str, 'Description': str}).to_parquet(...)"
    )
