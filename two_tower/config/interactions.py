"""The section `data.interactions`: the logs' columns, and what their rows mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.conditions import FilterSettings, Range
from two_tower.config.sources import SourceSettings
from two_tower.contracts import Role
from two_tower.settings import MANY, Duration, Settings, TimeFormat, TimeZone


class ColumnSettings(Settings):
    """Which column of the logs holds what."""

    user: str | None = Field(None, description="The user's id. Without it every row is a query of its own.")
    item: str = Field(description="The item's id.")
    time: str | None = Field(
        None,
        description="The event's time: a timestamp, ISO 8601 text, or epoch seconds (s, ms, us or ns); `time_format` "
        "tells of other forms.",
    )
    order: str | None = Field(
        None,
        description="Instead of a time: a whole number that orders a user's events. Without either there is no order.",
    )
    event: str | None = Field(None, description="The kind of event, which `events` maps to a role and a weight.")
    weight: str | None = Field(None, description="A number that multiplies the event's weight.")


EventWeight = Annotated[float, Field(ge=0, le=1e18)]


class EventSettings(Settings):
    """What one kind of event means. Only positive events are targets and counted as popularity."""

    role: Role = "positive"
    """Only positive events are targets; those of other roles may stand in histories."""
    weight: EventWeight = 1.0
    """How much one such event counts."""


class Rate(Settings):
    """A rate that no person reaches: the events of a user beyond it are set aside."""

    events: int = Field(ge=1, le=MANY)
    """The most events that a user may have in the time `per`."""
    per: Duration = "1d"  # type: ignore[assignment]
    """The time in which they are counted."""


class KCore(Settings):
    """Only users and items with so many training events, both counted after the other was cut, are trained on."""

    user: int = Field(1, ge=1, le=MANY)
    """The fewest training events of a user."""
    item: int = Field(1, ge=1, le=MANY)
    """The fewest training events of an item."""


def _event(value: Any) -> Any:
    """A bare number is the weight of a positive event."""
    return {"weight": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class InteractionsSettings(SourceSettings):
    """The interaction logs."""

    columns: ColumnSettings
    filters: list[FilterSettings] = []
    events: dict[
        str, Annotated[EventSettings, BeforeValidator(_event, json_schema_input_type=EventSettings | EventWeight)]
    ] = Field(
        {},
        description="What each value of the event column means: {role: ..., weight: ...}, or just the weight of a "
        "positive event. Rows of other events are filtered out.",
    )
    ranges: dict[str, Range] = Field({}, description="The values that columns may have.")
    timezone: TimeZone = Field("UTC", description="The time zone of times that carry none.")
    time_format: TimeFormat = Field(
        "auto",
        description="How the column of times is written, where it is not one of timestamps. `auto`: ISO 8601 text, or "
        "a number since 1970 whose unit its size tells. `day_first` (31/12/2024 18:30, 31.12.24, 31-Dec-2024), "
        "`month_first` (12/31/2024 6:30 PM, Dec 31, 2024), `yyyymmdd` (also with HHMM or HHMMSS), `excel_days` "
        "(45292.5); `s`, `ms`, `us`, `ns` since 1970; or a pattern such as '%d/%m/%Y %H:%M'.",
    )
    max_rate: Rate | None = Field(None, description="Against bots: the events of a user beyond it are set aside.")
    duplicates: Literal["set_aside", "keep"] = Field(
        "set_aside",
        description="What becomes of a row that equals an earlier one in every column of the file: `keep` where each "
        "is an event of its own, such as one of several units.",
    )
    repeats: Literal["keep", "first"] = Field(
        "keep", description="`first`: of a user's events with one item in one role only the first is used."
    )
    k_core: KCore | None = Field(
        None, description="Leaves rare users and items out of training; queries and candidates stay complete."
    )
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows that may be set aside as bad before the step fails."
    )

    @model_validator(mode="after")
    def _needed_columns(self) -> InteractionsSettings:
        needed = (("events", "event"), ("max_rate", "user"), ("max_rate", "time"), ("repeats", "user"))
        for setting, column in (*needed, ("time_format", "time")):
            wanted = getattr(self, setting) not in (None, {}, "keep", "auto")
            if wanted and getattr(self.columns, column) is None:
                raise PydanticCustomError(
                    "no_column",
                    "{setting} needs columns.{column}, which is not set",
                    {"setting": setting, "column": column},
                )
        if self.columns.time and self.columns.order:
            raise PydanticCustomError("time_and_order", "columns: give time or order, not both")
        if self.events and not any(event.role == "positive" for event in self.events.values()):
            raise PydanticCustomError("no_positive", "events: none has the role positive, so there is nothing to learn")
        return self
