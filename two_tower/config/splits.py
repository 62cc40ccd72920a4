"""The section `data.split`: what is training, validation and test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from two_tower.settings import Duration, Settings


class GlobalTime(Settings):
    """The last `test` of the logs is the test window, the `validation` before it the validation window."""

    type: Literal["global_time"] = "global_time"
    test: Duration
    """The length of the test window."""
    validation: Duration
    """The length of the validation window before it."""


class LeaveLast(Settings):
    """What splits by the order of a user's events have in common."""

    ties: Literal["order", "apart"] = Field(
        "order",
        description="What becomes of a user's events of one moment, such as a basket. `order`: they follow each other "
        "in the order of the files, as in published protocols. `apart`: a history ends before its target's moment, in "
        "training too, and a hash draws the target among them.",
    )


class LeaveLastOut(LeaveLast):
    """Each user's last item is the test target, the one before it the validation target."""

    type: Literal["leave_last_out"] = "leave_last_out"

    @property
    def k(self) -> int:
        return 1


class LeaveLastK(LeaveLast):
    """Each user's last `k` items are the test targets, the `k` before them the validation targets.

    A user with fewer than 2 k + 1 positive events has neither; with `ties: apart` nor has one without three moments
    for training, validation and test to begin at.
    """

    type: Literal["leave_last_k"] = "leave_last_k"
    k: int = Field(ge=1, le=1_000_000)
    """How many items of each user are held back for either."""


class Given(Settings):
    """A split that comes with the data, in files of its own or in a column."""

    type: Literal["given"] = "given"
    column: str | None = Field(
        None,
        description="The column that tells; without it `test` and `validation` are globs that the files' paths meet.",
    )
    test: str = Field(description="The column's value for test rows, or a glob such as `test*.parquet`.")
    validation: str | None = Field(None, description="The same for validation rows.")
    validation_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Without `validation`: the share of the other rows that validates, by a hash of user and item.",
    )


AnySplit = Annotated[GlobalTime | LeaveLastOut | LeaveLastK | Given, Field(discriminator="type")]
