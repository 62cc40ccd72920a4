"""The section `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.interactions import InteractionsSettings
from two_tower.config.plugins import Features
from two_tower.config.splits import AnySplit, Given, GlobalTime
from two_tower.config.tables import ItemTableSettings, UserTableSettings
from two_tower.contracts import Role
from two_tower.settings import MANY, Duration, Settings


class QuerySettings(Settings):
    """What a query consists of, beside the user's features."""

    history_length: int = Field(
        50, ge=0, le=1000, description="How many of the user's latest items the query carries; 0 for none."
    )
    history_roles: list[Role] = Field(["positive"], min_length=1, description="The roles of the events in the history.")
    context: Features = Field(
        {}, description="Features of the event row that are known at request time, such as a search text."
    )


class ExamplesSettings(Settings):
    """The shape of the training examples."""

    shape: Literal["sequences", "pairs"] = Field(
        "sequences",
        description="`sequences`: one row a user with a target at every position. `pairs`: beside them one row a "
        "positive with its history at that moment, which takes as many times the room as a history is long.",
    )
    max_per_user: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="At most this many of a user's latest positives are targets, against heavy users.",
    )


class DataSettings(Settings):
    """Where the logs and tables are and how they become examples and queries."""

    interactions: InteractionsSettings
    items: ItemTableSettings | None = Field(None, description="Without it the candidates are the items of the logs.")
    users: UserTableSettings | None = None
    query: QuerySettings = QuerySettings()
    examples: ExamplesSettings = ExamplesSettings()
    split: AnySplit
    """What is for training, what for validation, what for the test."""
    recent: Duration = Field(
        "28d",  # type: ignore[assignment]
        description="The window before a cut-off that counts as recent popularity.",
    )
    shards: int = Field(
        8, ge=1, le=4096, description="How many shards of users the logs are split into; memory goes by the largest."
    )
    incremental: bool = Field(
        False,
        description="Keeps the checked events beside the prepared data, so that the next preparation reads only the "
        "files that are new.",
    )

    @model_validator(mode="after")
    def _columns_that_others_need(self) -> DataSettings:
        columns = self.interactions.columns
        if columns.user is None:
            by_user = not isinstance(self.split, GlobalTime)
            if self.users is not None or by_user:
                needs = "users" if self.users is not None else "split"
                raise PydanticCustomError(
                    "no_user", "{needs} needs interactions.columns.user, which is not set", {"needs": needs}
                )
            if not self.query.context:
                raise PydanticCustomError(
                    "no_query", "query.context: without interactions.columns.user a query needs a context feature"
                )
        if columns.time is None and isinstance(self.split, GlobalTime):
            raise PydanticCustomError("no_time", "split global_time needs interactions.columns.time, which is not set")
        if columns.time is None and columns.order is None and not isinstance(self.split, Given):
            raise PydanticCustomError(
                "no_order", "split: without interactions.columns.time or order only a given split is possible"
            )
        return self
