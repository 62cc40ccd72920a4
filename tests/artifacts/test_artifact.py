"""Artefacts as objects: opened at a local folder or on a bucket, one line that says what they are, taken as paths."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from two_tower.artifacts import Artifact, ArtifactReader, content_hash, open_artifact, staging, write_artifact
from two_tower.errors import ArtifactError

PLACE = "gs://shop-bucket/artifacts/made"
SEEN = 1_700_000_000_000_000


class Made(Artifact):
    kind = "made"

    def rows(self) -> int:
        return self._reader.table("some_items.parquet").num_rows


def make(folder: str | Path, rows: int = 3) -> None:
    with write_artifact(folder, "made", data_seen_until=SEEN) as out:
        out.write_table("some_items.parquet", pa.table({"n": range(rows)}))


def put(rows: int) -> None:
    with staging() as staged:
        make(staged.write(PLACE), rows)


def test_it_says_what_it_is_in_one_line(tmp_path):
    make(tmp_path / "made")
    found = Made.open(tmp_path / "made")
    content = content_hash(tmp_path / "made")
    assert repr(found) == f"Made(3 some items; content {content}; seen until 2023-11-14 22:13 UTC)"
    assert (found.content, found.seen_until.year, found.rows()) == (content, 2023, 3)


def test_it_is_taken_wherever_a_path_is(tmp_path):
    make(tmp_path / "made")
    found = Made.made(tmp_path / "made")
    assert os.fspath(found) == str(tmp_path / "made") == str(Path(found))
    assert isinstance(open_artifact(found, "made"), ArtifactReader)
    assert Made.open(found).rows() == 3


def test_another_kind_and_a_damaged_file_are_refused(tmp_path):
    with write_artifact(tmp_path / "other", "other"):
        pass
    with pytest.raises(ArtifactError, match="this is a other, expected a made"):
        Made.open(tmp_path / "other")
    make(tmp_path / "made")
    (tmp_path / "made" / "some_items.parquet").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"some_items\.parquet: differs"):
        Made.open(tmp_path / "made")


def test_one_on_a_bucket_is_brought_once_and_anew_when_it_was_written_anew(cloud):
    put(3)
    first, again = Made.open(PLACE), Made.open(PLACE.replace("gs://", "/gcs/"))
    assert first.folder == again.folder and first.rows() == 3
    put(5)
    assert Made.open(PLACE).rows() == 5 and first.rows() == 3


def test_what_is_not_on_the_bucket_is_named(cloud):
    with pytest.raises(ArtifactError, match=r"gs://shop-bucket/artifacts/none: no manifest\.json here"):
        Made.open("gs://shop-bucket/artifacts/none")
