"""Requests, replies, routes, and the server that joins them."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cloud.errors import invalid


@dataclass
class Request:
    """One request as it came in."""

    method: str
    path: str
    """Not unquoted: an object's name may hold `%2F`."""
    query: str
    headers: Mapping[str, str]
    content: bytes
    groups: dict[str, str] = field(default_factory=dict)
    """The named groups of the route's pattern, unquoted."""

    @property
    def params(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def values(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in parse_qsl(self.query, keep_blank_values=True) if key == name]

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where there is none."""
        if not self.content:
            return {}
        try:
            body = json.loads(self.content)
        except ValueError as error:
            raise invalid(f"Invalid JSON payload received. {error}") from error
        if not isinstance(body, dict):
            raise invalid("Invalid JSON payload received. Expected an object")
        return body


@dataclass
class Reply:
    """What goes back."""

    status: int = 200
    body: bytes | Mapping[str, Any] | list[Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """The body as bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Route:
    """Which requests a handler answers, and under which name they are recorded."""

    method: str
    pattern: re.Pattern[str]
    """Matched in full against the path."""
    name: str
    handler: Callable[[Request], Reply]
    public: bool = False
    """Answers without a bearer token."""
    resource: Callable[[Request], str] = lambda request: unquote(request.path)
    """What the call is about; part of what faults are matched against."""


def route(method: str, pattern: str, name: str, handler: Callable[[Request], Any], **options: Any) -> Route:
    """A route whose handler may return a `Reply` or the JSON object of one."""

    def answer(request: Request) -> Reply:
        reply = handler(request)
        return reply if isinstance(reply, Reply) else Reply(body=reply)

    return Route(method, re.compile(pattern), name, answer, **options)


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request's target."""
    parts = urlsplit(target)
    return parts.path, parts.query


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: Any) -> None:
        pass

    def _handle(self) -> None:
        path, query = split_target(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self._content())
        reply = self.server.answer(request)  # type: ignore[attr-defined]
        if reply is None:
            self.close_connection = True
            return
        content = reply.content()
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json; charset=UTF-8", "Content-Length": str(len(content))}
        for name, value in {**headers, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _content(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return content

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed is no error
            super().handle_error(request, client_address)


@contextmanager
def listening() -> Iterator[ThreadingHTTPServer]:
    """A server on a free port of this machine; it answers once its `answer` is set, a function of a `Request`.

    `answer` returns a `Reply`, or None to close the connection without one.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
