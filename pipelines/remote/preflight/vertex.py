"""What Google Cloud says of a run on Vertex AI: project, services, accounts, region, images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from components.build import IMAGE_OF
from pipelines.remote.google import Busy
from pipelines.remote.preflight.buckets import checked_buckets, missing_sources
from pipelines.remote.preflight.client import Google, disabled, disabled_text, said
from pipelines.remote.preflight.problem import MAKE_IMAGES, Problem, enable, gcloud, grant, unknown
from pipelines.remote.preflight.run import IMAGE_BY_DIGEST, PlannedRun, executors, tables
from pipelines.remote.submission import Submission
from two_tower.config import VertexSettings
from two_tower.errors import UserError

RUN_PERMISSIONS = tuple(f"aiplatform.pipelineJobs.{verb}" for verb in ("create", "get", "list", "cancel"))

SCHEDULE_PERMISSIONS = tuple(f"aiplatform.schedules.{verb}" for verb in ("create", "get", "list", "update", "delete"))

ACT_AS = "iam.serviceAccounts.actAs"

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)  # fmt: skip


def found_on_vertex(run: PlannedRun) -> list[Problem]:
    settings = run.submission.environment.vertex
    assert settings is not None
    try:
        google = Google(settings.project, settings.service_account)
    except (UserError, Busy) as error:
        to_do = "run `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        return [Problem("credentials", str(error).partition("; run ")[0], to_do)]
    found = [
        *_project(google, settings, schedules=run.scheduled), *_services(google, settings, run),
        *_service_account(google, settings), *_region(google, settings),
    ]  # fmt: skip
    problems, unreadable = checked_buckets(google, run)
    found += [*problems, *missing_sources(run, unreadable)]
    return [*found, *_registry_images(google, settings, run.submission)]


def _project(google: Google, settings: VertexSettings, *, schedules: bool) -> Iterator[Problem]:
    """The project is there, and what has to be done in it may be done."""
    base = settings.endpoints.get("resource_manager", "https://cloudresourcemanager.googleapis.com").rstrip("/")
    url, project = f"{base}/v3/projects/{settings.project}", settings.project
    needed = (*RUN_PERMISSIONS, *(SCHEDULE_PERMISSIONS if schedules else ()))
    try:
        status, content = google.ask("GET", url)
        tested, held, said = google.granted(url, needed)
    except UserError as error:
        yield unknown("vertex.project", "the project and the permissions in it", str(error))
        return
    state = content.get("state", "ACTIVE")
    if tested == 200 and state == "ACTIVE":
        if missing := [name for name in needed if name not in held]:
            yield Problem(
                "vertex.project",
                f"these credentials ({google.member}) may not do all that is needed: {', '.join(missing)}",
                grant(["projects", "add-iam-policy-binding", project], google.member, "roles/aiplatform.user"),
            )
    elif state != "ACTIVE":
        what = f"the project {project} is about to be deleted ({state})"
        yield Problem("vertex.project", what, f"{gcloud('projects', 'undelete', project)}, or name another project")
    elif disabled(content) or disabled_text(said):
        yield unknown(
            "vertex.project", "the project and the permissions in it", said, enable("cloudresourcemanager", project)
        )
    elif status in (403, 404):
        what = f"there is no project {project}, or these credentials ({google.member}) may not see it"
        yield Problem(
            "vertex.project", what, "`gcloud projects list` tells the ids of those that they see; name one of them"
        )
    else:
        yield unknown("vertex.project", "the permissions in the project", said)


def _services(google: Google, settings: VertexSettings, run: PlannedRun) -> Iterator[Problem]:
    """The services that a run uses are enabled in the project."""
    base = settings.endpoints.get("service_usage", "https://serviceusage.googleapis.com").rstrip("/")
    reasons = {"aiplatform": "vertex", "storage": "vertex.bucket"}
    for key, image in _by_key(run.submission).items():
        host, _, path = image.partition("/")
        if host.endswith(".pkg.dev") and path.startswith(f"{settings.project}/"):
            reasons.setdefault("artifactregistry", key)
    if run.config.beam.runner == "DataflowRunner":
        reasons |= {"dataflow": "beam.runner", "compute": "beam.runner"}
    for key, source in tables(run.config).items():
        if source.bigquery is not None and source.bigquery.project in (None, settings.project):
            reasons.setdefault("bigquery", f"{key}.bigquery")
    for service, key in reasons.items():
        name = f"{service}.googleapis.com"
        try:
            status, content = google.ask("GET", f"{base}/v1/projects/{settings.project}/services/{name}")
        except UserError as error:
            status, content = 0, {"error": {"message": str(error)}}
        if status != 200:
            yield unknown("vertex.project", "whether the services are enabled", said(content))
            return
        if content.get("state") != "ENABLED":
            yield Problem(
                key, f"{name} is not enabled in the project {settings.project}", enable(service, settings.project)
            )


def _service_account(google: Google, settings: VertexSettings) -> Iterator[Problem]:
    """The account of the steps is there, and steps may be started as it."""
    base = settings.endpoints.get("iam", "https://iam.googleapis.com").rstrip("/")
    email, key = settings.service_account, "vertex.service_account"
    own = re.fullmatch(r"[^@]+@([^.]+)\.iam\.gserviceaccount\.com", email)
    project = own[1] if own else settings.project
    try:
        status, held, said = google.granted(f"{base}/v1/projects/{project}/serviceAccounts/{email}", [ACT_AS])
    except UserError as error:
        yield unknown(key, "the permission to run steps as it", str(error))
        return
    if status == 404:
        name = email.partition("@")[0]
        yield Problem(
            key, f"there is no service account {email}",
            f"{gcloud('iam', 'service-accounts', 'create', name, f'--project={project}')}, or name another one",
        )  # fmt: skip
    elif status != 200:
        yield unknown(
            key, "the permission to run steps as it", said, enable("iam", project) if disabled_text(said) else ""
        )
    elif ACT_AS not in held:
        command = ["iam", "service-accounts", "add-iam-policy-binding", email, f"--project={project}"]
        yield Problem(
            key, f"these credentials ({google.member}) may not run steps as {email}: {ACT_AS}",
            grant(command, google.member, "roles/iam.serviceAccountUser"),
        )  # fmt: skip


def _region(google: Google, settings: VertexSettings) -> Iterator[Problem]:
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
        yield Problem(key, f"Vertex AI knows no pipelines in {settings.region}: {said(content)}", to_do)


def _registry_images(google: Google, settings: VertexSettings, submission: Submission) -> Iterator[Problem]:
    """The images are in their registry.  None but Google's is shown these credentials."""
    answers: dict[str, Problem | None] = {}
    for key, image in _by_key(submission).items():
        if IMAGE_BY_DIGEST.fullmatch(image) and image not in answers:
            answers[image] = _registry_image(google, settings, key, image)
            if problem := answers[image]:
                yield problem


def _registry_image(google: Google, settings: VertexSettings, key: str, image: str) -> Problem | None:
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    if not host.endswith((".pkg.dev", ".gcr.io")) and host != "gcr.io":
        return unknown(key, image, f"{host} is no registry of Google's", "see that Vertex AI can pull it from there")
    address = settings.endpoints.get("images", f"https://{host}").rstrip("/")
    path = re.sub(r":[^:/]+$", "", path)
    url = f"{address}/v2/{path}/manifests/{digest}"
    try:
        status, _ = google.ask("HEAD", url, headers={"Accept": MANIFESTS}, allow_redirects=True)
    except UserError as error:
        return unknown(key, image, str(error))
    if status == 404:
        return Problem(key, f"{image} is not in the registry", MAKE_IMAGES)
    if status in (401, 403):
        project, _, rest = path.partition("/")
        repository = rest.partition("/")[0]
        command = ["artifacts", "repositories", "add-iam-policy-binding", repository, f"--project={project}"]
        if host.endswith("-docker.pkg.dev"):
            command.append(f"--location={host.removesuffix('-docker.pkg.dev')}")
        role = grant(command, google.member, "roles/artifactregistry.reader")
        return unknown(key, image, "its repository is not there, or these credentials may not read it", role)
    return None if status == 200 else unknown(key, image, f"the registry answers {status}")


def _by_key(submission: Submission) -> Mapping[str, str]:
    """The images that a run uses, by the key that names each."""
    found = {f"images.{IMAGE_OF.get(step, step)}": image for step, image in executors(submission)}
    worker = submission.config.beam.options.get("sdk_container_image")
    if submission.config.beam.runner == "DataflowRunner" and isinstance(worker, str):
        found["beam.options.sdk_container_image"] = worker
    return found
