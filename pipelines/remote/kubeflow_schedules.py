"""The recurring runs of a Kubeflow Pipelines server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from cronsim import CronSim

from pipelines.remote.google import patiently
from pipelines.remote.kubeflow import runtime_config
from pipelines.remote.kubeflow_client import PAGE, KubeflowService, Missing
from pipelines.remote.kubeflow_labels import described_by, labels_in
from pipelines.remote.schedules import DEFINITION, NAME, OWNER, TIMING, PlannedSchedule, RemoteSchedule
from pipelines.remote.vertex import moment_of
from two_tower.config import KubeflowSettings, ScheduleSettings
from two_tower.errors import ConfigError

MOST_CONCURRENT = 10
"""The service takes no more runs of a recurring run at once."""
ZONES = ("UTC", "Etc/UTC", "Etc/UCT", "Etc/Zulu", "Zulu", "UCT", "Universal", "Etc/Universal")


class KubeflowSchedules:
    """The recurring runs of one installation that this program has made."""

    def __init__(self, settings: KubeflowSettings, host: str | None = None) -> None:
        self.service = KubeflowService(settings, host)

    def list(self, owner: str) -> Sequence[RemoteSchedule]:
        """The recurring runs of an environment file, the newest first."""
        found = self._ours(owner)
        last = self._last_runs() if found else {}
        return [self._described(one, last.get(one.recurring_run_id)) for one in found]

    def create(self, planned: PlannedSchedule) -> RemoteSchedule:
        """Makes a recurring run; times before now are not missed where it takes another's place.

        Raises:
            ConfigError: The service cannot do what the schedule asks for.
        """
        recurring = self.recurring_run_of(planned)
        there = [one for one in self._ours(planned.owner) if labels_in(one.description)[NAME] == planned.name]
        if there:
            _begin_now(recurring)
        return self._make(recurring, planned.name, besides=there)

    def retime(self, existing: RemoteSchedule, planned: PlannedSchedule) -> RemoteSchedule:
        """Puts another recurring run in the place of one that is due at the wrong times."""
        made = self.create(planned)
        if existing.state == "paused":
            self.pause(made)
        self.delete(existing)
        return made

    def pause(self, existing: RemoteSchedule) -> None:
        """Has it start nothing until it is resumed."""
        method = self._api.recurring_run_service_disable_recurring_run
        self.service.ask(method, f"pausing the schedule {existing.name}", existing.handle)

    def resume(self, existing: RemoteSchedule, *, catch_up: bool) -> None:
        """Has it start runs again; with `catch_up` also for what came due meanwhile, as it was made to.

        Without, another that begins now takes its place: the service itself would run what was missed.
        """
        what = f"resuming the schedule {existing.name}"
        if catch_up:
            self.service.ask(self._api.recurring_run_service_enable_recurring_run, what, existing.handle)
            return
        from kfp_server_api import RecurringRunMode

        old = self.service.ask(self._api.recurring_run_service_get_recurring_run, what, existing.handle)
        copied = ("display_name", "description", "experiment_id", "pipeline_spec", "runtime_config", "trigger",
                  "max_concurrency", "no_catchup", "service_account")  # fmt: skip
        anew = type(old)(mode=RecurringRunMode.ENABLE, **{name: getattr(old, name) for name in copied})
        _begin_now(anew)
        self._make(anew, existing.name, besides=self._ours(existing.owner))
        self.delete(existing)

    def delete(self, existing: RemoteSchedule) -> None:
        """Removes it; runs that it has started go on."""
        what = f"removing the schedule {existing.name}"
        method = self._api.recurring_run_service_delete_recurring_run

        def delete() -> None:
            try:
                self.service.once(method, what, existing.handle, propagation_policy="ORPHAN")
            except Missing:  # an earlier try, whose reply was lost, has removed it
                return

        patiently(delete, what)

    def recurring_run_of(self, planned: PlannedSchedule) -> Any:
        """What the service is sent.

        Raises:
            ConfigError: The service cannot do what the schedule asks for.
        """
        from kfp_server_api import RecurringRunMode, V2beta1CronSchedule, V2beta1RecurringRun, V2beta1Trigger

        submission, when = planned.submission, planned.schedule
        refuse_unsuitable(planned.name, when)
        second = timedelta(
            seconds=1
        )  # a time is due after the start and up to the end; ours from `start`, before `end`
        labels = {**submission.labels, NAME: planned.name, OWNER: planned.owner}
        return V2beta1RecurringRun(
            display_name=f"{submission.name}-{planned.name}".replace("_", "-"),
            description=described_by({**labels, DEFINITION: planned.definition, TIMING: planned.timing}),
            experiment_id=self.service.experiment(),
            pipeline_spec=submission.pipeline,
            runtime_config=runtime_config(submission),
            trigger=V2beta1Trigger(
                cron_schedule=V2beta1CronSchedule(
                    cron=cron_of(when),
                    start_time=when.first - second if when.first else None,
                    end_time=when.last - second if when.last else None,
                )
            ),
            max_concurrency=str(when.max_concurrent_runs),
            no_catchup=when.catch_up == "latest",
            mode=RecurringRunMode.ENABLE,
        )

    @property
    def _api(self) -> Any:
        return self.service.client.recurring_runs

    def _ours(self, owner: str) -> Sequence[Any]:
        """The recurring runs of an environment file in whatever experiment, the newest first."""
        found = self.service.pages(
            "recurring_runs", f"listing the recurring runs at {self.service.host}", **self.service.scope
        )
        labels = ((one, labels_in(one.description)) for one in found)
        return [one for one, known in labels if known.get(OWNER) == owner and NAME in known]

    def _make(self, recurring: Any, name: str, *, besides: Sequence[Any]) -> RemoteSchedule:
        """Makes a recurring run; one like it that a lost reply has left, not among `besides`, is taken as it is."""
        known = {one.recurring_run_id for one in besides}
        owner = labels_in(recurring.description)[OWNER]
        what = f"making the schedule {name}"
        tried = False

        def make() -> Any:
            nonlocal tried
            made = [one for one in self._ours(owner) if one.recurring_run_id not in known] if tried else []
            tried = True
            twin = next((one for one in made if one.description == recurring.description), None)
            return twin or self.service.once(self._api.recurring_run_service_create_recurring_run, what, recurring)

        return self._described(patiently(make, what), None)

    def _last_runs(self) -> dict[str, datetime]:
        """For which time each recurring run last started a run, as far as the experiment's newest runs tell."""
        experiment = self.service.experiment(make=False)
        if experiment is None:
            return {}
        found: dict[str, datetime] = {}
        for run in islice(self.service.pages("runs", "listing the runs", experiment_id=experiment), PAGE):
            moment = moment_of(run.scheduled_at) or moment_of(run.created_at)
            if run.recurring_run_id and moment:
                found.setdefault(run.recurring_run_id, moment)
        return found

    def _described(self, recurring: Any, last_run: datetime | None) -> RemoteSchedule:
        labels = labels_in(recurring.description)
        when = recurring.trigger.cron_schedule
        cron = when.cron.partition(" ")[2]
        now = datetime.now(UTC)
        begin, end = max(moment_of(when.start_time) or now, now), moment_of(when.end_time)
        state: Literal["active", "paused", "ended"] = "paused" if recurring.mode == "DISABLE" else "active"
        coming = next(CronSim(cron, begin.astimezone(UTC)))
        if end is not None and coming > end:
            state = "ended"
        return RemoteSchedule(
            handle=recurring.recurring_run_id,
            name=labels[NAME],
            owner=labels[OWNER],
            definition=labels.get(DEFINITION, ""),
            timing=labels.get(TIMING, ""),
            cron=cron,
            time_zone="UTC",
            state=state,
            next_run=coming if state == "active" else None,
            last_run=last_run,
            link=f"{self.service.host}/#/recurringrun/details/{recurring.recurring_run_id}",
        )


def cron_of(schedule: ScheduleSettings) -> str:
    """The six fields of cron that the service takes: with seconds, and Sunday as 0 alone."""
    *fields, weekdays = schedule.cron.split()
    if "7" in weekdays and not weekdays.startswith("*"):
        days = CronSim(schedule.cron, datetime(2024, 1, 1)).weekdays
        weekdays = ",".join(str(day) for day in sorted({day % 7 for day in days if isinstance(day, int)}))
    return " ".join(["0", *fields, weekdays])


def refuse_unsuitable(name: str, schedule: ScheduleSettings) -> None:
    """Refuses what a recurring run cannot do.

    Raises:
        ConfigError: There is something; the message names the key.
    """
    where = f"schedules.{name}"
    if schedule.time_zone not in ZONES:
        raise ConfigError(
            f"{where}.time_zone: {schedule.time_zone}: Kubeflow's recurring runs have no zone of their own; write the "
            "times in UTC"
        )
    if schedule.catch_up == "none":
        raise ConfigError(
            f"{where}.catch_up: none: Kubeflow runs what was missed, the newest or all; choose latest or all"
        )
    if schedule.max_concurrent_runs > MOST_CONCURRENT:
        raise ConfigError(f"{where}.max_concurrent_runs: Kubeflow takes at most {MOST_CONCURRENT}")


def _begin_now(recurring: Any) -> None:
    """Has a recurring run that takes another's place start with what is due from now on."""
    when = recurring.trigger.cron_schedule
    now = datetime.now(UTC)
    when.start_time = max(moment_of(when.start_time) or now, now)
