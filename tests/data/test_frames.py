"""Tables in memory as the sources of a preparation: whatever they are tables of, the result is the files' own."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import contents

from two_tower.config import BeamSettings, DataSettings
from two_tower.data import Prepared, prepare, resolve_sources
from two_tower.errors import ConfigError, DataError

DAY = 86_400_000_000
START = 1_700_000_000_000_000
ITEMS = pa.table({"sku": [f"i{n}" for n in range(8)], "colour": ["red", "blue"] * 4})
LOG = pa.table(
    {
        "customer": [f"u{n % 6}" for n in range(120)],
        "sku": [f"i{n * 7 % 8}" for n in range(120)],
        "at": pa.array([START + n * DAY // 5 for n in range(120)], pa.timestamp("us", "UTC")),
    }
)
SECTION: dict[str, Any] = {
    "interactions": {"columns": {"user": "customer", "item": "sku", "time": "at"}},
    "items": {"id": "sku", "features": {"colour": {"type": "categorical"}}},
    "split": {"type": "leave_last_out"},
    "shards": 2,
}
ONE = BeamSettings(workers=1)


@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas"])
def test_every_kind_of_table_gives_what_the_files_give(tmp_path: Path, kind: str) -> None:
    given = {"arrow": lambda table: table, "polars": pl.from_arrow, "pandas": lambda table: table.to_pandas()}[kind]
    prepared = prepare(interactions=given(LOG), items=given(ITEMS), data=SECTION, out=tmp_path / "made", beam=ONE)
    assert isinstance(prepared, Prepared) and repr(prepared).startswith("Prepared(8 items, ")
    pq.write_table(LOG, tmp_path / "interactions.parquet")
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    data = DataSettings.model_validate(
        SECTION
        | {
            name: {**SECTION[name], "path": f"{name}.parquet", "format": "parquet"}
            for name in ("interactions", "items")
        }
    )
    (tmp_path / "shop").mkdir()
    for name in ("interactions", "items"):
        (tmp_path / f"{name}.parquet").rename(tmp_path / "shop" / f"{name}.parquet")
    sources = resolve_sources(data, dataset="shop", data_root=str(tmp_path))
    prepare(sources, data=data, out=tmp_path / "files", beam=ONE)
    assert contents(tmp_path / "made") == contents(tmp_path / "files")


def test_a_section_with_paths_takes_tables_in_their_place(tmp_path: Path) -> None:
    section = SECTION | {"interactions": {**SECTION["interactions"], "path": "elsewhere.csv"}}
    section["items"] = {**SECTION["items"], "path": "elsewhere.parquet"}
    data = DataSettings.model_validate(section)
    prepared = prepare(interactions=LOG, items=ITEMS, data=data, out=tmp_path / "made", beam=ONE)
    assert prepared.queries("test").num_rows == 6
    assert prepared.manifest.config["interactions"]["path"] == "interactions.parquet"


@pytest.mark.parametrize(
    ("frames", "section", "error", "message"),
    [
        ({"items": ITEMS}, SECTION, DataError, "interactions are not; give interactions="),
        ({"interactions": LOG}, SECTION, DataError, "data.items is in the section, but no table: give items="),
        ({"interactions": LOG, "users": ITEMS, "items": ITEMS}, SECTION, DataError, "has no users"),
        ({"interactions": [1, 2], "items": ITEMS}, SECTION, DataError, "interactions=list is neither an Arrow table"),
        ({"interactions": LOG, "items": ITEMS}, SECTION | {"shard": 2}, ConfigError, "did you mean 'shards'"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, frames: dict[str, Any], section: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(**frames, data=section, out=tmp_path / "made", beam=ONE)
    assert not (tmp_path / "made").exists()


def test_files_and_tables_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="both files and a table of items are given; give either"):
        prepare({"interactions": [], "items": [], "users": []}, items=ITEMS, data=SECTION, out=tmp_path / "made")
