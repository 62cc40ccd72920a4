"""The report of a run: one HTML file without any reference outside itself, made from the artefacts alone.

Each `_..._section` function turns artefact content into the values of one section of `report.html.j2`; the template
escapes all of them.  What comes from the data is clipped, so that the file stays small whatever the logs hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup, escape

from two_tower.artifacts import ArtifactReader, content_hash, open_artifact, replace_file
from two_tower.data import PROFILE, in_words
from two_tower.evaluation import plots
from two_tower.progress import human_seconds

_SAMPLES_PER_REASON = 2
_MOST_REASONS = 12
_MOST_EXAMPLES = 30
_MOST_HISTORY = 10
_MOST_RELEVANT = 30
_MOST_RECOMMENDED = 20
_LOG_CHARACTERS = 100_000

_METRICS = {
    "recall": ("Recall", "found relevant items ÷ all relevant items of the query"),
    "hit_rate": ("Hit rate", "share of queries with at least one found item"),
    "mrr": ("MRR", "1 ÷ rank of the first found item, 0 without one"),
    "ndcg": ("NDCG", "found items discounted by the logarithm of their rank"),
}
_KINDS = {
    "challenger": "this run, query tower and index",
    "exact": "this run, exact search",
    "champion": "serving now",
    "baseline": "baseline",
}
_SLICES = {
    "returning_users": "queries with an event before the cut-off",
    "new_users": "queries without one",
    "repeated": "relevant items of the user's past",
    "new_to_user": "the other relevant items",
    "warm_new_to_user": "those of them with a training event",
    "cold_items": "relevant items without a training event",
    "head": "the most popular relevant items: theirs is the first third of the training events",
    "middle": "the second third",
    "tail": "the last third, and what has no event",
}
_DECISIONS = {"promote": ("Promote", "good"), "refuse": ("Refuse", "bad"), "keep": ("Keep", "neutral")}


def write_report(
    out_html: str | Path,
    *,
    prepared: str | Path,
    trained: str | Path,
    evaluation: str | Path,
    index: str | Path | None = None,
    config: Mapping[str, Any],
    title: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Writes the run's report, one self-contained HTML file, to `out_html`.

    Args:
        out_html: The file; it is replaced atomically.
        prepared: The `prepared_data` artefact.
        trained: The `trained_towers` artefact.
        evaluation: The `evaluation` artefact.
        index: The `index` artefact, where there is one.
        config: The whole configuration, shown as YAML.
        title: The heading; the configuration's name if not given.
        run: What ran: `run_id`, `started` (text), `code` (commit or fingerprint), `steps` (a list of `name`, `state`:
            ran, cached, failed, skipped, running or waiting, and `seconds`) and `versions` (package to version); any
            may be missing, and more is ignored.

    Raises:
        ArtifactError: An artefact is missing, damaged or of another kind.
    """
    data = open_artifact(prepared, "prepared_data")
    artefacts = {
        "prepared_data": data,
        "trained_towers": open_artifact(trained, "trained_towers"),
        "evaluation": open_artifact(evaluation, "evaluation"),
    }
    if index is not None:
        artefacts["index"] = open_artifact(index, "index")
    metrics = artefacts["evaluation"].json("metrics.json")
    ceilings = _ceilings(data, metrics)
    _write(
        "report.html.j2",
        out_html,
        title=title or config.get("name", "Report"),
        description=config.get("description"),
        verdict=_verdict_section(metrics),
        recall=_recall_section(metrics, ceilings=ceilings),
        loss=_loss_section(metrics, ceilings=ceilings, index=artefacts.get("index")),
        comparisons=_comparisons_section(metrics),
        discovery=_discovery_section(metrics),
        data=_data_section(data),
        columns=_columns_section(artefacts["evaluation"]),
        drift=_drift_section(metrics.get("drift")),
        training=_training_section(artefacts["trained_towers"].json("history.json")),
        examples=_examples_section(artefacts["evaluation"], display=_display_columns(data)),
        slices=_slices_section(metrics),
        popularity=_popularity_section(metrics),
        artefacts=[_artefact_row(name, reader) for name, reader in artefacts.items()],
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100),
        run=_run_section(run),
    )


def write_failure_page(
    out_html: str | Path,
    *,
    title: str,
    run_id: str,
    failed_step: str | None,
    error_tail: str,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Writes a page for a run that did not finish: the failed step, the end of its log, and how to go on.

    Args:
        out_html: The file; it is replaced atomically.
        title: The heading, such as the configuration's name.
        run_id: The run's id.
        failed_step: The step's name, None where it is not known.
        error_tail: The last lines of the step's log or the error message; only its end is shown if it is long.
        run: As for `write_report`.
    """
    _write(
        "failure.html.j2",
        out_html,
        title=title,
        run_id=run_id,
        failed_step=failed_step,
        error_tail=error_tail.rstrip()[-_LOG_CHARACTERS:],
        promoted=_was_promoted(run),
        run=_run_section({**(run or {}), "run_id": run_id}),
    )


def _write(template: str, out_html: str | Path, **values: Any) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable, clip=_clip, count=_count, figure=_figure, number=_number, seconds=_seconds,
        share=_share, signed=_signed, size=_size,
    )  # fmt: skip
    page = environment.get_template(template).render(values)
    Path(out_html).parent.mkdir(parents=True, exist_ok=True)
    replace_file(out_html, page.encode("utf-8", errors="replace"))


# The verdict


def _verdict_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    gate = metrics.get("gate") or {}
    label, tone = _DECISIONS.get(gate.get("decision", ""), ("No verdict", "neutral"))
    return {
        "label": label,
        "tone": tone,
        "reason": gate.get("reason") or "The gate has not been asked.",
        "version": metrics.get("version"),
        "champion": metrics.get("champion"),
        "champion_error": metrics.get("champion_error"),
        "checks": [
            {**check, "bar": _bar(check.get("value"), check.get("threshold"))} for check in gate.get("checks", [])
        ],
    }


def _bar(value: float | None, threshold: float | None) -> dict[str, float] | None:
    """The places, in percent of the bar's width, of zero, the value and the threshold."""
    if value is None:
        return None
    numbers = [0.0, value, *([] if threshold is None else [threshold])]
    low, high = min(numbers), max(numbers)
    room = 0.15 * (high - low) or 1.0
    low, high = (low - room if low < 0 else low), (high + room if high > 0 else high)

    def place(number: float) -> float:
        return round(100 * (number - low) / (high - low), 2)

    start, end = sorted((place(0.0), place(value)))
    bar = {"start": start, "width": round(end - start, 2)}
    return bar if threshold is None else {**bar, "threshold": place(threshold)}


# Recall


def _recall_section(metrics: Mapping[str, Any], *, ceilings: Mapping[int, float]) -> dict[str, Any]:
    systems = _ordered_systems(metrics)
    series = _series(systems)
    curves = [
        (series[name], system["curve"]["k"], system["curve"]["recall"])
        for name, system in systems.items()
        if system.get("curve")
    ]
    return {
        "queries": metrics.get("queries"),
        "candidates": metrics.get("candidates"),
        "exclude_seen": metrics.get("exclude_seen", False),
        "confidence": metrics.get("confidence"),
        "tables": [_metric_table(name, systems, ceilings) for name in _metric_names(systems)],
        "curves": plots.recall_curves(curves) if curves else None,
        "has_baselines": any(system.get("kind") == "baseline" for system in systems.values()),
        "has_champion": any(system.get("kind") == "champion" for system in systems.values()),
        "headlines": _headlines(metrics, systems),
    }


def _ordered_systems(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The systems: this run, its exact search, the champion, then the others by falling recall."""
    kinds = list(_KINDS)
    key = f"recall@{_main_k(metrics)}"

    def order(item: tuple[str, Any]) -> tuple[int, float]:
        kind = item[1].get("kind")
        return kinds.index(kind) if kind in kinds else len(kinds), -(
            _measured(item[1]["metrics"].get(key)).get("value") or 0
        )

    return dict(sorted(metrics.get("systems", {}).items(), key=order))


def _series(systems: Mapping[str, Any]) -> dict[str, plots.Series]:
    return plots.system_series({name: system.get("kind", "baseline") for name, system in systems.items()})


def _metric_names(systems: Mapping[str, Any]) -> list[str]:
    found = dict.fromkeys(key.partition("@")[0] for system in systems.values() for key in system["metrics"])
    return [name for name in _METRICS if name in found] + [name for name in found if name not in _METRICS]


def _metric_table(metric: str, systems: Mapping[str, Any], ceilings: Mapping[int, float]) -> dict[str, Any]:
    title, note = _METRICS.get(metric, (metric, ""))
    ks = _ks(key for system in systems.values() for key in system["metrics"] if key.startswith(f"{metric}@"))
    rows = [
        {
            "name": name,
            "kind": system.get("kind", "baseline"),
            "what": _KINDS.get(system.get("kind"), system.get("kind")),
            "cells": [_measured(system["metrics"].get(f"{metric}@{k}")) for k in ks],
        }
        for name, system in systems.items()
    ]
    for column in range(len(ks)):
        values = [cell.get("value") for row in rows if row["kind"] != "exact" and (cell := row["cells"][column])]
        best = max((value for value in values if value is not None), default=None)
        for row in rows:
            cell = row["cells"][column]
            cell["best"] = row["kind"] != "exact" and len(values) > 1 and best is not None and cell.get("value") == best
    reach = [ceilings.get(k) for k in ks] if metric == "recall" and ceilings else None
    return {"title": title, "note": note, "ks": ks, "rows": rows, "ceilings": reach}


def _headlines(metrics: Mapping[str, Any], systems: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The few figures that stand under the verdict."""
    key = f"recall@{_main_k(metrics)}"
    found = []
    for kind, label in (
        ("challenger", "end to end"),
        ("exact", "model, exact search"),
        ("champion", "champion"),
        ("baseline", "best baseline"),
    ):
        for name, system in systems.items():
            measured = _measured(system["metrics"].get(key))
            if system.get("kind") == kind and measured.get("value") is not None:
                detail = name if kind == "baseline" else None
                found.append({"label": f"{key.capitalize()}, {label}", "detail": detail, **measured})
                break
    return found


def _loss_section(
    metrics: Mapping[str, Any], *, ceilings: Mapping[int, float], index: ArtifactReader | None
) -> dict[str, Any]:
    """Where recall is lost: out of reach at this K, by the model, by the index."""
    kinds = {system.get("kind"): system["metrics"] for system in metrics.get("systems", {}).values()}
    measured_index = metrics.get("index") or {}
    stages = []
    for k in sorted(metrics.get("ks", [])):
        end_to_end = _measured(kinds.get("challenger", {}).get(f"recall@{k}")).get("value")
        exact = _measured(kinds.get("exact", {}).get(f"recall@{k}")).get("value")
        if end_to_end is None or exact is None:
            continue
        ceiling = max(ceilings.get(k, 1.0), exact, end_to_end)
        stages.append(
            {
                "k": k,
                "end_to_end": end_to_end,
                "exact": exact,
                "index": measured_index.get(f"recall@{k}"),
                "lost_index": exact - end_to_end,
                "lost_model": ceiling - exact,
                "out_of_reach": 1 - ceiling,
            }
        )
    main = next((stage for stage in stages if stage["k"] == _main_k(metrics)), None)
    return {
        "stages": stages,
        "sentence": _loss_sentence(main) if main else None,
        "index_report": _index_section(measured_index, index) if index is not None else None,
    }


def _index_section(measured: Mapping[str, Any], index: ArtifactReader) -> dict[str, Any]:
    """The index's kind and settings, its latency, and what the tuning found."""
    settings = index.json("settings.json")
    shards = settings["shards"]
    tuning = index.manifest.measured
    shown = {"dimension": settings["dimension"], "shards": len(shards), **(shards[0]["parameters"] if shards else {})}
    points = [point for point in tuning.get("points", []) if point["effort"] is not None]
    chosen = tuning.get("chosen")
    return {
        "kind": measured.get("kind") or settings["kind"],
        "latency": measured.get("latency_ms") or {},
        "settings": {key.replace("_", " "): _readable(value) for key, value in shown.items()},
        "unmet": tuning.get("unmet") or [],
        "picture": plots.index_tuning(points, chosen, tuning["target"]) if points and chosen else None,
        "queries": tuning.get("queries"),
    }


def _loss_sentence(stage: Mapping[str, Any]) -> str:
    k, model, index, reach = stage["k"], stage["lost_model"], stage["lost_index"], stage["out_of_reach"]
    parts = [f"{model:.4f} is missed by the model (exact search does not find it either)"]
    if index >= 0.00005:
        parts.append(f"{index:.4f} by the index (exact search finds it)")
    else:
        parts.append("nothing by the index")
    if reach >= 0.00005:
        parts.append(f"{reach:.4f} is out of reach, since some queries have more than {k:,} relevant items")
    where = (
        "better towers, not a wider search, would raise recall"
        if model >= index
        else "a wider search in the index would raise recall first"
    )
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}"
    found = stage["end_to_end"]
    return f"End to end, Recall@{k:,} is {found:.4f}. Of the missing {1 - found:.4f}, {listed}: {where}."


def _ceilings(data: ArtifactReader, metrics: Mapping[str, Any]) -> dict[int, float]:
    """The best possible Recall@K of the test queries; empty where the evaluation did not take them as they are."""
    if metrics.get("exclude_seen") or not any(name.startswith("test/") for name in data.manifest.files):
        return {}
    lengths = pc.list_value_length(data.table("test", columns=["relevant"])["relevant"]).to_numpy()
    if len(lengths) == 0 or len(lengths) != metrics.get("queries"):
        return {}
    return {k: float(np.mean(np.minimum(k, lengths) / lengths)) for k in metrics.get("ks", [])}


def _comparisons_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    systems = _ordered_systems(metrics)
    compared = metrics.get("comparisons") or {}
    main = f"recall@{_main_k(metrics)}"
    rows, dots = [], {}
    for name in sorted(compared, key=lambda name: list(systems).index(name) if name in systems else len(systems)):
        recalls = {_k_of(key): value for key, value in compared[name].items() if key.startswith("recall@")}
        if recalls:
            dots[name] = {k: (value["difference"], value["low"], value["high"]) for k, value in sorted(recalls.items())}
        if main in compared[name]:
            rows.append({"name": name, **compared[name][main], **_compared_words(compared[name][main])})
    return {"rows": rows, "metric": main.capitalize(), "picture": plots.paired_differences(dots) if dots else None}


def _compared_words(difference: Mapping[str, float]) -> dict[str, str]:
    """What a paired difference says of the two towers."""
    if difference["low"] > 0:
        return {"tone": "good", "words": "better"}
    return {"tone": "bad", "words": "worse"} if difference["high"] < 0 else {"tone": "neutral", "words": "unclear"}


def _discovery_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Recall on items that are new to the user, where the evaluation measured it apart."""
    found = metrics.get("discovery")
    if not found:
        return None
    systems = {name: {**metrics["systems"].get(name, {}), **system} for name, system in found["systems"].items()}
    ordered = _ordered_systems({**metrics, "systems": systems})
    main = f"recall@{_main_k(metrics)}"
    table = _metric_table("recall", ordered, {})
    for row in table["rows"]:
        difference = found["comparisons"].get(row["name"], {}).get(main)
        row["difference"] = difference and {**difference, **_compared_words(difference)}
    return {"queries": found["queries"], "table": table, "metric": _metric_title(main)}


def _slices_section(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Each slice's recall at one K, by system, with the tone of the paired comparison."""
    slices = metrics.get("slices") or {}
    main = f"recall@{_main_k(metrics)}"
    kinds = {name: system.get("kind") for name, system in _ordered_systems(metrics).items()}
    systems = [name for name, kind in kinds.items() if kind != "exact"]
    rows = []
    for name in [*(name for name in _SLICES if name in slices), *(name for name in slices if name not in _SLICES)]:
        part = slices[name]
        cells = []
        for system in systems:
            measured = part["systems"].get(system, {"metrics": {}})["metrics"].get(main)
            difference = part["comparisons"].get(system, {}).get(main)
            cells.append({**_measured(measured), **(_compared_words(difference) if difference else {"words": None})})
        row = {"name": name.replace("_", " "), "what": _SLICES.get(name), "queries": part["queries"], "cells": cells}
        rows.append(row)
    return {"systems": systems, "metric": _metric_title(main), "rows": rows}


def _popularity_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is recommended in the first places, and what is consumed, by the items' popularity."""
    found = metrics.get("popularity")
    if not found:
        return None
    k = min(metrics["ks"], key=lambda k: abs(math.log(k / 10)))  # what a person gets to see
    names = ("head", "middle", "tail", "log_count", "coverage")
    rows = [{"name": "consumed", "what": "the relevant items", **found["consumed"]}]
    for name, system in _ordered_systems(metrics).items():
        measured = found["recommended"].get(name)
        if measured and system.get("kind") != "exact":
            what = _KINDS.get(system.get("kind"), system.get("kind"))
            rows.append({"name": name, "what": what, **{key: measured.get(f"{key}@{k}") for key in names}})
    shares = {row["name"]: [row[group] or 0.0 for group in names[:3]] for row in rows}
    return {"k": k, "rows": rows, "items": found["items"], "picture": plots.popularity_shares(shares)}


# The data


def _data_section(data: ArtifactReader) -> dict[str, Any]:
    summary = data.json("summary.json")
    rows = summary.get("rows", {})
    windows = {name: window for name, edges in summary.get("windows", {}).items() if (window := _window(edges))}
    per_day = summary.get("per_day") or {}
    days = [day for text in per_day.get("day", []) if (day := _day(text))]
    shaded = {name: windows[name] for name in ("validation", "test") if name in windows}
    by_time = "train" in windows and all(window[0] >= windows["train"][1] for window in shaded.values())
    counts = -np.sort(-data.table("items.parquet", columns=["train_count"])["train_count"].fill_null(0).to_numpy())
    return {
        "summary": summary,
        "read": rows.get("read"),
        "kept": rows.get("kept"),
        "filtered": _reasons(rows.get("filtered")),
        "set_aside": _reasons(rows.get("set_aside")),
        "samples": _set_aside_samples(data),
        "windows": windows,
        "span": (min(window[0] for window in windows.values()), max(window[1] for window in windows.values()))
        if windows
        else None,
        "tail": _tail_sentence(counts),
        "per_day": plots.events_per_day(days, per_day["events"], windows=shaded if by_time else None) if days else None,
        "long_tail": plots.long_tail(counts) if counts.any() else None,
    }


def _columns_section(evaluation: ArtifactReader) -> list[dict[str, Any]]:
    """The columns of the profile, as far as the evaluation holds one."""
    if PROFILE not in evaluation.manifest.files:
        return []
    return [
        {
            **facts,
            "name": f"{table}.{column}",
            "type": facts["type"].partition("(time_unit")[0],
            "words": in_words(facts),
        }
        for table, described in evaluation.json(PROFILE)["tables"].items()
        for column, facts in described["columns"].items()
    ]


def _drift_section(drift: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What has changed in the data since the champion was trained, the largest change first."""
    if drift is None:
        return None
    tones = {"none": "good", "moderate": "busy", "large": "bad", "not_compared": "neutral"}
    rows = [
        {**found, "name": name, "tone": tones[found["verdict"]], "verdict": found["verdict"].replace("_", " ")}
        for name, found in drift["columns"].items()
    ]
    volume = drift["volume"]
    return {
        "rows": sorted(rows, key=lambda row: -1.0 if row["psi"] is None else row["psi"], reverse=True),
        "schema": drift["schema"],
        "volume": volume,
        "days": [*(day["day"] for day in volume["unusual_days"]), *volume["missing_days"]],
    }


def _reasons(counts: Mapping[str, int] | None) -> dict[str, Any]:
    ranked = sorted((counts or {}).items(), key=lambda item: -item[1])
    return {"total": sum(count for _, count in ranked), "rows": [row for row in ranked if row[1]][:50]}


def _set_aside_samples(data: ArtifactReader) -> list[dict[str, Any]]:
    """Up to two rows for each of the first reasons met; the table is read in batches until there are enough."""
    if "set_aside.parquet" not in data.manifest.files:
        return []
    taken: dict[str, list[dict[str, Any]]] = {}
    expected = min(
        len(data.json("summary.json").get("rows", {}).get("set_aside") or {}) or _MOST_REASONS, _MOST_REASONS
    )
    with pq.ParquetFile(data.path("set_aside.parquet")) as file:
        for batch in file.iter_batches(columns=["file", "row", "reason", "content"]):
            for reason in pc.unique(batch["reason"]).to_pylist():
                rows = taken.setdefault(reason, []) if len(taken) < _MOST_REASONS or reason in taken else None
                if rows is not None and len(rows) < _SAMPLES_PER_REASON:
                    matching = batch.filter(pc.equal(batch["reason"], pa.scalar(reason)))
                    rows += matching.slice(0, _SAMPLES_PER_REASON - len(rows)).to_pylist()
            if len(taken) >= expected and all(len(rows) >= _SAMPLES_PER_REASON for rows in taken.values()):
                break
    return [{**row, "file": Path(str(row["file"])).name} for reason in sorted(taken, key=str) for row in taken[reason]]


def _tail_sentence(counts: Any) -> str | None:
    """How unevenly training events spread over items; `counts` is descending, `[items]`."""
    total = int(counts.sum())
    if not total:
        return None
    cumulative = np.cumsum(counts)
    head = max(1, round(len(counts) / 100))
    half = int(np.searchsorted(cumulative, total / 2)) + 1
    unseen = int((counts == 0).sum())
    return (
        f"The {head:,} most frequent items (1 % of {len(counts):,}) carry {_share(cumulative[head - 1], total)} of "
        f"the training events, {half:,} items carry half of them, and {unseen:,} items have none."
    )


# Training, examples, what ran


def _training_section(history: Mapping[str, Any]) -> dict[str, Any]:
    epochs, seconds = history.get("epoch", []), history.get("seconds", [])
    steps = history.get("steps") or {}
    monitor = _metric_title(history.get("monitor", "recall"))
    by_step = bool(steps.get("step"))
    at, loss = (steps["step"], steps["loss"]) if by_step else (epochs, history.get("loss", []))
    recall = history.get("validation_recall", [])
    best_epoch = history.get("best_epoch")
    refit = history.get("refit")
    return {
        "refit": refit and {"epochs": refit["epochs"], "seconds": sum(refit["seconds"])},
        "epochs": len(epochs),
        "seconds": sum(seconds) if seconds else None,
        "best_epoch": best_epoch,
        "best": recall[epochs.index(best_epoch)] if best_epoch in epochs and recall else None,
        "monitor": monitor,
        "loss": plots.training_loss(at, loss, unit="step" if by_step else "epoch") if loss else None,
        "recall": plots.validation_recall(epochs, recall, best_epoch=best_epoch, metric=monitor) if recall else None,
    }


def _display_columns(data: ArtifactReader) -> list[str]:
    """The display columns in the configuration's order, which JSON with sorted keys has lost."""
    names = pq.read_schema(data.path("items.parquet")).names
    return [name.removeprefix("display.") for name in names if name.startswith("display.")]


def _examples_section(evaluation: ArtifactReader, *, display: Sequence[str]) -> list[dict[str, Any]]:
    if "examples.json" not in evaluation.manifest.files:
        return []
    return [_example(example, display=display) for example in evaluation.json("examples.json")[:_MOST_EXAMPLES]]


def _example(example: Mapping[str, Any], *, display: Sequence[str]) -> dict[str, Any]:
    recommended = [_item(item, display=display) for item in example.get("recommended", [])]
    hits = {item["id"] for item in recommended if item["hit"]}
    relevant = [_item(item, display=display) for item in example.get("relevant", [])]
    relevant = [{**item, "hit": item["id"] in hits} for item in relevant]
    history = [_item(item, display=display) for item in reversed(example.get("history", []))]
    query = _flat(example.get("query", {}))
    first = sorted(query, key=lambda key: (key != "user_id", key == "cutoff"))  # the user, what was asked, when
    relevant.sort(key=lambda item: not item["hit"])
    return {
        "query": {key: _readable(query[key]) for key in first if query[key] not in (None, "", [])},
        "history": history[:_MOST_HISTORY],
        "history_length": len(history),
        "relevant": relevant[:_MOST_RELEVANT],
        "relevant_length": len(relevant),
        "recommended": recommended[:_MOST_RECOMMENDED],
        "recommended_length": len(recommended),
        "hits": len(hits),
    }


def _item(item: Mapping[str, Any], *, display: Sequence[str]) -> dict[str, Any]:
    given = {key.removeprefix("display."): value for key, value in _flat(item).items()}
    order = [*(name for name in display if name in given), *(name for name in given if name not in display)]
    shown = {name: given[name] for name in order if name not in ("item_id", "score", "hit")}
    return {
        "id": str(item.get("item_id")),
        "display": [_readable(value) for value in shown.values() if value not in (None, "")],
        "score": item.get("score"),
        "hit": bool(item.get("hit")),
    }


def _artefact_row(name: str, reader: ArtifactReader) -> dict[str, Any]:
    seen = reader.manifest.data_seen_until
    return {
        "name": name,
        "hash": content_hash(reader.folder),
        "seen_until": _moment(seen) if seen is not None else None,
        "bytes": sum(facts["bytes"] for facts in reader.manifest.files.values()),
    }


def _run_section(run: Mapping[str, Any] | None) -> dict[str, Any]:
    run = run or {}
    steps: list[dict[str, Any]] = []
    for step in run.get("steps") or []:
        state, seconds = step.get("state") or "unknown", step.get("seconds")
        timed = seconds if state not in ("waiting", "skipped") else None
        steps.append({"name": step["name"], "state": state, "seconds": timed})
    longest = max((step["seconds"] or 0 for step in steps), default=0)
    for step in steps:
        step["width"] = round(100 * (step["seconds"] or 0) / longest, 1) if longest else 0
    return {
        "run_id": run.get("run_id"),
        "started": run.get("started"),
        "code": run.get("code"),
        "steps": steps,
        "seconds": sum(step["seconds"] or 0 for step in steps),
        "versions": dict(sorted((run.get("versions") or {}).items())),
    }


def _was_promoted(run: Mapping[str, Any] | None) -> bool | None:
    """Whether the step `promote` has finished; None where the run does not tell."""
    states = {step["name"]: step.get("state") for step in (run or {}).get("steps") or []}
    return states["promote"] in ("ran", "cached") if "promote" in states else None


# Reading and writing values


def _main_k(metrics: Mapping[str, Any]) -> int:
    """The K of the figures that stand alone: the one nearest to 100."""
    ks: list[int] = metrics.get("ks") or [100]
    return min(ks, key=lambda k: abs(math.log(k / 100)))


def _k_of(key: str) -> int:
    return int(key.rpartition("@")[2])


def _ks(keys: Iterable[str]) -> list[int]:
    return sorted({_k_of(key) for key in keys})


def _metric_title(key: str) -> str:
    name, at, k = key.partition("@")
    return f"{_METRICS.get(name, (name.replace('_', ' '), ''))[0]}{at}{k}"


def _measured(value: Any) -> dict[str, Any]:
    """`{"value", "low", "high", "best"}` of a figure that may be given alone, with its interval, or not at all."""
    given = value if isinstance(value, Mapping) else {"value": value}
    return {"value": given.get("value"), "low": given.get("low"), "high": given.get("high"), "best": False}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value) if isinstance(value, Mapping) else {key: value})
    return flat


def _day(value: Any) -> date | None:
    """The day of microseconds since 1970 or of ISO 8601 text."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1e6, UTC).date()
    return date.fromisoformat(str(value)[:10])


def _window(edges: Sequence[Any] | None) -> tuple[date, date] | None:
    first, last = (_day(edges[0]), _day(edges[1])) if edges else (None, None)
    return (first, last) if first and last else None


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and 10**14 <= value < 10**16:  # 1973 to 2286 in microseconds
        return _moment(value)
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list):
        return ", ".join(_readable(entry) for entry in value)
    return str(value)


def _clip(value: Any, length: int = 160) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _breakable(value: Any, length: int = 160) -> Markup:
    """The clipped, escaped text with a chance to break after each separator of ids and names."""
    pieces = re.split(r"(?<=[_/@:-])", _clip(value, length))
    return Markup("<wbr>").join(escape(piece) for piece in pieces)


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _number(value: float | None) -> str:
    """A metric with four decimals."""
    return "–" if value is None else f"{value:.4f}".replace("-", "−")


def _figure(value: float | None) -> str:
    """A figure of unknown scale, such as a gate check's."""
    if value is None or abs(value) < 10:
        return _number(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:,.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def _share(part: float | None, whole: float | None) -> str:
    if part is None or not whole:
        return "–"
    percent = 100 * part / whole
    return (
        f"{percent:.0f} %" if percent >= 99.95 or percent == 0 else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}s" if value < 10 else human_seconds(value)


def _size(value: float) -> str:
    return f"{value / 1e3:,.1f} kB" if value < 1e6 else f"{value / 1e6:,.1f} MB"
