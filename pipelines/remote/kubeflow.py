"""Kubeflow Pipelines (API v2beta1), through the clients of `kfp.Client`.

What the service cannot hold is kept elsewhere: it has no labels, so they stand as JSON in the description of a run or
recurring run, which holds 255 characters; it names no places of artefacts, so they are looked for where its launcher
puts them; a recurring run cannot be changed, so another takes its place.
"""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeVar

from pipelines.remote.google import Busy, patiently
from pipelines.remote.runs import ENDED, EXIT_HANDLER, RemoteRun, State, choose_run
from pipelines.remote.schedules import DEFINITION, NAME, OWNER, TIMING
from pipelines.remote.submission import TOOL, Submission
from pipelines.remote.vertex import RECENT, moment_of
from two_tower.artifacts import below, describe_objects, is_remote, list_folders, read_object
from two_tower.config import STEPS, KubeflowSettings
from two_tower.errors import ArtifactError, ConfigError, UserError
from two_tower.metrics_file import FILE, Evaluation
from two_tower.progress import log

T = TypeVar("T")

STATES: dict[str, State] = {
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "finished",
    "SKIPPED": "finished",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
STEP_STATES = {
    "PENDING": "waiting",
    "PAUSED": "waiting",
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "ran",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "failed",
}
DESCRIPTION = 255
"""So many characters the service's database keeps of a description."""
TIMEOUT = (10, 60)
"""Seconds for a connection and for an answer."""
PAGE = 100
EQUALS = 1


@dataclass
class KubeflowRun(RemoteRun):
    """A run of Kubeflow Pipelines; where its artefacts lie is looked up when it is asked for."""

    handle: str = ""
    """The service's id of it."""
    folder: str = ""
    """What the launcher keeps its artefacts below: ROOT/PIPELINE/ID."""

    @cached_property
    def metrics(self) -> Evaluation | None:
        """The content of metrics.json, from the evaluation's artefact or else from the registry, where on gs://."""
        if self.state not in ENDED and self.step("evaluate_recall").state not in ("ran", "cached"):
            return None
        try:
            for folder in self._evaluations():
                found = read_object(below(folder, FILE))
                if found:
                    return Evaluation.parse(found[0])
        except ArtifactError as error:
            log.info("the evaluation of run %s cannot be read: %s", self.run_id, error)
        return None

    @cached_property
    def report(self) -> str | None:
        """Where the report is, or the page that a failed run left; None while it goes on."""
        if self.state not in ENDED:
            return None
        try:
            return self._place("write_report", "report") or self._place(EXIT_HANDLER, "page")
        except ArtifactError as error:
            log.info("the artefacts of run %s cannot be listed: %s", self.run_id, error)
            return None

    def _evaluations(self) -> Iterator[str]:
        made = self._place("evaluate_recall", "evaluation")
        if made:
            yield made
        if is_remote(self.registry) and self.name:
            versions = below(below(self.registry, self.name), "versions")
            for version in list_folders(versions):
                manifest = read_object(below(below(versions, version), "manifest.json"))
                if manifest and _run_that_made(manifest[0]) == self.run_id:
                    yield below(below(versions, version), "evaluation")

    def _place(self, step: str, output: str) -> str | None:
        """The newest artefact of this name below a step's folder; None where the root is not on gs:// or it made none.

        Between the step and the artefact the launcher puts the id of the attempt (older ones do not).
        """
        if not is_remote(self.folder):
            return None
        folder = below(self.folder, step.replace("_", "-"))
        newest: dict[str, datetime] = {}
        for name, facts in describe_objects(folder).items():
            parts = name.split("/")
            if output in parts:
                place = below(folder, "/".join(parts[: parts.index(output) + 1]))
                newest[place] = max(facts.updated, newest.get(place, facts.updated))
        return max(newest, key=lambda place: newest[place]) if newest else None


class KubeflowBackend:
    """The runs of one installation, in one experiment."""

    def __init__(self, settings: KubeflowSettings, host: str | None = None) -> None:
        """The installation at `host`, in place of the one that `settings` name.

        Raises:
            ConfigError: There is no address, or it is none of the web.
        """
        found = host or settings.host
        if not found:
            raise ConfigError("kubeflow.host: needed, or --host: the address at which Kubeflow Pipelines answers")
        if not found.startswith(("http://", "https://")):
            raise ConfigError(f"--host: {found!r} must begin with http:// or https://")
        self.settings = settings
        self.host = found.rstrip("/")
        self._reached = False
        self._handles: dict[str, str] = {}

    @cached_property
    def client(self) -> Any:
        """The client of an installation that answers.

        Raises:
            UserError: It does not, or wants a log-in.
            ConfigError: It serves several users and the settings name no namespace.
        """
        import kfp

        credentials = None
        if os.environ.get("KF_PIPELINES_SA_TOKEN_PATH"):
            from kfp.client import set_volume_credentials

            credentials = set_volume_credentials.ServiceAccountTokenVolumeCredentials()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            client = kfp.Client(
                host=self.host,
                # With its default the constructor asks for the server's health, five times with a traceback each.
                namespace=self.settings.namespace or "-",
                credentials=credentials,
                ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
            )
        service = client.healthzs.healthz_service_get_healthz.__self__  # whose other methods the client leaves out
        look = service.healthz_service_get_healthz_with_http_info
        health, _, headers = self.ask(look, f"reaching {self.host}")
        if "json" not in (headers or {}).get("Content-Type", "json"):
            raise UserError(f"{self.host} answers with a web page, where a log-in is asked for; {_LOG_IN}")
        if health.multi_user and not self.settings.namespace:
            raise ConfigError(f"kubeflow.namespace: needed, since {self.host} serves several users")
        return client

    def ask(self, method: Callable[..., T], what: str, *arguments: Any, **options: Any) -> T:
        """What a method of the client gives, with patience; see `google.patiently`."""
        return patiently(lambda: self.once(method, what, *arguments, **options), what)

    def once(self, method: Callable[..., T], what: str, *arguments: Any, **options: Any) -> T:
        """What a method of the client gives at the first try.

        Raises:
            Busy: It is worth another.
            Missing: There is no such thing.
            UserError: The service refuses, or has not been there from the start.
        """
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        try:
            found = method(*arguments, _request_timeout=TIMEOUT, **options)
        except HTTPError as error:
            why = getattr(error, "reason", None) or error
            said = f"{what}: {self.host} (kubeflow.host, or --host) does not answer: {_first_line(why)}"
            if not self._reached and isinstance(why, NewConnectionError | ConnectTimeoutError):
                raise UserError(f"{said}; is the address right, and the port forwarded?") from error
            raise Busy(said) from error
        except ApiException as error:
            self._reached = self._reached or bool(error.status)
            raise _explained(error, f"{what} at {self.host}") from error
        self._reached = True
        return found

    def submit(self, submission: Submission) -> KubeflowRun:
        """Starts a run; one that is there already under this id is given back as it is.

        Raises:
            UserError: The service refuses it.
        """
        what = f"submitting the run {submission.run_id}"
        run = self.run_of(submission)

        def create() -> Any:
            return self._named(submission.run_id) or self.once(self.client.runs.run_service_create_run, what, run)

        return self.described(patiently(create, what))

    def run_of(self, submission: Submission) -> Any:
        """What the service is sent for a run."""
        from kfp_server_api import V2beta1Run

        return V2beta1Run(
            display_name=submission.run_id,
            description=described_by(submission.labels),
            experiment_id=self.experiment(),
            pipeline_spec=submission.pipeline,
            runtime_config=runtime_config(submission),
        )

    def resume(self, run_id: str, *, new_id: str) -> KubeflowRun:
        """Has the service retry a failed run in place: it keeps its id, and its finished steps their outputs.

        Args:
            run_id: The run.
            new_id: Not needed here.

        Raises:
            UserError: It has not failed.
        """
        found = self.find(run_id)
        if found.state not in ("failed", "cancelled"):
            raise UserError(f"run {found.run_id} is {found.state}; only one that failed or was cancelled is resumed")
        what = f"retrying the run {found.run_id}"
        tried = False

        def retry() -> None:
            nonlocal tried
            if tried and self.find(found.run_id).state != found.state:
                return  # by the try whose reply was lost
            tried = True
            self.once(self.client.runs.run_service_retry_run, what, found.handle)

        patiently(retry, what)
        return self.find(found.run_id)

    def find(self, run_id: str) -> KubeflowRun:
        """The run with this id, the only one whose id starts so, or the newest for `latest`.

        Raises:
            UserError: There is none, or more than one.
        """
        if run_id not in self._handles:
            exact = None if run_id == "latest" else patiently(lambda: self._named(run_id), f"reading the run {run_id}")
            if exact is None:
                chosen = choose_run(list(self.list_runs(None, most=RECENT)), run_id)
                assert isinstance(chosen, KubeflowRun)
                run_id, handle = chosen.run_id, chosen.handle
            else:
                handle = exact.run_id
            self._handles[run_id] = handle
        read = self.client.runs.run_service_get_run
        return self.described(self.ask(read, f"reading the run {run_id}", self._handles[run_id]))

    def list_runs(self, name: str | None, *, most: int) -> list[RemoteRun]:
        """The runs of a configuration, or of all, the newest first, without those in the archive."""
        experiment = self.experiment(make=False)
        if experiment is None:
            return []
        runs = self.pages("runs", f"listing the runs of {self.settings.experiment}", experiment_id=experiment)
        described = (self.described(run) for run in runs if run.storage_state != "ARCHIVED")
        wanted = (run for run in described if run.labels.get("tool") == TOOL and name in (None, run.name))
        return list(islice(wanted, most))

    def cancel(self, run_id: str) -> None:
        """Asks for the end of a run."""
        run = self.find(run_id)
        what = f"cancelling the run {run.run_id}"
        self.ask(self.client.runs.run_service_terminate_run, what, run.handle)

    def described(self, run: Any) -> KubeflowRun:
        """A run of the service."""
        spec = _spec_of(run)
        labels = labels_in(run.description) or _labels_of(spec)
        config = run.runtime_config
        root = (config and config.pipeline_root) or self.settings.root
        found = KubeflowRun(
            run_id=run.display_name,
            name=labels.get("pipeline", ""),
            state=STATES.get(run.state, "waiting"),
            link=f"{self.host}/#/runs/details/{run.run_id}",
            started=moment_of(run.created_at),
            ended=moment_of(run.finished_at),
            labels=labels,
            registry=str(((config and config.parameters) or {}).get("registry", "")),
            handle=run.run_id,
            folder=below(below(root, spec.get("pipelineInfo", {}).get("name", "")), run.run_id),
        )
        history = [status.state for status in run.state_history or []]
        if found.state == "failed" and "CANCELING" in history[-2:]:
            found.state = "cancelled"  # its workflow was stopped, which counts as a failure
        self._note_tasks(found, (run.run_details and run.run_details.task_details) or [])
        if run.error and run.error.message:
            found.errors[""] = run.error.message
        return found

    def experiment(self, *, make: bool = True) -> str | None:
        """The id of the experiment; with `make` it is made where it is missing."""
        if self._experiment is None:
            what = f"looking for the experiment {self.settings.experiment}"

            def find_or_make() -> Any:
                asked = self.client.experiments.experiment_service_list_experiments
                listed = self.once(asked, what, filter=_named_filter(self.settings.experiment), **self.scope)
                if listed.experiments or not make:
                    return listed.experiments[0] if listed.experiments else None
                from kfp_server_api import V2beta1Experiment

                wanted = V2beta1Experiment(display_name=self.settings.experiment, namespace=self.settings.namespace)
                return self.once(self.client.experiments.experiment_service_create_experiment, what, wanted)

            found = patiently(find_or_make, what)
            self._experiment = found.experiment_id if found else None
        return self._experiment

    _experiment: str | None = None

    @property
    def scope(self) -> dict[str, str]:
        """What a list is asked for: the namespace, where there are several."""
        return {"namespace": self.settings.namespace} if self.settings.namespace else {}

    def pages(self, kind: Literal["runs", "recurring_runs"], what: str, **scope: str) -> Iterator[Any]:
        """What there is of a kind, the newest first, page after page."""
        token = ""
        service = kind.removesuffix("s")
        method = getattr(getattr(self.client, kind), f"{service}_service_list_{kind}")
        while True:
            page = self.ask(method, what, page_size=PAGE, page_token=token, sort_by="created_at desc", **scope)
            yield from getattr(page, kind) or []
            token = page.next_page_token
            if not token:
                return

    def _named(self, run_id: str) -> Any:
        """The newest run of this display name."""
        found = self.once(
            self.client.runs.run_service_list_runs, f"looking for the run {run_id}", filter=_named_filter(run_id),
            sort_by="created_at desc", page_size=1, **self.scope,
        )  # fmt: skip
        return found.runs[0] if found.runs else None

    def _note_tasks(self, run: KubeflowRun, tasks: Sequence[Any]) -> None:
        """Adds what the service's tasks say to the records of the steps.

        A step's container runs in a task of its own below the step's, which is skipped where the cache has answered.
        A task that is skipped itself has outputs if it was the cache, and none if it was not its turn.
        """
        for task in tasks:
            name = (task.display_name or "").replace("-", "_")
            if name not in (*STEPS, EXIT_HANDLER):
                continue
            step = run.step(name)
            step.state = STEP_STATES.get(task.state, "waiting")  # type: ignore[assignment]
            inner = [one for one in tasks if one.parent_task_id and one.parent_task_id == task.task_id]
            if (step.state == "ran" and any(one.state == "SKIPPED" for one in inner)) or (
                step.state == "skipped" and task.outputs
            ):
                step.state = "cached"
            start, end = moment_of(task.start_time), moment_of(task.end_time)
            if start and end:
                step.seconds = (end - start).total_seconds()
            if step.state == "failed":
                run.errors[name] = self._reason(task, inner)
        if run.state == "finished":
            for step in run.steps:
                if step.state == "waiting":  # it stands behind a condition that did not hold, so it got no task
                    step.state = "skipped"

    def _reason(self, task: Any, inner: Sequence[Any]) -> str:
        """What a failed task says, or else where its log is."""
        for one in (task, *inner):
            if one.error and one.error.message:
                return str(one.error.message)
        pods = [one.pod_name for one in (*inner, *(task.child_tasks or []), task) if one.pod_name]
        command = ["kubectl", "logs", "--namespace", self.settings.namespace or "kubeflow", *pods[:1]]
        where = shlex.join(command) if pods else "its page"
        return f"Kubeflow gives no reason; see {where}"


class Missing(UserError):
    """The service has no such thing."""


_LOG_IN = (
    "reach it through `kubectl port-forward`, or log in as docs/kubeflow.md says: a cookie or a header in "
    "~/.config/kfp/context.json, a token in the file that KF_PIPELINES_SA_TOKEN_PATH names, or the client of "
    "Google's proxy in KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"
)


def described_by(labels: dict[str, str]) -> str:
    """Labels as a description; the environment's own, which come first, are left out where they do not fit."""
    known = ("tool", "pipeline", "config", "commit", NAME, OWNER, DEFINITION, TIMING)
    kept = {key: labels[key] for key in known if key in labels}
    text = _compact(kept)
    if len(text) > DESCRIPTION:
        raise ConfigError(f"a run's description holds {DESCRIPTION} characters; shorten the names in {text}")
    left = []
    for key, value in labels.items():
        if len(_compact({**kept, key: value})) <= DESCRIPTION:
            kept[key] = value
        else:
            left.append(key)
    if left:
        log.warning("labels that do not fit into a description at Kubeflow are not sent: %s", ", ".join(left))
    return _compact(kept)


def labels_in(description: str | None) -> dict[str, str]:
    """The labels in a description of ours; empty for any other."""
    try:
        found = json.loads(description or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("tool") == TOOL else {}


def _compact(labels: dict[str, str]) -> str:
    return json.dumps(labels, separators=(",", ":"))


def _spec_of(run: Any) -> dict[str, Any]:
    """The pipeline of a run; the service may give it together with what concerns its platform."""
    spec = run.pipeline_spec or {}
    found: dict[str, Any] = spec.get("pipeline_spec", spec)
    return found


def _labels_of(spec: dict[str, Any]) -> dict[str, str]:
    """What labels a run that has no description, such as one of a recurring run, has by its pipeline."""
    parameters = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    name = parameters.get("name", {}).get("defaultValue")
    return {"tool": TOOL, "pipeline": name} if name and {"registry", "run_time"} <= parameters.keys() else {}


def runtime_config(submission: Submission) -> Any:
    from kfp_server_api import V2beta1RuntimeConfig

    return V2beta1RuntimeConfig(parameters=submission.parameters, pipeline_root=submission.root)


def _named_filter(name: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": "display_name", "stringValue": name}]})


def _run_that_made(manifest: bytes) -> str:
    return str(json.loads(manifest).get("measured", {}).get("lineage", {}).get("run_id", ""))


def _explained(error: Any, what: str) -> Exception:
    """An error of the client as one that says what was asked for, or as `Busy`."""
    said = _message(error)
    if error.status in (0, 429, 500, 502, 503, 504):
        return Busy(f"{what}: the service does not answer now: {said}")
    if error.status == 401:
        return UserError(f"{what}: not logged in: {said}; {_LOG_IN}")
    if error.status == 403:
        return UserError(f"{what}: permission denied: {said}")
    if error.status == 404:
        return Missing(f"{what}: not found: {said}")
    return UserError(f"{what}: refused: {said}")


def _message(error: Any) -> str:
    """What the body of a reply says, or else its reason."""
    try:
        body = json.loads(error.body)
        said = body.get("message") or body.get("error")
    except (TypeError, ValueError, AttributeError):
        said = None
    if isinstance(said, dict):
        said = said.get("message")
    return _first_line(said or error.reason or f"status {error.status}")


def _first_line(text: Any) -> str:
    return str(text).strip().partition("\n")[0][:500]
