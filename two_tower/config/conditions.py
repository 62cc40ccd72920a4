"""Conditions on the values of columns, in which a scalar means what stands in the file."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.settings import Settings


def _as_written(value: Any) -> str | None:
    """A scalar as it is written in a file, for settings whose meaning the column decides."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, Decimal)):
        return None if value is None else str(value)
    raise PydanticCustomError("scalar", "expected a text, a number, a time, or true or false")


def _all_as_written(value: Any) -> str | list[str | None] | None:
    if isinstance(value, list) and None in value:
        raise PydanticCustomError("scalar", "a list cannot hold null; quote it where the text is meant")
    return list(map(_as_written, value)) if isinstance(value, list) else _as_written(value)


Scalar = str | float | bool
"""What may stand in a file where the text as written counts."""


class FilterSettings(Settings):
    """A condition that a row has to meet to be used; rows that do not are counted, not set aside."""

    column: str
    """The column that is looked at."""
    op: Literal["==", "!=", ">", ">=", "<", "<=", "in", "not_in", "starts_with", "not_starts_with", "not_null"]
    """How it is compared with `value`; `not_null` takes none."""
    value: Annotated[
        str | list[str] | None,
        BeforeValidator(_all_as_written, json_schema_input_type=Scalar | list[Scalar] | None),
    ] = Field(
        None,
        description="What the column is compared with, read as the column's values are: as a number, a time, a truth "
        "value or a text; a list for `in` and `not_in`.",
    )

    @model_validator(mode="after")
    def _value_fits_op(self) -> FilterSettings:
        takes_list = self.op in ("in", "not_in")
        if takes_list and not isinstance(self.value, list):
            raise PydanticCustomError("filter_value", "value must be a list for the operators in and not_in")
        if self.op != "not_null" and self.value is None:
            raise PydanticCustomError("filter_value", "value is missing; quote null where the text is meant")
        if not takes_list and isinstance(self.value, list):
            raise PydanticCustomError("filter_value", "value is a list, which only the operators in and not_in take")
        return self

    @property
    def values(self) -> list[str]:
        """What the column is compared with, one or several."""
        return self.value if isinstance(self.value, list) else [self.value] if self.value is not None else []


Bound = Annotated[str | None, BeforeValidator(_as_written, json_schema_input_type=Scalar | None)]
"""A number or time as it is written."""


class Range(Settings):
    """The values that a column may have; rows with others are set aside. A missing value is in every range."""

    min: Bound = Field(None, description="The smallest value, or, in a column of times, the first moment.")
    max: Bound = None
    """The largest value, or, in a column of times, the last moment."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Range:
        if self.min is None and self.max is None:
            raise PydanticCustomError("range", "give min, max or both")
        return self
