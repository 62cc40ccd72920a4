import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from two_tower.artifacts import content_hash, open_artifact, read_manifest, write_artifact
from two_tower.errors import ArtifactError

TABLE = pa.table({"item": pa.array([1, 2, 3], pa.int32()), "item_id": ["a", "ö", None]})


def write(folder: Path, **facts: Any) -> Path:
    with write_artifact(folder, "things", config={"k": 3}, data_seen_until=17, **facts) as out:
        out.write_table("items.parquet", TABLE)
        out.write_table("train/part-0.parquet", TABLE.slice(0, 2))
        out.write_json("summary.json", {"b": 1, "a": [0.1, None, "é"]})
        out.path("deep/er/blob.bin").write_bytes(b"\0\1\2")
        out.manifest.extra["note"] = "x"
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    reader = open_artifact(write(tmp_path / "a", made_from={"logs": "abc"}), "things")
    assert reader.table("items.parquet").equals(TABLE)
    assert reader.table("items.parquet", ["item"]).column_names == ["item"]
    assert reader.json("summary.json") == {"a": [0.1, None, "é"], "b": 1}
    assert reader.path("deep/er/blob.bin").read_bytes() == b"\0\1\2"
    assert reader.path("train") == tmp_path / "a" / "train"
    manifest = reader.manifest
    assert manifest.rows == {"items": 3, "train/part-0": 2}
    assert (manifest.kind, manifest.config, manifest.data_seen_until) == ("things", {"k": 3}, 17)
    assert (manifest.made_from, manifest.extra) == ({"logs": "abc"}, {"note": "x"})
    assert sorted(manifest.files) == ["deep/er/blob.bin", "items.parquet", "summary.json", "train/part-0.parquet"]
    assert read_manifest(tmp_path / "a", "things") == manifest


def test_equal_content_is_equal_bytes_and_an_equal_hash(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "elsewhere" / "two")
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    assert content_hash(one) == content_hash(two)
    other = write(tmp_path / "other", extra={"more": 1})
    assert content_hash(other) != content_hash(one)


def test_a_retry_replaces_all_that_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with write_artifact(tmp_path / "a", "others") as out:
        out.write_json("only.json", {})
        assert not (tmp_path / "a" / "manifest.json").exists()
        assert not (tmp_path / "a" / "items.parquet").exists()
    assert [path.name for path in sorted((tmp_path / "a").rglob("*"))] == ["manifest.json", "only.json"]


def test_an_unlisted_name_is_refused(tmp_path: Path) -> None:
    reader = open_artifact(write(tmp_path / "a"), "things")
    for name in ("absent.json", "trai", "manifest.json", "../a/items.parquet"):
        with pytest.raises(ArtifactError, match="holds no"):
            reader.path(name)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "{}", '{"kind": "things"}',
                                     '{"kind": "things", "schema_version": 1, "files": null}',
                                     '{"kind": "things", "schema_version": 1, "files": {"a": 3}}',
                                     '{"kind": "things", "schema_version": 1, "files": {"a": {"bytes": 1}}}',
                                     '{"schema_version": 1}', "\xff"])  # fmt: skip
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"manifest\.json: not a readable manifest"):
        open_artifact(tmp_path, "things")


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "manifest.json").unlink()
    for broken in (folder, tmp_path / "absent"):
        with pytest.raises(ArtifactError, match="no complete things"):
            open_artifact(broken, "things")
        with pytest.raises(ArtifactError, match="no readable"):
            content_hash(broken)
    with pytest.raises(ArtifactError):
        open_artifact(folder / "items.parquet", "things")


def test_the_wrong_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="this is a things, expected a index"):
        open_artifact(write(tmp_path / "a"), "index")


def test_another_schema_version_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99, "new": 1}))
    with pytest.raises(ArtifactError, match="schema version 99"):
        open_artifact(folder, "things")


@pytest.mark.parametrize("name", ["items.parquet", "train/part-0.parquet", "summary.json", "deep/er/blob.bin"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "one bit", "empty", "a folder"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = write(tmp_path / "a") / name
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes(
            {"truncated": content[:-1], "longer": content + b"x", "one bit": flipped, "empty": b""}[damage]
        )
    with pytest.raises(ArtifactError, match=str(path)):
        open_artifact(tmp_path / "a", "things")


@settings(max_examples=50, deadline=None)
@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    folder = write(tmp_path_factory.mktemp("a"))
    path = folder / "items.parquet"
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"items\.parquet: differs"):
        open_artifact(folder, "things")


@pytest.mark.parametrize("error", [ValueError("bad row"), KeyboardInterrupt(), SystemExit(1)])
def test_an_error_inside_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "a")
    with pytest.raises(type(error)), write_artifact(tmp_path / "a", "things") as out:
        out.write_json("summary.json", {})
        raise error
    assert not (tmp_path / "a").exists()


def test_a_number_that_json_lacks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"), write_artifact(tmp_path / "a", "things") as out:
        out.write_json("metrics.json", {"recall": float("nan")})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("call", "number"),
    # summary.json and the manifest are renamed; they and every file and folder are synced.
    [("replace", 0), ("replace", 1), ("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 5), ("fsync", 10)],
)
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    calls = 0
    target, name = (os, "fsync") if call == "fsync" else (Path, "replace")
    real = getattr(target, name)

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the-file")
        return real(*arguments)

    monkeypatch.setattr(target, name, full)
    with pytest.raises(ArtifactError, match="the-file: cannot write the things: No space left on device"):
        write(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_real_limit_on_file_sizes_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from two_tower.artifacts import write_artifact
from two_tower.errors import ArtifactError
import numpy as np, pyarrow as pa
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with write_artifact(sys.argv[1], "things") as out:
        out.write_json("small.json", {})
        out.write_table("big.parquet", pa.table({"noise": np.random.default_rng(0).random(100_000)}))
except ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert "cannot write the things" in done.stdout and "File too large" in done.stdout
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with (
        pytest.raises(ArtifactError, match="cannot write the things"),
        write_artifact(tmp_path / "file" / "a", "things"),
    ):
        pass
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_killed_writer_leaves_no_artefact_and_the_retry_succeeds(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from two_tower.artifacts import write_artifact
with write_artifact(sys.argv[1], "things") as out:
    out.path("half.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    write(tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a" / "half.bin").exists()
    with pytest.raises(ArtifactError, match="no complete things"):
        open_artifact(tmp_path / "a", "things")
    open_artifact(write(tmp_path / "a"), "things")
    assert not (tmp_path / "a" / "half.bin").exists()
