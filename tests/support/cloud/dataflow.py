"""Dataflow's `projects.locations.jobs`, as Beam's client calls it: strict, and the jobs are really run.

The workers are a process of their own, in a folder of their own; the launcher's folders can be moved aside while they
work.  Images are not pulled: the workers have this environment.  Beam's client talks to it over HTTP with the option
`dataflow_endpoint` set to `http://localhost:PORT` (`localhost`, or it takes gRPC).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.cloud import dataflow
from google.protobuf import json_format

from cloud.errors import Refused, invalid, not_found
from cloud.http import Request, Route, route
from cloud.strict import parse, show

if TYPE_CHECKING:
    from cloud.state import Cloud

State, Importance = dataflow.JobState, dataflow.JobMessageImportance
TERMINAL = (State.JOB_STATE_DONE, State.JOB_STATE_FAILED, State.JOB_STATE_CANCELLED)
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
LABEL_KEY, LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
SUBNETWORK = re.compile(r"(https://www\.googleapis\.com/compute/v1/projects/[^/]+/)?regions/[^/]+/subnetworks/[^/]+")
OUTPUT_ONLY = ("id", "project_id", "current_state", "current_state_time", "create_time", "start_time", "location")
WORKER = Path(__file__).with_name("dataflow_worker.py")
PLACE = "/v1b3/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/jobs"


def routes(cloud: Cloud) -> list[Route]:
    """The routes of Dataflow's jobs; their state is `cloud.dataflow`."""
    cloud.dataflow = jobs = Dataflow(cloud)  # type: ignore[attr-defined]
    calls = [
        ("POST", PLACE, "JobsV1Beta3.CreateJob", jobs.create),
        ("GET", PLACE, "JobsV1Beta3.ListJobs", jobs.list),
        ("GET", f"{PLACE}/(?P<job>[^/]+)", "JobsV1Beta3.GetJob", jobs.get),
        ("PUT", f"{PLACE}/(?P<job>[^/]+)", "JobsV1Beta3.UpdateJob", jobs.update),
        ("GET", f"{PLACE}/(?P<job>[^/]+)/messages", "MessagesV1Beta3.ListJobMessages", jobs.messages),
        ("GET", f"{PLACE}/(?P<job>[^/]+)/metrics", "MetricsV1Beta3.GetJobMetrics", jobs.metrics),
    ]
    return [route(method, pattern, name, handler) for method, pattern, name, handler in calls]


@dataclass
class Job:
    """A job as the service keeps it."""

    message: Any
    """The `google.dataflow.v1beta3.Job`."""
    folder: Path
    messages: list[Any] = field(default_factory=list)
    counters: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Any:
        return State(self.message.current_state)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.message.labels)

    @property
    def options(self) -> dict[str, Any]:
        """The pipeline options that were sent along."""
        return dict(json_format.MessageToDict(self.message.environment.sdk_pipeline_options)["options"])

    def move(self, state: Any) -> None:
        self.message.current_state = int(state)
        self.message.current_state_time.FromDatetime(datetime.now(UTC))

    def say(self, importance: Any, text: str) -> None:
        said = dataflow.JobMessage.pb(dataflow.JobMessage())
        said.id, said.message_text, said.message_importance = f"m{len(self.messages)}", text, int(importance)
        said.time.FromDatetime(datetime.now(UTC))
        self.messages.append(said)


class Dataflow:
    """The service in one region."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.jobs: dict[str, Job] = {}
        self.aside: list[Path] = []
        """Folders of the launcher that are out of the workers' sight while they work."""
        self.worker_options: dict[str, Any] = {"direct_num_workers": 2, "direct_running_mode": "multi_threading"}
        """Options of the in-process runner; `direct_runner_bundle_repeat` has every bundle processed again."""
        self.before_run: Callable[[Job], None] = lambda job: None
        self.hold = False
        """Whether jobs run for ever, doing nothing."""
        self.returns_the_active_job = False
        """Whether a second job of a name is answered with the first, as some of Beam's code expects, not refused."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def create(self, request: Request) -> dict[str, Any]:
        self._check_place(request, known=())
        message = parse(dataflow.Job, request.json())
        with self._lock:
            for job in self.jobs.values():
                if job.message.name == message.name and job.state not in TERMINAL:
                    if job.message.client_request_id == message.client_request_id or self.returns_the_active_job:
                        return show(job.message)
                    raise Refused(
                        "ALREADY_EXISTS",
                        f"(a1b2c3): The workflow could not be created. Causes: (d4e5f6): There is already an active "
                        f"job named {message.name}. If you want to submit a second job, try again by setting a "
                        "different name.",
                    )
            pipeline = self._check(message)
            number = next(self._numbers)
            message.id = f"2026-11-26_01_00_00-{number:010d}"
            message.project_id, message.location = self.cloud.project, self.cloud.region
            message.create_time.FromDatetime(datetime.now(UTC))
            job = Job(message, self.cloud.folder / "dataflow" / message.id)
            job.move(State.JOB_STATE_PENDING)
            job.folder.mkdir(parents=True)
            (job.folder / "pipeline.pb").write_bytes(pipeline)
            (job.folder / "options.json").write_text(json.dumps(self.worker_options))
            self.jobs[message.id] = job
        self.cloud.executions.append(_Work(self, job))  # type: ignore[arg-type]
        return show(message)

    def list(self, request: Request) -> dict[str, Any]:
        params = self._check_place(request, known=("filter", "view", "pageSize", "pageToken", "name"))
        wanted = int(params.get("filter", 0))
        found = []
        for job in reversed(list(self.jobs.values())):
            active = job.state not in TERMINAL
            if (
                (wanted == 3 and not active)
                or (wanted == 2 and active)
                or params.get("name", job.message.name) != (job.message.name)
            ):
                continue
            found.append(self._shown(job, whole=False))
        start, size = int(params.get("pageToken") or 0), int(params.get("pageSize") or 2)
        answer: dict[str, Any] = {"jobs": found[start : start + size]}
        if start + size < len(found):
            answer["nextPageToken"] = str(start + size)
        return answer

    def get(self, request: Request) -> dict[str, Any]:
        params = self._check_place(request, known=("view",))
        return self._shown(self._find(request), whole=int(params.get("view", 0)) >= 2)

    def update(self, request: Request) -> dict[str, Any]:
        self._check_place(request, known=("updateMask",))
        job, message = self._find(request), parse(dataflow.Job, request.json())
        if message.requested_state != State.JOB_STATE_CANCELLED or len(message.ListFields()) != 1:
            raise invalid("Only requestedState may be changed, to JOB_STATE_CANCELLED")
        if job.state in TERMINAL:
            raise Refused("FAILED_PRECONDITION", f"The job {job.message.id} is in a terminal state")
        job.message.requested_state = message.requested_state
        if job.process is not None:
            job.process.kill()
        return self._shown(job, whole=False)

    def messages(self, request: Request) -> dict[str, Any]:
        known = ("minimumImportance", "pageSize", "pageToken", "startTime", "endTime")
        params = self._check_place(request, known=known)
        least = _RANKS.index(Importance(int(params.get("minimumImportance", 0))))
        since = params.get("startTime", "")
        said = [
            show(one)
            for one in self._find(request).messages
            if _RANKS.index(Importance(one.message_importance)) >= least
        ]
        return {"jobMessages": [one for one in said if one["time"] >= since]} if said else {}

    def metrics(self, request: Request) -> dict[str, Any]:
        self._check_place(request, known=("startTime",))
        found = []
        for counter in self._find(request).counters:
            for more in ({}, {"tentative": "true"}):
                context = {"namespace": counter["namespace"], "step": counter["step"], **more}
                name = {"name": counter["name"], "origin": "user", "context": context}
                found.append({"name": name, "scalar": counter["value"], "updateTime": "2026-11-26T01:00:00Z"})
        return {"metricTime": "2026-11-26T01:00:00Z", "metrics": found}

    def _check_place(self, request: Request, known: tuple[str, ...]) -> dict[str, str]:
        """The query's parameters."""
        place = (request.groups["project"], request.groups["location"])
        if place != (self.cloud.project, self.cloud.region):
            raise Refused("PERMISSION_DENIED", f"No jobs in {place[0]}, {place[1]}")
        params = {name: value for name, value in request.params.items() if name != "$alt"}
        if unknown := sorted(params.keys() - {*known}):
            raise invalid(f"Invalid query parameter {unknown[0]}")
        return params

    def _find(self, request: Request) -> Job:
        if (job := self.jobs.get(request.groups["job"])) is None:
            raise not_found(f"Information about job {request.groups['job']} could not be found in our system.")
        return job

    def _shown(self, job: Job, *, whole: bool) -> dict[str, Any]:
        shown = show(job.message)
        return shown if whole else {name: value for name, value in shown.items() if name not in _DETAILS}

    def _check(self, message: Any) -> bytes:
        """Refuses a job that the service would refuse, at once or later; the pipeline that was staged for it."""
        for name in OUTPUT_ONLY:
            if name in {one.name for one, _ in message.ListFields()}:
                raise invalid(f"{name} is set by the service")
        if not NAME.fullmatch(message.name):
            raise invalid(f"Invalid job name {message.name!r}")
        for key, value in message.labels.items():
            if not (LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value)):
                raise invalid(f"Invalid label {key}={value}")
        if message.type_ != dataflow.JobType.JOB_TYPE_BATCH:
            raise invalid("Not a batch job")
        environment = message.environment
        if environment.service_account_email not in self.cloud.accounts:
            account = environment.service_account_email
            raise Refused("PERMISSION_DENIED", f"Current user cannot act as service account {account}")
        if "use_runner_v2" not in environment.experiments:
            raise invalid("A container image needs the experiment use_runner_v2")
        if not environment.temp_storage_prefix.startswith(f"storage.googleapis.com/{self.cloud.bucket}/"):
            raise invalid(f"No temporary folder: {environment.temp_storage_prefix}")
        self._check_workers(environment)
        options = dict(environment.sdk_pipeline_options["options"].items())
        content = self._staged(options["pipelineUrl"])
        if hashlib.sha256(content).hexdigest() != options["pipelineProtoHash"]:
            raise invalid("The staged pipeline is another one")
        return content

    def _check_workers(self, environment: Any) -> None:
        if len(environment.worker_pools) != 1:
            raise invalid("Expected one pool of workers")
        pool = environment.worker_pools[0]
        images = {image.container_image for image in pool.sdk_harness_container_images}
        for image in {*images, pool.worker_harness_container_image}:
            if not (image.startswith(f"{self.cloud.image_repository}/") and IMAGE.fullmatch(image)):
                raise invalid(f"No image by digest of this project: {image!r}")
        if pool.subnetwork and not SUBNETWORK.fullmatch(pool.subnetwork):
            raise invalid(f"Invalid subnetwork {pool.subnetwork}")
        for package in pool.packages:
            self._staged(package.location.replace("storage.googleapis.com/", "gs://"))

    def _staged(self, url: str) -> bytes:
        """An object's content, read past the door of the storage."""
        path = self.cloud.buckets / url.removeprefix("gs://")
        if not url.startswith("gs://") or not path.is_file():
            raise invalid(f"Cannot read {url}")
        return path.read_bytes()

    def run(self, job: Job) -> None:
        """Runs the job to its end; on a thread of its own."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("TWO_TOWER", "PYTEST"))}
        job.say(Importance.JOB_MESSAGE_BASIC, "Worker configuration: n1-standard-1 in europe-west4-b.")
        self.before_run(job)
        command = [sys.executable, "-P", str(WORKER), str(job.folder)]
        if self.hold:
            command = [sys.executable, "-c", "import time; time.sleep(600)"]
        with self._out_of_sight(), open(job.folder / "worker.log", "wb") as log:
            if job.message.requested_state != State.JOB_STATE_CANCELLED:
                job.process = subprocess.Popen(
                    command, cwd=job.folder, env=environment | self.cloud.environment, stdout=log, stderr=log
                )
                job.move(State.JOB_STATE_RUNNING)
                job.process.wait()
        if job.message.requested_state == State.JOB_STATE_CANCELLED:
            job.say(Importance.JOB_MESSAGE_BASIC, "Cancel request is committed for workflow job.")
            job.move(State.JOB_STATE_CANCELLED)
            return
        result = job.folder / "result.json"
        found = json.loads(result.read_text()) if result.is_file() else {"error": "The worker lost contact."}
        job.counters = found.get("counters", [])
        if "error" not in found:
            job.move(State.JOB_STATE_DONE)
            return
        job.move(State.JOB_STATE_FAILED)
        job.say(Importance.JOB_MESSAGE_ERROR, found["error"])
        job.say(
            Importance.JOB_MESSAGE_ERROR,
            "Workflow failed. Causes: S01 failed., The job failed because a work item has failed 4 times. Look in "
            "previous log entries for the cause of each one of the 4 failures.",
        )

    @contextlib.contextmanager
    def _out_of_sight(self) -> Iterator[None]:
        aside = [] if self.hold else self.aside
        moved = [(path, path.with_name(f"{path.name}.not-on-this-machine")) for path in aside]
        for path, hidden in moved:
            path.rename(hidden)
        try:
            yield
        finally:
            for path, hidden in moved:
                hidden.rename(path)


_RANKS = [
    Importance.JOB_MESSAGE_IMPORTANCE_UNKNOWN,
    Importance.JOB_MESSAGE_DEBUG,
    Importance.JOB_MESSAGE_DETAILED,
    Importance.JOB_MESSAGE_BASIC,
    Importance.JOB_MESSAGE_WARNING,
    Importance.JOB_MESSAGE_ERROR,
]
"""From the least to the most important; their numbers are in another order."""
_DETAILS = ("labels", "environment", "steps", "pipelineDescription", "transformNameMapping")
"""What only a look at one job with a detailed view shows."""


class _Work:
    """The work on a job, as the cloud's list of what is running knows it."""

    def __init__(self, service: Dataflow, job: Job) -> None:
        self._job = job
        self.when_done: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=service.run, args=(job,), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        if self._job.state not in TERMINAL:
            self._job.message.requested_state = int(State.JOB_STATE_CANCELLED)
            if self._job.process is not None:
                self._job.process.kill()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
