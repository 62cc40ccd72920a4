"""A stand-in for Google Cloud that the real clients talk to over HTTP.

    with running_cloud(tmp_path) as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(
            resource_manager_utils, "get_project_number", lambda project_id, credentials=None: cloud.project_number
        )
        aiplatform.init(project=cloud.project, location=cloud.region, api_endpoint=cloud.url, api_transport="rest")
        job = aiplatform.PipelineJob("try", "pipeline.yaml", "night-1", f"gs://{cloud.bucket}/pipelines")
        job.submit()
        cloud.jobs["night-1"].wait()  # or job.wait(), which looks every five seconds
        print(job.task_details, cloud.jobs["night-1"].log("train-towers"), cloud.called("storage.objects.insert"))

What must be set in the client: the end point (with `http://`), the transport `rest`, a real region, and the
variables of `cloud.environment` (before the first storage client is made).  What must be patched: the SDK's look-up
of the project's number, `google.cloud.aiplatform.utils.resource_manager_utils.get_project_number`, which
`PipelineJob.submit` calls (to see whether the bucket is the project's) over gRPC at cloudresourcemanager.googleapis.com
and which cannot be sent elsewhere; unpatched it waits for up to two minutes.  And google-auth asks
iamcredentials.googleapis.com, on a thread of its own, in which regions a service account may be used; nothing waits
for it, and `CredentialsWithRegionalAccessBoundary._is_regional_access_boundary_lookup_required` turns it off.

What is left out: templates (`template_uri`), batch calls for jobs, metadata stores, reruns, `failurePolicy` (kfp.local
goes on as it does), an exit handler after a cancellation, and whether images exist when a job is run.  A schedule's
time moves only by `cloud.fire`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.faults import Fault
from cloud.http import listening
from cloud.state import Call, Cloud
from cloud.storage import fake_gcs

__all__ = ["Call", "Cloud", "Fault", "running_cloud"]


@contextmanager
def running_cloud(
    folder: Path,
    *,
    project: str = "shop-project",
    project_number: str = "123456789012",
    region: str = "europe-west4",
    bucket: str = "shop-bucket",
    image_repository: str = "europe-west4-docker.pkg.dev/shop-project/two-tower",
    run_jobs: bool = True,
) -> Iterator[Cloud]:
    """A cloud at work below `folder`, with one project and one bucket; what still runs at the end is killed.

    Without `run_jobs` jobs stay PENDING until `job.execution.settle("SUCCEEDED")` or another end.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with listening() as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with fake_gcs(folder / "buckets", url=url, region=region) as port:
            cloud = Cloud(folder, url, project, project_number, region, bucket, image_repository, run_jobs, port)
            server.answer = cloud.answer  # type: ignore[attr-defined]
            try:
                yield cloud
            finally:
                cloud.close()
