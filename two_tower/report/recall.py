"""Recall and the other metrics of every system, and the paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from two_tower.evaluation import repeats_in_words
from two_tower.report import plots
from two_tower.report.systems import (
    METRICS,
    compared_words,
    k_of,
    kind_of,
    ks_of,
    main_k,
    measured,
    metric_title,
    ordered_systems,
    rows_of,
    series_of,
    without_champion,
)

ASIDE = ("exact", "end_to_end", "before_refit")
"""The kinds of rows that tell of the two towers once more, and are no systems of their own."""


def recall_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A table for each metric, recall first, and the curves of recall over K."""
    systems, rows = ordered_systems(metrics), rows_of(metrics)
    drawn = {name: system for name, system in rows.items() if system.get("curve")}
    series = series_of(drawn)
    curves = [(series[name], system["curve"]["k"], system["curve"]["recall"]) for name, system in drawn.items()]
    ceilings = {stage["k"]: stage["ceiling"] for stage in metrics["loss"] if stage["queries"] == metrics["queries"]}
    return {
        "queries": metrics["queries"],
        "split": metrics.get("split", "test"),
        "before_refit": bool(metrics.get("before_refit")),
        "candidates": metrics["candidates"],
        "champion_candidates": metrics.get("champion_candidates"),
        "exclude_seen": metrics.get("exclude_seen", False),
        "confidence": metrics.get("confidence"),
        "repeats": repeats_in_words(metrics),
        "tables": [metric_table(name, rows, ceilings) for name in _metric_names(systems)],
        "curves": plots.recall_curves(curves) if curves else None,
        "samples": [
            {"name": name, "queries": system["queries"]}
            for name, system in systems.items()
            if system.get("queries", metrics["queries"]) != metrics["queries"]
        ],
        "has_baselines": any(system.get("kind") == "baseline" for system in systems.values()),
        "left_out": [{"name": name, "why": why} for name, why in metrics.get("left_out", {}).items()],
        "without_champion": without_champion(metrics),
    }


def _metric_names(systems: Mapping[str, Any]) -> list[str]:
    found = dict.fromkeys(key.partition("@")[0] for system in systems.values() for key in system["metrics"])
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def metric_table(metric: str, systems: Mapping[str, Any], ceilings: Mapping[int, float]) -> dict[str, Any]:
    """A row a system, a column a K, the best figure of each column marked; `ceilings` are the best possible recall."""
    title, note = METRICS.get(metric, (metric.replace("_", " "), ""))
    ks = ks_of(key for system in systems.values() for key in system["metrics"] if key.startswith(f"{metric}@"))
    rows = [
        {
            "name": name,
            "kind": system.get("kind", "baseline"),
            "what": kind_of(system),
            "cells": [measured(system["metrics"].get(f"{metric}@{k}")) for k in ks],
        }
        for name, system in systems.items()
    ]
    for column in range(len(ks)):
        cells = [row["cells"][column] for row in rows if row["kind"] not in ASIDE]
        best = max((cell["value"] for cell in cells if cell["value"] is not None), default=None)
        for cell in cells:
            cell["best"] = len(cells) > 1 and best is not None and cell["value"] == best
    reach = [ceilings.get(k) for k in ks] if metric == "recall" and ceilings else None
    return {"title": title, "note": note, "ks": ks, "rows": rows, "ceilings": reach}


def comparisons_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The paired differences from every other system: at one K in a table, at all of them in a picture."""
    systems = ordered_systems(metrics)
    compared = metrics["comparisons"]
    main = f"recall@{main_k(metrics)}"
    rows, dots = [], {}
    for name in sorted(compared, key=lambda name: list(systems).index(name) if name in systems else len(systems)):
        recalls = {k_of(key): value for key, value in compared[name].items() if key.startswith("recall@")}
        if recalls:
            dots[name] = {k: (value["difference"], value["low"], value["high"]) for k, value in sorted(recalls.items())}
        if main in compared[name]:
            rows.append({"name": name, **compared[name][main], **compared_words(compared[name][main])})
    return {"rows": rows, "metric": metric_title(main), "picture": plots.paired_differences(dots) if dots else None}


def discovery_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Recall on items that are new to the user, where the evaluation measured it apart."""
    found = metrics.get("discovery")
    if not found:
        return None
    systems = {name: {**metrics["systems"].get(name, {}), **system} for name, system in found["systems"].items()}
    main = f"recall@{main_k(metrics)}"
    table = metric_table("recall", ordered_systems({**metrics, "systems": systems}), {})
    for row in table["rows"]:
        difference = found["comparisons"].get(row["name"], {}).get(main)
        row["difference"] = difference and {**difference, **compared_words(difference)}
    return {"queries": found["queries"], "table": table, "metric": metric_title(main)}
