"""Artefacts on a bucket: brought here before a step reads them, put there afterwards, the manifest last."""

import json
from pathlib import Path

import pytest
from cloud import Fault

from two_tower.artifacts import list_objects, open_artifact, staging, write_artifact, write_object
from two_tower.errors import ArtifactError

PLACE = "gs://shop-bucket/pipelines/1/run/step/made"


def make(place: str, *names: str) -> None:
    with staging() as staged, write_artifact(staged.write(place), "made") as out:
        for name in names:
            out.write_json(name, {"of": name})


def test_what_is_written_is_read_again_by_another_step(cloud):
    make(PLACE, "a.json", "deep/b.json")
    with staging() as staged:
        folder = staged.read(PLACE)
        assert open_artifact(folder, "made").json("deep/b.json") == {"of": "deep/b.json"}
        assert staged.read(PLACE) == folder, "it is brought here once"
    assert not Path(folder).exists()


def test_the_manifest_goes_first_and_comes_last(cloud):
    make(PLACE, "a.json", "stale.json")
    cloud.calls.clear()
    make(PLACE, "a.json", "new.json")
    changes = [(call.name.rpartition(".")[2], call.resource.rpartition("/")[2]) for call in cloud.calls
               if call.name in ("storage.objects.insert", "storage.objects.delete")]  # fmt: skip
    assert changes[0] == ("delete", "manifest.json") and changes[-1] == ("insert", "manifest.json")
    assert ("delete", "stale.json") in changes
    assert set(list_objects(PLACE)) == {"a.json", "new.json", "manifest.json"}


def test_a_step_that_fails_puts_nothing_there(cloud):
    with pytest.raises(ZeroDivisionError), staging() as staged:
        with write_artifact(staged.write(PLACE), "made") as out:
            out.write_json("a.json", 1)
        raise ZeroDivisionError
    assert not list_objects(PLACE)


def test_an_upload_that_is_cut_off_leaves_no_artefact(cloud):
    cloud.faults.append(Fault("storage.objects.insert .*b.json", "403"))
    with pytest.raises(ArtifactError, match=r"made/b\.json: cannot write it: permission denied.*roles/storage"):
        make(PLACE, "a.json", "b.json")
    with staging() as staged, pytest.raises(ArtifactError, match=r"no manifest\.json here"):
        staged.read(PLACE)
    make(PLACE, "a.json", "b.json")
    with staging() as staged:
        open_artifact(staged.read(PLACE), "made")


def test_a_single_file_is_an_object(cloud, tmp_path):
    with staging() as staged:
        Path(staged.write("gs://shop-bucket/run/report")).write_text("<html>")
    with staging() as staged:
        assert Path(staged.read("gs://shop-bucket/run/report")).read_text() == "<html>"


def test_a_mount_is_the_bucket_and_a_local_path_stays_one(cloud, tmp_path):
    write_object("gs://shop-bucket/a/note.json", b"{}")
    with staging() as staged:
        assert Path(staged.read("/gcs/shop-bucket/a/note.json")).read_bytes() == b"{}"
        assert staged.read(str(tmp_path)) == str(tmp_path) == staged.write(str(tmp_path))


def test_an_artefact_says_which_run_made_it_and_that_is_no_content(tmp_path, monkeypatch):
    from two_tower.artifacts import content_hash

    def made(name: str) -> Path:
        with write_artifact(tmp_path / name, "made", config={"a": 1}) as out:
            out.write_json("a.json", 1)
        return tmp_path / name

    plain = made("plain")
    monkeypatch.setenv("TWO_TOWER_RUN_ID", "tiny-1")
    monkeypatch.setenv("TWO_TOWER_COMMIT", "abc")
    known = made("known")
    lineage = json.loads((known / "manifest.json").read_text())["measured"]["lineage"]
    assert (lineage["run_id"], lineage["commit"], len(lineage["config"])) == ("tiny-1", "abc", 16)
    assert content_hash(plain) == content_hash(known)
