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

from two_tower.artifacts import normalised
from two_tower.config.config import Config
from two_tower.config.loading import load_settings
from two_tower.config.machines import BeamSettings, ResourcesSettings
from two_tower.config.times import filled, refuse_unknown_placeholders, texts_in
from two_tower.errors import ConfigError
from two_tower.settings import Duration, Settings, TimeZone
from two_tower.steps import STEPS, Image


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


Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""A label's key or value, as every service of Google Cloud takes it."""
Bucket = Annotated[
    str,
    BeforeValidator(lambda value: normalised(value).rstrip("/") if isinstance(value, str) else value),
    Field(pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^/]+)*$"),
]


class ScheduleSettings(Settings):
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
    max_concurrent_runs: int = Field(
        1,
        ge=1,
        le=10_000,
        description="How many of its runs may go on at the same time on Vertex AI or Kubeflow; here, one.",
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
    def _start_before_end(self) -> ScheduleSettings:
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
        return _as_overrides({key: filled(value, moment) for key, value in self.set.items()})

    def standing_overrides(self) -> list[str]:
        """`set` for all of its runs alike: what depends on the time stays a placeholder, which each run fills in.

        Raises:
            ConfigError: A placeholder stands outside of `data`, where a run does not look for it.
        """
        for key, value in self.set.items():
            for text in texts_in(value):
                if not key.startswith("data.") and filled(text, datetime(2024, 1, 1, tzinfo=UTC)) != text:
                    raise ConfigError(
                        f"set.{key}: {text!r} depends on the time; on Vertex AI and Kubeflow a run fills in its time "
                        "below `data` alone"
                    )
        return _as_overrides(self.set)

    def _in_utc(self, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)


def _as_overrides(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False, default=str)}" for key, value in settings.items()]


class VertexSettings(Settings):
    """Where on Google Cloud the pipeline runs. Neither the project nor the bucket has a default."""

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="The project's id.")
    region: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$", description="Where the runs are, such as europe-west4.")
    bucket: Bucket = Field(description="gs://BUCKET or gs://BUCKET/FOLDER: artefacts, registry, work files.")
    service_account: str = Field(
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", description="The e-mail address of the account that the steps run as."
    )
    network: str | None = Field(
        None,
        pattern=r"^projects/[^/]+/global/networks/[^/]+$",
        description="projects/NUMBER/global/networks/NAME, for steps in a private network.",
    )
    encryption_key: str | None = Field(
        None,
        pattern=r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$",
        description="The key of Cloud KMS that encrypts what the runs leave.",
    )
    endpoints: dict[Literal["vertex", "resource_manager", "iam", "service_usage", "images"], str] = Field(
        {}, description="Other addresses of Google's services, where a private network has them."
    )


class KubeflowSettings(Settings):
    """A Kubeflow Pipelines server."""

    host: str | None = Field(None, pattern=r"^https?://", description="Its address; `--host` replaces it.")
    root: str = Field(
        pattern=r"^[a-z0-9]+://[^/]+", description="Where the artefacts go: gs://, s3:// or minio:// and a bucket."
    )
    registry: str | None = Field(
        None,
        description="The registry's root: gs://BUCKET/FOLDER, or a folder that every step mounts; `registry` "
        "below `root` if that is on gs://.",
    )
    namespace: str | None = Field(None, description="The namespace of a multi-user installation.")
    experiment: str = Field("two-tower", description="The experiment that the runs belong to.")

    @model_validator(mode="after")
    def _has_a_registry(self) -> KubeflowSettings:
        if self.registry is None and not self.root.startswith("gs://"):
            raise PydanticCustomError(
                "registry", "registry: needed, since the root {root} is not on gs://", {"root": repr(self.root)}
            )
        return self


class PricesSettings(Settings):
    """What the machines cost, for an estimate before a run is submitted; from the provider's price list."""

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    """What all prices are in, such as EUR."""
    run: float = Field(0.0, ge=0, le=1e12, description="The fee for one run of a pipeline.")
    cpu_hour: float = Field(ge=0, le=1e12, description="An hour of one virtual CPU of a step.")
    memory_gb_hour: float = Field(ge=0, le=1e12, description="An hour of one gigabyte of a step's memory.")
    accelerator_hour: dict[str, Annotated[float, Field(ge=0, le=1e12)]] = Field(
        {}, description="An hour of one accelerator."
    )
    worker_hour: float = Field(0.0, ge=0, le=1e12, description="An hour of one Dataflow worker.")


class Environment(Settings):
    """Where and when the pipeline runs; it overlays a data set's configuration."""

    vertex: VertexSettings | None = Field(None, description="Vertex AI Pipelines.")
    kubeflow: KubeflowSettings | None = Field(None, description="Kubeflow Pipelines.")
    data_root: str | None = Field(
        None,
        description="Where relative paths of a configuration are looked up, as DATA_ROOT/DATASET/PATH; `data` in the "
        "bucket if not given.",
    )
    images: dict[Image, str] = Field(
        {}, description="The container image of each target, by digest (NAME@sha256:…); `make images` writes them."
    )
    labels: dict[Label, Label] = Field({}, description="Put on every resource in the cloud.")
    resources: dict[Literal[(*STEPS, "default")], ResourcesSettings] = Field(  # type: ignore[valid-type]
        {}, description="The machine of each step; `default` for all that are not named."
    )
    beam: BeamSettings | None = Field(
        None, description="The runner of the Beam steps, in place of the configuration's."
    )
    caching: dict[Literal[STEPS], bool] = Field(  # type: ignore[valid-type]
        {}, description="false: the step runs in every run, although its inputs are those of an earlier one."
    )
    promotion: Literal["registry"] = Field("registry", description="What becomes of a version that passes the gate.")
    set: dict[str, Any] = Field({}, description="Settings of the configuration that are replaced, by dotted key.")
    prices: PricesSettings | None = Field(None, description="For the estimate of a run's cost.")
    minutes: dict[Literal[STEPS], Annotated[float, Field(ge=0, le=1e9)]] = Field(  # type: ignore[valid-type]
        {}, description="How long steps take, for the estimate; of the others it is taken from the latest run."
    )
    schedules: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], ScheduleSettings] = Field(
        {}, description="The retrainings by name."
    )

    def overrides(self) -> list[str]:
        """`set`, as the `KEY=VALUE` texts that `load_config` takes."""
        return _as_overrides(self.set)

    def overlaid(self, config: Config) -> Config:
        """The configuration with this environment's machines and Beam runner."""
        machines = dict.fromkeys(STEPS, self.resources["default"]) if "default" in self.resources else {}
        machines |= config.resources | {step: own for step, own in self.resources.items() if step != "default"}
        changes: dict[str, Any] = {"resources": machines}
        if self.beam is not None:
            changes["beam"] = self.beam
        return config.model_copy(update=changes)
