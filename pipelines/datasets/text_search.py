"""Searches without users, made from Online Retail: what somebody may have typed, and what they then bought.

The invoices carry no searches.  A buyer is taken to have typed two words of the description of what they bought
("lunch bag" for LUNCH BAG RED RETROSPOT), because such a query has what real ones have: it fits many items, not all
alike, and past purchases tell which of them are wanted.  The words of one item with *other* items of the basket as
targets, the other way to make such a log, teaches which goods go together, which is no longer search.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.datasets.online_retail import FILE, find_online_retail
from pipelines.datasets.synthetic import write_table

log = logging.getLogger("two_tower")

COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"]
WORD = re.compile(r"[a-z]{3,}")


def make_text_search(folder: Path, *, words: int = 2, per_invoice: int = 5, seed: int = 42) -> None:
    """Writes interactions.parquet (search, item_id, time) and items.parquet (item_id, description, price).

    Args:
        folder: An empty folder beside that of Online Retail, where that is not in $TWO_TOWER_DATA.
        words: How many words of the description are typed.
        per_invoice: How many lines of an invoice began with a search, at most.
        seed: Of the choice of lines and words.

    Raises:
        DataError: Online Retail is not there.
    """
    source = find_online_retail(folder.parent) / FILE
    log.info("text_search: reading %s", source)
    sales = _sales(pq.read_table(source, columns=COLUMNS))
    rng = np.random.default_rng(seed)
    lines = sales.take(_pick_lines(sales["InvoiceNo"], per_invoice, rng))
    draws = rng.random((lines.num_rows, 64))
    searches = [
        typed(description, words, draw)
        for description, draw in zip(lines["Description"].to_pylist(), draws, strict=True)
    ]
    log.info("text_search: for example %s", ", ".join(map(repr, searches[:3])))
    write_table(
        folder / "interactions.parquet",
        search=pa.array(searches),
        item_id=lines["StockCode"],
        time=lines["InvoiceDate"],
    )
    _write_items(folder, sales)


def typed(description: str, words: int, draw: np.ndarray) -> str:
    """`words` of the description's words, picked by the smallest numbers of `draw`, in the description's order."""
    known = list(dict.fromkeys(WORD.findall(description.lower())))[: len(draw)]
    picked = sorted(np.argsort(draw[: len(known)])[:words])
    return " ".join(known[number] for number in picked)


def _sales(lines: pa.Table) -> pa.Table:
    """The lines that sold goods: no cancellation, postage, fee or correction."""
    goods = pc.match_substring_regex(lines["StockCode"], r"^\d{5}")
    sold = pc.and_(pc.greater(lines["Quantity"], 0), pc.greater(lines["UnitPrice"], 0))
    named = pc.match_substring_regex(lines["Description"], r"[A-Z]{3}")  # corrections are written in lower case
    return lines.filter(pc.and_(pc.and_(goods, sold), pc.fill_null(named, False)))


def _pick_lines(invoices: pa.ChunkedArray, per_invoice: int, rng: np.random.Generator) -> pa.Array:
    """Up to `per_invoice` random rows of each invoice, in the order of the rows."""
    codes = invoices.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((rng.random(len(codes)), codes))
    first = np.searchsorted(codes[order], codes[order])
    return pa.array(np.sort(order[np.arange(len(codes)) - first < per_invoice]))


def _write_items(folder: Path, lines: pa.Table) -> None:
    """One row an item: its most frequent description and the median price."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    prices: dict[str, list[float]] = defaultdict(list)
    columns = (lines[name].to_pylist() for name in ("StockCode", "Description", "UnitPrice"))
    for code, description, price in zip(*columns, strict=True):
        names[code][description.strip()] += 1
        prices[code].append(price)
    codes = sorted(names)
    write_table(
        folder / "items.parquet",
        item_id=pa.array(codes),
        description=pa.array([min(names[code], key=lambda name: (-names[code][name], name)) for code in codes]),
        price=pa.array([float(np.median(prices[code])) for code in codes]),
    )
