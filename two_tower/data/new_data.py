"""What the logs of a run hold that an earlier one has not seen, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from two_tower.data.sources import SourceFile

NAMED = 20
"""So many of the new files are named."""


def new_data_since(
    earlier: Sequence[SourceFile] | None,
    sources: dict[str, list[SourceFile]],
    *,
    moment: datetime,
    seen_until: int | None = None,
) -> dict[str, Any]:
    """What is new among the interaction files.

    Args:
        earlier: The interaction files of the champion's run; None where there is no champion or they are not known.
        sources: Today's files as `resolve_sources` lists them.
        moment: The time that the run is for.
        seen_until: The newest event that the champion has seen, in microseconds since 1970 UTC.

    Returns:
        `run_time` (ISO 8601), `files` and `bytes` of today, `seen_until`; and, where the earlier files are known,
        `new`, `changed` and `gone` (counts of files), `new_bytes` and `new_names` (the first of them).
    """
    today = {file["path"]: file for file in sources["interactions"]}
    found: dict[str, Any] = {
        "run_time": moment.isoformat(timespec="seconds"),
        "files": len(today),
        "bytes": sum(file["bytes"] for file in today.values()),
        "seen_until": seen_until,
    }
    if earlier is None:
        return found
    before = {file["path"]: file for file in earlier}
    new = [path for path in today if path not in before]
    changed = [path for path in today if path in before and today[path]["generation"] != before[path]["generation"]]
    return found | {
        "new": len(new),
        "changed": len(changed),
        "gone": len(before.keys() - today.keys()),
        "new_bytes": sum(today[path]["bytes"] for path in new),
        "new_names": [today[path]["name"] for path in new[:NAMED]],
    }


def new_data_in_words(new_data: dict[str, Any]) -> str:
    """What `new_data_since` has found, in one line."""
    if "new" not in new_data:
        return f"{new_data['files']:,} files; which of them are new is not known: no champion, or one that does not say"
    counts = [f"{new_data[kind]:,} {kind}" for kind in ("changed", "gone") if new_data[kind]]
    return f"{new_data['new']:,} of {new_data['files']:,} files are new since the champion" + "".join(
        f", {c}" for c in counts
    )
