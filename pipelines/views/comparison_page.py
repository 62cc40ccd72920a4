"""Two runs beside each other as one HTML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.views.comparison import RunComparison, interval_text
from pipelines.views.evaluation_tables import difference_text, probability_text, verdict_of

if TYPE_CHECKING:
    from markupsafe import Markup

    from two_tower.metrics_file import Difference


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
    reach = max((abs(end) for paired in differences for end in (paired.low, paired.high)), default=0.0)
    page = environment.get_template("comparison.html.j2").render(
        comparison=comparison,
        bars={pair.name: _bar(pair.difference, reach=reach or 1.0) for pair in comparison.metrics if pair.difference},
        paired=comparison.paired,
    )
    Path(out_html).parent.mkdir(parents=True, exist_ok=True)
    replace_file(out_html, page.encode("utf-8", errors="replace"))


def _breakable(text: str) -> Markup:
    """The escaped text with a chance to break after each separator of a key."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(piece) for piece in re.split(r"(?<=[._/-])", text))


def _bar(paired: Difference, *, reach: float) -> dict[str, float]:
    """The places of an interval and its difference, in percent of a bar from `-reach` to `reach`."""

    def place(value: float) -> float:
        return round(50 + 48 * value / reach, 2)

    return {
        "start": place(paired.low),
        "width": round(place(paired.high) - place(paired.low), 2),
        "at": place(paired.difference),
    }
