"""What every call to Google Cloud shares: credentials, errors in a person's words, and patience."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from two_tower.errors import UserError
from two_tower.progress import log

T = TypeVar("T")
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TRIES, FIRST_PAUSE = 6, 1.0
"""How often a call is tried that the service is too busy for, and the seconds before the second try; they double."""


def credentials() -> Any:
    """The application's default credentials.

    Raises:
        UserError: There are none.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        return google.auth.default(scopes=SCOPES)[0]
    except GoogleAuthError as error:
        raise UserError(
            f"no credentials for Google Cloud ({error}); run `gcloud auth application-default login`, or name a key "
            "file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from error


def patiently(call: Callable[[], T], what: str) -> T:
    """What `call` gives; tried again while the service is busy or no reply comes.

    So it may be done twice: a call that makes something has to name it.

    Raises:
        UserError: The service refuses, or is still busy after the last try.
    """
    for tried in range(1, TRIES + 1):
        try:
            with explained(what):
                return call()
        except Busy as busy:
            if tried == TRIES:
                raise UserError(f"{busy} (tried {TRIES} times)") from busy
            log.info("%s; trying again", busy)
            time.sleep(FIRST_PAUSE * 2 ** (tried - 1))
    raise AssertionError("unreachable")


class Busy(Exception):
    """The service is busy, or its reply was lost."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what a client raises into a `UserError` that says what was asked for, or into `Busy`."""
    import requests
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError

    busy = (
        exceptions.TooManyRequests, exceptions.ServiceUnavailable, exceptions.GatewayTimeout,
        exceptions.InternalServerError, exceptions.BadGateway, exceptions.RetryError, requests.ConnectionError,
        requests.Timeout, TransportError,
    )  # fmt: skip
    try:
        yield
    except busy as error:
        raise Busy(f"{what}: the service does not answer now: {short(error)}") from error
    except exceptions.Forbidden as error:
        raise UserError(f"{what}: permission denied: {short(error)}") from error
    except (exceptions.NotFound, exceptions.Conflict):  # theirs to judge who asked
        raise
    except exceptions.GoogleAPICallError as error:
        raise UserError(f"{what}: refused: {short(error)}") from error
    except GoogleAuthError as error:
        raise UserError(f"{what}: the credentials are not accepted: {error}") from error


def short(error: BaseException) -> str:
    """The first line of what an error of a client says."""
    return str(getattr(error, "message", "") or error).partition("\n")[0][:500]
