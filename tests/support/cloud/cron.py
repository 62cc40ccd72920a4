"""Cron expressions as Vertex AI takes them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from cloud.errors import invalid

PREFIX = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.S)
PLAIN = re.compile(r"[\d*,/A-Z-]+(?: [\d*,/A-Z-]+){4}")


def read_cron(text: str) -> tuple[str, ZoneInfo]:
    """The five fields and the time zone (UTC without a prefix `TZ=` or `CRON_TZ=`) of an expression."""
    prefixed = PREFIX.fullmatch(text)
    zone, fields = (prefixed[1], prefixed[2]) if prefixed else ("UTC", text)
    fields = " ".join(fields.split())
    try:
        if not PLAIN.fullmatch(fields):
            raise CronSimError("expected five fields")
        found = ZoneInfo(zone)
        CronSim(fields, datetime(2024, 1, 1, tzinfo=found))
    except (CronSimError, KeyError, ValueError, OSError) as error:
        raise invalid(f"Invalid cron expression {text!r}: {error}") from error
    return fields, found


def next_tick(text: str, after: datetime) -> datetime:
    """The first time after `after` that the expression names."""
    fields, zone = read_cron(text)
    return next(CronSim(fields, after.astimezone(zone)))


def is_tick(text: str, at: datetime) -> bool:
    """Whether the expression names this time."""
    return next_tick(text, at - timedelta(minutes=1)) == at
