"""Asking a stored version for recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from two_tower.errors import DataError, UserError

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.runs import Run
    from two_tower.data import Prepared
    from two_tower.registry import Version


def recommend_items(
    workdir: Path,
    *,
    version: Version,
    user: str | None,
    history: Sequence[str] | None,
    context: Mapping[str, str],
    k: int,
    exclude_seen: bool,
) -> Table:
    """A table of the `k` items that `version` recommends, with their readable columns and scores.

    Args:
        workdir: Where the runs are; a user's history and features come from the run that made the version.
        version: Who is asked.
        user: A user's id.
        history: Item ids, oldest first; replaces the user's own.
        context: Context features by name.
        k: How many items.
        exclude_seen: Whether the history's items are left out.

    Raises:
        DataError: The user is unknown, or the version does not take such a query.
    """
    import pyarrow.parquet as pq

    from two_tower.retrievers import StoredVersion

    query: dict[str, Any] = {f"context.{name}": value for name, value in context.items()}
    if user is not None:
        query.update(_user_query(_prepared_of(version, workdir), user))
    if history is not None:
        query["history"] = list(history)
    found = StoredVersion(version.folder).recommend(query, k, exclude_seen=exclude_seen)

    items = pq.read_table(version.items)
    display = [name for name in items.column_names if name.startswith("display.")]
    table = Table(title=f"{version.folder.parent.parent.name} version {version.id}", title_justify="left")
    for name in ("#", "item", *[name.removeprefix("display.") for name in display], "score"):
        table.add_column(name, justify="right" if name in ("#", "score") else "left", overflow="fold")
    rows = items.take(found.rows).select(display).to_pylist()
    for rank, (item, row, score) in enumerate(zip(found.item_ids, rows, found.scores, strict=True), start=1):
        table.add_row(str(rank), item, *[str(value or "") for value in row.values()], f"{score:.4f}")
    return table


def example_query(run: Run) -> str:
    """The option that asks `recommend` for what a run's first test query would get."""
    from two_tower.data import open_prepared

    prepared = open_prepared(run.step("prepare_data").outputs["prepared"])
    query = prepared.queries("test").slice(0, 1).to_pylist()[0]
    if query["user_id"] is not None:
        return f"--user {query['user_id']}"
    return " ".join(
        f"--context {name.removeprefix('context.')}={value!r}"
        for name, value in query.items()
        if name.startswith("context.")
    )


def _prepared_of(version: Version, workdir: Path) -> Prepared:
    """The prepared data of the newest run that made `version`."""
    from pipelines.runs import list_runs
    from two_tower.data import open_prepared

    for run in reversed(list_runs(workdir)):
        folder = run.step("prepare_data").outputs.get("prepared")
        if run.version == version.id and folder:
            return open_prepared(folder)
    raise UserError(
        f"{workdir}: no run here made version {version.id}, so users' histories are not at hand; use --history"
    )


def _user_query(prepared: Prepared, user: str) -> dict[str, Any]:
    """The user's latest known query: history as item ids, and the user's features."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = prepared.items(["item_id"])["item_id"]

    def named(numbers: list[int]) -> list[str]:
        return ids.take(pa.array(numbers, pa.int32())).to_pylist()

    for split in ("test", "validation"):
        queries = prepared.queries(split)  # type: ignore[arg-type]
        rows = queries.filter(pc.equal(queries["user_id"], user))
        if rows.num_rows:
            query = rows.slice(0, 1).to_pylist()[0]
            query["history"] = named(query["history"])
            return {
                name: value
                for name, value in query.items()
                if name.startswith("user.") or name in ("user_id", "history")
            }
    users = prepared.users()
    number = pc.index(users["user_id"], user).as_py()
    if number < 0:
        raise DataError(f"the logs hold no user {user!r}; --history ITEM,ITEM… asks for somebody new")
    sequences = prepared.sequences(["user", "items"])
    rows = sequences.filter(pc.equal(sequences["user"], number)).to_pylist()
    features = {
        name.replace("feature.", "user."): value
        for name, value in users.slice(number, 1).to_pylist()[0].items()
        if name.startswith("feature.")
    }
    history = named(rows[0]["items"]) if rows else []
    return {"user_id": user, "history": history, **features}
