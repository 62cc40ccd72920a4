"""Two runs beside each other: what differs in configuration and data, time, figures, slices and verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.views.checks import number_text
from pipelines.views.evaluation_tables import ordered_slices, slice_label
from two_tower.evaluation import shown_metrics, table_rows
from two_tower.metrics_file import CHALLENGER, Difference, Evaluation, Figure, Metrics, RepeatCounts, SliceFigures
from two_tower.progress import human_seconds

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.runs import Run

SPLITS = ("train", "validation", "test")
MISSING = "–"


@dataclass(frozen=True)
class Pair:
    """A value of each run, as text."""

    name: str
    first: str
    second: str

    @property
    def differs(self) -> bool:
        """Whether the two are not the same."""
        return self.first != self.second


@dataclass(frozen=True)
class MetricPair:
    """A metric of each run; the difference is the second's less the first's, where both measured the same queries."""

    name: str
    first: Figure | None
    second: Figure | None
    difference: Difference | None


@dataclass(frozen=True)
class SystemRow:
    """The figures of a system in one of the runs, by metric."""

    system: str
    run_id: str
    figures: Metrics


@dataclass(frozen=True)
class SlicePair:
    """A slice of each run: how many queries it has and the metric in it."""

    name: str
    queries: tuple[int | None, int | None]
    first: Figure | None
    second: Figure | None
    too_small: bool


@dataclass(frozen=True)
class RunComparison:
    """Two runs beside each other."""

    first: Run
    second: Run
    config: list[Pair]
    """The keys whose values differ."""
    data: list[Pair]
    steps: list[Pair]
    metrics: list[MetricPair]
    shown: list[str]
    """The metrics that a table of systems shows, and a terminal of the two towers."""
    systems: list[SystemRow]
    """All systems, the two runs of each below each other."""
    remark: str
    """Whether the two measured the same queries, and if not, why not."""
    confidence: float
    """Of the intervals."""
    slice_metric: str
    slices: list[SlicePair]
    verdicts: list[Pair]
    """The decision, its reason, and every check."""

    @property
    def paired(self) -> bool:
        """Whether any metric has a difference."""
        return any(pair.difference for pair in self.metrics)


def compare_runs(first: Run, second: Run) -> RunComparison:
    """The comparison of two runs, whatever of them is there.

    The paired differences are bootstrapped over queries as often and with the seed that the second run's configuration
    says.

    Raises:
        ArtifactError: An evaluation is damaged.
    """
    runs = (first, second)
    measured = [run.metrics for run in runs]
    problem, tables = _same_queries(runs, measured)
    figures = [_figures(evaluation) for evaluation in measured]
    differences = _paired(*tables, run=second) if tables else {}
    evaluated = [evaluation for evaluation in measured if evaluation]
    metric = evaluated[0].main_metric if evaluated else ""
    return RunComparison(
        first=first,
        second=second,
        config=config_differences(first.config, second.config),
        data=_pairs(*[_data_of(run) for run in runs]),
        steps=_pairs(*[_steps_of(run) for run in runs]),
        metrics=[
            MetricPair(name, figures[0].get(name), figures[1].get(name), differences.get(name))
            for name in dict.fromkeys([*figures[0], *figures[1]])
        ],
        shown=_shown(evaluated),
        systems=_systems(runs, measured),
        remark=f"The queries differ, so that no difference is drawn: {problem}."
        if problem
        else f"Both measured the same {evaluated[-1].queries:,} queries, so the differences are paired.",
        confidence=max((evaluation.confidence for evaluation in evaluated), default=0.0),
        slice_metric=metric,
        slices=_slices(measured, metric),
        verdicts=_pairs(*[_verdicts_of(evaluation) for evaluation in measured]),
    )


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Pair]:
    """The keys, such as `training.epochs`, whose values differ; of two lists the entries that the other has not."""
    flat = [_flat(first), _flat(second)]
    pairs = []
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        one, two = (values.get(key, _ABSENT) for values in flat)
        if one != two:
            pairs.append(Pair(key, *_without_common(one, two)))
    return pairs


_ABSENT = object()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _without_common(first: Any, second: Any) -> tuple[str, str]:
    """Two values as text, lists less the entries that both have, an entry a line."""
    if not (isinstance(first, list) and isinstance(second, list)):
        return _text(first), _text(second)
    only = [[entry for entry in own if entry not in others] for own, others in ((first, second), (second, first))]
    if only == [[], []]:  # in another order
        only = [first, second]
    one, two = ("\n".join(_text(entry) for entry in entries) or MISSING for entries in only)
    return one, two


def _text(value: Any) -> str:
    if value is _ABSENT:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(first: Mapping[str, str], second: Mapping[str, str]) -> list[Pair]:
    return [
        Pair(name, first.get(name, MISSING), second.get(name, MISSING)) for name in dict.fromkeys([*first, *second])
    ]


def _data_of(run: Run) -> dict[str, str]:
    """What the run's prepared data consist of; empty where they are not there any more."""
    from two_tower.artifacts import MANIFEST, content_hash
    from two_tower.progress import moment_text

    folder = Path(run.step("prepare_data").outputs.get("prepared") or "nowhere")
    if not (folder / MANIFEST).is_file():
        return {"prepared data": "not there"}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found = {
        "prepared data": content_hash(folder)[:16],
        **{f"rows {what}": f"{summary['rows'][what]:,}" for what in ("read", "kept")},
        **{f"rows {what}": f"{sum(summary['rows'][what].values()):,}" for what in ("filtered", "set_aside")},
        **{what: f"{summary[what]:,}" for what in ("users", "items")},
        **{f"{split} events": f"{summary['events'][split]:,}" for split in SPLITS},
        **{f"{split} queries": f"{summary['queries'][split]:,}" for split in SPLITS[1:]},
    }
    windows = {split: summary["windows"].get(split) for split in SPLITS}  # none without times
    found |= {f"{split} window": " to ".join(map(moment_text, ends)) for split, ends in windows.items() if ends}
    return {name.replace("_", " "): text for name, text in found.items()}


def _steps_of(run: Run) -> dict[str, str]:
    said = {"ran": "", "cached": "from the cache"}
    steps = {
        step.name: human_seconds(step.seconds) if step.state == "ran" else said.get(step.state, step.state)
        for step in run.steps
    }
    return {**steps, "the whole run": human_seconds(run.seconds)}


def _figures(evaluation: Evaluation | None) -> Metrics:
    """The end-to-end figures; empty where nothing was measured."""
    system = evaluation.systems.get(CHALLENGER) if evaluation else None
    return system.metrics if system else {}


def _same_queries(
    runs: Sequence[Run], measured: Sequence[Evaluation | None]
) -> tuple[str, tuple[pa.Table, pa.Table] | None]:
    """Why the two did not measure the same queries, or an empty text and both tables of figures by query."""
    from two_tower.artifacts import read_manifest

    for run, evaluation in zip(runs, measured, strict=True):
        if not _figures(evaluation):
            return f"run {run.run_id} measured none", None
    folders = [Path(run.step("evaluate_recall").outputs["evaluation"]) for run in runs]
    made_from = [read_manifest(folder, "evaluation").made_from["prepared_data"] for folder in folders]
    if made_from[0] != made_from[1]:
        return "they come from different prepared data", None
    if problem := _other_rules(*[evaluation for evaluation in measured if evaluation]):
        return problem, None
    first, second = (_by_query(folder) for folder in folders)
    if not first["query"].equals(second["query"]):
        return "they are other rows of the same prepared data", None
    return "", (first, second)


def _other_rules(first: Evaluation, second: Evaluation) -> str:
    """By which rules the two count queries differently; empty where they do not."""
    if first.split != second.split:
        return f"they have different splits, {first.split} and {second.split}"
    if first.exclude_seen != second.exclude_seen:
        return f"they have different rules for what was seen before, {first.exclude_seen} and {second.exclude_seen}"
    one, two = (evaluation.repeats or RepeatCounts() for evaluation in (first, second))
    if one.counted != two.counted and (one.relevant or two.relevant):
        return f"they count repeats differently, {one.counted} and {two.counted}"
    return ""


def _by_query(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    path = folder / "per_query.parquet"
    own = [name for name in pq.read_schema(path).names if name.startswith(f"{CHALLENGER}/")]
    return pq.read_table(path, columns=["query", *own])


def _paired(first: pa.Table, second: pa.Table, *, run: Run) -> dict[str, Difference]:
    """The second's figures less the first's, by metric, on the same resampled queries."""
    import numpy as np

    from two_tower.evaluation import paired_difference, resampled_means

    settings = run.config["evaluation"]
    names = [name for name in second.column_names if name in first.column_names and name != "query"]
    values = np.stack([table[name].to_numpy() for name in names for table in (first, second)], axis=1)
    means = values.mean(axis=0, dtype=np.float64)
    resampled = resampled_means(values, samples=settings["bootstrap_samples"], seed=settings["seed"])
    return {
        name.removeprefix(f"{CHALLENGER}/"): paired_difference(
            resampled[:, at + 1],
            resampled[:, at],
            difference=means[at + 1] - means[at],
            confidence=settings["confidence"],
        )
        for at, name in zip(range(0, values.shape[1], 2), names, strict=True)
    }


def _shown(evaluated: Sequence[Evaluation]) -> list[str]:
    """The metrics that either run shows, as far as they were measured: recall first, by K."""
    names = [name for evaluation in evaluated for name in shown_metrics(evaluation)]
    recalls = sorted({name for name in names if name.startswith("recall@")}, key=lambda name: int(name.split("@")[1]))
    there = {name for evaluation in evaluated for name in _figures(evaluation)}
    return [name for name in dict.fromkeys([*recalls, *names]) if name in there]


def _systems(runs: Sequence[Run], measured: Sequence[Evaluation | None]) -> list[SystemRow]:
    rows = [
        SystemRow(name, run.run_id, system.metrics)
        for run, evaluation in zip(runs, measured, strict=True)
        if evaluation
        for name, system in table_rows(evaluation)
    ]
    names = list(dict.fromkeys(row.system for row in rows))
    return sorted(rows, key=lambda row: names.index(row.system))


def _slices(measured: Sequence[Evaluation | None], metric: str) -> list[SlicePair]:
    first, second = (evaluation.slices if evaluation else {} for evaluation in measured)
    of_either = {**first, **{name: found for name, found in second.items() if found.queries}}
    return [
        _slice_pair(slice_label(name, second.get(name) or first[name]), first.get(name), second.get(name), metric)
        for name, _ in ordered_slices(of_either)
    ]


def _slice_pair(label: str, first: SliceFigures | None, second: SliceFigures | None, metric: str) -> SlicePair:
    both = (first, second)
    one, two = (found.figure(CHALLENGER, metric) if found else None for found in both)
    queries = (first.queries if first else None, second.queries if second else None)
    return SlicePair(label, queries, one, two, too_small=any(found.too_small for found in both if found))


def _verdicts_of(evaluation: Evaluation | None) -> dict[str, str]:
    if not evaluation:
        return {"decision": "not evaluated"}
    gate = evaluation.gate
    checks = {
        check.name: check.status + ("" if check.value is None else f", {number_text(check.value)}")
        for check in gate.checks
    }
    compared = {"version": evaluation.version, "compared with": evaluation.champion or MISSING}
    return {**compared, "decision": gate.decision, "reason": gate.reason, **checks}


def interval_text(figure: Figure | None) -> str:
    """Such as `0.2825 [0.2724, 0.2920]`."""
    return str(figure) if figure else MISSING
