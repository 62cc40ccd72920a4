"""What `two-tower tune` searches: settings by their dotted keys, each with its choices or its range."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from two_tower.settings import Settings, did_you_mean

SEARCHED_SECTIONS = ("model", "training")
INCOMPARABLE = ("monitor_k", "exclude_seen", "repeats", "validation_queries")
"""Settings of `training` that change what a trial's validation recall means."""
UNUSED = ("refit", "warm_start")
"""Settings of `training` that no trial tries: the search is on validation, and every trial starts the same way."""


class Between(Settings):
    """A range of numbers; whole ones where the setting takes whole ones."""

    low: float | int
    """The smallest value that is tried."""
    high: float | int
    """The largest one."""
    log: bool = Field(False, description="Whether the logarithm is spread evenly, as fits a learning rate.")
    step: float | int | None = Field(None, gt=0, description="Only `low`, `low + step`, ... are tried.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Between:
        if self.low >= self.high:
            raise PydanticCustomError("range", "low must be below high")
        if self.log and self.low <= 0:
            raise PydanticCustomError("range", "with log, low must be above 0")
        if self.log and self.step is not None:
            raise PydanticCustomError("range", "give log or step, not both")
        return self


def _list_or_range(value: Any) -> Any:
    if not isinstance(value, (list, dict, Between)):
        raise PydanticCustomError("searched", "expected a list of choices, or a range {low: ..., high: ...}")
    return value


Searched = Annotated[
    Annotated[list[Any], Field(min_length=2), Tag("choices")] | Annotated[Between, Tag("range")],
    Discriminator(lambda value: "choices" if isinstance(value, list) else "range"),
    BeforeValidator(_list_or_range),
]

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def with_values(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """The configuration with the settings at dotted keys replaced, and without a search.

    Raises:
        ValidationError: A key does not exist or a value does not fit.
    """
    data = config.model_dump(mode="json", exclude={"tune"})
    for key, value in values.items():
        *parents, last = key.split(".")
        target = data
        for part in parents:
            target = target.setdefault(part, {})  # what is not there is refused below, with the nearest valid key
            if not isinstance(target, dict):
                _refuse(key, f"{part} is {json.dumps(target)}, so there is nothing under it to search")
        target[last] = value
    return type(config).model_validate(data)


def canonical_search(config: BaseModel, tune: Mapping[str, Any]) -> dict[str, list[Any] | Between]:
    """The search with every value as the configuration reads it, each tried on `config`, which has no search itself.

    Raises:
        PydanticCustomError: A key does not exist, or one of its values does not fit; it names the key.
    """
    for key in tune:
        section, _, rest = key.partition(".")
        if section not in SEARCHED_SECTIONS or not rest:
            _refuse(key, f"only settings below {' and '.join(SEARCHED_SECTIONS)} can be searched")
        if section == "training" and rest in INCOMPARABLE:
            _refuse(key, "trials that differ in it cannot be compared by their validation recall")
        if section == "training" and rest in UNUSED:
            _refuse(key, "trials are told apart on validation alone, where this changes nothing")
        if inner := next((other for other in tune if other.startswith(f"{key}.")), None):
            _refuse(key, f"it holds {inner}, which is searched too; search one of them")
    return {key: _canonical(config, key, searched) for key, searched in sorted(tune.items())}


def value_at(config: BaseModel, key: str) -> Any:
    """The setting at a dotted key, as it is written in a file."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _canonical(config: BaseModel, key: str, searched: list[Any] | Between) -> list[Any] | Between:
    if isinstance(searched, Between):
        low, high = (_read_back(config, key, value) for value in (searched.low, searched.high))
        if not _is_number(low):
            _refuse(key, "a range is for numbers; give a list of choices")
        step = searched.step
        if isinstance(low, int) and step is not None:
            if step != int(step):
                _refuse(key, f"the setting takes whole numbers, step is {step}")
            step = int(step)
        return Between(low=low, high=high, log=searched.log, step=step)
    choices = [_read_back(config, key, value) for value in searched]
    texts = [json.dumps(choice, sort_keys=True) for choice in choices]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        _refuse(key, f"the choice {twice} stands there twice")
    return choices


def _read_back(config: BaseModel, key: str, value: Any) -> Any:
    try:
        return value_at(with_values(config, {key: value}), key)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "unknown_key" and first["ctx"]["key"] not in key.split("."):
            # A choice of `training.loss.type` would inherit the settings of the loss that stands in the file.
            whole = key.rpartition(".")[0]
            _refuse(
                key, f"{json.dumps(value)} does not take {first['ctx']['key']!r}; search {whole} with whole choices"
            )
        if first["type"] == "unknown_key":
            valid = first["ctx"]["valid"].split(", ")
            hint = did_you_mean(first["ctx"]["key"], valid)
            _refuse(key, f"there is no {first['ctx']['key']!r}{hint} (valid keys: {', '.join(valid)})")
        _refuse(key, f"{json.dumps(value)} does not fit: {first['msg']}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse(key: str, why: str) -> NoReturn:
    raise PydanticCustomError("tune", "{why}", {"why": why, "key": key})
