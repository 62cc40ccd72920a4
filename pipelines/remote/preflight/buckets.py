"""The buckets that a run uses, and the files that it will read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipelines.remote.google import short
from pipelines.remote.preflight.client import PATIENCE, Google
from pipelines.remote.preflight.problem import Problem, gcloud, grant, unknown
from pipelines.remote.preflight.run import PlannedRun, paths, tables
from two_tower.artifacts import below, normalised
from two_tower.config import BigQuerySettings, Config, SourceSettings
from two_tower.errors import DataError

READING, WRITING = ("storage.objects.get", "storage.objects.list"), ("storage.objects.create", "storage.objects.delete")

DESCRIBING = "storage.buckets.get"
BIND = ("storage", "buckets", "add-iam-policy-binding")

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


@dataclass
class Use:
    """What a bucket is used for."""

    keys: list[str] = field(default_factory=list)
    writes: bool = False
    shown: bool = False
    """Whether the one who follows a run reads its results there."""

    @property
    def where(self) -> str:
        return ", ".join(dict.fromkeys(self.keys))


def buckets_of(run: PlannedRun) -> dict[str, Use]:
    """The buckets on Cloud Storage that anything names."""
    submission, config, beam = run.submission, run.config, run.config.beam
    found: dict[str, Use] = {}

    def add(key: str, uri: Any, *, writes: bool = False, shown: bool = False) -> None:
        if isinstance(uri, str) and (uri := normalised(uri)).startswith("gs://"):
            use = found.setdefault(uri.split("/")[2], Use())
            use.keys.append(key)
            use.writes, use.shown = use.writes or writes, use.shown or shown

    if run.backend == "vertex":
        add("vertex.bucket", submission.root, writes=True, shown=True)
    else:
        add("kubeflow.root", submission.root, writes=True, shown=True)
        add("kubeflow.registry", submission.registry, writes=True, shown=True)
    add("data_root", submission.environment.data_root)
    for key, source in tables(config).items():
        for path in paths(source):
            add(f"{key}.path", path)
        if source.bigquery is not None:
            add(f"{key}.bigquery.export_to", source.bigquery.export_to, writes=True)
    add("embedding.previous", config.embedding.previous)
    add("beam.work", beam.work, writes=True)
    for name in ("temp_location", "staging_location"):
        add(f"beam.options.{name}", beam.options.get(name), writes=True)
    return found


def checked_buckets(google: Google, run: PlannedRun) -> tuple[list[Problem], set[str]]:
    """What is wrong with the buckets, and those in which nothing can be looked for."""
    from google.cloud.storage import Client

    client = Client(project=google.project or "", credentials=google.credentials)
    vertex = run.submission.environment.vertex
    region = vertex.region if run.backend == "vertex" and vertex else None
    found: list[Problem] = []
    unreadable = set()
    for name, use in buckets_of(run).items():
        problems, readable = _checked_bucket(google, client, name, use, region)
        found += problems
        if not readable:
            unreadable.add(name)
    return found, unreadable


def _checked_bucket(google: Google, client: Any, name: str, use: Use, region: str | None) -> tuple[list[Problem], bool]:
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
        project = [f"--project={google.project}"] if google.project else []
        place = [f"--location={region}"] if region else []
        command = gcloud("storage", "buckets", "create", uri, *project, *place, "--uniform-bucket-level-access")
        return [Problem(where, f"there is no bucket {uri}", f"{command}, or name another one")], False
    except (GoogleAPICallError, OSError, ValueError) as error:
        return [unknown(where, f"the bucket {uri}", short(error))], False
    found = [*_denied(google, uri, use, [one for one in needed if one not in held])]
    if region is not None and DESCRIBING not in held:
        role = grant([*BIND, uri], google.member, "roles/storage.bucketViewer")
        found.append(unknown(where, f"where the bucket {uri} lies", f"it takes {DESCRIBING}", role))
    elif region is not None and bucket.location and not _holds(bucket, region):
        what = f"the bucket {uri} lies in {bucket.location}, the steps in {region}: slower, and traffic is paid for"
        found.append(Problem(where, what, "take a bucket in a location that holds the region", blocking=False))
    return found, all(one in held for one in READING)


def _denied(google: Google, uri: str, use: Use, missing: list[str]) -> Iterator[Problem]:
    """What may not be done in a bucket: it stops the run if who asks here has to do it, as the steps or as a reader."""
    steps = google.service_account
    role = "roles/storage.objectAdmin" if use.writes else "roles/storage.objectViewer"
    command = [*BIND, uri]
    own = [one for one in missing if google.is_the_steps_account() or (use.shown and one in READING)]
    others = [one for one in missing if one not in own]
    if own:
        what = f"these credentials ({google.member}) may not do all that is needed in {uri}: {', '.join(own)}"
        sufficient = role if google.is_the_steps_account() else "roles/storage.objectViewer"
        yield Problem(use.where, what, grant(command, google.member, sufficient))
    if others:
        what = f"these credentials ({google.member}) may not do all that a step does in {uri}: {', '.join(others)}"
        account = f"serviceAccount:{steps}" if steps else "MEMBER"
        whom = f"the steps' own account, {steps}," if steps else "the steps' own account"
        yield Problem(
            use.where, f"{what}; it cannot be seen from here whether {whom} may", grant(command, account, role),
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


def missing_sources(run: PlannedRun, unreadable: set[str]) -> Iterator[Problem]:
    """The files that the run will read are there; those of a time that is still to come may not be."""
    config, root = run.config, normalised(run.submission.parameters.get("data_root") or "")
    written = tables(run.submission.config)
    for key, source in tables(config).items():
        if source.bigquery is not None:
            yield _bigquery(key, source.bigquery)
            continue
        if run.is_to_come and paths(source) != paths(written[key]):
            continue
        urls = [
            path if "://" in path else below(root, f"{config.dataset or config.name}/{path}")
            for path in paths(source)
            if not PurePosixPath(path).is_absolute()
        ]
        urls = [url for url in urls if not url.startswith("file:") and "{" not in url]
        if other := next((url for url in urls if "://" in url and not url.startswith("gs://")), None):
            yield unknown(f"{key}.path", other, "only Cloud Storage is looked at from here")
        urls = [url for url in urls if url.startswith("gs://") and url.split("/")[2] not in unreadable]
        yield from _unresolved(key, source, urls, config)


def _unresolved(key: str, source: SourceSettings, urls: list[str], config: Config) -> Iterator[Problem]:
    """The whole list first, and only if something is wrong each of it, so that all is named."""
    whole = _unresolved_url(key, source, urls, config) if urls else None
    if whole is None:
        return
    single = [_unresolved_url(key, source, url, config) for url in urls]
    yield from [problem for problem in single if problem] or [whole]


def _unresolved_url(key: str, source: SourceSettings, url: str | list[str], config: Config) -> Problem | None:
    from two_tower.data import resolve_sources

    only: dict[str, Any] = dict.fromkeys(("interactions", "items", "users"))
    only[key.removeprefix("data.")] = source.model_copy(update={"path": url})
    try:
        resolve_sources(config.data.model_copy(update=only), dataset=config.dataset or config.name)
    except DataError as error:
        what = str(error).removeprefix(f"{key}.path: ").partition("; looked in ")[0]
        return Problem(f"{key}.path", what, "put the files there, or mend the path or data_root")
    return None


def _bigquery(key: str, source: BigQuerySettings) -> Problem:
    """To look at it takes a query, and to resolve it makes an export."""
    return unknown(f"{key}.bigquery", source.table or "the query", "the first step exports it", "look at it yourself")
