"""Whatever would make a run fail, found before anything is spent.

All problems are found in one go, and nothing is created.  What the services are asked about is what these credentials
may do: that the account of the steps holds its roles too can only be seen by its steps.
"""

from __future__ import annotations

import contextlib
import re
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from components.build import IMAGE_OF
from pipelines.remote.google import Busy, credentials, explained, patiently
from pipelines.remote.submission import Submission
from two_tower.artifacts import below, normalised
from two_tower.config import Beam, BigQuery, Config, Source, Vertex, at_time, first_time
from two_tower.errors import ConfigError, DataError, UserError

RUN_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
LABEL_KEY, LABEL_VALUE, MOST_LABELS = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}"), 64
IMAGE_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
CPU, MEMORY = re.compile(r"(\d*\.)?\d+m?"), re.compile(r"[1-9]\d*[EPTGMK]i?")
ACCELERATORS = {"vertex": re.compile(r"NVIDIA_[A-Z0-9_]+"), "kubeflow": re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+")}
ACCELERATOR_EXAMPLE = {"vertex": "NVIDIA_TESLA_T4 or NVIDIA_L4", "kubeflow": "nvidia.com/gpu"}

RUN_PERMISSIONS = tuple(f"aiplatform.pipelineJobs.{verb}" for verb in ("create", "get", "list", "cancel"))
SCHEDULE_PERMISSIONS = tuple(f"aiplatform.schedules.{verb}" for verb in ("create", "get", "list", "update", "delete"))
ACT_AS = "iam.serviceAccounts.actAs"
READING, WRITING = ("storage.objects.get", "storage.objects.list"), ("storage.objects.create", "storage.objects.delete")
DESCRIBING = "storage.buckets.get"

DUAL_REGIONS = {
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "NAM4": ("us-central1", "us-east1"),
}
"""https://cloud.google.com/storage/docs/locations"""
OUTSIDE_THE_UNION = ("europe-west2", "europe-west6")
"""London and Zurich: European regions that the multi-region EU does not hold."""
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)  # fmt: skip
PATIENCE = 30.0
"""Seconds that one question may take."""
MAKE_IMAGES = (
    "`make images PUSH=1 REPOSITORY=REGION-docker.pkg.dev/PROJECT/NAME` builds it and writes build/images.yaml, which "
    "--images reads"
)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or that could not be looked at."""

    where: str
    """The key of the environment or the configuration."""
    what: str
    to_do: str
    blocking: bool = True
    """Whether the run would fail."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.to_do}"


def preflight(
    submission: Submission, *, backend: str, host: str | None = None, offline: bool = False, schedules: bool = False
) -> list[Problem]:
    """Every problem of a run that is ready to be started; empty if there is none.

    Args:
        submission: The run.
        backend: `vertex` or `kubeflow`.
        host: The address of Kubeflow Pipelines, in place of the environment's.
        offline: Asks no service.
        schedules: The run is to be started by a schedule: that takes other permissions, and what is named by a run's
            time may not be there yet.
    """
    config, found = _at_the_runs_time(submission)
    run = _Run(submission, config, backend, schedules)
    found += [
        *_spec(submission), *_parameters(submission), *_images(submission), *_resources(submission, backend),
        *_labels(submission), *_run_id(submission), *_beam(submission.config.beam), *_places(submission, backend),
        *_sources(run),
    ]  # fmt: skip
    if not offline:
        found += _asked_of_google(run) if backend == "vertex" else _asked_of_kubeflow(run, host)
    return [*dict.fromkeys(found)]


@dataclass(frozen=True)
class _Run:
    """What the services are asked about."""

    submission: Submission
    config: Config
    """With the run's time filled in."""
    backend: str
    scheduled: bool

    @property
    def is_to_come(self) -> bool:
        """Whether it is to start later, when there will be files that are not there yet."""
        if self.scheduled:
            return True
        with contextlib.suppress(ConfigError):  # a problem of its own
            return first_time(self.submission.parameters.get("run_time", "")) > datetime.now(UTC)
        return True


def _at_the_runs_time(submission: Submission) -> tuple[Config, list[Problem]]:
    """The configuration with the run's time filled in, as far as that is possible."""
    time, zone = submission.parameters.get("run_time", ""), submission.parameters.get("time_zone", "UTC")
    try:
        moment = first_time(time)
    except ConfigError:
        return submission.config, [
            Problem("run_time", f"{time!r} is no time", "write it as ISO 8601, such as 2026-12-01T03:00+01:00")
        ]
    try:
        return at_time(submission.config, moment, zone=zone), []
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        return submission.config, [
            Problem("time_zone", f"there is no time zone {zone!r}", "take one such as Europe/Berlin or UTC")
        ]
    except (ConfigError, ValueError) as error:
        to_do = "mend the placeholders below `data`, such as {date}, {date-7d} and {time-24h}"
        return submission.config, [Problem("data", " ".join(str(error).split()), to_do)]


def _spec(submission: Submission) -> Iterator[Problem]:
    """The compiled pipeline is one that the services read."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        json_format.ParseDict(submission.pipeline, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=False)
    except json_format.ParseError as error:
        to_do = "install the packages of requirements.lock, whose kfp compiles a pipeline that it can read itself"
        yield Problem("pipeline", f"the compiled pipeline is no PipelineSpec: {error}", to_do)


def _parameters(submission: Submission) -> Iterator[Problem]:
    """Parameters are those that the pipeline has."""
    root = submission.pipeline.get("root", {})
    declared = root.get("inputDefinitions", {}).get("parameters", {})
    for name in submission.parameters.keys() - declared.keys():
        known = ", ".join(sorted(declared)) or "none"
        yield Problem("parameters", f"the pipeline has no parameter {name!r}", f"leave it out; it has {known}")
    for name, facts in declared.items():
        if name not in submission.parameters and "defaultValue" not in facts and not facts.get("isOptional"):
            yield Problem("parameters", f"the pipeline's parameter {name!r} has no value", "give it one")


def _executors(submission: Submission) -> Iterator[tuple[str, str]]:
    """The steps of the compiled pipeline with their images."""
    executors = submission.pipeline.get("deploymentSpec", {}).get("executors", {})
    for name, executor in sorted(executors.items()):
        step = re.sub(r"-\d+$", "", name.removeprefix("exec-")).replace("-", "_")
        yield step, executor.get("container", {}).get("image", "")


def _images(submission: Submission) -> Iterator[Problem]:
    """Every image is there, by digest."""
    seen = set()
    for step, image in _executors(submission):
        target = IMAGE_OF.get(step, step)
        if target in seen or IMAGE_BY_DIGEST.fullmatch(image):
            continue
        seen.add(target)
        steps = [name for name, own in IMAGE_OF.items() if own == target] or [step]
        if "/" not in image:  # the stand-in of a local run
            yield Problem(f"images.{target}", f"no image for {', '.join(steps)}", MAKE_IMAGES)
            continue
        yield Problem(
            f"images.{target}",
            f"{image} is not named by digest: a tag can be moved, and since the cache goes by an image's name, steps "
            "of the new code would be answered with results of the old one",
            f"name it as {re.sub(r'(@.*|:[^:/]+)$', '', image)}@sha256:… with 64 hexadecimal digits; `gcloud artifacts "
            f"docker images describe {image}` tells them",
        )


def _resources(submission: Submission, backend: str) -> Iterator[Problem]:
    """Machines are asked for in the words that KFP knows."""
    environment = submission.environment.resources
    for step, asked in submission.config.resources.items():
        is_default = step not in environment and asked == environment.get("default")
        key = f"resources.{'default' if is_default else step}"
        if asked.cpu is not None and not (CPU.fullmatch(asked.cpu) and float(asked.cpu.rstrip("m")) > 0):
            yield Problem(f"{key}.cpu", f"{asked.cpu!r} is no number of CPUs", "write '8', or '500m' for half of one")
        if asked.memory is not None and not MEMORY.fullmatch(asked.memory):
            yield Problem(f"{key}.memory", f"{asked.memory!r} is no amount of memory", "write 32G or 32Gi")
        if asked.accelerator is None:
            continue
        if not ACCELERATORS[backend].fullmatch(asked.accelerator):
            what = f"{asked.accelerator!r} is no type of accelerator"
            yield Problem(f"{key}.accelerator", what, f"write {ACCELERATOR_EXAMPLE[backend]}, for example")
        count = asked.accelerator_count
        if count < 1 or count & (count - 1):
            what = f"{count} accelerators at one machine are not to be had"
            yield Problem(f"{key}.accelerator_count", what, "take 1, 2, 4, 8 or 16")


def _labels(submission: Submission) -> Iterator[Problem]:
    labels = submission.labels
    if len(labels) > MOST_LABELS:
        yield Problem("labels", f"{len(labels)} labels, of which {MOST_LABELS} are possible", "leave some out")
    rule = "up to 63 of a-z, 0-9, _ and -"
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            yield Problem("labels", f"{key!r} is no key of a label", f"write {rule}, the first of them a letter")
        if not LABEL_VALUE.fullmatch(value):
            yield Problem(f"labels.{key}", f"{value!r} is no value of a label", f"write {rule}")


def _run_id(submission: Submission) -> Iterator[Problem]:
    if not RUN_ID.fullmatch(submission.run_id):
        to_do = "up to 128 of a-z, 0-9 and -, the first of them a letter; the configuration's name is its beginning"
        yield Problem("name", f"{submission.run_id!r} is no id of a run", to_do)


def _beam(beam: Beam) -> Iterator[Problem]:
    """The runner of the Beam steps is one that there is, and has what it needs."""
    from two_tower.dataflow_options import check_options

    if beam.runner == "DataflowRunner":
        for text in check_options(beam):
            where, _, what = text.partition(": ")
            yield Problem(where, what, "mend it in the section `beam` of the environment file")
        return
    if beam.runner == Beam().runner:
        return
    try:
        from two_tower.beam import LOCAL, REMOTE
    except ImportError:  # this machine only submits
        return
    if beam.runner not in (*LOCAL, *REMOTE):
        known = ", ".join((*LOCAL, *REMOTE))
        yield Problem("beam.runner", f"there is no runner {beam.runner!r}", f"take one of {known}")
    elif beam.runner in REMOTE and "://" not in (beam.work or ""):
        what = f"{beam.runner} needs a folder that all its workers reach, got {beam.work!r}"
        yield Problem("beam.work", what, "write gs://BUCKET/FOLDER")


def _places(submission: Submission, backend: str) -> Iterator[Problem]:
    """Nothing is looked for on a machine that no step runs on."""
    environment, config = submission.environment, submission.config
    paths = {"data_root": environment.data_root, "embedding.previous": config.embedding.previous}
    for key, path in paths.items():
        if path and "://" not in normalised(path):
            yield _only_here(key, path, backend)
    if config.data.incremental:
        yield Problem(
            "data.incremental", "a run elsewhere is not told of earlier preparations, so that it keeps events for none",
            "set it to false to save their space", blocking=False,
        )  # fmt: skip


def _sources(run: _Run) -> Iterator[Problem]:
    is_filled = run.config is not run.submission.config
    for key, source in _tables(run.config).items():
        for path in _paths(source):
            if path.startswith("file:") or ("://" not in path and PurePosixPath(path).is_absolute()):
                yield _only_here(f"{key}.path", path, run.backend)
            if is_filled and (left := re.search(r"\{[^{}]*\}", path)):
                to_do = "write {date}, {date-7d}, {date-1d:%Y/%m/%d}, {time} or {time-24h}"
                yield Problem(f"{key}.path", f"{left[0]} in {path!r} is no placeholder that is known", to_do)


def _only_here(key: str, path: str, backend: str) -> Problem:
    on_vertex = backend == "vertex"
    return Problem(
        key,
        f"{path} is a folder of a machine, and the steps' containers do not have this one's",
        "put it on Cloud Storage and name it as gs://BUCKET/FOLDER" + ("" if on_vertex else ", or mount it everywhere"),
        blocking=on_vertex,
    )


def _tables(config: Config) -> dict[str, Source]:
    """The sources by key."""
    tables = {"interactions": config.data.interactions, "items": config.data.items, "users": config.data.users}
    return {f"data.{name}": source for name, source in tables.items() if source is not None}


def _paths(source: Source) -> list[str]:
    paths = source.path if isinstance(source.path, list) else [source.path or ""]
    return [normalised(path) for path in paths if path]


@dataclass
class _Use:
    """What a bucket is used for."""

    keys: list[str] = field(default_factory=list)
    writes: bool = False
    shown: bool = False
    """Whether the one who follows a run reads its results there."""

    @property
    def where(self) -> str:
        return ", ".join(dict.fromkeys(self.keys))


def _buckets(run: _Run) -> dict[str, _Use]:
    """The buckets on Cloud Storage that anything names."""
    submission, config, beam = run.submission, run.config, run.config.beam
    found: dict[str, _Use] = {}

    def add(key: str, uri: Any, *, writes: bool = False, shown: bool = False) -> None:
        if isinstance(uri, str) and (uri := normalised(uri)).startswith("gs://"):
            use = found.setdefault(uri.split("/")[2], _Use())
            use.keys.append(key)
            use.writes, use.shown = use.writes or writes, use.shown or shown

    if run.backend == "vertex":
        add("vertex.bucket", submission.root, writes=True, shown=True)
    else:
        add("kubeflow.root", submission.root, writes=True, shown=True)
        add("kubeflow.registry", submission.registry, writes=True, shown=True)
    add("data_root", submission.environment.data_root)
    for key, source in _tables(config).items():
        for path in _paths(source):
            add(f"{key}.path", path)
        if source.bigquery is not None:
            add(f"{key}.bigquery.export_to", source.bigquery.export_to, writes=True)
    add("embedding.previous", config.embedding.previous)
    add("beam.work", beam.work, writes=True)
    for name in ("temp_location", "staging_location"):
        add(f"beam.options.{name}", beam.options.get(name), writes=True)
    return found


class _Google:
    """What is asked of Google Cloud, and as whom.

    Raises:
        UserError: There are no credentials, or none that are accepted.
        Busy: Whoever checks them does not answer.
    """

    def __init__(self, project: str | None, service_account: str | None) -> None:
        from google.auth.transport.requests import AuthorizedSession, Request

        self.project, self.service_account = project, service_account
        self.credentials = credentials()
        with explained("signing in to Google Cloud"):
            self.credentials.refresh(Request())
        self.session = AuthorizedSession(self.credentials)
        self.email: str = getattr(self.credentials, "service_account_email", None) or ""

    @property
    def member(self) -> str:
        """Who asks, as roles are granted."""
        return f"serviceAccount:{self.email}" if self.email else "user:YOUR-ADDRESS"

    def is_the_steps_account(self) -> bool:
        """Whether the steps run as who asks here."""
        return bool(self.email) and self.email == self.service_account

    def ask(self, method: str, url: str, *, patient: bool = True, **options: Any) -> tuple[int, dict[str, Any]]:
        """The status and the JSON content of a reply.

        Raises:
            UserError: There is none, or the service is busy, even after some tries.
            Busy: Likewise after the first one, if not `patient`.
        """
        from google.api_core.exceptions import from_http_response

        def once() -> Any:
            reply = self.session.request(method, url, timeout=PATIENCE, **options)
            if reply.status_code == 429 or reply.status_code >= 500:
                raise from_http_response(reply)
            return reply

        if patient:
            reply = patiently(once, f"asking {url}")
        else:
            with explained(f"asking {url}"):
                reply = once()
        content: Any = None
        with contextlib.suppress(ValueError):
            content = reply.json()
        return reply.status_code, content if isinstance(content, dict) else {}

    def granted(self, url: str, permissions: Iterable[str]) -> tuple[int, set[str], str]:
        """The status, the permissions that are held on a resource, and the refusal's text."""
        status, content = self.ask("POST", f"{url}:testIamPermissions", json={"permissions": [*permissions]})
        return status, set(content.get("permissions", [])), _said(content)


def _asked_of_google(run: _Run) -> list[Problem]:
    settings = run.submission.environment.vertex
    assert settings is not None
    try:
        google = _Google(settings.project, settings.service_account)
    except (UserError, Busy) as error:
        to_do = "run `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        return [Problem("credentials", str(error).partition("; run ")[0], to_do)]
    found = [
        *_project(google, settings, schedules=run.scheduled), *_services(google, settings, run),
        *_service_account(google, settings), *_region(google, settings),
    ]  # fmt: skip
    problems, unreadable = _checked_buckets(google, run)
    found += [*problems, *_missing_sources(run, unreadable)]
    return [*found, *_registry_images(google, settings, run.submission)]


def _project(google: _Google, settings: Vertex, *, schedules: bool) -> Iterator[Problem]:
    """The project is there, and what has to be done in it may be done."""
    base = settings.endpoints.get("resource_manager", "https://cloudresourcemanager.googleapis.com").rstrip("/")
    url, project = f"{base}/v3/projects/{settings.project}", settings.project
    needed = (*RUN_PERMISSIONS, *(SCHEDULE_PERMISSIONS if schedules else ()))
    try:
        status, content = google.ask("GET", url)
        tested, held, said = google.granted(url, needed)
    except UserError as error:
        yield _unknown("vertex.project", "the project and the permissions in it", str(error))
        return
    state = content.get("state", "ACTIVE")
    if tested == 200 and state == "ACTIVE":
        if missing := [name for name in needed if name not in held]:
            yield Problem(
                "vertex.project",
                f"these credentials ({google.member}) may not do all that is needed: {', '.join(missing)}",
                _grant(f"projects add-iam-policy-binding {project}", google.member, "roles/aiplatform.user"),
            )
    elif state != "ACTIVE":
        what = f"the project {project} is about to be deleted ({state})"
        yield Problem("vertex.project", what, f"`gcloud projects undelete {project}`, or name another project")
    elif _disabled(content) or _disabled_text(said):
        yield _unknown(
            "vertex.project", "the project and the permissions in it", said, enable("cloudresourcemanager", project)
        )
    elif status in (403, 404):
        what = f"there is no project {project}, or these credentials ({google.member}) may not see it"
        yield Problem(
            "vertex.project", what, "`gcloud projects list` tells the ids of those that they see; name one of them"
        )
    else:
        yield _unknown("vertex.project", "the permissions in the project", said)


def _services(google: _Google, settings: Vertex, run: _Run) -> Iterator[Problem]:
    """The services that a run uses are enabled in the project."""
    base = settings.endpoints.get("service_usage", "https://serviceusage.googleapis.com").rstrip("/")
    reasons = {"aiplatform": "vertex", "storage": "vertex.bucket"}
    for key, image in _by_key(run.submission).items():
        host, _, path = image.partition("/")
        if host.endswith(".pkg.dev") and path.startswith(f"{settings.project}/"):
            reasons.setdefault("artifactregistry", key)
    if run.config.beam.runner == "DataflowRunner":
        reasons |= {"dataflow": "beam.runner", "compute": "beam.runner"}
    for key, source in _tables(run.config).items():
        if source.bigquery is not None and source.bigquery.project in (None, settings.project):
            reasons.setdefault("bigquery", f"{key}.bigquery")
    for service, key in reasons.items():
        name = f"{service}.googleapis.com"
        try:
            status, content = google.ask("GET", f"{base}/v1/projects/{settings.project}/services/{name}")
        except UserError as error:
            status, content = 0, {"error": {"message": str(error)}}
        if status != 200:
            yield _unknown("vertex.project", "whether the services are enabled", _said(content))
            return
        if content.get("state") != "ENABLED":
            yield Problem(
                key, f"{name} is not enabled in the project {settings.project}", enable(service, settings.project)
            )


def _service_account(google: _Google, settings: Vertex) -> Iterator[Problem]:
    """The account of the steps is there, and steps may be started as it."""
    base = settings.endpoints.get("iam", "https://iam.googleapis.com").rstrip("/")
    email, key = settings.service_account, "vertex.service_account"
    own = re.fullmatch(r"[^@]+@([^.]+)\.iam\.gserviceaccount\.com", email)
    project = own[1] if own else settings.project
    try:
        status, held, said = google.granted(f"{base}/v1/projects/{project}/serviceAccounts/{email}", [ACT_AS])
    except UserError as error:
        yield _unknown(key, "the permission to run steps as it", str(error))
        return
    if status == 404:
        name = email.partition("@")[0]
        yield Problem(
            key, f"there is no service account {email}",
            f"`gcloud iam service-accounts create {name} --project={project}`, or name another one",
        )  # fmt: skip
    elif status != 200:
        yield _unknown(
            key, "the permission to run steps as it", said, enable("iam", project) if _disabled_text(said) else ""
        )
    elif ACT_AS not in held:
        command = f"iam service-accounts add-iam-policy-binding {email} --project={project}"
        yield Problem(
            key, f"these credentials ({google.member}) may not run steps as {email}: {ACT_AS}",
            _grant(command, google.member, "roles/iam.serviceAccountUser"),
        )  # fmt: skip


def _region(google: _Google, settings: Vertex) -> Iterator[Problem]:
    """Vertex AI answers for the region."""
    address = settings.endpoints.get("vertex", f"https://{settings.region}-aiplatform.googleapis.com").rstrip("/")
    url = f"{address}/v1/projects/{settings.project}/locations/{settings.region}/pipelineJobs?pageSize=1"
    key = "vertex.endpoints.vertex" if "vertex" in settings.endpoints else "vertex.region"
    try:
        status, content = google.ask("GET", url, patient=False)
    except (UserError, Busy) as error:
        yield Problem(key, f"{address} does not answer: {error}", "look for a slip in it, and whether it is reachable")
        return
    if status in (400, 404):
        to_do = "take one of https://cloud.google.com/vertex-ai/docs/general/locations"
        yield Problem(key, f"Vertex AI knows no pipelines in {settings.region}: {_said(content)}", to_do)


def _checked_buckets(google: _Google, run: _Run) -> tuple[list[Problem], set[str]]:
    """What is wrong with the buckets, and those in which nothing can be looked for."""
    from google.cloud.storage import Client

    client = Client(project=google.project or "", credentials=google.credentials)
    vertex = run.submission.environment.vertex
    region = vertex.region if run.backend == "vertex" and vertex else None
    found: list[Problem] = []
    unreadable = set()
    for name, use in _buckets(run).items():
        problems, readable = _checked_bucket(google, client, name, use, region)
        found += problems
        if not readable:
            unreadable.add(name)
    return found, unreadable


def _checked_bucket(
    google: _Google, client: Any, name: str, use: _Use, region: str | None
) -> tuple[list[Problem], bool]:
    from google.api_core.exceptions import GoogleAPICallError, NotFound
    from google.cloud.storage.retry import DEFAULT_RETRY

    retry, bucket = DEFAULT_RETRY.with_timeout(PATIENCE), client.bucket(name)
    needed = (*READING, *(WRITING if use.writes else ()))
    where, uri = use.where, f"gs://{name}"
    try:
        held = bucket.test_iam_permissions([*needed, DESCRIBING], timeout=PATIENCE, retry=retry)
        if DESCRIBING in held:
            bucket.reload(timeout=PATIENCE, retry=retry)
    except NotFound:
        place = f" --location={region}" if region else ""
        project = f" --project={google.project}" if google.project else ""
        command = f"`gcloud storage buckets create {uri}{project}{place} --uniform-bucket-level-access`"
        return [Problem(where, f"there is no bucket {uri}", f"{command}, or name another one")], False
    except (GoogleAPICallError, OSError, ValueError) as error:
        return [_unknown(where, f"the bucket {uri}", _short(error))], False
    found = [*_denied(google, uri, use, [one for one in needed if one not in held])]
    if region is not None and DESCRIBING not in held:
        role = _grant(f"storage buckets add-iam-policy-binding {uri}", google.member, "roles/storage.bucketViewer")
        found.append(_unknown(where, f"where the bucket {uri} lies", f"it takes {DESCRIBING}", role))
    elif region is not None and bucket.location and not _holds(bucket, region):
        what = f"the bucket {uri} lies in {bucket.location}, the steps in {region}: slower, and traffic is paid for"
        found.append(Problem(where, what, "take a bucket in a location that holds the region", blocking=False))
    return found, all(one in held for one in READING)


def _denied(google: _Google, uri: str, use: _Use, missing: list[str]) -> Iterator[Problem]:
    """What may not be done in a bucket: it stops the run if who asks here has to do it, as the steps or as a reader."""
    steps = google.service_account
    role = "roles/storage.objectAdmin" if use.writes else "roles/storage.objectViewer"
    command = f"storage buckets add-iam-policy-binding {uri}"
    own = [one for one in missing if google.is_the_steps_account() or (use.shown and one in READING)]
    others = [one for one in missing if one not in own]
    if own:
        what = f"these credentials ({google.member}) may not do all that is needed in {uri}: {', '.join(own)}"
        sufficient = role if google.is_the_steps_account() else "roles/storage.objectViewer"
        yield Problem(use.where, what, _grant(command, google.member, sufficient))
    if others:
        what = f"these credentials ({google.member}) may not do all that a step does in {uri}: {', '.join(others)}"
        account = f"serviceAccount:{steps}" if steps else "MEMBER"
        whom = f"the steps' own account, {steps}," if steps else "the steps' own account"
        yield Problem(
            use.where, f"{what}; it cannot be seen from here whether {whom} may", _grant(command, account, role),
            blocking=False,
        )  # fmt: skip


def _holds(bucket: Any, region: str) -> bool:
    """Whether a bucket's location contains the region."""
    location = bucket.location.upper()
    places = [*(bucket.data_locations or []), *DUAL_REGIONS.get(location, ())]
    if places:
        return region.upper() in (place.upper() for place in places)
    if location in ("EU", "US", "ASIA"):
        prefix = {"EU": "europe-", "US": "us-", "ASIA": "asia-"}[location]
        return region.startswith(prefix) and region not in OUTSIDE_THE_UNION
    return bool(location == region.upper())


def _missing_sources(run: _Run, unreadable: set[str]) -> Iterator[Problem]:
    """The files that the run will read are there; those of a time that is still to come may not be."""
    config, root = run.config, normalised(run.submission.parameters.get("data_root") or "")
    written = _tables(run.submission.config)
    for key, source in _tables(config).items():
        if source.bigquery is not None:
            yield _bigquery(key, source.bigquery)
            continue
        if run.is_to_come and _paths(source) != _paths(written[key]):
            continue
        urls = [
            path if "://" in path else below(root, f"{config.dataset or config.name}/{path}")
            for path in _paths(source)
            if not PurePosixPath(path).is_absolute()
        ]
        urls = [url for url in urls if not url.startswith("file:") and "{" not in url]
        if other := next((url for url in urls if "://" in url and not url.startswith("gs://")), None):
            yield _unknown(f"{key}.path", other, "only Cloud Storage is looked at from here")
        urls = [url for url in urls if url.startswith("gs://") and url.split("/")[2] not in unreadable]
        yield from _unresolved(key, source, urls, config)


def _unresolved(key: str, source: Source, urls: list[str], config: Config) -> Iterator[Problem]:
    """The whole list first, and only if something is wrong each of it, so that all is named."""
    whole = _unresolved_url(key, source, urls, config) if urls else None
    if whole is None:
        return
    single = [_unresolved_url(key, source, url, config) for url in urls]
    yield from [problem for problem in single if problem] or [whole]


def _unresolved_url(key: str, source: Source, url: str | list[str], config: Config) -> Problem | None:
    from two_tower.data import resolve_sources

    only: dict[str, Any] = dict.fromkeys(("interactions", "items", "users"))
    only[key.removeprefix("data.")] = source.model_copy(update={"path": url})
    try:
        resolve_sources(config.data.model_copy(update=only), dataset=config.dataset or config.name)
    except DataError as error:
        what = str(error).removeprefix(f"{key}.path: ").partition("; looked in ")[0]
        return Problem(f"{key}.path", what, "put the files there, or mend the path or data_root")
    return None


def _bigquery(key: str, source: BigQuery) -> Problem:
    """To look at it takes a query, and to resolve it makes an export."""
    return _unknown(f"{key}.bigquery", source.table or "the query", "the first step exports it", "look at it yourself")


def _registry_images(google: _Google, settings: Vertex, submission: Submission) -> Iterator[Problem]:
    """The images are in their registry.  None but Google's is shown these credentials."""
    answers: dict[str, Problem | None] = {}
    for key, image in _by_key(submission).items():
        if IMAGE_BY_DIGEST.fullmatch(image) and image not in answers:
            answers[image] = _registry_image(google, settings, key, image)
            if problem := answers[image]:
                yield problem


def _registry_image(google: _Google, settings: Vertex, key: str, image: str) -> Problem | None:
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    if not host.endswith((".pkg.dev", ".gcr.io")) and host != "gcr.io":
        return _unknown(key, image, f"{host} is no registry of Google's", "see that Vertex AI can pull it from there")
    address = settings.endpoints.get("images", f"https://{host}").rstrip("/")
    path = re.sub(r":[^:/]+$", "", path)
    url = f"{address}/v2/{path}/manifests/{digest}"
    try:
        status, _ = google.ask("HEAD", url, headers={"Accept": MANIFESTS}, allow_redirects=True)
    except UserError as error:
        return _unknown(key, image, str(error))
    if status == 404:
        return Problem(key, f"{image} is not in the registry", MAKE_IMAGES)
    if status in (401, 403):
        project, _, rest = path.partition("/")
        repository = rest.partition("/")[0]
        command = f"artifacts repositories add-iam-policy-binding {repository} --project={project}"
        if host.endswith("-docker.pkg.dev"):
            command += f" --location={host.removesuffix('-docker.pkg.dev')}"
        role = _grant(command, google.member, "roles/artifactregistry.reader")
        return _unknown(key, image, "its repository is not there, or these credentials may not read it", role)
    return None if status == 200 else _unknown(key, image, f"the registry answers {status}")


def _by_key(submission: Submission) -> Mapping[str, str]:
    """The images that a run uses, by the key that names each."""
    found = {f"images.{IMAGE_OF.get(step, step)}": image for step, image in _executors(submission)}
    worker = submission.config.beam.options.get("sdk_container_image")
    if submission.config.beam.runner == "DataflowRunner" and isinstance(worker, str):
        found["beam.options.sdk_container_image"] = worker
    return found


def _asked_of_kubeflow(run: _Run, host: str | None) -> Iterator[Problem]:
    settings = run.submission.environment.kubeflow
    assert settings is not None
    yield from _host(host or settings.host, "--host" if host else "kubeflow.host")
    if not _buckets(run):
        return
    try:
        google = _Google(None, None)
    except (UserError, Busy) as error:
        yield _unknown("kubeflow.root", "the buckets on Cloud Storage", str(error).partition("; run ")[0])
        return
    problems, unreadable = _checked_buckets(google, run)
    yield from problems
    yield from _missing_sources(run, unreadable)


def _host(host: str | None, key: str) -> Iterator[Problem]:
    """Kubeflow Pipelines answers."""
    import requests

    if host is None:
        yield Problem(key, "no address of Kubeflow Pipelines", "give it there, or with --host http://…")
        return
    url = f"{host.rstrip('/')}/apis/v2beta1/healthz"
    try:
        status = requests.get(url, timeout=PATIENCE, allow_redirects=False).status_code
    except requests.RequestException as error:
        to_do = "see that it is reachable from here, for example with `kubectl port-forward`"
        yield Problem(key, f"{host} does not answer: {error}", to_do)
        return
    if status in (301, 302, 303, 307, 308, 401, 403):
        yield _unknown(key, "whether it takes runs", f"it asks for a login ({status})", "have a token ready")
    elif status != 200:
        what = f"{url} answers {status}, which Kubeflow Pipelines does not do when it is well"
        yield Problem(key, what, "look for a slip in the address, and at the server")


def enable(service: str, project: str) -> str:
    """How to enable a service."""
    return f"`gcloud services enable {service}.googleapis.com --project={project}`"


def _grant(command: str, member: str, role: str) -> str:
    return f"`gcloud {command} --member={member} --role={role}`"


def _unknown(where: str, subject: str, why: str, to_do: str = "") -> Problem:
    """A note that something could not be looked at."""
    return Problem(where, f"cannot be checked: {subject} ({why})", to_do or "look at it yourself", blocking=False)


def _said(content: Mapping[str, Any]) -> str:
    """What an error reply says."""
    error = content.get("error")
    return str(error.get("message", "")).partition("\n")[0][:300] if isinstance(error, Mapping) else ""


def _disabled(content: Mapping[str, Any]) -> bool:
    return _disabled_text(str(content.get("error", "")))


def _disabled_text(said: str) -> bool:
    """Whether a refusal says that the asked service itself is not enabled."""
    return "SERVICE_DISABLED" in said or "has not been used in project" in said


def _short(error: BaseException) -> str:
    return str(getattr(error, "message", "") or error).partition("\n")[0][:300]
