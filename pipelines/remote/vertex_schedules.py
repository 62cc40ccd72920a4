"""The schedules of Vertex AI Pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pipelines.remote.google import credentials, patiently
from pipelines.remote.schedules import DEFINITION, NAME, OWNER, TIMING, PlannedSchedule, RemoteSchedule
from pipelines.remote.submission import TOOL
from pipelines.remote.vertex import VertexBackend, moment_of

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import Schedule

STATES: dict[str, Literal["active", "paused", "ended"]] = {
    "ACTIVE": "active",
    "PAUSED": "paused",
    "COMPLETED": "ended",
}


class VertexSchedules:
    """The schedules of one project and region that this program has made."""

    def __init__(self, backend: VertexBackend) -> None:
        self.backend = backend

    @cached_property
    def _client(self) -> Any:
        from google.cloud.aiplatform_v1 import ScheduleServiceClient

        options = {"api_endpoint": self.backend.address}
        return ScheduleServiceClient(credentials=credentials(), transport="rest", client_options=options)

    def list(self, owner: str) -> Sequence[RemoteSchedule]:
        """The schedules of an environment file, the newest first."""
        from google.cloud.aiplatform_v1.types import ListSchedulesRequest

        request = ListSchedulesRequest(parent=self.backend.parent, order_by="create_time desc", page_size=100)
        found = patiently(
            lambda: list(self._client.list_schedules(request)), f"listing the schedules of {self.backend.parent}"
        )
        ours = [self._described(one) for one in found if _labels(one).get("tool") == TOOL]
        return [one for one in ours if one.owner == owner]

    def create(self, planned: PlannedSchedule) -> RemoteSchedule:
        """Makes a schedule; one of the same job and timing, left by a try whose reply was lost, is taken as it is."""
        from google.cloud.aiplatform_v1.types import CreateScheduleRequest

        tried = False

        def create() -> RemoteSchedule:
            nonlocal tried
            if tried and (made := self._same(planned)):
                return made
            tried = True
            request = CreateScheduleRequest(parent=self.backend.parent, schedule=self._schedule_of(planned))
            return self._described(self._client.create_schedule(request))

        return patiently(create, f"making the schedule {planned.name}")

    def retime(self, existing: RemoteSchedule, planned: PlannedSchedule) -> RemoteSchedule:
        """Changes when a schedule is due; what the service cannot unset is done by a new one in its place."""
        from google.cloud.aiplatform_v1.types import UpdateScheduleRequest

        schedule = self._schedule_of(planned)
        schedule.name = existing.handle
        there = patiently(lambda: self._client.get_schedule(name=existing.handle), f"reading {existing.handle}")
        if moment_of(there.end_time) and not moment_of(schedule.end_time):
            made = self.create(planned)
            if existing.state == "paused":
                self.pause(made)
            self.delete(existing)
            return made
        mask = ["cron", "max_concurrent_run_count", "max_concurrent_active_run_count", "allow_queueing",
                "create_pipeline_job_request"]  # fmt: skip
        mask += [key for key in ("start_time", "end_time") if moment_of(getattr(schedule, key))]
        request = UpdateScheduleRequest(schedule=schedule, update_mask={"paths": mask})
        return patiently(
            lambda: self._described(self._client.update_schedule(request)), f"changing the schedule {planned.name}"
        )

    def pause(self, existing: RemoteSchedule) -> None:
        """Has it start nothing until it is resumed."""
        self._turn(existing, "paused", lambda: self._client.pause_schedule(name=existing.handle))

    def resume(self, existing: RemoteSchedule, *, catch_up: bool) -> None:
        """Has it start runs again; with `catch_up` also all that came due meanwhile."""
        from google.cloud.aiplatform_v1.types import ResumeScheduleRequest

        request = ResumeScheduleRequest(name=existing.handle, catch_up=catch_up)
        self._turn(existing, "active", lambda: self._client.resume_schedule(request))

    def _turn(self, existing: RemoteSchedule, state: str, call: Callable[[], None]) -> None:
        """Brings a schedule into a state; it may be in it already, by a try whose reply was lost."""
        from google.api_core.exceptions import BadRequest

        def turn() -> None:
            try:
                call()
            except BadRequest:  # a failed precondition, in the REST interface
                if self._described(self._client.get_schedule(name=existing.handle)).state != state:
                    raise

        patiently(turn, f"having the schedule {existing.name} {state}")

    def delete(self, existing: RemoteSchedule) -> None:
        """Removes it; runs that it has started go on."""
        from google.api_core.exceptions import NotFound

        def delete() -> None:
            try:
                self._client.delete_schedule(name=existing.handle).result(timeout=300)
            except NotFound:  # an earlier try, whose reply was lost, has removed it
                return

        patiently(delete, f"removing the schedule {existing.name}")

    def _same(self, planned: PlannedSchedule) -> RemoteSchedule | None:
        there = [one for one in self.list(planned.owner) if one.name == planned.name]
        return next(
            (one for one in there if (one.definition, one.timing) == (planned.definition, planned.timing)), None
        )

    def _schedule_of(self, planned: PlannedSchedule) -> Schedule:
        """What the service is sent."""
        from google.cloud.aiplatform_v1.types import CreatePipelineJobRequest, Schedule

        job = self.backend.job_of(planned.submission)
        job.display_name = f"{planned.submission.name} {planned.name}"
        job.labels.update({DEFINITION: planned.definition, TIMING: planned.timing})
        when = planned.schedule
        return Schedule(
            display_name=f"{planned.owner}/{planned.name}",
            cron=f"TZ={when.time_zone} {when.cron}",
            start_time=when.first,
            end_time=when.last,
            max_concurrent_run_count=when.max_concurrent_runs,
            max_concurrent_active_run_count=when.max_concurrent_runs,
            allow_queueing=when.when_busy == "wait",
            create_pipeline_job_request=CreatePipelineJobRequest(parent=self.backend.parent, pipeline_job=job),
        )

    def _described(self, schedule: Schedule) -> RemoteSchedule:
        labels = _labels(schedule)
        zone, _, cron = schedule.cron.rpartition("=")[2].partition(" ")
        number = schedule.name.rpartition("/")[2]
        region, project = self.backend.settings.region, self.backend.settings.project
        return RemoteSchedule(
            handle=schedule.name,
            name=labels.get(NAME, schedule.display_name),
            owner=labels.get(OWNER, ""),
            definition=labels.get(DEFINITION, ""),
            timing=labels.get(TIMING, ""),
            cron=cron,
            time_zone=zone,
            state=STATES.get(schedule.state.name, "active"),
            next_run=moment_of(schedule.next_run_time),
            last_run=moment_of(schedule.last_scheduled_run_response.scheduled_run_time),
            link=f"https://console.cloud.google.com/vertex-ai/locations/{region}/schedules/{number}?project={project}",
        )


def _labels(schedule: Schedule) -> dict[str, str]:
    return dict(schedule.create_pipeline_job_request.pipeline_job.labels)
