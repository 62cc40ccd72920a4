"""What batch scoring and a recommender are handed: where queries come from, and what is known of users.

Tables of queries have the columns that `query_schema` says, among them `query`: the row in the user table or the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa


class QuerySource(Protocol):
    """Where queries come from."""

    def identity(self) -> dict[str, str]:
        """What tells these queries from others: checksums by the kind of what they are made from."""

    def seen_until(self) -> int | None:
        """The newest event that they may have seen, microseconds since 1970 UTC, as far as that is known."""

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """All queries in order, some at a time, with the columns of the schema.

        Raises:
            DataError: A query is wrong; the message names its file, column and row.
        """


class KnownUsers(QuerySource, Protocol):
    """All users that are known, each of them a query: with the past and the features that are known."""

    def of(self, user_ids: pa.Array, schema: pa.Schema) -> pa.Table:
        """The users with these ids, in their order; all but `user_id` is null for those that are not known."""

    def one(self, user_id: str) -> Mapping[str, Any] | None:
        """The values of one user by column, or None if the user is not known."""
