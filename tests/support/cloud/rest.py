"""Routes of a Google service, read from its client's own tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from google.cloud import aiplatform_v1
from google.protobuf.message import Message

from cloud import strict
from cloud.errors import Refused
from cloud.http import Reply, Request, Route

VARIABLE = re.compile(r"\{([\w.]+)=([^}]+)\}")
INHERITED = re.compile(r"\w+(Operation|Operations|Location|Locations|IamPolicy|IamPermissions)$")
QUERY_ONLY = ("$alt", "alt", "prettyPrint")


def service_routes(
    service: str, transport: type, handlers: Mapping[str, Callable[[Message], Message | None]]
) -> list[Route]:
    """A route for every method in a client's REST table; methods without a handler answer UNIMPLEMENTED."""
    routes = []
    for attribute in sorted(vars(transport)):
        method = attribute.removeprefix("_Base")
        options = getattr(getattr(transport, attribute), "_get_http_options", None)
        if options is None or method == attribute or INHERITED.fullmatch(method):
            continue
        routes += [_route(service, method, option, handlers.get(method)) for option in options()]
    return routes


def _route(service: str, method: str, option: Mapping[str, str], handler: Any) -> Route:
    variables = [name for name, _ in VARIABLE.findall(option["uri"])]
    kind = getattr(aiplatform_v1.types, f"{method}Request")

    def answer(request: Request) -> Reply:
        if handler is None:
            raise Refused("UNIMPLEMENTED", f"{service}.{method} is not part of this stand-in")
        message = strict.parse(kind, _fields(request, variables, option.get("body", "")))
        answered = handler(message)
        return Reply(body=strict.show(answered) if answered is not None else {})

    def resource(request: Request) -> str:
        return "/".join(request.groups.values())

    return Route(
        option["method"].upper(), path_pattern(option["uri"]), f"{service}.{method}", answer, resource=resource
    )


def path_pattern(uri: str) -> re.Pattern[str]:
    """The regular expression of a path template; `*` matches neither a slash nor a colon."""
    pattern, end = "", 0
    for found in VARIABLE.finditer(uri):
        pattern += re.escape(uri[end : found.start()])
        pattern += f"(?P<{found[1].replace('.', '__')}>{re.escape(found[2]).replace(re.escape('*'), '[^/:]+')})"
        end = found.end()
    return re.compile(pattern + re.escape(uri[end:]))


def _fields(request: Request, variables: list[str], body: str) -> dict[str, Any]:
    """The fields of a request message: from the query, the body and the path, each in its place."""
    fields: dict[str, Any] = {key: value for key, value in request.params.items() if key not in QUERY_ONLY}
    if body == "*":
        fields.update(request.json())
    elif body:
        fields[body] = request.json()
    elif request.content.strip():
        raise Refused("INVALID_ARGUMENT", "Invalid JSON payload received. This method takes no body.")
    for variable in variables:
        value = request.groups[variable.replace(".", "__")]
        outer, _, inner = variable.partition(".")
        if inner:
            fields.setdefault(outer, {})[inner] = value
        else:
            fields[outer] = value
    return fields
