"""The `beam` section and the bucket of the stand-in for Google Cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloud import Cloud

from two_tower.config import BeamSettings


def on_dataflow(cloud: Cloud, **options: Any) -> BeamSettings:
    """The `beam` section for a cloud's Dataflow."""
    given = {
        "project": cloud.project,
        "region": cloud.region,
        "temp_location": f"gs://{cloud.bucket}/temp",
        "service_account_email": f"pipelines@{cloud.project}.iam.gserviceaccount.com",
        "sdk_container_image": f"{cloud.image_repository}/prep@sha256:{'0' * 64}",
        "dataflow_endpoint": cloud.url.replace("127.0.0.1", "localhost"),
    }
    return BeamSettings(runner="DataflowRunner", work=f"gs://{cloud.bucket}/work", options=given | options)


def bucket(cloud: Cloud) -> Any:
    """The cloud's bucket, with a client of its own."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    options = {"api_endpoint": cloud.storage_url}
    client = storage.Client(project=cloud.project, credentials=AnonymousCredentials(), client_options=options)
    return client.bucket(cloud.bucket)


def put(cloud: Cloud, source: Path, folder: str) -> str:
    """Uploads the files of a local folder; the URL of where they lie."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            bucket(cloud).blob(f"{folder}/{path.relative_to(source).as_posix()}").upload_from_filename(str(path))
    return f"gs://{cloud.bucket}/{folder}"


def names(cloud: Cloud, prefix: str = "") -> list[str]:
    """What lies in the bucket."""
    return [blob.name for blob in bucket(cloud).list_blobs(prefix=prefix)]
