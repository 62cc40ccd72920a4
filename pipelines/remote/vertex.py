"""Vertex AI Pipelines, through the REST interface of `google-cloud-aiplatform`'s clients."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.remote.google import credentials, patiently
from pipelines.remote.runs import RemoteRun, State
from pipelines.remote.submission import TOOL, Submission
from pipelines.runs import choose_run
from two_tower.config import VertexSettings
from two_tower.errors import UserError

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineServiceClient
    from google.cloud.aiplatform_v1.types import PipelineJob, PipelineTaskDetail

STATES: dict[str, State] = {
    "PIPELINE_STATE_QUEUED": "waiting",
    "PIPELINE_STATE_PENDING": "waiting",
    "PIPELINE_STATE_RUNNING": "running",
    "PIPELINE_STATE_CANCELLING": "running",
    "PIPELINE_STATE_PAUSED": "waiting",
    "PIPELINE_STATE_SUCCEEDED": "finished",
    "PIPELINE_STATE_FAILED": "failed",
    "PIPELINE_STATE_CANCELLED": "cancelled",
}
STEP_STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "ran",
    "CANCEL_PENDING": "running",
    "CANCELLING": "running",
    "CANCELLED": "failed",
    "FAILED": "failed",
    "SKIPPED": "cached",
    "NOT_TRIGGERED": "skipped",
}
RECENT = 100
"""Among so many of the newest runs one is looked for by the beginning of its id."""


class VertexBackend:
    """The runs of one project and region."""

    def __init__(self, settings: VertexSettings) -> None:
        self.settings = settings
        self.parent = f"projects/{settings.project}/locations/{settings.region}"

    @property
    def address(self) -> str:
        """Where the service answers."""
        return self.settings.endpoints.get("vertex", f"https://{self.settings.region}-aiplatform.googleapis.com")

    @cached_property
    def _jobs(self) -> PipelineServiceClient:
        from google.cloud.aiplatform_v1 import PipelineServiceClient

        options = {"api_endpoint": self.address}
        return PipelineServiceClient(credentials=credentials(), transport="rest", client_options=options)

    def submit(self, submission: Submission) -> RemoteRun:
        """Starts a run; one that is there already under this id is given back as it is.

        Raises:
            UserError: The service refuses it.
        """
        return self._create(self.job_of(submission), submission.run_id)

    def job_of(self, submission: Submission) -> PipelineJob:
        """What the service is sent for a run."""
        from google.cloud.aiplatform_v1.types import EncryptionSpec, PipelineJob
        from google.protobuf import json_format, struct_pb2

        spec = struct_pb2.Struct()
        json_format.ParseDict(submission.pipeline, spec)
        key = self.settings.encryption_key
        return PipelineJob(
            display_name=submission.run_id,
            pipeline_spec=spec,
            labels=submission.labels,
            runtime_config=PipelineJob.RuntimeConfig(
                gcs_output_directory=submission.root, parameter_values=submission.parameters
            ),
            service_account=self.settings.service_account,
            network=self.settings.network or "",
            encryption_spec=EncryptionSpec(kms_key_name=key) if key else None,
        )

    def resume(self, run_id: str, *, new_id: str) -> RemoteRun:
        """Starts a failed run anew, with what it was sent; its finished steps are answered from the cache.

        Raises:
            UserError: It has not failed, or its steps were not cached.
        """
        from google.cloud.aiplatform_v1.types import PipelineJob

        found = self.find(run_id)
        if found.state not in ("failed", "cancelled"):
            raise UserError(f"run {found.run_id} is {found.state}; only one that failed or was cancelled is resumed")
        job = self._get(found.run_id)
        if not _caches(job):
            raise UserError(f"run {found.run_id} was submitted with --no-cache, so none of its steps can be used again")
        again = PipelineJob(
            display_name=new_id,
            pipeline_spec=job.pipeline_spec,
            labels={**job.labels, "resumes": found.run_id[:63]},
            runtime_config=PipelineJob.RuntimeConfig(
                gcs_output_directory=job.runtime_config.gcs_output_directory,
                parameter_values=job.runtime_config.parameter_values,
            ),
            service_account=job.service_account,
            network=job.network,
            encryption_spec=job.encryption_spec if job.encryption_spec.kms_key_name else None,
        )
        return self._create(again, new_id)

    def find(self, run_id: str) -> RemoteRun:
        """The run with this id, the only one whose id starts so, or the newest for `latest`.

        Raises:
            UserError: There is none, or more than one.
        """
        from google.api_core.exceptions import NotFound

        if run_id != "latest":
            try:
                return self.described(self._get(run_id))
            except NotFound:
                pass
        found = choose_run(self.list_runs(None, most=RECENT), run_id)  # a list tells nothing of the steps
        return self.described(self._get(found.run_id))

    def list_runs(self, name: str | None, *, most: int) -> list[RemoteRun]:
        """The runs of a configuration, or of all, the newest first."""
        from google.cloud.aiplatform_v1.types import ListPipelineJobsRequest

        wanted = f"labels.tool={TOOL}" + (f" AND labels.pipeline={name}" if name else "")
        request = ListPipelineJobsRequest(
            parent=self.parent, filter=wanted, order_by="create_time desc", page_size=min(most, 100)
        )

        def first() -> list[RemoteRun]:
            found = []
            for job in self._jobs.list_pipeline_jobs(request):
                found.append(self.described(job))
                if len(found) == most:
                    break
            return found

        return patiently(first, f"listing the runs of {self.parent}")

    def cancel(self, run_id: str) -> None:
        """Asks for the end of a run."""
        patiently(lambda: self._jobs.cancel_pipeline_job(name=self._path(run_id)), f"cancelling the run {run_id}")

    def described(self, job: PipelineJob) -> RemoteRun:
        """A job of the service as a run."""
        run_id = job.name.rpartition("/")[2]
        run = RemoteRun(
            run_id=run_id,
            name=job.labels.get("pipeline", ""),
            state=STATES.get(job.state.name, "waiting"),
            link=self.link(run_id),
            started=moment_of(job.create_time),
            ended=moment_of(job.end_time),
            labels=dict(job.labels),
            registry=str(dict(job.runtime_config.parameter_values).get("registry", "")),
        )
        for task in job.job_detail.task_details:
            _note(run, task)
        if job.error.message:
            run.errors[""] = job.error.message
        return run

    def link(self, run_id: str) -> str:
        """The run's page in the console."""
        region, project = self.settings.region, self.settings.project
        return (
            f"https://console.cloud.google.com/vertex-ai/locations/{region}/pipelines/runs/{run_id}?project={project}"
        )

    def _create(self, job: PipelineJob, run_id: str) -> RemoteRun:
        from google.api_core.exceptions import Conflict

        def create() -> PipelineJob:
            try:
                return self._jobs.create_pipeline_job(parent=self.parent, pipeline_job=job, pipeline_job_id=run_id)
            except Conflict:  # made before, perhaps by a try whose reply was lost
                return self._jobs.get_pipeline_job(name=self._path(run_id))

        return self.described(patiently(create, f"submitting the run {run_id}"))

    def _get(self, run_id: str) -> PipelineJob:
        return patiently(lambda: self._jobs.get_pipeline_job(name=self._path(run_id)), f"reading the run {run_id}")

    def _path(self, run_id: str) -> str:
        return f"{self.parent}/pipelineJobs/{run_id}"


def _note(run: RemoteRun, task: PipelineTaskDetail) -> None:
    """Adds what a task says to the record of its step."""
    step = run.step_of_task(task.task_name)
    if step is None:
        return
    step.state = STEP_STATES.get(task.state.name, "waiting")  # type: ignore[assignment]
    start, end = moment_of(task.start_time), moment_of(task.end_time)
    if start and end:
        step.seconds = (end - start).total_seconds()
    step.outputs = {
        key: artifacts.artifacts[0].uri for key, artifacts in dict(task.outputs).items() if artifacts.artifacts
    }
    if task.error.message:
        run.errors[step.name] = task.error.message


def _caches(job: PipelineJob) -> bool:
    """Whether any task of a job may be answered from the cache."""
    from google.protobuf import json_format

    spec = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
    return '"enableCache": true' in json.dumps(spec)


def moment_of(value: Any) -> datetime | None:
    """A time of the service; None where it has none."""
    return value if value and value.timestamp() > 0 else None
