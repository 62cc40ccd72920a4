"""What a person should know of the logs before training on them: the notes under `two-tower data check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from two_tower.config import Config

if TYPE_CHECKING:
    from two_tower.data import Prepared

FEW_QUERIES = 200
MANY_DUPLICATES = 0.01
"""Such a share of the rows is hardly an accident."""


def remarks(prepared: Prepared, profile: dict[str, Any], config: Config) -> list[str]:
    """All of them, in the order of `REMARKS`."""
    return [text for remark in REMARKS for text in remark(prepared, profile, config)]


def _noted(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    from two_tower.data import in_sentences

    yield from in_sentences(prepared.summary["noted"])


def _duplicates(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    rows = prepared.summary["rows"]
    duplicates = rows["set_aside"].get("duplicate", 0)
    if duplicates > MANY_DUPLICATES * (used := rows["kept"] + duplicates):
        yield (
            f"{duplicates:,} of {used:,} good rows ({duplicates / used:.1%}) equal an earlier one in every column and "
            "are set aside; where each is an event of its own, such as one of several units, "
            "data.interactions.duplicates: keep"
        )


def _repeats(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    repeats, positives = prepared.summary["repeats"], prepared.summary["positives"]
    if repeats is None:  # the logs name no users
        return
    excluded, counted = config.evaluation.exclude_seen, config.evaluation.repeats
    if not repeats:
        usual = (
            ", as evaluation.exclude_seen: true supposes"
            if excluded
            else "; evaluation.exclude_seen: true is usual then"
        )
        yield f"no user takes an item twice{usual}"
        return
    said = (
        f"{repeats:,} of {positives:,} positive events ({repeats / positives:.1%}) take an item that their user has had"
    )
    if not excluded:
        yield f"{said}; with evaluation.exclude_seen: false it may be recommended again"
        return
    missed = "so those of the test are missed (evaluation.repeats: leave_out leaves them out)"
    counting = missed if counted == "miss" else "and evaluation.repeats leaves them out of the test"
    yield f"{said}; evaluation.exclude_seen: true never recommends it, {counting}"


def _unavailable(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    available = prepared.items(["available"])["available"].to_numpy()
    if unavailable := len(available) - int(available.sum()):
        yield f"{unavailable:,} items are not available and will never be retrieved (data.items.available)"


def _tables(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    summary = prepared.summary
    for key in ("items", "users"):
        if rows := summary["tables"][key]["without_id"]:
            yield f"{rows:,} rows of the {key} table have no id and are left out"


def _queries(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    for part in ("validation", "test"):
        queries, new = prepared.summary["queries"][part], prepared.summary["new_users"][part]
        if queries and new > queries / 2:
            yield f"{new:,} of {queries:,} {part} queries are of users without any history"
        if queries < FEW_QUERIES:
            yield f"{queries:,} {part} queries are few: the figures will be uncertain; widen data.split.{part}"


def _ties(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    for part in ("validation", "test"):
        queries, tied = prepared.summary["queries"][part], prepared.summary["tied"][part]
        if tied:
            yield (
                f"{tied:,} of {queries:,} {part} queries ({tied / queries:.0%}) see other events of their target's own "
                "moment, as far as these stand before it in the files; data.split.ties: apart keeps them out"
            )


def _days(prepared: Prepared, profile: dict[str, Any], config: Config) -> Iterator[str]:
    days = [date.fromisoformat(day) for day in profile["per_day"]["day"]]
    if days and (missing := (days[-1] - days[0]).days + 1 - len(days)):
        present = set(days)
        first = next(day for n in range(missing + len(days)) if (day := days[0] + timedelta(n)) not in present)
        yield f"days without any event: {missing:,}, the first is {first}"


REMARKS: tuple[Callable[[Prepared, dict[str, Any], Config], Iterator[str]], ...] = (
    _noted,
    _duplicates,
    _repeats,
    _unavailable,
    _tables,
    _queries,
    _ties,
    _days,
)
