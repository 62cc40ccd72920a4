"""Inline SVG whose colours are CSS variables of the page, so that both colour schemes fit.

Matplotlib draws with one placeholder colour per variable; `_inline_svg` swaps them, and drops what does not belong
inside an HTML page (metadata, namespaces, ids that nothing refers to).  Legends are HTML and wrap on a phone.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("ink", "muted", "line", "accent", "champion", "series-1", "series-2", "series-3", "series-4", "series-5",
           "validation", "test")  # fmt: skip
"""The page's CSS variables that pictures use."""

_WIDTH, _HEIGHT = 400.0, 235.0
_DOTS_PER_INCH = 160


@dataclass(frozen=True)
class LegendEntry:
    """What stands under a picture for one of its series."""

    label: str
    colour: str
    """A name of `COLOURS`, or a colour that suits both schemes as it is (`#rrggbb`)."""
    mark: Literal["line", "dashed", "dotted", "dot", "area"] = "line"

    @property
    def css(self) -> str:
        """The colour as CSS."""
        return f"var(--{self.colour})" if self.colour in COLOURS else self.colour


@dataclass(frozen=True)
class Picture:
    """An SVG element without any reference outside itself, and its legend."""

    svg: Markup
    legend: tuple[LegendEntry, ...] = ()


def placeholder(name: str) -> str:
    """What Matplotlib draws with where the page is to have the variable `name` of `COLOURS`."""
    return f"#0000{COLOURS.index(name) + 1:02x}"


def draw_picture(
    draw: Callable[[Axes], None],
    *,
    label: str,
    salt: str,
    legend: tuple[LegendEntry, ...] = (),
    height: float = _HEIGHT,
) -> Picture:
    """The picture that `draw` puts on a pair of axes.

    Args:
        draw: Draws with colours from `placeholder`; what it marks as rasterised becomes one embedded image.
        label: What the picture shows, for those who cannot see it.
        salt: Of the ids in the SVG, one a picture: equal input gives equal bytes, and no id is twice in a page.
        legend: Stands under the picture.
        height: In points; the width is 400.
    """
    with rc_context({**_style(), "svg.hashsalt": salt}):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure.add_subplot())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", dpi=_DOTS_PER_INCH, metadata={"Date": None})
    return Picture(_inline_svg(buffer.getvalue(), label=label), legend)


def _style() -> dict[Any, Any]:
    ink, muted, line = placeholder("ink"), placeholder("muted"), placeholder("line")
    return {
        "svg.fonttype": "none",  # real text in the page's font
        "text.parse_math": False,  # a `$` in a name is a dollar sign
        "font.size": 11.5, "text.color": ink,
        "axes.labelcolor": muted, "axes.labelsize": 11.5, "axes.edgecolor": line, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "axes.xmargin": 0.02,
        "grid.color": line, "grid.linewidth": 0.8,
        "xtick.color": line, "ytick.color": line, "xtick.labelcolor": muted, "ytick.labelcolor": muted,
        "xtick.labelsize": 11.5, "ytick.labelsize": 11.5, "ytick.major.size": 0, "xtick.minor.size": 2,
    }  # fmt: skip


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
