"""What the ranker gets: how many candidates it needs, and which users have none that is good."""

from __future__ import annotations

from dataclasses import dataclass

from two_tower.metrics_file import Evaluation
from two_tower.report.systems import first_of_kind, kind_of, ordered_systems


@dataclass(frozen=True)
class Reach:
    """How many candidates give a share of the recall that is in reach."""

    share: float
    recall: float
    candidates: int | None
    width: float
    """Of the bar, in percent."""


@dataclass(frozen=True)
class RankerSection:
    """How many candidates give most of the recall that is in reach."""

    depth: int
    recall: float
    rows: list[Reach]
    sentence: str


def ranker_section(evaluation: Evaluation) -> RankerSection | None:
    """How many candidates give most of the recall that is in reach; None if not measured."""
    found = evaluation.ranker
    if not found:
        return None
    widest = max((count for count in found.candidates.values() if count is not None), default=0)
    rows = [
        Reach(
            share=float(text),
            recall=float(text) * found.recall,
            candidates=count,
            width=round(100 * (count or 0) / widest, 1) if widest else 0.0,
        )
        for text, count in sorted(found.candidates.items(), key=lambda item: float(item[0]))
    ]
    listed = [f"{row.candidates:,} give {100 * row.share:.0f} %" for row in rows if row.candidates is not None]
    sentence = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else "".join(listed)
    return RankerSection(found.depth, found.recall, rows, sentence)


@dataclass(frozen=True)
class UsersRow:
    """A system's shares, by K."""

    name: str
    kind: str | None
    what: str
    cells: list[float | None]


@dataclass(frozen=True)
class UsersSection:
    """The share of users without any relevant item among the first candidates."""

    count: int
    k: int
    share: float | None
    """The two towers' at that K."""
    ks: list[int]
    rows: list[UsersRow]


def users_section(evaluation: Evaluation) -> UsersSection | None:
    """The share of users without any relevant item among the first candidates, by system; None if not measured."""
    found, main_k = evaluation.users, evaluation.main_k
    if not found:
        return None
    shares = found.without_good_candidate
    systems = ordered_systems(evaluation)
    ks = sorted({k for row in shares.values() for k in row})
    rows = [
        UsersRow(name, system.kind, kind_of(system), [shares[name].get(k) for k in ks])
        for name, system in systems.items()
        if name in shares
    ]
    own = first_of_kind(systems, "challenger")
    share = shares.get(own, {}).get(main_k) if own else None
    return UsersSection(found.count, main_k, share, ks, rows)
