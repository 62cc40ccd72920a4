"""Progress of long work as plain log lines with rate and time left, which a terminal shows as its last line."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger("two_tower")


def human_seconds(seconds: float) -> str:
    """`seconds` as 42s, 3m05s or 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def moment_text(micros: int) -> str:
    """A time in microseconds since 1970 UTC, to the minute."""
    import numpy as np

    return str(np.datetime64(micros, "us").astype("datetime64[m]")).replace("T", " ")


class Progress:
    """Counts finished units of work and logs at most one line every `every` seconds."""

    def __init__(self, what: str, *, total: int, unit: str, every: float = 2.0) -> None:
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.done = 0
        self._start = self._last = time.monotonic()

    def advance(self, n: int, *, note: str = "") -> None:
        """Adds `n` finished units; `note` (such as the current loss) stands at the end of the line."""
        self.done += n
        self.total = max(self.total, self.done)  # the total may have been an estimate
        now = time.monotonic()
        if now - self._last < self.every and self.done < self.total:
            return
        self._last = now
        elapsed = max(now - self._start, 1e-9)
        rate = self.done / elapsed
        left = human_seconds((self.total - self.done) / rate) if rate else "?"
        share = 100 * self.done / self.total if self.total else 100
        tail = f", {note}" if note else ""
        log.info(
            "%s: %s of %s %s (%d %%), %s/s, %s left%s",
            self.what, f"{self.done:,}", f"{self.total:,}", self.unit, share, f"{rate:,.0f}", left, tail,
        )  # fmt: skip


@contextlib.contextmanager
def watched(progress: Progress, done: Callable[[], int]) -> Iterator[None]:
    """Asks `done` every now and then how many units are finished, such as by workers elsewhere, and logs it."""
    ended = threading.Event()

    def look() -> None:
        if new := done() - progress.done:
            progress.advance(new)

    def keep_looking() -> None:
        while not ended.wait(progress.every):
            look()

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    look()
