"""Vertex AI's PipelineService: jobs that are really run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.services.pipeline_service.transports.rest_base import _BasePipelineServiceRestTransport
from google.cloud.aiplatform_v1.types import ListPipelineJobsResponse, PipelineJob, PipelineState
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, field_mask_pb2, json_format
from google.protobuf.message import Message
from kfp import dsl

from cloud import filters, strict
from cloud.errors import CODE, Refused, invalid, not_found
from cloud.executions import Execution, now
from cloud.http import Route
from cloud.job_detail import detail_of
from cloud.rest import service_routes
from cloud.spec import read_parameters, read_spec

if TYPE_CHECKING:
    from cloud.state import Cloud

ACT_AS = "iam.serviceAccounts.actAs"
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
NETWORK = re.compile(r"projects/(\d+)/global/networks/[a-z]([-a-z0-9]*[a-z0-9])?")
ROOT = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(/.*)?")
LAST = datetime.max.replace(tzinfo=UTC)
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
FIELDS = (
    "pipeline_name", "display_name", "state", "create_time", "update_time", "end_time", "labels", "template_uri",
    "template_metadata.version", "schedule_name", "pipeline_job_user_id",
)  # fmt: skip


@dataclass
class Job:
    """A pipeline job: its resource as it was sent, and its run."""

    id: str
    resource: Message
    """`PipelineJob` as protobuf, without what changes with time."""
    execution: Execution
    schedule: str = ""

    @property
    def name(self) -> str:
        """The full resource name."""
        return self.resource.name

    @property
    def state(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED."""
        return self.execution.state

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What the runner recorded, by task name; of tasks with the same name the last."""
        return {task["name"]: task for task in self.execution.tasks()}

    def log(self, task: str) -> str:
        """What a step wrote."""
        return self.execution.log(task)

    def wait(self, timeout: float = 300) -> Job:
        """Waits for the end of the run."""
        self.execution.join(timeout)
        assert self.state in ENDED, f"{self.id} is {self.state} after {timeout} s"
        return self

    def view(self) -> Message:
        """The resource as it stands."""
        run = self.execution
        shown = PipelineJob.pb(PipelineJob())
        shown.CopyFrom(self.resource)
        state = run.state
        shown.state = PipelineState[f"PIPELINE_STATE_{state}"].value
        shown.update_time.FromDatetime(run.ended or now())
        for field, time in (("start_time", run.started), ("end_time", run.ended)):
            if time:
                getattr(shown, field).FromDatetime(time)
        if run.error:
            shown.error.code, shown.error.message = CODE[run.error[0]], run.error[1]
        store = f"{'/'.join(self.name.split('/')[:4])}/metadataStores/default"
        detail = detail_of(self.id, run.tasks(), store=store, state=state, created=run.created.timestamp())
        json_format.ParseDict(detail, shown.job_detail)
        return shown

    def facts(self) -> dict[str, Any]:
        """What lists are filtered and ordered by."""
        run = self.execution
        return {
            "pipeline_name": self.resource.pipeline_spec["pipelineInfo"]["name"],
            "display_name": self.resource.display_name,
            "state": f"PIPELINE_STATE_{run.state}",
            "create_time": run.created,
            "start_time": run.started,
            "update_time": run.ended or run.created,
            "end_time": run.ended,
            "labels": dict(self.resource.labels),
            "template_uri": self.resource.template_uri,
            "schedule_name": self.schedule,
        }


class Pipelines:
    """All pipeline jobs of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.jobs: dict[str, Job] = {}

    def routes(self) -> list[Route]:
        """PipelineService as its client's REST table has it."""
        handlers = {
            "CreatePipelineJob": self._create,
            "GetPipelineJob": self._get,
            "ListPipelineJobs": self._list,
            "CancelPipelineJob": self._cancel,
            "DeletePipelineJob": self._delete,
        }
        return service_routes("PipelineService", _BasePipelineServiceRestTransport, handlers)

    def _create(self, request: Any) -> Message:
        self.check(request)
        return self.start(request).view()

    def check(self, request: Any) -> None:
        """Refuses a `CreatePipelineJobRequest` that the service would not take."""
        strict.check(request)
        self.cloud.check_parent(request.parent)
        job = request.pipeline_job
        if job.template_uri:
            raise Refused("UNIMPLEMENTED", "template_uri is not part of this stand-in; send pipeline_spec")
        if request.pipeline_job_id and not JOB_ID.fullmatch(request.pipeline_job_id):
            raise invalid(f"pipeline_job_id {request.pipeline_job_id!r} must match {JOB_ID.pattern}.")
        strict.check_display_name(job.display_name)
        strict.check_labels(job.labels)
        strict.check_service_account(job.service_account)
        if job.service_account and ACT_AS in self.cloud.denied:
            raise Refused(
                "PERMISSION_DENIED", f"You do not have permission to act as {job.service_account} ({ACT_AS})."
            )
        network = NETWORK.fullmatch(job.network)
        if job.network and (not network or network[1] != self.cloud.project_number):
            raise invalid(f"network {job.network!r} must be projects/{self.cloud.project_number}/global/networks/NAME.")
        root = ROOT.fullmatch(job.runtime_config.gcs_output_directory)
        if not root:
            raise invalid(
                f"gcs_output_directory {job.runtime_config.gcs_output_directory!r} must be gs://BUCKET/FOLDER."
            )
        if not (self.cloud.buckets / root[1]).is_dir():
            raise Refused("FAILED_PRECONDITION", f"The bucket {root[1]} does not exist or cannot be read.")
        if job.runtime_config.parameters:
            raise invalid("runtime_config.parameters is deprecated for schema 2.1.0; send parameter_values.")
        read_parameters(read_spec(_plain(job.pipeline_spec)), job.runtime_config.parameter_values)

    def start(self, request: Any, *, schedule: str = "", at: datetime | None = None) -> Job:
        """A new job of a checked request; `at` is the time that a schedule meant."""
        spec = read_spec(_plain(request.pipeline_job.pipeline_spec))
        job_id = request.pipeline_job_id or f"{spec.pipeline_info.name}-{now():%Y%m%d%H%M%S%f}"
        if job_id in self.jobs:
            raise Refused("ALREADY_EXISTS", f"Pipeline job with ID {job_id} already exists.")
        resource = PipelineJob.pb(PipelineJob())
        resource.CopyFrom(request.pipeline_job)
        resource.name = f"{self.cloud.parent}/pipelineJobs/{job_id}"
        resource.display_name = resource.display_name or job_id
        resource.schedule_name = schedule
        execution = self._execution(job_id, resource, spec, at)
        resource.create_time.FromDatetime(execution.created)
        job = self.jobs[job_id] = Job(job_id, resource, execution, schedule)
        if self.cloud.run_jobs:
            execution.start()
        return job

    def _execution(self, job_id: str, resource: Any, spec: Any, at: datetime | None) -> Execution:
        cloud, config = self.cloud, resource.runtime_config
        placeholders = {
            dsl.PIPELINE_JOB_NAME_PLACEHOLDER: job_id,
            dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER: resource.name,
            dsl.PIPELINE_JOB_ID_PLACEHOLDER: str(abs(hash(job_id)) % 10**18),
            dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER: f"{now():%Y-%m-%dT%H:%M:%SZ}",
        }
        if at:
            placeholders[dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER] = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return cloud.execution(
            job_id,
            spec=_plain(resource.pipeline_spec),
            arguments=read_parameters(spec, config.parameter_values),
            artifact_root=config.gcs_output_directory.rstrip("/"),
            artifact_folder=f"{cloud.project_number}/{job_id}/{{name}}_{{number}}",
            placeholders=placeholders,
            step_environment={
                "VERTEX_AI_PIPELINES_RUN_LABELS": json.dumps(dict(resource.labels)),
                "CLOUD_ML_PROJECT_ID": cloud.project_number,
                "CLOUD_ML_REGION": cloud.region,
            },
        )

    def find(self, name: str) -> Job:
        """The job of a full resource name."""
        self.cloud.check_parent(name)
        job = self.jobs.get(name.split("/")[-1])
        if job is None:
            raise not_found(f"The PipelineJob {name} does not exist.")
        return job

    def _get(self, request: Any) -> Message:
        return self.find(request.name).view()

    def _list(self, request: Any) -> Message:
        self.cloud.check_parent(request.parent)
        matches = filters.parse_filter(request.filter, fields=FIELDS)
        found = [job for job in self.jobs.values() if matches(job.facts())]
        found = filters.ordered(found, request.order_by, key=lambda job, field: job.facts()[field] or LAST)
        found, token = filters.page(found, request.page_size, request.page_token)
        answer = ListPipelineJobsResponse.pb(ListPipelineJobsResponse())
        answer.next_page_token = token
        for job in found:
            answer.pipeline_jobs.append(_listed(job.view(), request.read_mask))
        return answer

    def _cancel(self, request: Any) -> Message:
        job = self.find(request.name)
        if job.state in ENDED:
            raise Refused("FAILED_PRECONDITION", f"The PipelineJob {request.name} is in state {job.state}.")
        job.execution.cancel()
        return empty_pb2.Empty()

    def _delete(self, request: Any) -> operations_pb2.Operation:
        job = self.find(request.name)
        if job.state not in ENDED:
            raise Refused("FAILED_PRECONDITION", f"The PipelineJob {request.name} is in state {job.state}; cancel it.")

        def work() -> Message:
            del self.jobs[job.id]
            return empty_pb2.Empty()

        return self.cloud.start_operation(work)


def _plain(struct: Any) -> dict[str, Any]:
    return json_format.MessageToDict(struct)


def _listed(job: Message, mask: field_mask_pb2.FieldMask) -> Message:
    """A job as lists show it: without its tasks, and only what the mask asks for."""
    del job.job_detail.task_details[:]
    if not mask.paths:
        return job
    shown = type(job)()
    spec = any(path.startswith("pipeline_spec") for path in mask.paths)
    plain = [path for path in mask.paths if not path.startswith("pipeline_spec")]
    field_mask_pb2.FieldMask(paths=plain).MergeMessage(job, shown)
    if spec:
        shown.pipeline_spec["pipelineInfo"] = _plain(job.pipeline_spec["pipelineInfo"])
    return shown
