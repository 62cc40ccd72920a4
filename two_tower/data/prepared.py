"""The reader of the `prepared_data` artefact; docs/artefacts.md says what every column means."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from two_tower.artifacts import Artifact, Place, open_artifact

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "prepared_data"
PROFILE_KIND, PROFILE = "data_profile", "profile.json"


class Prepared(Artifact):
    """The candidate table, the users, the training sequences and the queries of one prepared data set.

    `manifest.extra` holds `validation_from`, `test_from` and `end` in microseconds.
    """

    kind = KIND

    def items(self, columns: list[str] | None = None) -> pa.Table:
        """The candidate table: the row number is the item number."""
        return self._reader.table("items.parquet", columns)

    def users(self, columns: list[str] | None = None) -> pa.Table:
        """The user table: the row number is the user number; no rows where the logs have no user column."""
        return self._reader.table("users.parquet", columns)

    def sequences(self, columns: list[str] | None = None) -> pa.Table:
        """The training sequences of all parts: one row a user, or a log row where there are no users."""
        return self._reader.table("train", columns)

    def queries(self, split: Literal["validation", "test"], columns: list[str] | None = None) -> pa.Table:
        """The queries of the split."""
        return self._reader.table(split, columns)

    def set_aside(self) -> pa.Table:
        """The bad log rows with their reasons."""
        return self._reader.table("set_aside.parquet")

    @cached_property
    def features(self) -> dict[str, dict[str, dict[str, Any]]]:
        """`{"item" | "user" | "context": {NAME: {"settings": ..., "statistics": ...}}}`."""
        content: dict[str, dict[str, dict[str, Any]]] = self._reader.json("features.json")
        return content

    @property
    def notes(self) -> list[str]:
        """What is odd about the logs and tables, in sentences."""
        from two_tower.data.notes import in_sentences

        return in_sentences(self.summary.get("noted", {}))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Row counts, windows and distributions, for the report."""
        content: dict[str, Any] = self._reader.json("summary.json")
        return content


def read_profile(path: Place) -> dict[str, Any]:
    """The content of the `data_profile` artefact in the folder `path`.

    Raises:
        ArtifactError: The folder is no complete `data_profile` artefact.
    """
    content: dict[str, Any] = open_artifact(path, PROFILE_KIND).json(PROFILE)
    return content


def open_prepared(path: Place) -> Prepared:
    """The prepared data in the folder `path`, its files checked.

    Raises:
        ArtifactError: The folder is no complete `prepared_data` artefact.
    """
    return Prepared.open(path)
