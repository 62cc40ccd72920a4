"""Batches of storage calls, which fake-gcs-server does not know: taken apart here, answered one by one."""

from __future__ import annotations

import http
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message

from cloud.errors import invalid
from cloud.http import Reply, Request, split_target

BOUNDARY = "batch_of_the_stand_in"


def answer_batch(request: Request, answer: Callable[[Request], Reply | None]) -> Reply:
    """The replies to the calls of a `multipart/mixed` batch, each answered and recorded as if it came alone."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    outer = message_from_bytes(head + request.content)
    if not outer.is_multipart():
        raise invalid("Failed to parse batch request, expected multipart/mixed.")
    parts = [_part(part, answer(_request(part, request))) for part in outer.get_payload()]
    content = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return Reply(200, content, {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"})


def _request(part: Message, outer: Request) -> Request:
    payload = part.get_payload(decode=True) or b""
    head, _, body = payload.replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")
    first, *lines = head.decode().splitlines()
    method, target = first.split()[:2]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path, query = split_target(target)
    return Request(method, path, query, {**headers, "authorization": outer.headers.get("authorization", "")}, body)


def _part(part: Message, reply: Reply | None) -> bytes:
    reply = reply or Reply(503)
    content = reply.content()
    lines = [
        f"--{BOUNDARY}",
        "Content-Type: application/http",
        f"Content-ID: {part.get('Content-ID', '<0>').replace('<', '<response-', 1)}",
        "",
        f"HTTP/1.1 {reply.status} {http.HTTPStatus(reply.status).phrase}",
        "Content-Type: application/json; charset=UTF-8",
        f"Content-Length: {len(content)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content + b"\r\n"
