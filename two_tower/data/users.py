"""What prepared data know of users: who asks for everybody's recommendations, or for one user's, is handed this."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from two_tower.artifacts import content_hash
from two_tower.columns import as_input
from two_tower.contracts import ROLES, Int32
from two_tower.data.prepared import Prepared
from two_tower.errors import DataError

ROWS = 16384
"""Users that are handed out together, at most."""
_KNOWN = pl.Schema({"user": pl.Int32(), "history": pl.List(pl.Int32), "seen": pl.List(pl.Int32)})
_SEEN_ROLES = [ROLES.index("positive"), ROLES.index("negative")]


class EveryUser:
    """The users of prepared data with what is known of them: the `KnownUsers` of `two_tower.serving`."""

    def __init__(self, prepared: Prepared) -> None:
        """The users of `prepared`.

        Raises:
            DataError: The logs have no users.
        """
        self._prepared = prepared
        self._users = prepared.users()
        if not self._users.num_rows:
            raise DataError(f"{prepared.folder}: the logs have no user column, so there are no users; give --queries")
        self._items = prepared.items(["item_id"])["item_id"].combine_chunks()

    def identity(self) -> dict[str, str]:
        return {"prepared_data": content_hash(self._prepared.folder)}

    def seen_until(self) -> int | None:
        windows = self._prepared.summary["windows"]
        return max((windows[split][1] for split in ("train", "validation") if windows.get(split)), default=None)

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The users part by part, then those without an event."""
        found = np.zeros(self._users.num_rows, dtype=np.bool_)
        for part in self._parts():
            known = self._known(part)
            found[known["user"].to_numpy()] = True
            for start in range(0, known.height, ROWS):
                yield self._table(known[start : start + ROWS], schema)
        others = np.flatnonzero(~found).astype(np.int32)
        for start in range(0, len(others), ROWS):
            yield self._table(_without_past(others[start : start + ROWS]), schema)

    def of(self, user_ids: pa.Array, schema: pa.Schema) -> pa.Table:
        """The users with these ids, in their order; all but `user_id` is null for those that are not known.

        Reads the histories of all users at the first call, and keeps them in memory.
        """
        numbers = pc.index_in(user_ids, value_set=self._users["user_id"].combine_chunks())
        wanted = pl.DataFrame({"user": pl.from_arrow(numbers)}).with_columns(pl.col("user").cast(pl.Int32))
        found = wanted.join(self._all, on="user", how="left", maintain_order="left")
        empty = pl.lit([], dtype=pl.List(pl.Int32))
        missing = pl.col("history").is_null() & pl.col("user").is_not_null()
        found = found.with_columns(
            pl.when(missing).then(empty).otherwise(pl.col(name)).alias(name) for name in ("history", "seen")
        )
        table = self._table(found, schema)
        return table.set_column(table.schema.get_field_index("user_id"), "user_id", user_ids)

    def one(self, user_id: str) -> dict[str, Any] | None:
        """The values of one user by column, or None if the user is not known."""
        number = pc.index(self._users["user_id"], user_id).as_py()
        if number < 0:
            return None
        known = next((rows for part in self._parts() if (rows := self._known(part, number)).height), None)
        features = [name for name in self._users.column_names if name.startswith("feature.")]
        raw = self._users.slice(number, 1).to_pylist()[0]
        row = known if known is not None else _without_past(np.array([number], dtype=np.int32))
        return {
            "user_id": user_id,
            "history": self._ids(row["history"]).to_pylist()[0],
            "seen": self._ids(row["seen"]).to_pylist()[0],
            **{name.replace("feature.", "user.", 1): raw[name] for name in features},
        }

    @cached_property
    def _all(self) -> pl.DataFrame:
        return pl.concat([self._known(part) for part in self._parts()])

    def _parts(self) -> list[str]:
        """The names of the parts, each of which holds all that is known of its users."""
        names = (name for name in self._prepared.manifest.files if name.endswith(".parquet"))
        folders = ("train", "validation", "test")
        return sorted({Path(name).name for name in names if Path(name).parent.as_posix() in folders})

    def _known(self, part: str, user: int | None = None) -> pl.DataFrame:
        """The past of the part's users, or of one of them, by number: `history` and `seen` as item numbers.

        A user's latest query says it, which has seen all that came before its window; in want of one it is the
        training sequence.
        """
        files, folder = self._prepared.manifest.files, self._prepared.folder
        wanted = pl.col("user") >= 0 if user is None else pl.col("user") == user
        found = [pl.DataFrame(schema=_KNOWN)]
        for split in ("test", "validation"):
            if (name := f"{split}/{part}") in files:
                queries = pl.DataFrame(pq.read_table(folder / name, columns=list(_KNOWN)))
                found.append(queries.filter(wanted))
        if (name := f"train/{part}") in files:
            sequences = pl.DataFrame(pq.read_table(folder / name, columns=["user", "items", "roles"]))
            found.append(self._past(sequences.filter(wanted)))
        return pl.concat(found).unique("user", keep="first", maintain_order=True).sort("user")

    def _past(self, sequences: pl.DataFrame) -> pl.DataFrame:
        """What a query after the training sequences would see."""
        settings = self._prepared.manifest.config.get("query", {})
        shown = [ROLES.index(role) for role in settings.get("history_roles", ["positive"])]
        length = settings.get("history_length")
        events = sequences.explode("items", "roles")
        of_user = pl.col("items").filter(pl.col("roles").is_in(shown))
        past = events.group_by("user", maintain_order=True).agg(
            (of_user if length is None else of_user.tail(length)).alias("history"),
            pl.col("items").filter(pl.col("roles").is_in(_SEEN_ROLES)).unique().sort().alias("seen"),
        )
        return past.cast(_KNOWN)

    def _table(self, known: pl.DataFrame, schema: pa.Schema) -> pa.Table:
        """The users of some rows of `_known`, a null number being an unknown user."""
        number = known["user"].to_arrow()
        columns: dict[str, Any] = {
            "query": number.cast(pa.int64()),
            "user_id": self._users["user_id"].take(number),
            **{name: self._ids(known[name]) for name in ("history", "seen") if name in schema.names},
        }
        for field in schema:
            name = field.name.replace("user.", "feature.", 1)
            if field.name not in columns:
                held = field.name.startswith("user.") and name in self._users.column_names
                column = self._users[name].take(number) if held else pa.nulls(known.height)
                columns[field.name] = as_input(column, field.type)
        return pa.table(columns).select(schema.names).cast(schema)

    def _ids(self, numbers: pl.Series) -> pa.Array:
        """Lists of item numbers as lists of item ids."""
        lists = numbers.to_arrow().cast(pa.list_(pa.int32()))
        missing = np.asarray(lists.is_null())
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), self._items.take(lists.flatten()), mask=pa.array(missing))


def _without_past(users: Int32) -> pl.DataFrame:
    empty: list[list[int]] = [[]] * len(users)
    return pl.DataFrame({"user": users, "history": empty, "seen": empty}, schema=_KNOWN)
