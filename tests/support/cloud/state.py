"""The state of the stand-in: what was called, what is stored, what is running, and which faults are still to come."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from cloud import dataflow, images, project, strict
from cloud.credentials import Credentials
from cloud.errors import Refused, not_found
from cloud.executions import Execution
from cloud.faults import Fault, Orders
from cloud.http import Reply, Request, Route, route
from cloud.kubeflow import Kubeflow
from cloud.operations import Operations
from cloud.permissions import PERMISSION_OF
from cloud.pipelines import Job, Pipelines
from cloud.schedules import Entry, Schedules
from cloud.storage import Storage

SERVICES = (
    "aiplatform", "artifactregistry", "cloudbuild", "cloudresourcemanager", "compute", "dataflow", "iam",
    "serviceusage", "storage",
)  # fmt: skip


@dataclass
class Call:
    """One recorded call."""

    method: str
    name: str
    """Short and stable, for example `PipelineService.CreatePipelineJob` or `storage.objects.insert`."""
    path: str
    resource: str
    """What it is about: a resource name, `gs://bucket/object`, or the path."""
    body: Any = None
    """The parsed body of a JSON request."""
    status: int = 0
    """The reply's HTTP status; 0 while it is being answered, -1 where the reply was lost."""


@dataclass
class Cloud:
    """A project of Google Cloud, on this machine."""

    folder: Path
    url: str
    project: str
    project_number: str
    region: str
    bucket: str
    image_repository: str
    run_jobs: bool
    storage_port: int
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    """Permissions that are withheld: what asks for them says no, and so do the calls that need them."""
    services: set[str] = field(default_factory=lambda: set(SERVICES))
    """The services that are enabled in the project."""
    accounts: set[str] = field(default_factory=set)
    """The e-mail addresses of the project's service accounts; one is there from the start."""
    executions: list[Execution] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._orders = Orders()
        self._answering = threading.local()
        self.buckets.mkdir(parents=True, exist_ok=True)
        (self.buckets / self.bucket).mkdir(exist_ok=True)
        self.credentials = Credentials(self.folder / "key.json", project=self.project, url=self.url)
        self.accounts.add(f"pipelines@{self.project}.iam.gserviceaccount.com")
        self.operations = Operations(self.parent)
        self.pipelines = Pipelines(self)
        self.scheduling = Schedules(self)
        self.storage = Storage(self, self.storage_port)
        self.kubeflow = Kubeflow(self)
        self.images = images.Images(self.image_repository)
        self.routes = self._routes()

    def _routes(self) -> list[Route]:
        token = route("POST", "/token", "oauth2.token", self.credentials.give_token, public=True)
        return [
            token,
            *self.pipelines.routes(),
            *self.scheduling.routes(),
            *self.operations.routes(),
            *self.storage.routes(),
            *project.routes(self),
            *self.images.routes(),
            *self.kubeflow.routes(),
            *dataflow.routes(self),
        ]

    @property
    def parent(self) -> str:
        """Where resources lie, by the project's number, as the service names them in answers."""
        return f"projects/{self.project_number}/locations/{self.region}"

    @property
    def buckets(self) -> Path:
        """The folder in which the buckets are folders: to look at; use `put` to add objects."""
        return self.folder / "buckets"

    @property
    def storage_url(self) -> str:
        """What STORAGE_EMULATOR_HOST is set to."""
        return self.url

    @property
    def environment(self) -> dict[str, str]:
        """Variables for processes that work with this cloud."""
        return {
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": self.storage_url,  # what pyarrow looks at
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials.file),
            "GOOGLE_CLOUD_PROJECT": self.project,
            "NO_GCE_CHECK": "true",
        }

    @property
    def jobs(self) -> dict[str, Job]:
        """The pipeline jobs by id."""
        return self.pipelines.jobs

    @property
    def schedules(self) -> dict[str, Entry]:
        """The schedules by id."""
        return self.scheduling.entries

    def fire(self, schedule: str, at: datetime | None = None) -> Job | None:
        """Moves a schedule's clock; see `Schedules.fire`."""
        return self.scheduling.fire(schedule, at)

    def put(self, source: Path, uri: str) -> None:
        """Puts a file or a folder into a bucket; see `Storage.put`."""
        self.storage.put(source, uri)

    def check_parent(self, name: str) -> None:
        """Refuses a resource name outside this project and region."""
        strict.check_parent(name, projects=(self.project, self.project_number), region=self.region)

    def answer(self, request: Request) -> Reply | None:
        """The reply to a request, or None where it is lost on the way back."""
        found = self._find(request)
        name = found.name if found else "unknown"
        resource = found.resource(request) if found else request.path
        call = Call(request.method, name, request.path, resource, _body(request))
        self.calls.append(call)
        fault = self._orders.hit(self.faults, f"{name} {resource}")
        reply = self._reply(request, found, fault)
        call.status = reply.status
        if fault and fault.kind == "lost_reply":
            call.status = -1
            return None
        return reply

    def _find(self, request: Request) -> Route | None:
        for candidate in self.routes:
            if candidate.method == request.method and (match := candidate.pattern.fullmatch(request.path)):
                request.groups = {key: unquote(value or "") for key, value in match.groupdict().items()}
                return candidate
        return None

    def _reply(self, request: Request, found: Route | None, fault: Fault | None) -> Reply:
        try:
            if found is None:
                raise not_found(f"The requested URL {request.method} {request.path} was not found on this server.")
            if fault and (refusal := fault.refusal()):
                raise refusal
            if not found.public:
                self.credentials.check(request)
            needed = PERMISSION_OF.get(found.name)
            if needed in self.denied:
                raise Refused("PERMISSION_DENIED", f"Permission '{needed}' denied on resource '{request.path}'.")
            self._answering.fault = fault
            return found.handler(request)
        except Refused as error:
            return Reply(error.status, error.body())
        finally:
            self._answering.fault = None

    def _fails_halfway(self) -> bool:
        fault = getattr(self._answering, "fault", None)
        return fault is not None and fault.kind == "fails_halfway"

    def start_operation(self, work: Callable[[], Message]) -> operations_pb2.Operation:
        """A long-running operation; the fault that hits the present call decides whether it fails."""
        return self.operations.start(work, fails=self._fails_halfway())

    def execution(
        self,
        name: str,
        *,
        spec: Mapping[str, Any],
        arguments: Mapping[str, Any],
        artifact_root: str,
        artifact_folder: str,
        placeholders: Mapping[str, str],
        step_environment: Mapping[str, str],
    ) -> Execution:
        """A run of a spec, not started yet.

        Args:
            artifact_root: `gs://…` below which the artefacts go.
            artifact_folder: The folder there of a task, with `{name}` and `{number}` to be filled in.
        """
        job = {
            "name": name,
            "spec": spec,
            "arguments": arguments,
            "artifact_root": artifact_root,
            "artifact_folder": artifact_folder,
            "placeholders": placeholders,
            "step_environment": step_environment,
            "buckets": str(self.buckets),
            "cache": str(self.folder / "cache"),
            "fails_halfway": self._fails_halfway(),
        }
        taken = sum(made.folder.name.partition("~")[0] == name for made in self.executions)
        made = Execution(self.folder / "jobs" / (f"{name}~{taken}" if taken else name), job, self.environment)
        self.executions.append(made)
        return made

    def close(self) -> None:
        """Ends everything that runs."""
        for execution in self.executions:
            execution.when_done = lambda: None
            execution.cancel()
        for execution in self.executions:
            execution.join(10)

    def called(self, name: str) -> Collection[Call]:
        """The recorded calls of a name."""
        return [call for call in self.calls if call.name == name]


def _body(request: Request) -> Any:
    if "json" not in request.headers.get("content-type", "") or len(request.content) > 4_000_000:
        return None
    try:
        return json.loads(request.content) if request.content else None
    except ValueError:
        return None
