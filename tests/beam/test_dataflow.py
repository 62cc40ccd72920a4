"""The Beam steps on Dataflow: the real client against a stand-in that really runs the jobs."""

from __future__ import annotations

import base64
import bz2
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from cloud import Cloud
from cloud.dataflow import Job
from plain_settings import plain_model, plain_training
from prepared_logs import contents, ordinary_log, settings, write_rows
from project import ROOT
from remote_beam import bucket, names, on_dataflow, put

from two_tower.artifacts import content_hash, open_artifact
from two_tower.beam.dataflow_job import JobError
from two_tower.config import BeamSettings, DataSettings, EmbeddingSettings
from two_tower.data import prepare, resolve_sources
from two_tower.errors import ConfigError, DataError

LABELS = {"run_id": "shop-20261126t010000", "step": "prepare_data", "commit": "0f6c1d"}


def small_log(folder: Path) -> Path:
    rows = ordinary_log(users=9, days=40)
    rows[7]["time"] = "soon"
    for n, name in enumerate(("b/a", "a", "c")):
        write_rows(folder / f"{name}.csv", rows[n::3] + rows[n : n + 1])
    return folder


def small_data(logs: str, **changes: Any) -> DataSettings:
    return settings(logs, log={"max_bad_share": 0.1}, **changes)


def plain(payload: bytes) -> bytes:
    """What Beam's pickler has packed."""
    packed = base64.b64decode(payload)
    return bz2.decompress(packed) if packed.startswith(b"BZh") else zlib.decompress(packed)


def carried(job: Job) -> bytes:
    """All that a job's pipeline carries to its workers, unpacked."""
    pipeline = beam_runner_api_pb2.Pipeline.FromString((job.folder / "pipeline.pb").read_bytes())
    found = [pipeline.SerializeToString()]
    for transform in pipeline.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            work = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            found.append(plain(work.do_fn.payload))
    return b"\n".join(found)


@pytest.mark.usefixtures("a_run")
@pytest.mark.slow
def test_prepare_gives_the_same_bytes_though_bundles_are_repeated(cloud: Cloud, tmp_path: Path) -> None:
    data = small_data(put(cloud, small_log(tmp_path / "logs"), "logs"))
    sources = resolve_sources(data, dataset="shop")
    prepare(sources, out=tmp_path / "here", data=data, beam=BeamSettings(workers=1))
    cloud.dataflow.worker_options["direct_runner_bundle_repeat"] = 1
    prepare(sources, out=tmp_path / "launcher" / "out", data=data, beam=on_dataflow(cloud, labels={"team": "search"}))
    assert contents(tmp_path / "launcher" / "out") == contents(tmp_path / "here")
    jobs = list(cloud.dataflow.jobs.values())
    start = "two-tower-prepare-data-shop-20261126t010000"
    assert [job.message.name for job in jobs] == [f"{start}-read", f"{start}-encode"]
    for job in jobs:
        assert (job.state.name, job.labels) == ("JOB_STATE_DONE", {"team": "search", **LABELS})
        assert str(tmp_path).encode() not in carried(job)
    assert names(cloud, "work") == []


@pytest.mark.slow
def test_prepare_goes_on_from_earlier_data(cloud: Cloud, tmp_path: Path) -> None:
    rows = ordinary_log(users=9, days=40)
    write_rows(tmp_path / "logs" / "a.csv", rows[::2])
    data = small_data(put(cloud, tmp_path / "logs", "logs"), incremental=True)
    prepare(
        resolve_sources(data, dataset="x"), out=tmp_path / "launcher" / "first", data=data, beam=BeamSettings(workers=1)
    )
    write_rows(tmp_path / "more" / "b.csv", rows[1::2])
    put(cloud, tmp_path / "more", "logs")
    sources = resolve_sources(data, dataset="x")
    prepare(sources, out=tmp_path / "here", data=data, beam=BeamSettings(workers=1))
    out = tmp_path / "launcher" / "out"
    prepare(sources, out=out, data=data, beam=on_dataflow(cloud), previous=tmp_path / "launcher" / "first")
    assert contents(out) == contents(tmp_path / "here")
    assert names(cloud, "work") == []


def test_logs_on_this_machine_are_refused(cloud: Cloud, tmp_path: Path) -> None:
    data = settings(write_rows(tmp_path / "log.csv", ordinary_log()))
    with pytest.raises(DataError, match=r"log\.csv lies on this machine, where the workers of DataflowRunner cannot"):
        prepare(resolve_sources(data, dataset="x"), out=tmp_path / "out", data=data, beam=on_dataflow(cloud))
    assert not cloud.dataflow.jobs and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_bad_log_is_the_same_error(cloud: Cloud, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "logs" / "log.csv", ordinary_log())
    path.write_bytes(path.read_bytes().replace(b"i5", b"\xe9"))
    data = small_data(put(cloud, tmp_path / "logs", "logs"))
    with pytest.raises(DataError, match=r"gs://shop-bucket/logs/log\.csv: not UTF-8"):
        prepare(
            resolve_sources(data, dataset="x"), out=tmp_path / "launcher" / "out", data=data, beam=on_dataflow(cloud)
        )
    assert names(cloud, "work") == [] and not (tmp_path / "launcher" / "out").exists()


def test_wrong_options_start_nothing(cloud: Cloud, tmp_path: Path) -> None:
    data = small_data(put(cloud, small_log(tmp_path / "logs"), "logs"))
    sources = resolve_sources(data, dataset="x")
    with pytest.raises(ConfigError, match=r"(?s)max_num_worker.*did you mean 'max_num_workers'"):
        prepare(sources, out=tmp_path / "out", data=data, beam=on_dataflow(cloud, max_num_worker=3))
    assert not cloud.dataflow.jobs and names(cloud, "temp") == names(cloud, "work") == []


@pytest.mark.slow
@pytest.mark.usefixtures("a_run")
def test_a_job_that_fails_says_why_and_where(cloud: Cloud, tmp_path: Path) -> None:
    data = small_data(put(cloud, small_log(tmp_path / "logs"), "logs"))
    sources = resolve_sources(data, dataset="x")

    def lose_what_it_needs(job: Job) -> None:
        if job.message.name.endswith("encode"):
            for name in names(cloud, "work"):
                if name.endswith("/items.arrow"):
                    bucket(cloud).blob(name).delete()

    cloud.dataflow.before_run = lose_what_it_needs
    with pytest.raises(JobError) as failed:
        prepare(sources, out=tmp_path / "launcher" / "out", data=data, beam=on_dataflow(cloud))
    read, encode = cloud.dataflow.jobs.values()
    assert read.state.name == "JOB_STATE_DONE"
    lines = str(failed.value).splitlines()
    assert lines[0] == (
        f"the Dataflow job {encode.message.id} failed; see https://console.cloud.google.com/dataflow/jobs/europe-west4/"
        f"{encode.message.id}?project=shop-project"
    )
    assert "FileNotFoundError" in str(failed.value) and "items.arrow" in str(failed.value)
    assert lines[-1].startswith("Workflow failed. Causes: S01 failed.")
    assert not (tmp_path / "launcher" / "out").exists() and names(cloud, "work") == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data and a candidate tower."""
    from tiny_towers import write_tiny

    from two_tower.model import export_candidate_tower, train

    folder = tmp_path_factory.mktemp("towers")
    write_tiny(folder / "prepared")
    training = plain_training(loss={"type": "in_batch"}, epochs=1, batch_size=64, seed=42)
    train(str(folder / "prepared"), str(folder / "trained"), model=plain_model(dim=4), training=training)
    export_candidate_tower(str(folder / "trained"), str(folder / "tower"))
    return folder


@pytest.mark.slow
def test_embed_gives_the_same_bytes_though_bundles_are_repeated(
    cloud: Cloud, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from two_tower.embedding import candidates, embed_candidates

    monkeypatch.setattr(candidates, "ROWS_PER_SHARD", 25)
    launcher = tmp_path / "launcher"
    shutil.copytree(made / "tower", launcher / "tower")
    shutil.copytree(made / "prepared", launcher / "prepared")

    def embedded(out: Path, beam: BeamSettings, previous: Path | None = None) -> None:
        given = EmbeddingSettings(batch_size=16, previous=str(previous) if previous else None)
        embed_candidates(str(launcher / "tower"), str(launcher / "prepared"), str(out), embedding=given, beam=beam)

    embedded(tmp_path / "here", BeamSettings(workers=1))
    cloud.dataflow.worker_options["direct_runner_bundle_repeat"] = 1
    embedded(launcher / "out", on_dataflow(cloud))
    assert contents(launcher / "out") == contents(tmp_path / "here")
    assert content_hash(launcher / "out") == content_hash(tmp_path / "here")
    assert len(list((launcher / "out").glob("part-*.parquet"))) == 3
    del cloud.dataflow.worker_options["direct_runner_bundle_repeat"]
    embedded(launcher / "again", on_dataflow(cloud), previous=launcher / "out")
    parts = [pq.read_table(path) for path in sorted((launcher / "again").glob("*.parquet"))]
    assert parts == [pq.read_table(path) for path in sorted((launcher / "out").glob("*.parquet"))]
    rows = open_artifact(launcher / "again", "candidate_embeddings").manifest.rows
    assert rows == {"candidates": rows["candidates"], "reused": rows["candidates"]}
    for job in cloud.dataflow.jobs.values():
        code = str(ROOT).encode()  # a function remembers its file, which may lie anywhere
        assert str(tmp_path).encode() not in carried(job) and b"/tmp/" not in carried(job).replace(code, b"")
    assert names(cloud, "work") == []
