"""Whether a version has seen the window that it is tested on."""

from __future__ import annotations

from pathlib import Path

from two_tower.artifacts import ArtifactReader, Place, read_manifest
from two_tower.errors import ArtifactError
from two_tower.evaluation.queries import Split
from two_tower.metrics_file import Window
from two_tower.progress import moment_text

MICROSECONDS = 1_000_000


def window_of(data: ArtifactReader, query_tower: Place, *, split: Split) -> Window | None:
    """Where the window of the queries begins, and the newest event that a version has seen, in seconds.

    None where the split is not by time: then every user has a window of their own.
    """
    if (data.manifest.config.get("split") or {}).get("type") != "global_time":
        return None
    start = data.manifest.extra[f"{split}_from"]
    seen = read_manifest(query_tower, "query_tower").data_seen_until
    return Window(
        start=start / MICROSECONDS,
        seen_until=None if seen is None else seen / MICROSECONDS,
        overlaps=seen is not None and seen >= start,
    )


def refuse_overlap(data: ArtifactReader, version: Path, *, split: Split) -> None:
    """Refuses a version that has trained on events of the window that it would be tested on.

    Raises:
        ArtifactError: It has.
    """
    window = window_of(data, version / "query_tower", split=split)
    if window is None or not window.overlaps:
        return
    seen, start = (moment_text(int((at or 0) * MICROSECONDS)) for at in (window.seen_until, window.start))
    raise ArtifactError(
        f"version {version.name} was trained on events until {seen}, and the {split} window begins at {start}: it has "
        f"seen what it would be tested on; make data.split.{split} shorter, or compare on later logs"
    )
