"""The report's pictures, drawn by Matplotlib."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

from two_tower.report.svg import COLOURS, LegendEntry, Picture, draw_picture, placeholder

_MAX_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One system's style in every picture of the report."""

    name: str
    colour: str
    mark: Literal["line", "dashed", "dotted"] = "line"


def recall_curves(curves: Sequence[tuple[Series, Sequence[int], Sequence[float]]]) -> Picture:
    """Recall over K on a logarithmic axis, one line a system; the first system is drawn thickest and on top."""

    def draw(axes: Axes) -> None:
        for rank, (series, ks, recall) in enumerate(curves):
            axes.plot(
                ks, recall,
                color=placeholder(series.colour), linestyle=_LINES[series.mark],
                linewidth=2.2 if rank == 0 else 1.4, zorder=10 - rank,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(_COUNTS)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set(xlabel="K", ylabel="Recall@K")

    legend = tuple(LegendEntry(series.name, series.colour, series.mark) for series, _, _ in curves)
    return draw_picture(draw, label="Recall over K for every system", salt="recall", legend=legend)


def paired_differences(rows: Mapping[str, Mapping[int, tuple[float, float, float]]]) -> Picture:
    """A dot plot of `{system: {K: (difference, low, high)}}`: dots right of zero favour the two towers."""
    ks = sorted({k for row in rows.values() for k in row})
    colours = dict(
        zip(ks, _cycle(("muted", "accent", "ink", "series-1", "series-2", "series-3"), len(ks)), strict=True)
    )
    offsets = dict(zip(ks, np.linspace(-0.24, 0.24, len(ks)) if len(ks) > 1 else [0.0], strict=True))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=placeholder("muted"), linewidth=1)
        for y, row in enumerate(rows.values()):
            for k, (difference, low, high) in row.items():
                colour = placeholder(colours[k])
                axes.plot([low, high], [y + offsets[k]] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
                axes.plot([difference], [y + offsets[k]], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), [_wrapped(name) for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", visible=True)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("two towers minus the other, Recall@K")

    legend = tuple(LegendEntry(f"K = {k:,}", colours[k], "dot") for k in ks)
    height = 62 + max(len(rows), 2) * (16 + 9 * len(ks))
    return draw_picture(draw, label="Paired differences with intervals", salt="paired", legend=legend, height=height)


def index_tuning(points: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], target: Mapping[str, Any]) -> Picture:
    """Recall against the median latency of every setting that was tried; the chosen one stands out."""
    front: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda point: (point["latency_ms"]["p50"], -point["recall"])):
        if not front or point["recall"] > front[-1]["recall"]:
            front.append(point)

    def draw(axes: Axes) -> None:
        def at(some: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
            return [point["latency_ms"]["p50"] for point in some], [point["recall"] for point in some]

        axes.plot(*at(points), "o", color=placeholder("muted"), markersize=2.5)
        axes.plot(*at(front), color=placeholder("series-1"), linewidth=1.4)
        axes.plot(*at([chosen]), "o", color=placeholder("accent"), markersize=7)
        axes.axhline(target["recall"], color=placeholder("ink"), linewidth=1, linestyle=_LINES["dashed"])
        times = [point["latency_ms"]["p50"] for point in (*points, chosen)]
        if min(times) > 0 and max(times) > 10 * min(times):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(_PLAIN)
        axes.set_ylim(max(0.0, min(0.9, target["recall"] - 0.1)), 1.005)
        axes.set(xlabel="milliseconds, median of a single query", ylabel=f"share of the exact first {target['k']:,}")

    legend = (
        LegendEntry("chosen", "accent", "dot"),
        LegendEntry("best of those tried", "series-1"),
        LegendEntry("tried", "muted", "dot"),
        LegendEntry("target", "ink", "dashed"),
    )
    return draw_picture(draw, label="Recall of the index against its latency", salt="index", legend=legend)


def events_per_day(
    days: Sequence[date], events: Sequence[int], *, windows: Mapping[str, tuple[date, date]] | None = None
) -> Picture:
    """Events of each day as an area; `windows` (`validation`, `test`: first and last day) are shaded behind it.

    A day that `days` lacks had no event.  Beyond two years, a point is the mean of several days.
    """
    offsets = np.asarray([(day - min(days)).days for day in days])
    counts = np.bincount(offsets, weights=events)
    step = -(-len(counts) // 730)
    starts = np.arange(0, len(counts), step)
    ends = np.append(starts[1:], len(counts))
    means = np.add.reduceat(counts, starts) / (ends - starts)
    x = _day(min(days)) + np.append(starts, len(counts))  # the last day ends where the next would start
    y = np.append(means, means[-1])
    shaded = dict(windows or {})

    def draw(axes: Axes) -> None:
        axes.fill_between(x, y, step="post", color=placeholder("accent"), alpha=0.16, linewidth=0)
        axes.plot(x, y, drawstyle="steps-post", color=placeholder("accent"), linewidth=1.1)
        for name, (first, last) in shaded.items():
            start, end = _day(first), _day(last) + 1
            axes.axvspan(start, end, color=placeholder(name), linewidth=0, zorder=0)
        axes.set_ylim(bottom=0)
        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.yaxis.set_major_formatter(_COUNTS)
        axes.set_ylabel("events a day")

    legend = [LegendEntry("events" if step == 1 else f"events, mean of {step} days", "accent")]
    legend += [LegendEntry(f"{name} window", name, "area") for name in shaded]
    return draw_picture(draw, label="Events per day", salt="days", legend=tuple(legend))


def long_tail(counts: npt.NDArray[np.int64]) -> Picture:
    """Training events of each item by its rank, both axes logarithmic; `counts` is descending, `[items]`."""
    counts = counts[counts > 0]
    ranks = np.unique(np.geomspace(1, max(len(counts), 1), 200).astype(int)) if len(counts) else np.zeros(0, int)

    def draw(axes: Axes) -> None:
        axes.plot(ranks, counts[ranks - 1], color=placeholder("accent"), linewidth=1.8)
        for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            set_scale("log")
            axis.set_major_locator(LogLocator(10, numticks=8))
            axis.set_major_formatter(_COUNTS)
            axis.set_minor_locator(NullLocator())
        axes.set(xlabel="item, most frequent first", ylabel="training events")

    return draw_picture(draw, label="Training events by item rank", salt="tail")


def popularity_shares(rows: Mapping[str, Sequence[float]]) -> Picture:
    """Stacked bars of `{name: [head, middle, tail]}`, shares of 1; dotted lines mark those of the first row."""
    parts = (("head", "series-1"), ("middle", "series-3"), ("tail", "accent"))

    def draw(axes: Axes) -> None:
        for y, shares in enumerate(rows.values()):
            ends = np.cumsum(shares)
            for (_, colour), share, end in zip(parts, shares, ends, strict=True):
                axes.barh(y, share, left=end - share, height=0.62, color=placeholder(colour), linewidth=0)
        for boundary in np.cumsum(next(iter(rows.values())))[:-1]:
            axes.axvline(boundary, color=placeholder("ink"), linewidth=1, linestyle=":")
        axes.set_yticks(range(len(rows)), [_wrapped(name) for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.grid(axis="x", visible=True)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("share of the items taken")

    legend = (
        *(LegendEntry(name, colour, "area") for name, colour in parts),
        LegendEntry(next(iter(rows)), "ink", "dotted"),
    )
    label, height = "Popularity of what is recommended", 52 + max(len(rows), 3) * 26
    return draw_picture(draw, label=label, salt="popularity", legend=legend, height=height)


def training_loss(steps: Sequence[int], loss: Sequence[float], *, unit: str) -> Picture:
    """The training loss over `unit` (step or epoch)."""
    at = _thin(len(steps))

    def draw(axes: Axes) -> None:
        axes.plot(
            np.asarray(steps)[at], np.asarray(loss, float)[at],
            color=placeholder("accent"), linewidth=1.4, marker="o" if len(at) <= 30 else "", markersize=3.5,
        )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(_COUNTS)
        axes.set(xlabel=unit, ylabel="training loss")

    return draw_picture(draw, label="Training loss", salt="loss")


def validation_recall(
    epochs: Sequence[int], recall: Sequence[float | None], *, best_epoch: int | None, metric: str
) -> Picture:
    """The watched validation metric after each epoch, the best epoch marked by a vertical line and a large dot."""
    best = list(epochs).index(best_epoch) if best_epoch is not None and best_epoch in epochs else None
    values = np.array([np.nan if value is None else value for value in recall], float)

    def draw(axes: Axes) -> None:
        axes.plot(epochs, values, color=placeholder("accent"), linewidth=1.6, marker="o", markersize=3.5)
        if best is not None:
            axes.axvline(epochs[best], color=placeholder("muted"), linewidth=1, linestyle=":")
            axes.plot([epochs[best]], [values[best]], "o", color=placeholder("series-1"), markersize=7)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.margins(y=0.15)
        axes.set(xlabel="epoch", ylabel=f"validation {metric}")

    legend = (LegendEntry("best epoch, the one exported", "series-1", "dot"),) if best is not None else ()
    return draw_picture(draw, label=f"Validation {metric} by epoch", salt="validation", legend=legend)


def score_distributions(edges: Sequence[float], positives: Sequence[int], negatives: Sequence[int]) -> Picture:
    """The shares of two sets of scores in the bins between `edges` `[bins + 1]`; the counts are `[bins]`."""

    def draw(axes: Axes) -> None:
        for counts, colour in ((negatives, "muted"), (positives, "accent")):
            shares = np.asarray(counts, float) / max(sum(counts), 1)
            axes.stairs(shares, edges, fill=True, color=placeholder(colour), alpha=0.18, linewidth=0)
            axes.stairs(shares, edges, color=placeholder(colour), linewidth=1.5)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="score", ylabel="share of the scores")

    legend = (LegendEntry("relevant items", "accent", "area"), LegendEntry("random candidates", "muted", "area"))
    return draw_picture(draw, label="Scores of relevant items and of random candidates", salt="scores", legend=legend)


def candidate_map(points: npt.NDArray[np.float64], categories: Sequence[str], *, explained: Sequence[float]) -> Picture:
    """A map of candidates, coloured by category; the dots are one image, for there are thousands.

    Args:
        points: `[points, 3]`: x, y and the number of the category, 0 where there are none.
        categories: Their names, the rest (`other`) last; empty where the points have none.
        explained: The shares of the variance along x and y.
    """
    numbers = points[:, 2].astype(int)
    colours = [_MAP_COLOURS[number % len(_MAP_COLOURS)] for number in range(len(categories))] or [_MAP_COLOURS[0]]
    if categories and categories[-1] == "other":
        colours[-1] = _MAP_OTHER
    order = np.argsort(numbers != len(categories) - 1, kind="stable")  # the rest below the others

    def draw(axes: Axes) -> None:
        axes.scatter(
            points[order, 0], points[order, 1], c=[colours[number] for number in numbers[order]],
            s=7, alpha=0.8, linewidths=0, rasterized=True,
        )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        names = [f"component {rank + 1}, {100 * share:.0f} % of the variance" for rank, share in enumerate(explained)]
        axes.set(**dict(zip(("xlabel", "ylabel"), names, strict=False)))

    legend = tuple(LegendEntry(name, colour, "dot") for name, colour in zip(categories, colours, strict=False))
    label = "Map of the candidates on their first two principal components"
    return draw_picture(draw, label=label, salt="map", legend=legend, height=330)


_MAP_COLOURS = ("#2f7fd6", "#d0602a", "#2f9461", "#b5539c", "#a3821a", "#8168c9", "#c9505a", "#2391a0")
"""Of the map's dots, which are an image: with a contrast of at least 3 against the cards of both colour schemes."""
_MAP_OTHER = "#848b93"


def system_series(kinds: Mapping[str, str]) -> dict[str, Series]:
    """A colour and a line for each system of `{name: kind}`: the two towers share a colour, exact search is dashed."""
    baselines = [name for name, kind in kinds.items() if kind not in _FIXED]
    colours = _cycle(tuple(name for name in COLOURS if name.startswith("series-")), len(baselines))
    series: dict[str, Series] = {name: Series(name, *_FIXED[kind]) for name, kind in kinds.items() if kind in _FIXED}
    for rank, (name, colour) in enumerate(zip(baselines, colours, strict=True)):
        series[name] = Series(name, colour, "line" if rank < 5 else "dotted")
    return series


_LINES = {"line": "-", "dashed": (0, (4, 2)), "dotted": ":"}
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
_COUNTS = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}")
_FIXED: dict[str, tuple[str, Literal["line", "dashed"]]] = {
    "challenger": ("accent", "line"),
    "exact": ("accent", "dashed"),
    "champion": ("champion", "line"),
}


def _cycle(names: Sequence[str], count: int) -> list[str]:
    return [names[rank % len(names)] for rank in range(count)]


def _wrapped(name: str, width: int = 20) -> str:
    lines = [""]
    for part in re.findall(r"[^_ ]*[_ ]?", name):
        for piece in re.findall(f".{{1,{width}}}", part):
            if len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines[:4])


def _day(day: date) -> Any:  # matplotlib takes NumPy days, its type hints do not
    return np.datetime64(day, "D")


def _thin(count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, _MAX_POINTS)).astype(np.int64))
