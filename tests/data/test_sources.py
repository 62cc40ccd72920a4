"""Which files a path of the configuration names: through links, past brackets, and the same for folders and globs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
from prepared_logs import ordinary_log, run, settings, write_rows

from two_tower.config import Config
from two_tower.data import resolve_run, resolve_sources
from two_tower.errors import DataError


def names(folder: Path, path: str | list[str]) -> list[str]:
    """The files found by their paths below `folder`, in which `data/shop` is looked in."""
    files = resolve_sources(settings(path), dataset="shop", data_root=str(folder / "data"))["interactions"]
    return [str(Path(file["path"]).relative_to(folder)) for file in files]


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("user,item,time\n")
    return path


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with a file, a linked folder, a linked file and what is hidden."""
    logs = put(tmp_path / "data/shop/logs/a.csv").parent
    put(tmp_path / "elsewhere/deep/b.csv")
    put(tmp_path / "elsewhere/_temporary/x.csv")
    put(tmp_path / "single/c.csv")
    put(logs / ".hidden.csv")
    (logs / "feb").symlink_to(tmp_path / "elsewhere")
    (logs / "c.csv").symlink_to("../../../single/c.csv")
    return tmp_path


@pytest.mark.parametrize("path", ["logs", "logs/", "logs/**", "logs/**/*.csv", "**/[a-c].csv", "l*/**/*.csv"])
def test_links_are_followed_by_a_folder_and_by_a_glob_alike(linked: Path, path: str) -> None:
    below = "data/shop/logs"
    assert names(linked, path) == [f"{below}/a.csv", f"{below}/c.csv", f"{below}/feb/deep/b.csv"]


def test_folders_that_a_glob_meets_are_not_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.csv", "b.csv/part-0.csv", "_b.csv/part-0.csv", "c/d.csv"):
        put(tmp_path / "data/shop" / name)
    with caplog.at_level(logging.WARNING):
        assert names(tmp_path, "a*.csv") == ["data/shop/a.csv"]
        assert not caplog.messages
        assert names(tmp_path, "*.csv") == ["data/shop/a.csv"]
    assert len(caplog.messages) == 1 and "*.csv: passed over 1 folders, such as" in caplog.text
    for path in ("b*", "[b]*.csv"):
        with pytest.raises(DataError, match=r"meets folders alone, such as .*/b\.csv; .*/\*\* reads what is in them"):
            names(tmp_path, path)
        assert names(tmp_path, f"{path}/**") == ["data/shop/b.csv/part-0.csv"]


def test_folders_that_a_glob_meets_in_a_store_are_not_passed_over_in_silence(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    store = fsspec.filesystem("memory")
    request.addfinalizer(lambda: store.rm("/met", recursive=True))
    for name in ("a.csv", "b.csv/part-0.csv", "_b.csv/part-0.csv"):
        store.pipe(f"/met/{name}", b"user,item,time\n")
    with caplog.at_level(logging.WARNING):
        found = resolve_sources(settings("memory://met/*.csv"), dataset="shop")["interactions"]
    assert [file["name"] for file in found] == ["a.csv"] and "passed over 1 folders, such as" in caplog.text
    with pytest.raises(DataError, match=r"meets folders alone, such as memory://.*met/b\.csv"):
        resolve_sources(settings("memory://met/b*"), dataset="shop")


def test_two_stars_stand_for_whole_folders(linked: Path) -> None:
    assert names(linked, "**/feb/**/b.csv") == ["data/shop/logs/feb/deep/b.csv"]
    assert names(linked, "logs/**/deep/*") == ["data/shop/logs/feb/deep/b.csv"]
    with pytest.raises(DataError, match="is not there"):
        names(linked, "logs/**/feb")


@pytest.mark.parametrize(
    ("link", "target"),
    [("logs/again", "."), ("logs/up", ".."), ("logs/old/top", "../../.."), ("logs/old/logs", "..")],
)
@pytest.mark.parametrize("path", ["logs", "logs/**/*.csv"])
def test_a_link_to_a_folder_that_it_is_in_is_refused_by_name(tmp_path: Path, link: str, target: str, path: str) -> None:
    put(tmp_path / "data/shop/logs/old/a.csv")
    (tmp_path / "data/shop" / link).symlink_to(target)
    with pytest.raises(DataError, match=f"{link}: a link to .*, the folder that it is in; remove the link"):
        names(tmp_path, path)


def test_folders_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        put(tmp_path / f"data/shop/{one}/{one}.csv")
        (tmp_path / f"data/shop/{one}/to_{other}").symlink_to(f"../{other}")
    with pytest.raises(DataError, match=r"a/to_b/to_a: a link to .*/shop/a, the folder that it is in"):
        names(tmp_path, "a")


@pytest.mark.parametrize("path", ["logs", "logs/*.csv", "logs/**/*.csv"])
def test_a_link_to_nothing_is_refused(tmp_path: Path, path: str) -> None:
    logs = put(tmp_path / "data/shop/logs/a.csv").parent
    (logs / "b.csv").symlink_to("gone.csv")
    with pytest.raises(DataError, match=r"b\.csv: a link to gone\.csv, which is not there"):
        names(tmp_path, path)


def test_a_file_with_several_paths_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs = put(tmp_path / "data/shop/logs/2024/z.csv").parents[1]
    (logs / "2024" / "latest.csv").symlink_to("z.csv")
    (logs / "000").symlink_to("2024")
    with caplog.at_level(logging.INFO, logger="two_tower"):
        assert names(tmp_path, "logs") == ["data/shop/logs/2024/z.csv"]
    assert "data.interactions.path: 1 files are there by several paths, such as" in caplog.text
    assert names(tmp_path, ["logs/000/latest.csv", "logs/2024/latest.csv"]) == ["data/shop/logs/000/latest.csv"]


def test_rows_behind_a_link_are_prepared(linked: Path) -> None:
    rows = ordinary_log()
    write_rows(linked / "data/shop/logs/a.csv", rows[:40])
    write_rows(linked / "elsewhere/deep/b.csv", rows[40:])
    assert run(linked / "prepared", settings(linked / "data/shop/logs")).summary["rows"]["kept"] == len(rows)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("orders[1].csv", ["orders[1].csv"]),
        ("[ab]", ["[ab]/x.csv"]),
        ("[ab]/*.csv", ["[ab]/x.csv"]),
        ("[ab]/[x].csv", ["[ab]/x.csv"]),
        ("orders[12].csv", ["orders1.csv"]),
        ("orders*.csv", ["orders1.csv", "orders[1].csv"]),
    ],
)
@pytest.mark.parametrize("store", ["local", "memory"])
def test_what_is_there_as_it_is_written_is_no_pattern(
    tmp_path: Path, request: pytest.FixtureRequest, store: str, path: str, found: list[str]
) -> None:
    files = ["orders1.csv", "orders[1].csv", "[ab]/x.csv", "a/x.csv"]
    root = str(tmp_path / "[team] work")
    if store == "memory":
        root = f"memory://{request.node.name}"
    for name in files:
        if store == "local":
            put(Path(root, "shop", name))
        else:
            fsspec.filesystem("memory").pipe(f"{root}/shop/{name}", b"user,item,time\n")
    listed = resolve_sources(settings(path), dataset="shop", data_root=root)["interactions"]
    assert [file["path"].partition("/shop/")[2] for file in listed] == found
    whole = resolve_sources(settings(f"{root}/shop/{path}"), dataset="shop")["interactions"]
    assert whole == listed


def test_a_root_is_never_a_pattern(tmp_path: Path) -> None:
    put(tmp_path / "a/shop/x.csv")
    with pytest.raises(DataError, match="is not there"):
        resolve_sources(settings("*.csv"), dataset="shop", data_root=str(tmp_path / "[a]"))


def test_a_run_fills_in_its_time_and_looks_in_its_root(tmp_path: Path) -> None:
    put(tmp_path / "[team] work/data/shop/orders-2024-03-01.csv")
    data = settings("orders-{date-1d}*.csv").model_dump(mode="json")
    config = Config.model_validate({"name": "shop", "data": data})
    moment = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
    root = str(tmp_path / "[team] work/data")
    at, sources = resolve_run(config, moment, data_root=root, zone="Europe/Berlin")
    assert at.data.interactions.path == "orders-2024-03-01*.csv"
    assert [file["name"] for file in sources["interactions"]] == ["orders-2024-03-01.csv"]
