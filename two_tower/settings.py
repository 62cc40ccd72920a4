"""The base of every settings model, and unions that find their members in a package.

A feature type, a loss, a retriever and a gate check each carry their own settings in their own file: the
configuration finds them by importing every module of the package named in `one_of`, so that adding one
touches that one file.  Such modules keep heavy imports (TensorFlow, Beam, ScaNN) inside functions.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import operator
import pkgutil
import re
import zoneinfo
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MANY = 2**31 - 1
"""The largest count: TensorFlow, ScaNN and the compiled parts of other libraries count in 32 bits."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What random numbers begin from: NumPy and TensorFlow take these numbers, and no others."""


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """A hint at the nearest valid name, to stand behind an error's first words; empty where none is near."""
    close = difflib.get_close_matches(given, sorted(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _takes(annotation: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether one of the kinds stands in an annotation."""
    return annotation in kinds or any(_takes(inner, kinds) for inner in get_args(annotation))


class Settings(BaseModel):
    """A frozen settings model that refuses unknown keys and names the nearest valid one.

    Every number has bounds, within which no library refuses it and beyond which none could use it; a test goes through
    all of them.  A key's meaning is its `description`, which editors show too, or a text below it:
    docs/configuration.md is made of both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        valid = {field.alias or name for name, field in cls.model_fields.items()}
        for key in data:
            if key not in valid:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key{hint} (valid keys: {valid})",
                    {"key": str(key), "hint": did_you_mean(str(key), valid), "valid": ", ".join(sorted(valid))},
                )
        return data

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_for_a_number(cls, data: Any) -> Any:
        """Python takes true for 1; who writes `epochs: yes` has meant something else."""
        for name, field in cls.model_fields.items() if isinstance(data, dict) else ():
            value = data.get(name)
            given = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
            is_number = _takes(field.annotation, (int, float)) and not _takes(field.annotation, (bool, Any))
            if is_number and any(isinstance(one, bool) for one in given):
                raise PydanticCustomError(
                    "truth", "expected a number, got true or false (which yes, no, on and off are too)", {"key": name}
                )
        return data


BaseT = TypeVar("BaseT", bound=Settings)


@functools.cache
def members(package: str, base: type[BaseT]) -> tuple[type[BaseT], ...]:
    """The concrete subclasses of `base` defined in the modules of `package`, sorted by their `type`."""
    module = importlib.import_module(package)
    found: dict[str, type[BaseT]] = {}
    for info in pkgutil.iter_modules(module.__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            if isinstance(value, type) and issubclass(value, base) and "type" in value.model_fields:
                name = value.model_fields["type"].default
                if isinstance(name, str):
                    found[name] = value
    return tuple(found[name] for name in sorted(found))


def one_of(package: str, base: type[BaseT]) -> Any:
    """The annotation of a field that takes any of `members(package, base)`, told apart by their `type` key."""
    found = members(package, base)
    if len(found) < 2:  # a discriminator needs a choice
        return found[0] if found else base
    return Annotated[functools.reduce(operator.or_, found), Field(discriminator="type")]


AUTO: Any = "auto"
"""In a file, the value of a setting that is chosen once the data is known."""
T = TypeVar("T")


class _OrAuto:
    """The mark of a setting that may be `auto` in a file, in place of a value of its own type."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Everything but `auto` is read and written as the setting's own type has it."""
        own = handler(source)
        written = core_schema.wrap_serializer_function_ser_schema(self._unless_auto, schema=own)
        return core_schema.no_info_wrap_validator_function(self._unless_auto, own, serialization=written)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either `auto` or what the setting takes."""
        return {"anyOf": [{"const": AUTO, "type": "string"}, handler(schema)]}

    @staticmethod
    def _unless_auto(value: Any, handler: Any) -> Any:
        return AUTO if value == AUTO else handler(value)


Auto = Annotated[T, _OrAuto()]
"""A setting that is `auto` until the data is known; `two_tower.model` puts a value in its place before it is used.

Its type tells what stands there from then on.
"""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 1000 * 365 * _UNITS["d"]


def _parse_duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([smhdw])", str(value).strip())
    if not match:
        raise PydanticCustomError(
            "duration", "expected a duration such as '14d', '12h', '30m' or '2w', got {value}", {"value": repr(value)}
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= _LONGEST:
        raise PydanticCustomError(
            "duration", "expected more than nothing and less than 1000 years, got {value}", {"value": repr(value)}
        )
    return timedelta(seconds=seconds)


def _format_duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    unit = next(unit for unit in "wdhms" if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(_format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+\s*[smhdw]$", "examples": ["14d", "12h"]}),
]
"""A span of time, written in the config as a number and one of s, m, h, d, w."""


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PydanticCustomError("timezone", "no time zone {name}", {"name": repr(name)}) from error
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]
"""The name of a time zone, such as Europe/Berlin."""


TIME_FORMATS = ("auto", "day_first", "month_first", "yyyymmdd", "excel_days", "s", "ms", "us", "ns")
"""The forms of times that have a name; `auto` stands for those that tell themselves."""
_DIRECTIVES = "YymbBdjFHIMSTfpzaA%"
_NEEDS = (
    # with any of these, or always, a pattern needs one of those
    ("", "YyF", "a year, %Y or %y"),
    ("", "mbBjF", "a month, %m or %b"),
    ("", "djF", "a day, %d"),
    ("HI", "M", "minutes, %M"),
    ("MSfp", "HIT", "an hour, %H"),
    ("Sf", "MT", "minutes, %M"),
    ("f", "ST", "seconds, %S"),
    ("I", "p", "%p, which tells morning from afternoon"),
    ("p", "I", "%I, the hour of a clock with %p"),
)


def _known_time_format(text: str) -> str:
    if text in TIME_FORMATS:
        return text
    given = "".join(re.findall(r"%(.?)", text))
    if not given:
        raise _no_time_format(text, f"no such format{did_you_mean(text, TIME_FORMATS)}")
    if "%" in re.sub(rf"%[{_DIRECTIVES}]", "", text):
        unknown = next((one for one in given if one not in _DIRECTIVES), "")
        raise _no_time_format(text, f"%{unknown} cannot be read; there are %{' %'.join(_DIRECTIVES)}")
    if "f" in given and not re.search(r"[.,]%f", text):
        raise _no_time_format(text, "%f, the fraction of a second, has to follow a point or a comma, as in %S.%f")
    for having, needed, what in _NEEDS:
        if (not having or set(having) & set(given)) and not set(needed) & set(given):
            raise _no_time_format(text, f"the pattern lacks {what}")
    return text


def _no_time_format(text: str, why: str) -> PydanticCustomError:
    return PydanticCustomError(
        "time_format",
        "{why} (got {text}; a name, {names}, or a pattern such as '%d/%m/%Y %H:%M')",
        {"why": why, "text": repr(text), "names": ", ".join(TIME_FORMATS)},
    )


TimeFormat = Annotated[str, AfterValidator(_known_time_format)]
"""How times are written: one of `TIME_FORMATS`, or a pattern in the notation of Python's strptime."""
