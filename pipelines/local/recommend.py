"""Asking a stored version for recommendations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.table import Table

from two_tower.errors import DataError, UserError
from two_tower.progress import human_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.runs import Run
    from two_tower.config import BeamSettings, Config
    from two_tower.data import Prepared
    from two_tower.registry import Version
    from two_tower.serving import Query, QuerySource, Recommendations

REASONS = {
    "unknown_history": "with a history of unknown items only and no user",
    "not_finite": "to which the query tower gives no finite vector",
    "nothing_left": "for which no candidate is left",
}
"""Why queries have no items."""
LEFT_OUT = "items of the past left out"

SHOWN = 20
"""So many unknown items are named."""

PreparedOf: TypeAlias = "Callable[[Version], Prepared | None]"
"""Finds the prepared data of the newest run that made a version; None where there is no such run."""


def recommend_items(
    prepared_of: PreparedOf,
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
        prepared_of: Finds what the version's run knew, for a user's history and features.
        version: Who is asked.
        user: A user's id.
        history: Item ids, oldest first; replaces the user's own. A single text that is no item's id is a list with
            commas.
        context: Context features by name.
        k: How many items.
        exclude_seen: Whether the history's items are left out.

    Raises:
        DataError: The user is unknown, or the version does not take such a query.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from two_tower.serving import Recommender, some_of

    items = pq.read_table(version.items)
    query: dict[str, Any] = {f"context.{name}": value for name, value in context.items()}
    if user is not None:
        query.update(_user_query(_required(prepared_of, version), user))
    if history:
        query |= {"history": _item_ids(history, items["item_id"]), "seen": None}
    found = Recommender.open(version).recommend(query, k, exclude_seen=exclude_seen)

    display = [name for name in items.column_names if name.startswith("display.")]
    less = f"\n{LEFT_OUT}" if exclude_seen else ""
    table = Table(title=f"{PurePath(version.place).parts[-3]} version {version.id}{less}", title_justify="left")
    if found.unknown_history:
        table.caption = f"passed over, unknown to this version: {some_of(found.unknown_history, most=SHOWN)}"
        table.caption_justify = "left"
    for name in ("#", "item", *[name.removeprefix("display.") for name in display], "score"):
        table.add_column(name, justify="right" if name in ("#", "score") else "left", overflow="fold")
    numbers = pc.index_in(pa.array(found.item_ids, pa.string()), value_set=items["item_id"].combine_chunks())
    rows = items.take(numbers).select(display).to_pylist()
    for rank, (item, row, score) in enumerate(zip(found.item_ids, rows, found.scores, strict=True), start=1):
        table.add_row(str(rank), item, *[str(value or "") for value in row.values()], f"{score:.4f}")
    return table


def recommend_to_all(
    prepared_of: PreparedOf,
    out: Path,
    *,
    version: Version,
    queries: Path | None,
    beam: BeamSettings,
    k: int,
    exclude_seen: bool,
) -> Recommendations:
    """Writes the `k` items that `version` recommends to every user, or for every query of a file, to the folder `out`.

    Args:
        prepared_of: Finds what the version's run knew, for its users.
        out: The folder, new or left by the same call.
        version: Who is asked.
        queries: A Parquet or JSON Lines file; the users that the run saw if not given.
        beam: The runner.
        k: How many items each gets, at most.
        exclude_seen: Whether the items of a query's past are left out.

    Raises:
        DataError: A query is wrong.
        ArtifactError: The folder holds something else.
    """
    from two_tower.data import EveryUser
    from two_tower.serving import QueryFile, recommend_all

    if queries is None:
        source: QuerySource = EveryUser(_required(prepared_of, version))
    else:
        prepared = prepared_of(version)
        source = QueryFile(queries, EveryUser(prepared) if prepared and prepared.users(["user_id"]).num_rows else None)
    return recommend_all(version, source, out, k=k, exclude_seen=exclude_seen, beam=beam)


def excludes_seen(version: Version, *, config: Config | None) -> bool:
    """What `evaluation.exclude_seen` says: in `config` or, without one, where the version was made."""
    if config is not None:
        return config.evaluation.exclude_seen
    return bool(version.config.get("evaluation", {}).get("exclude_seen", False))


def in_words(found: Recommendations, *, k: int, exclude_seen: bool = False) -> str:
    """What was written, in one line, and a second one where items of histories were passed over."""
    from two_tower.serving import some_of

    without = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in sorted(found.without.items()))
    rate = f"{found.scored:,} now in {human_seconds(found.seconds)}, {found.scored / found.seconds:,.0f}/s"
    unknown = found.unknown_items
    passed_over = (
        f"\npassed over, unknown to this version: {len(unknown):,} items of histories: {some_of(unknown)}"
        if unknown
        else ""
    )
    with_items = found.queries - sum(found.without.values())
    return (
        f"{found.folder}: {with_items:,} of {found.queries:,} queries with up to {k} items"
        f"{f' (without: {without})' if without else ''}; {rate if found.scored else 'all were there already'}"
        f"{f'; {LEFT_OUT}' if exclude_seen else ''}"
        f"{passed_over}"
    )


def example_query(run: Run) -> dict[str, Any]:
    """The option of `recommend` that asks for what a run's first test query would get; none where it says nothing."""
    from two_tower.data import open_prepared

    prepared = open_prepared(run.step("prepare_data").outputs["prepared"])
    query = prepared.queries("test").slice(0, 1).to_pylist()[0]
    if query["user_id"] is not None:
        return {"user": query["user_id"]}
    context = {name.removeprefix("context."): value for name, value in query.items() if name.startswith("context.")}
    given = [f"{name}={value}" for name, value in context.items() if value is not None]
    return {"context": given} if given else {}


def find_prepared(workdir: Path, version: Version) -> Prepared | None:
    """The prepared data of the newest run in `workdir` that made `version`, if there is one."""
    from pipelines.runs import list_runs
    from two_tower.data import open_prepared

    for run in reversed(list_runs(workdir)):
        folder = run.step("prepare_data").outputs.get("prepared")
        if run.version == version.id and folder:
            return open_prepared(folder)
    return None


def _required(prepared_of: PreparedOf, version: Version) -> Prepared:
    """The prepared data of the newest run that made `version`."""
    prepared = prepared_of(version)
    if prepared is None:
        raise UserError(
            f"no run is at hand that made version {version.id}, so users' histories are not either; use --history, or "
            "--queries with a column history"
        )
    return prepared


def _item_ids(given: Sequence[str], known: Any) -> list[str]:
    """The ids of a history: each text given is one, but a single one that is not `known` may be several with commas."""
    import pyarrow.compute as pc

    if len(given) == 1 and pc.index(known, given[0]).as_py() < 0:
        return [item.strip() for item in given[0].split(",") if item.strip()]
    return list(given)


def _user_query(prepared: Prepared, user: str) -> Query:
    """The user's latest known query: the past as item ids, and the user's features."""
    from two_tower.data import EveryUser

    query = EveryUser(prepared).one(user)
    if query is None:
        raise DataError(f"the logs hold no user {user!r}; --history ITEM,ITEM… asks for somebody new")
    return query
