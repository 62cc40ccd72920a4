"""What the ranker gets: how many candidates it needs, and which users have none that is good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from two_tower.report.systems import first_of_kind, kind_of, ks_of, main_k, ordered_systems


def ranker_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many candidates give most of the recall that is in reach; None if not measured."""
    found = metrics.get("ranker")
    if not found:
        return None
    rows = [
        {"share": float(text), "recall": float(text) * found["recall"], "candidates": count}
        for text, count in sorted(found["candidates"].items(), key=lambda item: float(item[0]))
    ]
    known = [row for row in rows if row["candidates"] is not None]
    listed = [f"{row['candidates']:,} give {100 * row['share']:.0f} %" for row in known]
    sentence = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else "".join(listed)
    widest = max((row["candidates"] for row in known), default=0)
    for row in rows:
        row["width"] = round(100 * (row["candidates"] or 0) / widest, 1) if widest else 0.0
    return {"depth": found["depth"], "recall": found["recall"], "rows": rows, "sentence": sentence}


def users_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The share of users without any relevant item among the first candidates, by system; None if not measured."""
    found = metrics.get("users")
    if not found:
        return None
    shares = found["without_good_candidate"]
    systems = ordered_systems(metrics)
    ks = ks_of(f"@{k}" for row in shares.values() for k in row)
    rows = [
        {
            "name": name,
            "kind": system.get("kind"),
            "what": kind_of(system),
            "cells": [shares[name].get(str(k)) for k in ks],
        }
        for name, system in systems.items()
        if name in shares
    ]
    own = first_of_kind(systems, "challenger")
    return {
        "count": found["count"],
        "k": main_k(metrics),
        "share": shares.get(own, {}).get(str(main_k(metrics))) if own else None,
        "ks": ks,
        "rows": rows,
    }
