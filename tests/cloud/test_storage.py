"""Cloud Storage by the clients that the project uses."""

import os
import subprocess
import sys

import pytest
from google.api_core import exceptions
from google.cloud import storage


@pytest.fixture
def bucket(still_cloud):
    """The cloud's bucket."""
    return storage.Client().bucket(still_cloud.bucket)


def test_objects_come_and_go(still_cloud, bucket):
    blob = bucket.blob("a/b c.txt")
    blob.upload_from_string("hello")
    assert bucket.blob("a/b c.txt").download_as_bytes(start=1, end=2) == b"el"
    assert (still_cloud.buckets / "shop-bucket/a/b c.txt").read_text() == "hello"
    assert [found.name for found in bucket.client.list_blobs(bucket, prefix="a/")] == ["a/b c.txt"]
    bucket.copy_blob(blob, bucket, "copy.txt")
    with bucket.client.batch():
        bucket.blob("copy.txt").delete()
    blob.delete()
    assert not list(bucket.client.list_blobs(bucket))
    assert [call.resource for call in still_cloud.called("storage.objects.insert")] == ["gs://shop-bucket/a/b c.txt"]


def test_buckets_say_whose_they_are(still_cloud, bucket):
    assert bucket.exists()
    assert not storage.Client().bucket("nobodys").exists()
    bucket.reload()
    assert (str(bucket.project_number), bucket.location) == (still_cloud.project_number, "EUROPE-WEST4")
    with pytest.raises(exceptions.NotFound):
        storage.Client().bucket("nobodys").test_iam_permissions(["storage.objects.get"])


def test_preconditions_hold_for_every_call(bucket, tmp_path):
    blob = bucket.blob("alias")
    blob.upload_from_string("one", if_generation_match=0)
    old = blob.generation
    blob.upload_from_string("two", if_generation_match=old)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 600_000)
    piecewise = bucket.blob("alias", chunk_size=256 * 1024)  # several requests
    stale = {"if_generation_match": old}
    for call in (
        lambda: bucket.blob("alias").upload_from_string("three", **stale),
        lambda: piecewise.upload_from_filename(large, **stale),
        lambda: piecewise.upload_from_filename(large, if_generation_match=0),
        lambda: bucket.blob("alias").delete(**stale),
        lambda: bucket.blob("alias").download_as_bytes(**stale),
        lambda: bucket.blob("alias").reload(**stale),
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            call()
    piecewise.upload_from_filename(large, if_generation_match=blob.generation)
    assert bucket.get_blob("alias").size == 600_000


def test_files_can_be_put_there(still_cloud, bucket, tmp_path):
    (tmp_path / "data/day").mkdir(parents=True)
    (tmp_path / "data/day/log.txt").write_text("log")
    still_cloud.put(tmp_path / "data", "gs://shop-bucket/data")
    still_cloud.put(tmp_path / "data/day/log.txt", "gs://shop-bucket/one.txt")
    assert [found.name for found in bucket.client.list_blobs(bucket)] == ["data/day/log.txt", "one.txt"]
    assert bucket.blob("data/day/log.txt").download_as_text() == "log"
    assert not still_cloud.called("storage.objects.insert")


def test_gcsfs_and_pyarrow(still_cloud):
    import gcsfs
    import pyarrow as pa
    import pyarrow.fs as pf
    import pyarrow.parquet as pq

    files = gcsfs.GCSFileSystem(project="shop-project", skip_instance_cache=True)
    with files.open("shop-bucket/g/one.txt", "wb") as file:
        file.write(b"1" * 1000)
    files.mv("shop-bucket/g/one.txt", "shop-bucket/g/two.txt")
    assert files.ls("shop-bucket/g", refresh=True) == ["shop-bucket/g/two.txt"]
    files.rm("shop-bucket/g", recursive=True)
    assert not files.exists("shop-bucket/g/two.txt")

    host = still_cloud.storage_url.removeprefix("http://")
    arrow = pf.GcsFileSystem(anonymous=True, endpoint_override=host, scheme="http")
    pq.write_table(pa.table({"a": [1, 2, 3]}), "shop-bucket/p/x.parquet", filesystem=arrow)
    assert pq.read_table("shop-bucket/p/x.parquet", filesystem=arrow).num_rows == 3


def test_pyarrow_finds_the_bucket_by_itself(still_cloud):
    code = "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'a': [1]}), 'gs://shop-bucket/y.parquet')"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **still_cloud.environment}, check=True, timeout=60)
    assert (still_cloud.buckets / "shop-bucket/y.parquet").exists()
