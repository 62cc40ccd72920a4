"""Where recall is lost: out of reach, by the model, by the index; and the index itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from two_tower.artifacts import ArtifactReader
from two_tower.report import plots
from two_tower.report.systems import ks_of, main_k
from two_tower.report.values import readable


def loss_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The stages at every K, in shares of the relevant items, and a sentence on one of them."""
    index = metrics.get("index") or {}
    stages = [
        {
            **stage,
            "index": index.get(f"recall@{stage['k']}"),
            "lost_index": stage["exact"] - stage["end_to_end"],
            "lost_model": max(0.0, stage["ceiling"] - max(stage["exact"], stage["end_to_end"])),
            "out_of_reach": max(0.0, 1 - stage["ceiling"]),
        }
        for stage in sorted(metrics["loss"], key=lambda stage: int(stage["k"]))
        if stage["exact"] is not None
    ]
    at = next((stage for stage in metrics["loss"] if stage["k"] == main_k(metrics)), None)
    return {
        "stages": stages,
        "queries": at["queries"] if at and at["queries"] != metrics["queries"] else None,
        "sentence": _found(at) if at else None,
        "advice": _advice(
            next((stage for stage in stages if stage["k"] == main_k(metrics)), None), repeats=_missed_repeats(metrics)
        ),
    }


def _found(stage: Mapping[str, Any]) -> str:
    """How many of 100 relevant items are found, by exact search and by the index."""
    k, index = stage["k"], 100 * stage["end_to_end"]
    if stage["exact"] is None:
        return f"Of 100 relevant items, {index:.1f} are in the index's first {k:,}; exact search was not measured."
    exact = 100 * stage["exact"]
    decimals = 0 if round(exact) != round(index) else 1
    return (
        f"Of 100 relevant items, {exact:.{decimals}f} are in the exact first {k:,}, {index:.{decimals}f} in the "
        f"index's."
    )


def _missed_repeats(metrics: Mapping[str, Any]) -> bool:
    """Whether some relevant items cannot be found, as the user has had them."""
    repeats = metrics.get("repeats") or {"counted": None}
    return bool(repeats["counted"] == "miss" and repeats["relevant"])


def _advice(stage: Mapping[str, Any] | None, *, repeats: bool) -> str | None:
    """Where the rest of the recall went, and what would bring it back."""
    if stage is None:
        return None
    k, model, index, reach = stage["k"], stage["lost_model"], stage["lost_index"], stage["out_of_reach"]
    parts = [f"{model:.4f} is missed by the model (exact search does not find it either)"]
    parts.append(f"{index:.4f} by the index (exact search finds it)" if index >= 0.00005 else "nothing by the index")
    if reach >= 0.00005:
        had = " or ask for items that the user has had" if repeats else ""
        parts.append(f"{reach:.4f} is out of reach, since some queries have more than {k:,} relevant items{had}")
    where = (
        "better towers, not a wider search, would raise recall"
        if model >= index
        else "a wider search in the index would raise recall first"
    )
    missing = 1 - stage["end_to_end"]
    return f"Of the {missing:.4f} that is missing, {', '.join(parts[:-1])} and {parts[-1]}: {where}."


def index_section(metrics: Mapping[str, Any], index: ArtifactReader) -> dict[str, Any]:
    """The index's kind and settings, its latency, and what the tuning found."""
    found = metrics.get("index") or {}
    settings = index.json("settings.json")
    shards = settings["shards"]
    tuning = index.manifest.measured
    shown = {"dimension": settings["dimension"], "shards": len(shards), **(shards[0]["parameters"] if shards else {})}
    points = [point for point in tuning.get("points", []) if point["effort"] is not None]
    chosen = tuning.get("chosen")
    return {
        "kind": found.get("kind") or settings["kind"],
        "recall": {k: found[f"recall@{k}"] for k in ks_of(key for key in found if key.startswith("recall@"))},
        "latency": found.get("latency_ms") or {},
        "settings": {key.replace("_", " "): readable(value) for key, value in shown.items()},
        "unmet": tuning.get("unmet") or [],
        "picture": plots.index_tuning(points, chosen, tuning["target"]) if points and chosen else None,
        "queries": tuning.get("queries"),
    }
