"""Logs and tables on Cloud Storage: found, read and prepared like local ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bucket_server import Bucket, bucket
from prepared_logs import contents, ordinary_log, settings, write_rows

from two_tower.config import BeamSettings, DataSettings
from two_tower.data import choose_earlier, prepare, resolve_sources
from two_tower.errors import DataError


@pytest.fixture
def store() -> Iterator[Bucket]:
    with bucket("sources-bucket") as made:
        yield made


def logs_and_tables(folder: Path, ending: str) -> dict[str, Any]:
    """Writes the files below `folder`; the settings with relative paths."""
    rows = ordinary_log(users=9, days=40)
    for n, name in enumerate(("b/a", "a", "c")):
        write_rows(folder / "logs" / f"{name}{ending}", rows[n::3] + rows[n : n + 1])
    write_rows(folder / "logs" / "_hidden" / "x.csv", rows[:1])
    items = [{"id": f"i{n}", "colour": ["red", "blue"][n % 2], "price": n + 0.5} for n in range(13)]
    write_rows(folder / "items.parquet", items)
    features = {"colour": {"type": "categorical"}, "price": {"type": "numeric"}}
    return {"log": {"max_bad_share": 0.1}, "items": {"path": "items.parquet", "id": "id", "features": features}}


def prepared(data: DataSettings, root: str, out: Path) -> dict[str, bytes]:
    sources = resolve_sources(data, dataset="shop", data_root=root)
    prepare(json.loads(json.dumps(sources)), out=out, data=data, beam=BeamSettings(workers=1))
    return contents(out)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl", ".parquet"])
def test_a_data_root_on_a_bucket_gives_the_same_bytes(store: Bucket, tmp_path: Path, ending: str) -> None:
    given = logs_and_tables(tmp_path / "data" / "shop", ending)
    data = settings("logs", **given)
    root = store.put(tmp_path / "data", "some/data")
    here = resolve_sources(data, dataset="shop", data_root=str(tmp_path / "data"))
    there = resolve_sources(data, dataset="shop", data_root=root)
    assert [file["path"] for file in there["interactions"]] == [
        f"gs://sources-bucket/some/data/shop/logs/{name}{ending}" for name in ("a", "b/a", "c")
    ]
    same = ("name", "format", "bytes")
    for table, files in there.items():
        assert [[file[name] for name in same] for file in files] == [[f[name] for name in same] for f in here[table]]
        assert all(file["generation"].isdigit() and file["modified"] > 1.7e15 for file in files)
    local = prepared(data, str(tmp_path / "data"), tmp_path / "local")
    assert prepared(data, root, tmp_path / "remote") == local
    names = pq.read_table(tmp_path / "remote" / "set_aside.parquet")["file"].to_pylist()
    assert names and set(names) <= {f"{name}{ending}" for name in ("a", "b/a", "c")}


def test_every_way_to_name_a_file_on_a_bucket_finds_it(
    store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(write_rows(tmp_path / "log.csv", ordinary_log()), "data/shop/log.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWO_TOWER_DATA", raising=False)

    def found(path: str, root: str | None = None) -> list[str]:
        listed = resolve_sources(settings(path), dataset="shop", data_root=root)["interactions"]
        assert listed == resolve_sources(settings(path), dataset="shop", data_root=root)["interactions"]
        return [f"{file['path']} {file['name']}" for file in listed]

    file = ["gs://sources-bucket/data/shop/log.csv log.csv"]
    assert found("log.csv", "gs://sources-bucket/data") == file
    assert found("log.csv", "gs://sources-bucket/data/") == file
    assert found("log.csv", "/gcs/sources-bucket/data") == file
    assert found("*.csv", "gs://sources-bucket/data") == file
    assert found("gs://sources-bucket/data/shop") == file
    assert found("/gcs/sources-bucket/data/shop/log.csv") == file
    assert found("gs://sources-bucket/data/**/*.csv") == file
    monkeypatch.setenv("TWO_TOWER_DATA", "gs://sources-bucket/data")
    assert found("log.csv") == file
    assert found("log.csv", str(tmp_path / "nothing")) == file
    monkeypatch.setenv("TWO_TOWER_DATA", "/gcs/sources-bucket/data")
    assert found("log.csv") == file


def test_a_changed_object_is_another_file(store: Bucket, tmp_path: Path) -> None:
    log = write_rows(tmp_path / "log.csv", ordinary_log())
    data = settings(store.put(log, "log.csv"))
    before = resolve_sources(data, dataset="shop")["interactions"]
    store.put(log, "log.csv")
    (after,) = resolve_sources(data, dataset="shop")["interactions"]
    assert (before[0]["path"], before[0]["bytes"]) == (after["path"], after["bytes"])
    assert before[0]["generation"] != after["generation"]


def test_what_is_not_there_is_named(store: Bucket, tmp_path: Path) -> None:
    log = write_rows(tmp_path / "log.csv", ordinary_log())
    with pytest.raises(DataError, match=r"'logs.csv' is not there; looked in gs://sources-bucket/data/shop/logs.csv"):
        resolve_sources(settings("logs.csv"), dataset="shop", data_root="gs://sources-bucket/data")
    with pytest.raises(DataError, match=r"gs://sources-bucket/\*\.csv' is not there"):
        resolve_sources(settings("gs://sources-bucket/*.csv"), dataset="shop")
    with pytest.raises(DataError, match=r"gs://no-bucket/x\.csv: cannot list it: there is no bucket no-bucket"):
        resolve_sources(settings("gs://no-bucket/x.csv"), dataset="shop")
    data = settings(store.put(log, "log.csv"))
    sources = resolve_sources(data, dataset="shop")
    store.remove("log.csv")
    with pytest.raises(DataError, match=r"gs://sources-bucket/log\.csv: the file is gone"):
        prepare(sources, out=tmp_path / "out", data=data, beam=BeamSettings(workers=1))
    store.put(write_rows(tmp_path / "no.parquet", ordinary_log()), "log.csv")
    with pytest.raises(DataError, match=r"gs://sources-bucket/log\.csv: .*it is a Parquet file"):
        prepare(sources, out=tmp_path / "out", data=data, beam=BeamSettings(workers=1))


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_may_not_be_read_is_named(
    store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    from gcsfs import GCSFileSystem
    from gcsfs.retry import validate_response

    data = settings(store.put(write_rows(tmp_path / "log.csv", ordinary_log()), "log.csv"))
    sources = resolve_sources(data, dataset="shop")

    async def refuse(self: Any, method: str, path: str, *rest: Any, **more: Any) -> None:
        message = "x@y does not have storage.objects access"
        validate_response(status, json.dumps({"error": {"code": status, "message": message}}), path)

    monkeypatch.setattr(GCSFileSystem, "_call", refuse)
    GCSFileSystem.clear_instance_cache()
    denied = r"permission denied; the account of this step needs roles/storage.objectViewer .*does not have"
    with pytest.raises(DataError, match=rf"(?s)gs://sources-bucket/log\.csv: cannot list it: {denied}"):
        resolve_sources(data, dataset="shop")
    with pytest.raises(DataError, match=rf"(?s)gs://sources-bucket/log\.csv: cannot be read: {denied}"):
        prepare(sources, out=tmp_path / "out", data=data, beam=BeamSettings(workers=1))


def test_earlier_prepared_data_is_chosen_on_a_bucket(store: Bucket, tmp_path: Path) -> None:
    rows = ordinary_log()
    write_rows(tmp_path / "logs" / "a.csv", rows[::2])
    data = settings(store.put(tmp_path / "logs", "logs"), incremental=True)
    sources = resolve_sources(data, dataset="shop")
    prepare(sources, out=tmp_path / "first", data=data, beam=BeamSettings(workers=1))
    earlier = store.put(tmp_path / "first", "runs/1/prepared")
    folders = ["gs://sources-bucket/runs/0/prepared", "gs://no-bucket/x", earlier, str(tmp_path / "first")]
    assert choose_earlier(folders, sources) == ""  # of all of today's files
    write_rows(tmp_path / "logs" / "b.csv", rows[1::2])
    store.put(tmp_path / "logs" / "b.csv", "logs/b.csv")
    assert choose_earlier(folders, resolve_sources(data, dataset="shop")) == earlier
