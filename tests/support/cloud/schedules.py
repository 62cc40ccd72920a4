"""Vertex AI's ScheduleService; time moves only when a test fires a schedule."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.cloud.aiplatform_v1.services.schedule_service.transports.rest_base import _BaseScheduleServiceRestTransport
from google.cloud.aiplatform_v1.types import ListSchedulesResponse, Schedule
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, field_mask_pb2
from google.protobuf.message import Message

from cloud import filters, strict
from cloud.cron import is_tick, next_tick, read_cron
from cloud.errors import Refused, invalid, not_found
from cloud.executions import now
from cloud.http import Route
from cloud.pipelines import ENDED, LAST, Job
from cloud.rest import service_routes

if TYPE_CHECKING:
    from cloud.state import Cloud

ACTIVE, PAUSED, COMPLETED = (Schedule.State[name].value for name in ("ACTIVE", "PAUSED", "COMPLETED"))
FIELDS = (
    "display_name", "state", "create_pipeline_job_request", "create_time", "start_time", "end_time", "next_run_time",
)  # fmt: skip
CHANGEABLE = (
    "cron", "display_name", "create_pipeline_job_request", "start_time", "end_time", "max_run_count",
    "max_concurrent_run_count", "max_concurrent_active_run_count", "allow_queueing",
)  # fmt: skip


@dataclass
class Entry:
    """A schedule as it stands."""

    resource: Any
    """`Schedule` as protobuf."""
    starts: bool
    """Whether a start time was given; a schedule without one can be fired at any time, also before today."""
    queue: list[datetime] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The full resource name."""
        return self.resource.name

    @property
    def state(self) -> str:
        """ACTIVE, PAUSED or COMPLETED."""
        return Schedule.State(self.resource.state).name

    def facts(self) -> dict[str, Any]:
        """What lists are filtered and ordered by."""
        times = {
            name: _time(self.resource, name)
            for name in ("create_time", "start_time", "end_time", "update_time", "next_run_time")
        }
        return {
            "display_name": self.resource.display_name,
            "state": self.state,
            "create_pipeline_job_request": "set",
            **times,
        }


class Schedules:
    """All schedules of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.entries: dict[str, Entry] = {}
        self._numbers = itertools.count(4000000000000000001)

    def routes(self) -> list[Route]:
        """ScheduleService as its client's REST table has it."""
        handlers = {
            "CreateSchedule": self._create,
            "GetSchedule": self._get,
            "ListSchedules": self._list,
            "UpdateSchedule": self._update,
            "PauseSchedule": self._pause,
            "ResumeSchedule": self._resume,
            "DeleteSchedule": self._delete,
        }
        return service_routes("ScheduleService", _BaseScheduleServiceRestTransport, handlers)

    def _create(self, request: Any) -> Message:
        strict.check(request)
        self.cloud.check_parent(request.parent)
        if request.schedule.name:
            raise invalid("schedule.name is given by the service and must not be set.")
        self._check(request.schedule)
        made = Schedule.pb(Schedule())
        made.CopyFrom(request.schedule)
        made.name = f"{self.cloud.parent}/schedules/{next(self._numbers)}"
        made.state = ACTIVE
        made.create_time.FromDatetime(now())
        made.update_time.CopyFrom(made.create_time)
        starts = made.HasField("start_time")
        if not starts:
            made.start_time.CopyFrom(made.create_time)
        entry = self.entries[made.name.split("/")[-1]] = Entry(made, starts)
        self._aim(entry, max(_time(made, "start_time"), now()))
        return made

    def _check(self, schedule: Any) -> None:
        if not schedule.cron:
            raise invalid("schedule.cron is missing or empty.")
        read_cron(schedule.cron)
        strict.check_display_name(schedule.display_name)
        if not schedule.HasField("create_pipeline_job_request"):
            raise invalid("schedule.create_pipeline_job_request is missing.")
        if schedule.create_pipeline_job_request.pipeline_job_id:
            raise invalid(
                "create_pipeline_job_request.pipeline_job_id must not be set: every run has an id of its own."
            )
        self.cloud.pipelines.check(schedule.create_pipeline_job_request)
        for count in ("max_run_count", "max_concurrent_run_count", "max_concurrent_active_run_count"):
            if getattr(schedule, count) < 0:
                raise invalid(f"schedule.{count} must be positive.")
        start, end = _time(schedule, "start_time"), _time(schedule, "end_time")
        if start and end and end <= start:
            raise invalid("schedule.end_time must be after schedule.start_time.")

    def _aim(self, entry: Entry, after: datetime) -> None:
        tick = next_tick(entry.resource.cron, after)
        end = _time(entry.resource, "end_time")
        count, limit = entry.resource.started_run_count, entry.resource.max_run_count
        if (end and tick > end) or (limit and count >= limit):
            entry.resource.state = COMPLETED
            entry.resource.ClearField("next_run_time")
        else:
            entry.resource.next_run_time.FromDatetime(tick)

    def find(self, name: str) -> Entry:
        """The schedule of a full resource name."""
        self.cloud.check_parent(name)
        entry = self.entries.get(name.split("/")[-1])
        if entry is None:
            raise not_found(f"The Schedule {name} does not exist.")
        return entry

    def _get(self, request: Any) -> Message:
        return self.find(request.name).resource

    def _list(self, request: Any) -> Message:
        self.cloud.check_parent(request.parent)
        matches = filters.parse_filter(request.filter, fields=FIELDS)
        found = [entry for entry in self.entries.values() if matches(entry.facts())]
        found = filters.ordered(found, request.order_by, key=lambda entry, field: entry.facts()[field] or LAST)
        found, token = filters.page(found, request.page_size, request.page_token)
        answer = ListSchedulesResponse.pb(ListSchedulesResponse())
        answer.schedules.extend(entry.resource for entry in found)
        answer.next_page_token = token
        return answer

    def _update(self, request: Any) -> Message:
        strict.check(request, outputs=True)
        entry = self.find(request.schedule.name)
        if entry.resource.state == COMPLETED:
            raise Refused("FAILED_PRECONDITION", f"The Schedule {entry.name} is completed.")
        paths = list(request.update_mask.paths)
        for path in paths:
            if path not in CHANGEABLE:
                raise invalid(f"update_mask path {path!r} cannot be updated; one of {', '.join(CHANGEABLE)}.")
            given = request.schedule.HasField(path) if _nested(path) else getattr(request.schedule, path)
            if not given and path != "allow_queueing":
                raise invalid(f"Field {path!r} cannot be unset.")
        changed = Schedule.pb(Schedule())
        changed.CopyFrom(entry.resource)
        for path in paths:
            changed.ClearField(path)
        field_mask_pb2.FieldMask(paths=paths).MergeMessage(request.schedule, changed)
        self._check(changed)
        changed.update_time.FromDatetime(now())
        entry.resource.CopyFrom(changed)
        entry.starts = entry.starts or "start_time" in paths
        self._aim(entry, max(_time(changed, "start_time"), now()))
        return changed

    def _pause(self, request: Any) -> Message:
        self._turn(self.find(request.name), ACTIVE, PAUSED, "last_pause_time")
        return empty_pb2.Empty()

    def _resume(self, request: Any) -> Message:
        entry = self.find(request.name)
        self._turn(entry, PAUSED, ACTIVE, "last_resume_time")
        entry.resource.catch_up = request.catch_up
        return empty_pb2.Empty()

    def _turn(self, entry: Entry, before: int, after: int, stamp: str) -> None:
        if entry.resource.state != before:
            raise Refused("FAILED_PRECONDITION", f"The Schedule {entry.name} is {entry.state}.")
        entry.resource.state = after
        getattr(entry.resource, stamp).FromDatetime(now())
        entry.resource.update_time.FromDatetime(now())

    def _delete(self, request: Any) -> operations_pb2.Operation:
        entry = self.find(request.name)

        def work() -> Message:
            self.entries.pop(entry.name.split("/")[-1], None)
            return empty_pb2.Empty()

        return self.cloud.start_operation(work)

    def fire(self, name: str, at: datetime | None = None) -> Job | None:
        """Moves a schedule's clock to `at`, a time that its cron expression names (by default the next such time).

        Returns the job that the schedule creates then, or None where it creates none: it is paused or completed, `at`
        lies outside its start and end, or too many of its runs go on (with `allow_queueing` the run starts later).

        Raises:
            ValueError: The cron expression does not name `at`.
        """
        entry = self.find(name)
        at = at or _time(entry.resource, "next_run_time") or now()
        if not is_tick(entry.resource.cron, at):
            raise ValueError(f"{entry.resource.cron} does not name {at.isoformat()}")
        start, end = _time(entry.resource, "start_time"), _time(entry.resource, "end_time")
        if entry.resource.state != ACTIVE or (entry.starts and start and at < start) or (end and at > end):
            return None
        limits = [entry.resource.max_concurrent_run_count, entry.resource.max_concurrent_active_run_count or 10**9]
        if self._running(entry) >= min(limits):
            if entry.resource.allow_queueing:
                entry.queue.append(at)
            self._aim(entry, at)
            return None
        return self._start(entry, at)

    def _running(self, entry: Entry) -> int:
        jobs = self.cloud.pipelines.jobs.values()
        return sum(job.schedule == entry.name and job.state not in ENDED for job in jobs)

    def _start(self, entry: Entry, at: datetime) -> Job:
        request = entry.resource.create_pipeline_job_request
        job = self.cloud.pipelines.start(request, schedule=entry.name, at=at)
        job.execution.when_done = lambda: self._start(entry, entry.queue.pop(0)) if entry.queue else None
        entry.resource.started_run_count += 1
        entry.resource.last_scheduled_run_response.scheduled_run_time.FromDatetime(at)
        entry.resource.last_scheduled_run_response.run_response = job.name
        self._aim(entry, at)
        return job


def _nested(path: str) -> bool:
    return Schedule.pb(Schedule()).DESCRIPTOR.fields_by_name[path].message_type is not None


def _time(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None
