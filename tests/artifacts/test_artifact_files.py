import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import pytest

from two_tower.artifacts import crc32c_of, locked, plain_path, replace_file, write_json


def test_crc32c_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "check").write_bytes(b"123456789")
    assert crc32c_of(tmp_path / "check") == "e3069283"  # RFC 3720's polynomial, its usual check value
    (tmp_path / "empty").write_bytes(b"")
    assert crc32c_of(tmp_path / "empty") == "00000000"
    large = os.urandom((1 << 20) * 2 + 7)
    (tmp_path / "large").write_bytes(large)
    assert crc32c_of(tmp_path / "large") == f"{google_crc32c.value(large):08x}"


def test_replacing_a_file_leaves_no_other(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"one")
    replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_replacement_that_fails_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    replace_file(tmp_path / "a", b"one")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", fail) if call == "fsync" else (Path, "replace", fail)))
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"b": 1, "a": "ö"})
    write_json(tmp_path / "two.json", {"a": "ö", "b": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "one.json", float("inf"))


def test_the_lock_holds_off_another_process_and_dies_with_its_holder(tmp_path: Path) -> None:
    code = """
import sys, time
from two_tower.artifacts import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
    lock = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    taker = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        taker.wait(timeout=1.5)
    holder.kill()
    holder.wait()
    assert taker.stdout is not None and taker.stdout.readline() == "held\n"
    taker.kill()
    taker.wait()
    with locked(lock):
        pass


@pytest.mark.parametrize("name", ["plain", "[team] work", "a*b", "what?", "back\\slash"])
def test_a_plain_path_leads_to_the_folder_and_is_no_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "file").write_text("here")
    with plain_path(folder) as path:
        assert Path(path, "file").read_text() == "here"
        assert (path == str(folder)) == (name == "plain")
        assert not set(path) & set("*?[\\")
    assert (folder / "file").exists() and (name == "plain") == Path(path).exists()
