"""What changed between two versions of the data, from their descriptions alone (`profile.describe`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from two_tower.contracts import Float64

Document = Mapping[str, Any]

MODERATE, LARGE = 0.1, 0.25
"""The population stability index from which a change is moderate, and above which it is large.

Siddiqi, "Credit Risk Scorecards", 2006.
"""
FLOOR = 1e-4
"""The smallest share in the index, whose logarithm has no 0: the same as in Evidently's `get_binned_data`."""
UNUSUAL_Z, UNUSUAL_CHANGE = 4.0, 0.3
"""A day is unusual that is both so many deviations and, by share, so far off what was expected."""
SAME_WEEKDAYS = 3
"""From so many old days of its weekday on, a day is expected to be like them; else like all the old days."""


def compare_profiles(old: Document, new: Document, *, skip: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The changes from the old document to the new one, JSON-able.

    Args:
        old: `tables`: descriptions (`profile.describe`) by table; `per_day`: lists of the same length, `day` (ISO)
            and `events`; `features` (optional): a further description, compared like a table of this name.
        new: The same of the new data.
        skip: `TABLE.COLUMN` and the reason why it is not compared: what only the configuration knows, as which
            numbers are times.

    Returns:
        `columns`: of each `TABLE.COLUMN` of both the population stability index `psi`, its value by `chance` (see
        `_chance`), the Jensen-Shannon distance `js` (base 2, from 0 to 1), `missing_change` (of the share, from -1 to
        1), a `verdict` ("none", "moderate", "large" or "not_compared") and its `reason`.  `schema`: the columns that
        were added, removed or are of another type.  `volume`: see `_volume`.  `largest`: the column with the largest
        index beyond chance, `{}` where no index is.
    """
    before, after = _columns(old), _columns(new)
    reasons = skip or {}
    columns = {name: _compared(before[name], after[name], reasons.get(name)) for name in before if name in after}
    drifted = {
        name: found["psi"] for name, found in columns.items() if (found["psi"] or 0.0) > (found["chance"] or 0.0)
    }
    largest = max(drifted, key=lambda name: drifted[name], default=None)
    return {
        "columns": columns,
        "schema": _schema(before, after),
        "volume": _volume(old["per_day"], new["per_day"]),
        "largest": {} if largest is None else {"column": largest, **columns[largest]},
    }


@dataclass(frozen=True)
class _Described:
    """A column's description and the numbers of rows in its table and in the table's sample."""

    about: Document
    rows: int
    sample: int

    @property
    def present(self) -> float:
        return 1.0 - float(self.about["missing_share"])

    @property
    def mostly_distinct(self) -> bool:
        """Whether more than half of the values are distinct, as ids are; measures with decimals are so by nature."""
        about = self.about
        is_measure = about["quantiles"] is not None and any(not float(text).is_integer() for text, _ in about["top"])
        values = self.rows - int(about["missing"])
        return not is_measure and int(about["distinct"]) > max(values / 2, 1)

    @property
    def is_time(self) -> bool:
        return any(kind.startswith(("Date", "Datetime")) for kind in str(self.about["type"]).split(" | "))


def _columns(document: Document) -> dict[str, _Described]:
    tables = dict(document["tables"])
    if document.get("features"):
        tables["features"] = document["features"]
    return {
        f"{table}.{name}": _Described(about, described["rows"], described["sample"])
        for table, described in sorted(tables.items())
        for name, about in sorted(described["columns"].items())
    }


def _schema(before: Mapping[str, _Described], after: Mapping[str, _Described]) -> list[dict[str, Any]]:
    changes = []
    for name in sorted({*before, *after}):
        was = before[name].about["type"] if name in before else None
        is_ = after[name].about["type"] if name in after else None
        if was != is_:
            change = "added" if was is None else "removed" if is_ is None else "type"
            changes.append({"column": name, "change": change, "from": was, "to": is_})
    return changes


def _compared(old: _Described, new: _Described, skipped: str | None) -> dict[str, Any]:
    missing = float(new.about["missing_share"]) - float(old.about["missing_share"])
    found: dict[str, Any] = {"psi": None, "js": None, "chance": None, "missing_change": missing}
    reason = skipped or _incomparable(old, new)
    if reason:
        return {**found, "verdict": "not_compared", "reason": reason}
    p, q = _shares(old, new)
    used = (p > 0) | (q > 0)
    p, q = p[used], q[used]
    # Less than half a row cannot be told from none: in few rows, an empty bin is no sign of a share as small as FLOOR.
    found["psi"] = stability_index(np.maximum(p, 0.5 / old.sample), np.maximum(q, 0.5 / new.sample))
    found["js"] = jensen_shannon(p, q)
    found["chance"] = _chance(len(p), old.sample, new.sample)
    verdict, reason = _judged(found["psi"], found["chance"])
    if abs(missing) >= 0.01:
        reason = f"{reason}; the share of missing values went from {1 - old.present:.1%} to {1 - new.present:.1%}"
    return {**found, "verdict": verdict, "reason": f"{reason}."}


def _incomparable(old: _Described, new: _Described) -> str | None:
    if not old.rows or not new.rows:
        return f"The {'old' if not old.rows else 'new'} table has no rows."
    if old.is_time or new.is_time:
        return "Times move on."
    if old.mostly_distinct or new.mostly_distinct:
        return "More than half of the values are distinct, as with ids."
    return None


def _judged(psi: float, chance: float) -> tuple[str, str]:
    if psi < MODERATE:
        return "none", f"The stability index {psi:.3f} is below {MODERATE}"
    if psi <= chance:
        return "none", f"The stability index {psi:.3f} may be chance in so few rows: up to {chance:.3f} is"
    if psi <= LARGE:
        return "moderate", f"The stability index {psi:.3f} is from {MODERATE} to {LARGE}"
    return "large", f"The stability index {psi:.3f} is above {LARGE}"


def stability_index(p: Float64, q: Float64) -> float:
    """The population stability index of two distributions over the same bins, sum((q - p) ln(q / p)).

    Siddiqi, "Credit Risk Scorecards", 2006; shares below FLOOR count as FLOOR.
    """
    p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(p: Float64, q: Float64) -> float:
    """The Jensen-Shannon distance: the root of the divergence in bits (Endres and Schindelin, 2003)."""
    middle = (p + q) / 2

    def divergence(shares: Float64) -> float:
        some = shares > 0
        return float((shares[some] * np.log2(shares[some] / middle[some])).sum())

    return float(np.sqrt(max((divergence(p) + divergence(q)) / 2, 0.0)))


def _chance(bins: int, old: int, new: int) -> float:
    """The index that samples of `old` and of `new` rows of one and the same data stay below.

    It is about (1 / old + 1 / new) times a chi-squared variable with one degree of freedom less than there are bins
    (Yurdakul and Naranjo, "Statistical Properties of the Population Stability Index", 2020): its mean and 4 standard
    deviations.
    """
    freedom = bins - 1
    return (1 / old + 1 / new) * (freedom + 4 * float(np.sqrt(2 * freedom)))


def _shares(old: _Described, new: _Described) -> tuple[Float64, Float64]:
    """The shares of the rows in each bin, the last of which holds the missing values."""
    known = [one for one in (old, new) if one.about["top"]]
    measured = bool(known) and all(one.about["quantiles"] is not None for one in known)
    # Where the top values are all the values, their shares are exact.
    if measured and any(one.about["other_share"] > 0 for one in known):
        p, q = _numeric(old, new)
    else:
        p, q = _categorical(old.about, new.about)
    return np.append(p * old.present, 1 - old.present), np.append(q * new.present, 1 - new.present)


def _numeric(old: _Described, new: _Described) -> tuple[Float64, Float64]:
    """The shares between the deciles of the old values (of the new ones, where all the old are missing).

    Equal deciles are one.  A decile of more than a percentile of the values is a bin of its own.
    """
    quantiles = [None if one.about["quantiles"] is None else np.array(one.about["quantiles"]) for one in (old, new)]
    edges_of = next(one for one in quantiles if one is not None)
    edges = np.unique(edges_of[10:100:10])
    mass = _cumulative(edges_of, edges, "right") - _cumulative(edges_of, edges, "left")
    at_edge = edges[mass >= 0.01 - 1e-9]
    shares = []
    for one in quantiles:
        if one is None:
            shares.append(np.zeros(len(edges) + len(at_edge) + 1))
            continue
        cuts = np.sort(np.concatenate([_cumulative(one, edges, "right"), _cumulative(one, at_edge, "left")]))
        shares.append(np.diff(cuts, prepend=0.0, append=1.0))
    return shares[0], shares[1]


def _cumulative(percentiles: Float64, at: Float64, side: Any) -> Float64:
    """The share of the values up to each of `at` ("right") or below it ("left"), even between two percentiles."""
    above = np.searchsorted(percentiles, at, side=side)
    inside = np.clip(above, 1, len(percentiles) - 1)
    low, high = percentiles[inside - 1], percentiles[inside]
    step = np.where(high > low, high - low, 1.0)
    share = (inside - 1 + (at - low) / step) / (len(percentiles) - 1)
    return np.where(above == 0, 0.0, np.where(above == len(percentiles), 1.0, share))


def _categorical(old: Document, new: Document) -> tuple[Float64, Float64]:
    """The shares of the union of the top values, and of the others together."""
    tops = [{text: float(share) for text, share in one["top"]} for one in (old, new)]
    others = [float(old["other_share"]), float(new["other_share"])]
    names = sorted({*tops[0], *tops[1]})
    shares = [np.array([top.get(name, 0.0) for name in names]) for top in tops]
    for one, two in ((0, 1), (1, 0)):
        # A value that is only in the top of the other is among this one's others, if there are any, with at most the
        # share of this one's last top value: the share nearest to the other's, so that the edge of the top is no drift.
        unknown = np.array([name not in tops[one] for name in names], dtype=np.bool_)
        if others[one] > 0 and unknown.any():
            guess = np.minimum(shares[two][unknown], min(tops[one].values()))
            shares[one][unknown] = guess * min(1.0, others[one] / guess.sum())
    rest = [max(1.0 - float(one.sum()), 0.0) if top else 0.0 for one, top in zip(shares, tops, strict=True)]
    rest = [value if other > 0 else 0.0 for value, other in zip(rest, others, strict=True)]
    return np.append(shares[0], rest[0]), np.append(shares[1], rest[1])


def _volume(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The events per day, of the days after the last old one; of all the new days where none is after it.

    `expected` is the median of the old days of the same weekday.  `z` is the difference from it, in units of the
    median absolute deviation times 1.4826 (the standard deviation of normal values), at least of the root of what is
    expected, which is how much counts vary by chance.  `missing_days` are those without events where events were
    expected.
    """
    before, fresh = _days(old), _days(new)
    after = {day: events for day, events in fresh.items() if not before or day > max(before)}
    if before and after:  # what was missing right after the old days is missing too
        after = _filled(after, max(before) + timedelta(days=1))
    mean_before, mean_after = _mean(before), _mean(after or fresh)
    unusual, missing = [], []
    for day, events in after.items() if before else ():
        weekday = [count for other, count in before.items() if other.weekday() == day.weekday()]
        like = np.array(weekday if len(weekday) >= SAME_WEEKDAYS else list(before.values()))
        expected = float(np.median(like))
        deviation = max(1.4826 * float(np.median(np.abs(like - expected))), float(np.sqrt(max(expected, 1.0))))
        z = (events - expected) / deviation
        if events == 0 and expected > 0:
            missing.append(day.isoformat())
        elif abs(z) > UNUSUAL_Z and abs(events - expected) > UNUSUAL_CHANGE * expected:
            unusual.append({"day": day.isoformat(), "events": events, "expected": expected, "z": z})
    return {
        "mean_before": mean_before,
        "mean_after": mean_after,
        "ratio": mean_after / mean_before if mean_before else None,
        "unusual_days": unusual,
        "missing_days": missing,
    }


def _days(per_day: Mapping[str, Any]) -> dict[date, int]:
    """The events of every day from the first to the last one."""
    days = {date.fromisoformat(day): int(n) for day, n in zip(per_day["day"], per_day["events"], strict=True)}
    return _filled(days, min(days)) if days else {}


def _filled(days: Mapping[date, int], first: date) -> dict[date, int]:
    span = (max(days) - first).days + 1
    return {day: days.get(day, 0) for day in (first + timedelta(days=number) for number in range(span))}


def _mean(days: Mapping[date, int]) -> float:
    return sum(days.values()) / len(days) if days else 0.0
