"""What Kubeflow Pipelines and the buckets say of a run there."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.remote.google import Busy
from pipelines.remote.preflight.buckets import buckets_of, checked_buckets, missing_sources
from pipelines.remote.preflight.client import PATIENCE, Google
from pipelines.remote.preflight.problem import Problem, unknown
from pipelines.remote.preflight.run import PlannedRun
from two_tower.errors import UserError


def found_on_kubeflow(run: PlannedRun, host: str | None) -> Iterator[Problem]:
    settings = run.submission.environment.kubeflow
    assert settings is not None
    yield from _host(host or settings.host, "--host" if host else "kubeflow.host")
    if not buckets_of(run):
        return
    try:
        google = Google(None, None)
    except (UserError, Busy) as error:
        yield unknown("kubeflow.root", "the buckets on Cloud Storage", str(error).partition("; run ")[0])
        return
    problems, unreadable = checked_buckets(google, run)
    yield from problems
    yield from missing_sources(run, unreadable)


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
        yield unknown(key, "whether it takes runs", f"it asks for a login ({status})", "have a token ready")
    elif status != 200:
        what = f"{url} answers {status}, which Kubeflow Pipelines does not do when it is well"
        yield Problem(key, what, "look for a slip in the address, and at the server")
