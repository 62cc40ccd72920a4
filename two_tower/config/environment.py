"""An environment file: where and when the pipeline runs. Of it the local scheduler reads the section `schedules`."""

from __future__ import annotations

import json
import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.loading import load_settings
from two_tower.config.times import filled, refuse_unknown_placeholders, texts_in
from two_tower.settings import Duration, Settings, TimeZone


def load_environment(path: str | Path) -> Environment:
    """The validated environment of a YAML file.

    Raises:
        ConfigError: The file cannot be read or does not validate; the message names the line and the key.
    """
    return load_settings(Environment, path)


def _moment(value: Any) -> Any:
    """A day is its first moment."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise PydanticCustomError(
                "moment", "expected a day or a time such as 2026-12-01 or 2026-12-01T08:00, got {value}",
                {"value": repr(value)},
            ) from error  # fmt: skip
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]


class Schedule(Settings):
    """When a configuration is trained anew, and what is different about it then."""

    config: str = Field(description="The data set's configuration file, as `two-tower run` takes it.")
    cron: str = Field(description="The times, as five fields of cron: minute, hour, day of month, month, weekday.")
    time_zone: TimeZone = Field(
        "UTC", description="The zone that the times, `start`, `end` and the placeholders are in."
    )
    start: Moment | None = Field(
        None,
        description="No time before it is due. When it lies in the past as the schedule is first seen, the times since "
        "then were missed, see `catch_up`.",
    )
    end: Moment | None = Field(None, description="No time from it on is due.")
    catch_up: Literal["latest", "all", "none"] = Field(
        "latest",
        description="What becomes of times that were missed because no scheduler was there: one run for the newest of "
        "them, a run for each in their order, or none.",
    )
    grace: Duration = Field(  # type: ignore[assignment]
        "1h", description="With `catch_up: none`: how late a run may start and still be on time."
    )
    when_busy: Literal["skip", "wait"] = Field(
        "skip", description="What becomes of a time that comes while another run goes on in the working folder."
    )
    set: dict[str, Any] = Field(
        {},
        description="Settings of the configuration that are replaced, by dotted key. Texts may hold the due time: "
        "{date}, {date-7d}, {date-1d:%Y/%m/%d}, {time}, {time-24h}.",
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, text: str) -> str:
        if len(text.split()) != 5 or re.search(r"[^\dA-Za-z*,/\s-]|\d[Ll]|\b[Ll][Ww]?\b", text):
            raise PydanticCustomError(
                "cron", "expected the five fields of cron, such as '0 3 * * *' for 3 o'clock every night, got {text}",
                {"text": repr(text)},
            )  # fmt: skip
        try:
            next(CronSim(text, datetime(2024, 1, 1)))
        except (CronSimError, StopIteration) as error:
            why = str(error) or "it never comes"
            raise PydanticCustomError(
                "cron", "no time that cron knows: {text} ({why})", {"text": repr(text), "why": why}
            ) from error
        return text

    @field_validator("set")
    @classmethod
    def _known_placeholders(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            for text in texts_in(value):
                refuse_unknown_placeholders(key, text)
        return values

    @model_validator(mode="after")
    def _start_before_end(self) -> Schedule:
        if self.first and self.last and self.first >= self.last:
            raise PydanticCustomError("start_end", "start must be before end")
        return self

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone."""
        return zoneinfo.ZoneInfo(self.time_zone)

    @property
    def first(self) -> datetime | None:
        """`start` in UTC."""
        return self._in_utc(self.start)

    @property
    def last(self) -> datetime | None:
        """`end` in UTC."""
        return self._in_utc(self.end)

    @property
    def in_words(self) -> str:
        """When it is due, such as `At 03:00 every day, Europe/Berlin`."""
        return f"{CronSim(self.cron, datetime(2024, 1, 1)).explain()}, {self.time_zone}"

    def times(self, after: datetime) -> Iterator[datetime]:
        """The due times later than `after`, ascending, in UTC.

        As Debian's cron has it: a time that a change to summer time leaves out comes right after the gap, and a time
        that occurs twice is due the first time; with a star for the minute or the hour the clock on the wall decides.
        """
        after = after.astimezone(UTC)
        if self.first and after < self.first:
            after = self.first - timedelta(microseconds=1)
        for found in CronSim(self.cron, after.astimezone(self.zone)):
            due = found.astimezone(UTC)
            if self.last and due >= self.last:
                return
            if due > after:  # in the hour that occurs twice the search begins in the first of the two
                yield due

    def overrides(self, due: datetime) -> list[str]:
        """`set` for the run that is due at this moment, as the `KEY=VALUE` texts that `load_config` takes."""
        moment = due.astimezone(self.zone)
        return [
            f"{key}={json.dumps(filled(value, moment), ensure_ascii=False, default=str)}"
            for key, value in self.set.items()
        ]

    def _in_utc(self, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)


class Environment(Settings):
    """Where and when the pipeline runs."""

    schedules: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], Schedule] = Field(
        {}, description="The retrainings by name."
    )
