"""The picture of a search: recall by trial, and every searched setting's values against recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from two_tower.config import Between, canonical_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

COLUMNS = 3
DONE, PRUNED, BEST, FAILED = "#2563a8", "#9aa3ad", "#c2410c", "#b91c1c"


def draw_search(trials: Sequence[FrozenTrial], tune: Mapping[str, Any], *, metric: str, path: Path) -> None:
    """Writes the picture of finished trials as PNG to `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 1 + len(tune)
    rows = -(-panels // COLUMNS)
    figure = Figure(figsize=(4.4 * min(panels, COLUMNS), 3.4 * rows), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    first, *others = (figure.add_subplot(rows, min(panels, COLUMNS), number + 1) for number in range(panels))
    _by_trial(first, trials)
    for axes, (key, searched) in zip(others, tune.items(), strict=True):
        _by_value(axes, key, searched, trials)
    for axes in (first, *others):
        axes.set_ylabel(f"validation {metric}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.savefig(path)


def labels_of(choices: Sequence[Any]) -> dict[str, str]:
    """What a person reads for each choice, by its JSON text: a section's type, where that tells the choices apart."""
    texts = [canonical_json(choice) for choice in choices]
    labels = [
        str(choice["type"]) if isinstance(choice, dict) and "type" in choice else text
        for choice, text in zip(choices, texts, strict=True)
    ]
    return dict(zip(texts, labels if len(set(labels)) == len(labels) else texts, strict=True))


def _by_trial(axes: Axes, trials: Sequence[FrozenTrial]) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    done, pruned = _done(trials), _pruned(trials)
    failed = [trial.number for trial in trials if trial not in done and trial not in pruned]
    _points(axes, [trial.number for trial in done], done, pruned, [trial.number for trial in pruned])
    best = np.fmax.accumulate(np.array([trial.value if trial in done else np.nan for trial in trials], dtype=float))
    numbers = [trial.number for trial in trials]
    axes.plot(numbers, best, color=BEST, linewidth=1.2, drawstyle="steps-post", label="best")
    for number in failed:
        axes.axvline(
            number, color=FAILED, linewidth=0.8, linestyle=":", label="failed" if number == failed[0] else None
        )
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize="small")


def _by_value(axes: Axes, key: str, searched: Any, trials: Sequence[FrozenTrial]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    done, pruned = _done(trials), _pruned(trials)
    axes.set_xlabel(key)
    if isinstance(searched, Between):
        if searched.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        places = [[trial.params[key] for trial in some] for some in (done, pruned)]
    else:
        labels = labels_of(searched)
        choices = list(labels)
        places = [[choices.index(trial.params[key]) for trial in some] for some in (done, pruned)]
        short = [label if len(label) < 25 else f"{label[:24]}…" for label in labels.values()]
        axes.set_xticks(range(len(choices)), short, rotation=20 if sum(map(len, short)) > 40 else 0)
        axes.set_xlim(-0.5, len(choices) - 0.5)
    _points(axes, places[0], done, pruned, places[1])


def _points(
    axes: Axes, xs: Sequence[Any], done: Sequence[FrozenTrial], pruned: Sequence[FrozenTrial], pruned_xs: Sequence[Any]
) -> None:
    import numpy as np

    axes.scatter(
        xs, np.array([trial.value for trial in done], dtype=float), s=22, color=DONE, label="complete", zorder=3
    )
    if pruned:
        recalls = [trial.user_attrs["best_recall"] for trial in pruned]
        axes.scatter(pruned_xs, recalls, s=24, color=PRUNED, marker="x", label="pruned", zorder=2)


def _done(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state.name == "COMPLETE"]


def _pruned(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state.name == "PRUNED"]
