"""The report's pictures: inline SVG whose colours are CSS variables of the page, so that both colour schemes fit.

Matplotlib draws with one placeholder colour per variable; `_inline_svg` swaps them, and drops what does not belong
inside an HTML page (metadata, namespaces, ids that nothing refers to).  Legends are HTML and wrap on a phone.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import StringIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

COLOURS = ("ink", "muted", "line", "accent", "champion", "series-1", "series-2", "series-3", "series-4", "series-5",
           "validation", "test")  # fmt: skip
"""The page's CSS variables that pictures use."""

_WIDTH, _HEIGHT = 400.0, 235.0
_MAX_POINTS = 400


@dataclass(frozen=True)
class LegendEntry:
    """What stands under a picture for one of its series."""

    label: str
    colour: str
    """A name of `COLOURS`."""
    mark: Literal["line", "dashed", "dotted", "dot", "area"] = "line"


@dataclass(frozen=True)
class Picture:
    """An SVG element without any reference outside itself, and its legend."""

    svg: Markup
    legend: tuple[LegendEntry, ...] = ()


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
                color=_placeholder(series.colour), linestyle=_LINES[series.mark],
                linewidth=2.2 if rank == 0 else 1.4, zorder=10 - rank,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(_COUNTS)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set(xlabel="K", ylabel="Recall@K")

    legend = tuple(LegendEntry(series.name, series.colour, series.mark) for series, _, _ in curves)
    return _picture(draw, label="Recall over K for every system", salt="recall", legend=legend)


def paired_differences(rows: Mapping[str, Mapping[int, tuple[float, float, float]]]) -> Picture:
    """A dot plot of `{system: {K: (difference, low, high)}}`: dots right of zero favour the two towers."""
    ks = sorted({k for row in rows.values() for k in row})
    colours = dict(
        zip(ks, _cycle(("muted", "accent", "ink", "series-1", "series-2", "series-3"), len(ks)), strict=True)
    )
    offsets = dict(zip(ks, np.linspace(-0.24, 0.24, len(ks)) if len(ks) > 1 else [0.0], strict=True))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=_placeholder("muted"), linewidth=1)
        for y, row in enumerate(rows.values()):
            for k, (difference, low, high) in row.items():
                colour = _placeholder(colours[k])
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
    return _picture(draw, label="Paired differences with intervals", salt="paired", legend=legend, height=height)


def index_tuning(points: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], target: Mapping[str, Any]) -> Picture:
    """Recall against the median latency of every setting that was tried; the chosen one stands out."""
    front: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda point: (point["latency_ms"]["p50"], -point["recall"])):
        if not front or point["recall"] > front[-1]["recall"]:
            front.append(point)

    def draw(axes: Axes) -> None:
        def at(some: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
            return [point["latency_ms"]["p50"] for point in some], [point["recall"] for point in some]

        axes.plot(*at(points), "o", color=_placeholder("muted"), markersize=2.5)
        axes.plot(*at(front), color=_placeholder("series-1"), linewidth=1.4)
        axes.plot(*at([chosen]), "o", color=_placeholder("accent"), markersize=7)
        axes.axhline(target["recall"], color=_placeholder("ink"), linewidth=1, linestyle=_LINES["dashed"])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_COUNTS)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(max(0.0, min(0.9, target["recall"] - 0.1)), 1.005)
        axes.set(xlabel="milliseconds, median of a single query", ylabel=f"share of the exact first {target['k']:,}")

    legend = (
        LegendEntry("chosen", "accent", "dot"),
        LegendEntry("best of those tried", "series-1"),
        LegendEntry("tried", "muted", "dot"),
        LegendEntry("target", "ink", "dashed"),
    )
    return _picture(draw, label="Recall of the index against its latency", salt="index", legend=legend)


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
        axes.fill_between(x, y, step="post", color=_placeholder("accent"), alpha=0.16, linewidth=0)
        axes.plot(x, y, drawstyle="steps-post", color=_placeholder("accent"), linewidth=1.1)
        for name, (first, last) in shaded.items():
            start, end = _day(first), _day(last) + 1
            axes.axvspan(start, end, color=_placeholder(name), linewidth=0, zorder=0)
        axes.set_ylim(bottom=0)
        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.yaxis.set_major_formatter(_COUNTS)
        axes.set_ylabel("events a day")

    legend = [LegendEntry("events" if step == 1 else f"events, mean of {step} days", "accent")]
    legend += [LegendEntry(f"{name} window", name, "area") for name in shaded]
    return _picture(draw, label="Events per day", salt="days", legend=tuple(legend))


def long_tail(counts: npt.NDArray[np.int64]) -> Picture:
    """Training events of each item by its rank, both axes logarithmic; `counts` is descending, `[items]`."""
    counts = counts[counts > 0]
    ranks = np.unique(np.geomspace(1, max(len(counts), 1), 200).astype(int)) if len(counts) else np.zeros(0, int)

    def draw(axes: Axes) -> None:
        axes.plot(ranks, counts[ranks - 1], color=_placeholder("accent"), linewidth=1.8)
        for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            set_scale("log")
            axis.set_major_locator(LogLocator(10, numticks=8))
            axis.set_major_formatter(_COUNTS)
            axis.set_minor_locator(NullLocator())
        axes.set(xlabel="item, most frequent first", ylabel="training events")

    return _picture(draw, label="Training events by item rank", salt="tail")


def popularity_shares(rows: Mapping[str, Sequence[float]]) -> Picture:
    """Stacked bars of `{name: [head, middle, tail]}`, shares of 1; dotted lines mark those of the first row."""
    parts = (("head", "series-1"), ("middle", "series-3"), ("tail", "accent"))

    def draw(axes: Axes) -> None:
        for y, shares in enumerate(rows.values()):
            ends = np.cumsum(shares)
            for (_, colour), share, end in zip(parts, shares, ends, strict=True):
                axes.barh(y, share, left=end - share, height=0.62, color=_placeholder(colour), linewidth=0)
        for boundary in np.cumsum(next(iter(rows.values())))[:-1]:
            axes.axvline(boundary, color=_placeholder("ink"), linewidth=1, linestyle=":")
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
    height = 52 + max(len(rows), 3) * 26
    return _picture(draw, label="Popularity of what is recommended", salt="popularity", legend=legend, height=height)


def training_loss(steps: Sequence[int], loss: Sequence[float], *, unit: str) -> Picture:
    """The training loss over `unit` (step or epoch)."""
    at = _thin(len(steps))

    def draw(axes: Axes) -> None:
        axes.plot(
            np.asarray(steps)[at], np.asarray(loss, float)[at],
            color=_placeholder("accent"), linewidth=1.4, marker="o" if len(at) <= 30 else "", markersize=3.5,
        )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(_COUNTS)
        axes.set(xlabel=unit, ylabel="training loss")

    return _picture(draw, label="Training loss", salt="loss")


def validation_recall(
    epochs: Sequence[int], recall: Sequence[float | None], *, best_epoch: int | None, metric: str
) -> Picture:
    """The watched validation metric after each epoch, the best epoch marked by a vertical line and a large dot."""
    best = list(epochs).index(best_epoch) if best_epoch is not None and best_epoch in epochs else None
    values = np.array([np.nan if value is None else value for value in recall], float)

    def draw(axes: Axes) -> None:
        axes.plot(epochs, values, color=_placeholder("accent"), linewidth=1.6, marker="o", markersize=3.5)
        if best is not None:
            axes.axvline(epochs[best], color=_placeholder("muted"), linewidth=1, linestyle=":")
            axes.plot([epochs[best]], [values[best]], "o", color=_placeholder("series-1"), markersize=7)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.margins(y=0.15)
        axes.set(xlabel="epoch", ylabel=f"validation {metric}")

    legend = (LegendEntry("best epoch, the one exported", "series-1", "dot"),) if best is not None else ()
    return _picture(draw, label=f"Validation {metric} by epoch", salt="validation", legend=legend)


def system_series(kinds: Mapping[str, str]) -> dict[str, Series]:
    """A colour and a line for each system of `{name: kind}`: the two towers share a colour, exact search is dashed."""
    baselines = [name for name, kind in kinds.items() if kind not in _FIXED]
    colours = _cycle(tuple(name for name in COLOURS if name.startswith("series-")), len(baselines))
    series: dict[str, Series] = {name: Series(name, *_FIXED[kind]) for name, kind in kinds.items() if kind in _FIXED}
    for rank, (name, colour) in enumerate(zip(baselines, colours, strict=True)):
        series[name] = Series(name, colour, "line" if rank < 5 else "dotted")
    return series


_LINES = {"line": "-", "dashed": (0, (4, 2)), "dotted": ":"}
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


def _placeholder(name: str) -> str:
    return f"#0000{COLOURS.index(name) + 1:02x}"


def _style() -> dict[Any, Any]:
    ink, muted, line = _placeholder("ink"), _placeholder("muted"), _placeholder("line")
    return {
        "svg.fonttype": "none",  # real text in the page's font
        "text.parse_math": False,  # a `$` in a name is a dollar sign
        "font.size": 10.5, "text.color": ink,
        "axes.labelcolor": muted, "axes.labelsize": 10.5, "axes.edgecolor": line, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "axes.xmargin": 0.02,
        "grid.color": line, "grid.linewidth": 0.8,
        "xtick.color": line, "ytick.color": line, "xtick.labelcolor": muted, "ytick.labelcolor": muted,
        "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "ytick.major.size": 0, "xtick.minor.size": 2,
    }  # fmt: skip


def _picture(
    draw: Callable[[Axes], None],
    *,
    label: str,
    salt: str,
    legend: tuple[LegendEntry, ...] = (),
    height: float = _HEIGHT,
) -> Picture:
    style = {**_style(), "svg.hashsalt": salt}  # a salt a picture: equal bytes, and no id twice in a page
    with rc_context(style):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure.add_subplot())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(_inline_svg(buffer.getvalue(), label=label), legend)


def _inline_svg(svg: str, *, label: str) -> Markup:
    root = ElementTree.fromstring(svg)
    referred = set(re.findall(r"(?:\(#|href=\"#)([^)\"]+)", svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: _restyled(value) for name, value in element.attrib.items()}
        if attributes.get("id") not in referred:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update(attributes)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": label})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restyled(value: str) -> str:
    value = re.sub(r"font-family: [^;]*; ", "", value)
    return re.sub(r"#0000([0-9a-f]{2})\b", lambda match: f"var(--{COLOURS[int(match[1], 16) - 1]})", value)
