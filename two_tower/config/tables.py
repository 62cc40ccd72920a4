"""The sections `data.items` and `data.users`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from two_tower.config.conditions import FilterSettings
from two_tower.config.plugins import Features
from two_tower.config.sources import SourceSettings

Unknown = Literal["keep", "set_aside"]


class ItemTableSettings(SourceSettings):
    """The item table; several rows of one item are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the item's id.")
    features: Features = {}
    """What enters the candidate tower, by the feature's name."""
    display: list[str] = Field([], description="Columns shown to people next to the id, in reports and `recommend`.")
    attributes: list[str] = Field(
        [],
        description="Columns kept with the candidates for filters at query time and for the restricts of Vector "
        "Search: text, lists of text, numbers; true and false become text.",
    )
    available: list[FilterSettings] = Field(
        [],
        description="Conditions on the table's columns. Items that do not meet them are learned from and may stand in "
        "histories, but are never retrieved.",
    )
    unknown: Unknown = Field("keep", description="What becomes of log rows whose item the table lacks.")


class UserTableSettings(SourceSettings):
    """The user table; several rows of one user are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the user's id.")
    features: Features = {}
    """What enters the query tower, by the feature's name."""
    unknown: Unknown = Field("keep", description="What becomes of log rows whose user the table lacks.")
