"""Two runs beside each other: what differs in configuration and data, time, figures, slices and verdicts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.views.evaluation_tables import difference_text, ordered_slices, probability_text, slice_label, verdict_of
from pipelines.views.registry_tables import number_text
from two_tower.evaluation import main_k, shown_metrics, table_rows
from two_tower.progress import human_seconds

if TYPE_CHECKING:
    import pyarrow as pa
    from markupsafe import Markup

    from pipelines.runs import Run

SYSTEM = "two_tower"
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
    first: Mapping[str, float] | None
    second: Mapping[str, float] | None
    difference: Mapping[str, float] | None


@dataclass(frozen=True)
class SystemRow:
    """The figures of a system in one of the runs, by metric."""

    system: str
    run_id: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SlicePair:
    """A slice of each run: how many queries it has and the metric in it."""

    name: str
    queries: tuple[int | None, int | None]
    first: Mapping[str, float] | None
    second: Mapping[str, float] | None
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


def compare_runs(first: Run, second: Run) -> RunComparison:
    """The comparison of two runs, whatever of them is there.

    The paired differences are bootstrapped over queries as often and with the seed that the second run's configuration
    says.

    Raises:
        ArtifactError: An evaluation is damaged.
    """
    runs = (first, second)
    measured = [run.metrics or {} for run in runs]
    problem, tables = _same_queries(runs, measured)
    figures = [_figures(metrics) for metrics in measured]
    differences = _paired(*tables, run=second) if tables else {}
    queries = [f"{metrics['queries']:,}" if metrics else "none" for metrics in measured]
    ks = next((metrics for metrics in measured if metrics), None)
    metric = f"recall@{main_k(ks)}" if ks else ""
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
        shown=_shown(measured),
        systems=_systems(runs, measured),
        remark=f"The queries differ, so that no difference is drawn: {problem}."
        if problem
        else f"Both measured the same {queries[1]} queries, so the differences are paired.",
        confidence=max((metrics.get("confidence", 0.0) for metrics in measured), default=0.0),
        slice_metric=metric,
        slices=_slices(measured, metric),
        verdicts=_pairs(*[_verdicts_of(metrics) for metrics in measured]),
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


def _figures(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The end-to-end figures; empty where nothing was measured."""
    figures: dict[str, Mapping[str, float]] = metrics.get("systems", {}).get(SYSTEM, {}).get("metrics", {})
    return figures


def _same_queries(
    runs: Sequence[Run], measured: Sequence[Mapping[str, Any]]
) -> tuple[str, tuple[pa.Table, pa.Table] | None]:
    """Why the two did not measure the same queries, or an empty text and both tables of figures by query."""
    from two_tower.artifacts import read_manifest

    for run, metrics in zip(runs, measured, strict=True):
        if not _figures(metrics):
            return f"run {run.run_id} measured none", None
    folders = [Path(run.step("evaluate_recall").outputs["evaluation"]) for run in runs]
    made_from = [read_manifest(folder, "evaluation").made_from["prepared_data"] for folder in folders]
    if made_from[0] != made_from[1]:
        return "they come from different prepared data", None
    for key, what in (("split", "splits"), ("exclude_seen", "rules for what was seen before")):
        if measured[0][key] != measured[1][key]:
            return f"they have different {what}, {measured[0][key]} and {measured[1][key]}", None
    repeats = [metrics.get("repeats") or {"counted": "leave_out", "relevant": 0} for metrics in measured]
    if repeats[0]["counted"] != repeats[1]["counted"] and any(found["relevant"] for found in repeats):
        return f"they count repeats differently, {repeats[0]['counted']} and {repeats[1]['counted']}", None
    first, second = (_by_query(folder) for folder in folders)
    if not first["query"].equals(second["query"]):
        return "they are other rows of the same prepared data", None
    return "", (first, second)


def _by_query(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    path = folder / "per_query.parquet"
    own = [name for name in pq.read_schema(path).names if name.startswith(f"{SYSTEM}/")]
    return pq.read_table(path, columns=["query", *own])


def _paired(first: pa.Table, second: pa.Table, *, run: Run) -> dict[str, dict[str, float]]:
    """The second's figures less the first's, by metric, on the same resampled queries."""
    import numpy as np

    from two_tower.evaluation import paired_difference, resampled_means

    settings = run.config["evaluation"]
    names = [name for name in second.column_names if name in first.column_names and name != "query"]
    values = np.stack([table[name].to_numpy() for name in names for table in (first, second)], axis=1)
    means = values.mean(axis=0, dtype=np.float64)
    resampled = resampled_means(values, samples=settings["bootstrap_samples"], seed=settings["seed"])
    return {
        name.removeprefix(f"{SYSTEM}/"): paired_difference(
            resampled[:, at + 1],
            resampled[:, at],
            difference=means[at + 1] - means[at],
            confidence=settings["confidence"],
        )
        for at, name in zip(range(0, values.shape[1], 2), names, strict=True)
    }


def _shown(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that either run shows, as far as they were measured: recall first, by K."""
    names = [name for metrics in measured if metrics for name in shown_metrics(metrics)]
    recalls = sorted({name for name in names if name.startswith("recall@")}, key=lambda name: int(name.split("@")[1]))
    there = {name for metrics in measured for name in _figures(metrics)}
    return [name for name in dict.fromkeys([*recalls, *names]) if name in there]


def _systems(runs: Sequence[Run], measured: Sequence[Mapping[str, Any]]) -> list[SystemRow]:
    rows = [
        SystemRow(name, run.run_id, system["metrics"])
        for run, metrics in zip(runs, measured, strict=True)
        for name, system in table_rows(metrics)
    ]
    names = list(dict.fromkeys(row.system for row in rows))
    return sorted(rows, key=lambda row: names.index(row.system))


def _slices(measured: Sequence[Mapping[str, Any]], metric: str) -> list[SlicePair]:
    slices = [metrics.get("slices", {}) for metrics in measured]
    pairs = []
    of_either = {**slices[0], **{name: found for name, found in slices[1].items() if found["queries"]}}
    for name, _ in ordered_slices(of_either):
        found = [own.get(name, {}) for own in slices]
        figures = [own.get("systems", {}).get(SYSTEM, {}).get("metrics", {}).get(metric) for own in found]
        queries = (found[0].get("queries"), found[1].get("queries"))
        small = any(own.get("too_small", False) for own in found)
        pairs.append(SlicePair(slice_label(name, found[1] or found[0]), queries, figures[0], figures[1], small))
    return pairs


def _verdicts_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    if not metrics:
        return {"decision": "not evaluated"}
    gate = metrics["gate"]
    checks = {
        check["name"]: check["status"] + ("" if check["value"] is None else f", {number_text(check['value'])}")
        for check in gate["checks"]
    }
    compared = {"version": metrics["version"], "compared with": metrics["champion"] or MISSING}
    return {**compared, "decision": gate["decision"], "reason": gate["reason"], **checks}


def comparison_tables(comparison: RunComparison) -> list[RenderableType]:
    """What a terminal shows of a comparison, from the top to the bottom."""
    parts: list[RenderableType] = []
    if comparison.config:
        parts.append(_pair_table("configuration: what differs", comparison, comparison.config))
    else:
        parts.append(Text("the configurations are the same"))
    parts.append(_pair_table("data", comparison, comparison.data))
    parts.append(_pair_table("steps", comparison, comparison.steps))
    if comparison.metrics:
        parts += [_metrics_table(comparison), _systems_table(comparison)]
    parts.append(Text(comparison.remark))
    if comparison.slices:
        parts.append(_slices_table(comparison))
    parts.append(_pair_table("verdicts", comparison, comparison.verdicts))
    return parts


def _pair_table(title: str, comparison: RunComparison, pairs: Sequence[Pair]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("", comparison.first.run_id, comparison.second.run_id):
        table.add_column(name, overflow="fold")
    for pair in pairs:
        table.add_row(*[Text(text, "" if pair.differs else "dim") for text in (pair.name, pair.first, pair.second)])
    return table


def _metrics_table(comparison: RunComparison) -> Table:
    table = Table(title="figures, end to end", title_justify="left", title_style="bold")
    others = ["difference", "second better with probability", ""] if _has_differences(comparison) else []
    for name in ("metric", comparison.first.run_id, comparison.second.run_id, *others):
        table.add_column(name, justify="right" if name not in ("metric", "") else "left", no_wrap="better" not in name)
    for pair in (pair for pair in comparison.metrics if pair.name in comparison.shown):
        cells = [interval_text(pair.first), interval_text(pair.second)]
        if others:
            paired = pair.difference
            cells += [difference_text(paired), probability_text(paired), verdict_of(paired)]
        table.add_row(pair.name, *cells)
    return table


def _systems_table(comparison: RunComparison) -> Table:
    table = Table(title="every system", title_justify="left", title_style="bold")
    for name in ("system", "run"):
        table.add_column(name, overflow="fold")
    for name in comparison.shown:
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for row in comparison.systems:
        figures = [f"{row.figures[name]['value']:.4f}" if name in row.figures else MISSING for name in comparison.shown]
        table.add_row("" if row.system == before else row.system, row.run_id, *figures)
        before = row.system
    return table


def _slices_table(comparison: RunComparison) -> Table:
    table = Table(title=f"{comparison.slice_metric} by slice", title_justify="left", title_style="bold")
    table.add_column("slice", overflow="fold")
    for name in ("queries", comparison.first.run_id, "queries", comparison.second.run_id):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for pair in comparison.slices:
        counts = [MISSING if count is None else f"{count:,}" for count in pair.queries]
        few = "too few queries to judge" if pair.too_small else ""
        figures = [interval_text(pair.first), interval_text(pair.second)]
        table.add_row(pair.name, counts[0], figures[0], counts[1], figures[1], few)
    return table


def _has_differences(comparison: RunComparison) -> bool:
    return any(pair.difference for pair in comparison.metrics)


def interval_text(figure: Mapping[str, float] | None) -> str:
    """Such as `0.2825 [0.2724, 0.2920]`."""
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]" if figure else MISSING


def write_comparison(comparison: RunComparison, out_html: str | Path) -> None:
    """Writes a comparison as one HTML file without any reference outside itself; the file is replaced atomically."""
    import jinja2

    from two_tower.artifacts import replace_file

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable, interval=interval_text, difference=difference_text, probability=probability_text,
        verdict=verdict_of,
    )  # fmt: skip
    differences = [pair.difference for pair in comparison.metrics if pair.difference]
    reach = max((abs(paired[end]) for paired in differences for end in ("low", "high")), default=0.0)
    page = environment.get_template("comparison.html.j2").render(
        comparison=comparison,
        bars={pair.name: _bar(pair.difference, reach=reach or 1.0) for pair in comparison.metrics if pair.difference},
        paired=_has_differences(comparison),
    )
    Path(out_html).parent.mkdir(parents=True, exist_ok=True)
    replace_file(out_html, page.encode("utf-8", errors="replace"))


def _breakable(text: str) -> Markup:
    """The escaped text with a chance to break after each separator of a key."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(piece) for piece in re.split(r"(?<=[._/-])", text))


def _bar(paired: Mapping[str, float], *, reach: float) -> dict[str, float]:
    """The places of an interval and its difference, in percent of a bar from `-reach` to `reach`."""

    def place(value: float) -> float:
        return round(50 + 48 * value / reach, 2)

    return {
        "start": place(paired["low"]),
        "width": round(place(paired["high"]) - place(paired["low"]), 2),
        "at": place(paired["difference"]),
    }
