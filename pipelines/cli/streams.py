"""Standard output and standard error that end nothing: a reader may go away, and every text can be written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.ECONNRESET)
"""Errors of a pipe or socket that nobody reads any more."""


class _Outlet(io.FileIO):
    """An open descriptor to which writing never fails: after the first error it leads nowhere.

    So whatever writes (print, rich, a log's handler, a thread, a child process) goes on without knowing.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        """Why the output is not whole, although somebody waits for it."""
        self._terminal = os.isatty(descriptor)

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # somebody has made it non-blocking, and it is full
                select.select([], [self], [])
        except OSError as error:
            self._lead_nowhere()
            gone = (*GONE, errno.EIO) if self._terminal else GONE
            self.failure = None if error.errno in gone else error
            return len(data)
        return written

    def _lead_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class LastingStreams:
    """The standard streams of a process while `lasting_streams` goes on."""

    def __init__(self) -> None:
        _open_closed_descriptors()
        self.outlets: dict[str, _Outlet] = {}
        self.stdout = self._lasting("standard output", sys.stdout, 1, errors="replace")
        self.stderr = self._lasting("standard error", sys.stderr, 2, errors="backslashreplace")

    def failures(self) -> list[str]:
        """What could not be written, for another reason than that nobody reads it; one line a stream."""
        for stream in (self.stdout, self.stderr):
            stream.flush()
        return [
            f"{name} is not whole: {outlet.failure.strerror}"
            for name, outlet in self.outlets.items()
            if outlet.failure is not None
        ]

    def _lasting(self, name: str, stream: TextIO | None, descriptor: int, *, errors: str) -> TextIO:
        """A stream to where `stream` leads; characters that its encoding lacks are replaced."""
        if stream is not None:
            try:
                descriptor = stream.fileno()
            except (OSError, AttributeError):  # in memory: a notebook's or a test's
                return stream
            stream.flush()
        self.outlets[name] = outlet = _Outlet(descriptor)
        lines = stream is not None and bool(stream.line_buffering or getattr(stream, "write_through", False))
        encoding = stream.encoding if stream is not None else "utf-8"
        return io.TextIOWrapper(io.BufferedWriter(outlet), encoding=encoding, errors=errors, line_buffering=lines)


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingStreams]:
    """Has `sys.stdout` and `sys.stderr` be streams to which writing never fails."""
    before, streams = (sys.stdout, sys.stderr), LastingStreams()
    sys.stdout, sys.stderr = streams.stdout, streams.stderr
    try:
        yield streams
    finally:
        streams.failures()
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Opens /dev/null in place of closed standard streams, lest the next file gets their number and their output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
