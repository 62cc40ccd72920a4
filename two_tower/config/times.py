"""The time of a run in a configuration: texts that hold placeholders such as {date-1d}, and what they stand for."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import PydanticCustomError

from two_tower.config.config import Config
from two_tower.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{(date|time)(?:-(\d{1,4})([hdw]))?(?::([^{}]*%[^{}]*))?\}")
_UNITS = {"date": "dw", "time": "h"}
_EXAMPLES = "{date}, {date-7d}, {date-1d:%Y/%m/%d}, {time} and {time-24h}"


def first_time(*texts: str) -> datetime:
    """The first of the texts that is a time, ISO 8601 and UTC where it has no zone; now if none is.

    A runner leaves a placeholder of its own in place of a time that it does not know.

    Raises:
        ConfigError: A text that is no placeholder is no time either.
    """
    for text in texts:
        if not text or text.startswith("{{"):
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ConfigError(f"the run's time: {text!r} is no time such as 2026-12-01T03:00+01:00") from error
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.now(UTC)


def at_time(config: Config, moment: datetime, *, zone: str = "UTC") -> Config:
    """The configuration with the placeholders below `data` filled in for this moment.

    Raises:
        ConfigError: The section does not validate with the time in it.
    """
    content = config.model_dump(mode="json")
    content["data"] = filled(content["data"], moment.astimezone(zoneinfo.ZoneInfo(zone)))
    try:
        return Config.model_validate(content)
    except ValueError as error:
        raise ConfigError(f"data, with the time {moment.isoformat()} filled in: {error}") from error


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, those in its lists and mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


def refuse_unknown_placeholders(key: str, text: str) -> None:
    """Raises a `PydanticCustomError` where the text of a key holds anything in braces that is not known."""
    found = list(_PLACEHOLDER.finditer(text))
    wrong = any(match[3] and match[3] not in _UNITS[match[1]] for match in found)
    if wrong or re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise PydanticCustomError(
            "placeholder", "{key}: {text} holds a placeholder that is not known; there are {examples}",
            {"key": key, "text": repr(text), "examples": _EXAMPLES},
        )  # fmt: skip


def filled(value: Any, moment: datetime) -> Any:
    """The value with its placeholders filled in for this moment, a time in the schedule's zone."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _said(match, moment), value)
    if isinstance(value, list):
        return [filled(inner, moment) for inner in value]
    if isinstance(value, dict):
        return {key: filled(inner, moment) for key, inner in value.items()}
    return value


def _said(match: re.Match[str], moment: datetime) -> str:
    """What a placeholder stands for: days are counted on the calendar, hours as they pass."""
    kind, number, unit, form = match.groups()
    back = timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[unit]: int(number)}) if unit else timedelta()
    shifted = moment.date() - back if kind == "date" else (moment.astimezone(UTC) - back).astimezone(moment.tzinfo)
    return shifted.strftime(form) if form else shifted.isoformat()
