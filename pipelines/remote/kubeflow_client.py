"""How Kubeflow Pipelines is reached: the clients of `kfp.Client`, with patience, and what their errors mean."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal, TypeVar

from pipelines.remote.google import Busy, patiently
from two_tower.config import KubeflowSettings
from two_tower.errors import ConfigError, UserError

T = TypeVar("T")

TIMEOUT = (10, 60)
"""Seconds for a connection and for an answer."""
PAGE = 100
EQUALS = 1


class Missing(UserError):
    """The service has no such thing."""


_LOG_IN = (
    "reach it through `kubectl port-forward`, or log in as docs/kubeflow.md says: a cookie or a header in "
    "~/.config/kfp/context.json, a token in the file that KF_PIPELINES_SA_TOKEN_PATH names, or the client of "
    "Google's proxy in KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"
)


class KubeflowService:
    """One installation, and one experiment in it."""

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

    def experiment(self, *, make: bool = True) -> str | None:
        """The id of the experiment; with `make` it is made where it is missing."""
        if self._experiment is None:
            what = f"looking for the experiment {self.settings.experiment}"

            def find_or_make() -> Any:
                asked = self.client.experiments.experiment_service_list_experiments
                listed = self.once(asked, what, filter=named_filter(self.settings.experiment), **self.scope)
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


def named_filter(name: str) -> str:
    """What a list is asked for to hold what is called so."""
    return json.dumps({"predicates": [{"operation": EQUALS, "key": "display_name", "stringValue": name}]})


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
