"""Long-running operations: named, polled, ended well or badly."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from cloud.errors import CODE, Refused, not_found
from cloud.http import Request, Route, route


@dataclass
class _Operation:
    name: str
    work: Callable[[], Message]
    fails: bool
    polls: int = 0
    answer: Message | None = None
    error: Refused | None = None


@dataclass
class Operations:
    """All operations of a cloud; each does its work at the poll that finds it done."""

    parent: str
    """`projects/NUMBER/locations/REGION`."""
    polls: int = 1
    """At which poll an operation is found done."""
    _numbers: Any = field(default_factory=lambda: itertools.count(1000))
    _operations: dict[str, _Operation] = field(default_factory=dict)

    def start(self, work: Callable[[], Message], *, fails: bool = False) -> operations_pb2.Operation:
        """A new operation; `fails` has it end in an error without the work."""
        operation = _Operation(f"{self.parent}/operations/{next(self._numbers)}", work, fails)
        self._operations[operation.name] = operation
        return operations_pb2.Operation(name=operation.name)

    def routes(self) -> list[Route]:
        """Where clients poll: below `/ui/` with the REST transport, below `/v1/` otherwise."""
        pattern = r"/(?:ui|v1)/(?P<name>projects/[^/:]+/locations/[^/:]+/operations/[^/:]+)"
        return [route("GET", pattern, "Operations.GetOperation", self._get)]

    def _get(self, request: Request) -> dict[str, Any]:
        operation = self._operations.get(request.groups["name"])
        if operation is None:
            raise not_found(f"Operation {request.groups['name']} not found.")
        operation.polls += 1
        if operation.polls == self.polls:
            self._finish(operation)
        return self._show(operation)

    def _finish(self, operation: _Operation) -> None:
        if operation.fails:
            operation.error = Refused("INTERNAL", "Internal error occurred. (ordered by the test)")
            return
        try:
            operation.answer = operation.work()
        except Refused as error:
            operation.error = error

    def _show(self, operation: _Operation) -> dict[str, Any]:
        from google.protobuf import json_format

        shown = operations_pb2.Operation(name=operation.name, done=operation.polls >= self.polls)
        if operation.error:
            error = operation.error
            shown.error.CopyFrom(status_pb2.Status(code=CODE[error.code], message=error.message))
        elif operation.answer is not None:
            shown.response.Pack(operation.answer)
        return json_format.MessageToDict(shown)
