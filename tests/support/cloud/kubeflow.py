"""The Kubeflow Pipelines API (v2beta1) as `kfp.Client` speaks it; `kfp.Client(host=cloud.url)` needs no token."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cronsim import CronSim, CronSimError

from cloud.errors import Refused, invalid, not_found
from cloud.executions import now
from cloud.http import Request, Route, route
from cloud.kubeflow_lists import listed
from cloud.kubeflow_models import check_model
from cloud.kubeflow_pipelines import StoredPipelines
from cloud.kubeflow_runs import Run, start_run
from cloud.spec import read_parameters, read_spec

if TYPE_CHECKING:
    from cloud.state import Cloud

BASE = "/apis/v2beta1"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")


@dataclass
class Recurring:
    """A recurring run: as it was sent, and whether it is enabled."""

    id: str
    body: dict[str, Any]
    spec: dict[str, Any]
    enabled: bool
    created: datetime = field(default_factory=now)

    def view(self) -> dict[str, Any]:
        """The recurring run as the API shows it."""
        status = "ENABLED" if self.enabled else "DISABLED"
        times = {"created_at": self.created.isoformat(), "updated_at": self.created.isoformat()}
        mode = "ENABLE" if self.enabled else "DISABLE"
        return {**self.body, "recurring_run_id": self.id, "mode": mode, "status": status, **times}


class Kubeflow:
    """Experiments, runs and recurring runs."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.stored = StoredPipelines()
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, Run] = {}
        self.recurring: dict[str, Recurring] = {}
        self._add_experiment({"display_name": "Default"})

    def routes(self) -> list[Route]:
        """The routes of the services that the client uses."""
        experiment, run = rf"{BASE}/experiments/(?P<id>[^/:]+)", rf"{BASE}/runs/(?P<id>[^/:]+)"
        recurring = rf"{BASE}/recurringruns/(?P<id>[^/:]+)"
        calls = [
            ("GET", f"{BASE}/healthz", "healthz.get", lambda request: {"multi_user": False}),
            ("POST", f"{BASE}/experiments", "experiments.create", self._create_experiment),
            ("GET", f"{BASE}/experiments", "experiments.list", self._list_experiments),
            ("GET", experiment, "experiments.get", lambda r: self._experiment(r.groups["id"])),
            ("POST", f"{BASE}/runs", "runs.create", self._create_run),
            ("GET", f"{BASE}/runs", "runs.list", self._list_runs),
            ("GET", run, "runs.get", lambda r: self.run(r.groups["id"]).view()),
            ("POST", f"{run}:terminate", "runs.terminate", self._terminate),
            ("DELETE", run, "runs.delete", self._delete_run),
            ("POST", f"{BASE}/recurringruns", "recurringruns.create", self._create_recurring),
            ("GET", f"{BASE}/recurringruns", "recurringruns.list", self._list_recurring),
            ("GET", recurring, "recurringruns.get", lambda r: self.find(r.groups["id"]).view()),
            ("POST", f"{recurring}:enable", "recurringruns.enable", lambda r: self._turn(r, True)),
            ("POST", f"{recurring}:disable", "recurringruns.disable", lambda r: self._turn(r, False)),
            ("DELETE", recurring, "recurringruns.delete", self._delete_recurring),
        ]
        made = [route(method, pattern, f"kfp.{name}", call, public=True) for method, pattern, name, call in calls]
        return [*made, *self.stored.routes()]

    def _add_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        made = {
            **{key: value for key, value in body.items() if value is not None},
            "experiment_id": str(uuid.uuid4()),
            "created_at": now().isoformat(),
            "storage_state": "AVAILABLE",
        }
        self.experiments[made["experiment_id"]] = made
        return made

    def _create_experiment(self, request: Request) -> dict[str, Any]:
        body = request.json()
        check_model(body, "V2beta1Experiment")
        name = body.get("display_name")
        if any(made["display_name"] == name for made in self.experiments.values()):
            raise Refused("ALREADY_EXISTS", f"The experiment name {name} already exists.")
        return self._add_experiment(body)

    def _experiment(self, experiment_id: str) -> dict[str, Any]:
        if experiment_id not in self.experiments:
            raise not_found(f"Experiment {experiment_id} not found.")
        return self.experiments[experiment_id]

    def _list_experiments(self, request: Request) -> dict[str, Any]:
        return listed(request, "experiments", list(self.experiments.values()))

    def _read(self, body: dict[str, Any], model: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """A checked body with its experiment, and the spec that it carries or refers to."""
        check_model(body, model)
        reference = body.get("pipeline_version_reference")
        if bool(reference) == bool(body.get("pipeline_spec")):
            raise invalid("Exactly one of pipeline_spec and pipeline_version_reference must be set.")
        if reference:
            spec = self.stored.version(reference.get("pipeline_version_id") or "")["pipeline_spec"]
        else:
            spec = body["pipeline_spec"].get("pipeline_spec", body["pipeline_spec"])
        config = body.get("runtime_config") or {}
        read_parameters(read_spec(spec, digests=False), config.get("parameters") or {})
        experiment = body.get("experiment_id") or next(iter(self.experiments))
        self._experiment(experiment)
        kept = {key: value for key, value in body.items() if value is not None}
        return {**kept, "experiment_id": experiment}, spec

    def _create_run(self, request: Request) -> dict[str, Any]:
        body, spec = self._read(request.json(), "V2beta1Run")
        run = start_run(self.cloud, body, spec)
        self.runs[run.id] = run
        return run.view()

    def run(self, run_id: str) -> Run:
        """A run by id."""
        if run_id not in self.runs:
            raise not_found(f"Run {run_id} not found.")
        return self.runs[run_id]

    def _list_runs(self, request: Request) -> dict[str, Any]:
        rows = [run.view() for run in self.runs.values()]
        if experiment := request.params.get("experiment_id"):
            rows = [row for row in rows if row["experiment_id"] == experiment]
        return listed(request, "runs", rows)

    def _terminate(self, request: Request) -> dict[str, Any]:
        run = self.run(request.groups["id"])
        if run.state in ENDED:
            raise Refused("FAILED_PRECONDITION", f"Run {run.id} is {run.state} and cannot be terminated.")
        run.execution.cancel()
        return {}

    def _delete_run(self, request: Request) -> dict[str, Any]:
        run = self.run(request.groups["id"])
        run.execution.cancel()
        del self.runs[run.id]
        return {}

    def _create_recurring(self, request: Request) -> dict[str, Any]:
        body, spec = self._read(request.json(), "V2beta1RecurringRun")
        concurrency = body.get("max_concurrency", "")
        if not str(concurrency).isdigit() or not 1 <= int(concurrency) <= 10:
            raise invalid(f"max_concurrency must be 1 to 10, got {concurrency!r}.")
        trigger = body.get("trigger") or {}
        if len([value for value in trigger.values() if value]) != 1:
            raise invalid("trigger must have one of cron_schedule and periodic_schedule.")
        if trigger.get("cron_schedule"):
            read_cron(trigger["cron_schedule"].get("cron") or "")
        made = Recurring(str(uuid.uuid4()), body, spec, enabled=body.get("mode") == "ENABLE")
        self.recurring[made.id] = made
        return made.view()

    def find(self, recurring_id: str) -> Recurring:
        """A recurring run by id."""
        if recurring_id not in self.recurring:
            raise not_found(f"RecurringRun {recurring_id} not found.")
        return self.recurring[recurring_id]

    def _list_recurring(self, request: Request) -> dict[str, Any]:
        rows = [made.view() for made in self.recurring.values()]
        if experiment := request.params.get("experiment_id"):
            rows = [row for row in rows if row["experiment_id"] == experiment]
        return listed(request, "recurringRuns", rows)

    def _turn(self, request: Request, enabled: bool) -> dict[str, Any]:
        self.find(request.groups["id"]).enabled = enabled
        return {}

    def _delete_recurring(self, request: Request) -> dict[str, Any]:
        del self.recurring[self.find(request.groups["id"]).id]
        return {}

    def fire(self, recurring_id: str, at: datetime) -> Run | None:
        """The run that a recurring run starts at `at`, or None where it starts none.

        It starts none while it is disabled, outside its start and end, and with `max_concurrency` runs going on.

        Raises:
            ValueError: The cron expression does not name `at`.
        """
        made = self.find(recurring_id)
        schedule = next(value for value in made.body["trigger"].values() if value)
        if "cron" in schedule:
            cron = CronSim(read_cron(schedule["cron"]), at.astimezone(UTC) - timedelta(seconds=1))
            if next(cron) != at:
                raise ValueError(f"{schedule['cron']} does not name {at.isoformat()}")
        start, end = (
            datetime.fromisoformat(schedule[k]) if schedule.get(k) else None for k in ("start_time", "end_time")
        )
        running = sum(run.recurring == made.id and run.state not in ENDED for run in self.runs.values())
        if not made.enabled or (start and at < start) or (end and at > end):
            return None
        if running >= int(made.body["max_concurrency"]):
            return None
        body = {key: made.body[key] for key in made.body.keys() - {"trigger", "mode", "max_concurrency", "no_catchup"}}
        body["display_name"] = f"{body['display_name']}-{at:%Y%m%d%H%M%S}"
        run = start_run(self.cloud, body, made.spec, recurring=made.id, at=at)
        self.runs[run.id] = run
        return run


def read_cron(text: str) -> str:
    """A cron expression of six fields, seconds first, in UTC, as the API server takes it."""
    fields = text.replace("?", "*").split()
    if len(fields) != 6:
        raise invalid(f"Invalid cron expression {text!r}: expected six fields, seconds first.")
    try:
        CronSim(" ".join(fields), now())
    except CronSimError as error:
        raise invalid(f"Invalid cron expression {text!r}: {error}") from error
    return " ".join(fields)
