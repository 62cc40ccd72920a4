"""Questions to Google Cloud."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.remote.google import credentials, explained, patiently

PATIENCE = 30.0
"""Seconds that one question may take."""


class Google:
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
        return status, set(content.get("permissions", [])), said(content)


def said(content: Mapping[str, Any]) -> str:
    """What an error reply says."""
    error = content.get("error")
    return str(error.get("message", "")).partition("\n")[0][:300] if isinstance(error, Mapping) else ""


def disabled(content: Mapping[str, Any]) -> bool:
    return disabled_text(str(content.get("error", "")))


def disabled_text(said: str) -> bool:
    """Whether a refusal says that the asked service itself is not enabled."""
    return "SERVICE_DISABLED" in said or "has not been used in project" in said
