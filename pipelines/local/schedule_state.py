"""What is known of a schedule on this machine, kept in `WORKDIR/schedules/NAME/state.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from two_tower.artifacts import write_json
from two_tower.errors import UserError
from two_tower.progress import human_seconds

KEPT = 200
"""How many entries a state file keeps."""

Verdict = Literal["running", "promoted", "kept", "refused", "failed", "interrupted", "skipped", "missed"]


@dataclass(frozen=True, order=True)
class Due:
    """A moment at which a schedule is due, and how often a run has been started for it, this time included."""

    time: datetime
    attempt: int = 1


@dataclass
class Entry:
    """What became of a due time, or of several that were passed over together."""

    due: datetime
    """The newest of them, in the schedule's time zone."""
    verdict: Verdict
    count: int = 1
    attempt: int = 1
    started: datetime | None = None
    ended: datetime | None = None
    run_id: str | None = None
    code: int | None = None
    """The exit code of `two-tower run`; below 0 the signal that ended it."""
    log: str | None = None
    reason: str = ""

    @property
    def in_words(self) -> str:
        """What became of it."""
        parts: list[str] = [self.verdict]
        if self.code is not None and self.verdict == "failed":
            parts.append(f"ended by signal {-self.code}" if self.code < 0 else f"exit code {self.code}")
            parts.append(f"see {self.log}")
        if self.run_id:
            parts.append(f"run {self.run_id}")
        if self.started and self.ended:
            parts.append(human_seconds((self.ended - self.started).total_seconds()))
        if self.reason:
            parts.append(self.reason)
        return ", ".join(parts)


@dataclass
class State:
    """What is known of a schedule, as its state file has it."""

    file: Path
    cron: str
    time_zone: str
    seen_until: datetime
    """Due times up to here have been dealt with or wait."""
    waiting: list[Due] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    """Oldest first."""

    @classmethod
    def load(cls, file: Path) -> State | None:
        """The state in a file; None where there is no file.

        Raises:
            UserError: The file is damaged, or another version of this program wrote it.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            content["seen_until"] = _read_time(content["seen_until"])
            content["waiting"] = [Due(_read_time(due["time"]), due["attempt"]) for due in content["waiting"]]
            for entry in content["entries"]:
                entry.update({key: _read_time(entry[key]) for key in ("due", "started", "ended") if entry[key]})
            content["entries"] = [Entry(**entry) for entry in content["entries"]]
            return cls(file, **content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{file}: not a schedule's state that this version reads ({error}); move it away, and the schedule "
                "begins anew: what is due from then on is run"
            ) from error

    def save(self) -> None:
        """Writes the file, durably and as a whole."""
        self.entries = self.entries[-KEPT:]
        content = asdict(self)
        del content["file"]
        write_json(self.file, _written(content))


def _read_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _written(value: Any) -> Any:
    """A value with its times as texts."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds" if value.microsecond == 0 else "microseconds")
    if isinstance(value, list):
        return [_written(inner) for inner in value]
    return {key: _written(inner) for key, inner in value.items()} if isinstance(value, dict) else value
