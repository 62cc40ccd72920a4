"""Values as people read them: the filters of the templates, and the readers of artefact content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup, escape

from two_tower.progress import human_seconds


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of nested mappings, by their innermost names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found.update(flat(value) if isinstance(value, Mapping) else {key: value})
    return found


def as_day(value: Any) -> date | None:
    """The day of microseconds since 1970 or of ISO 8601 text."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1e6, UTC).date()
    return date.fromisoformat(str(value)[:10])


def as_window(edges: Sequence[Any] | None) -> tuple[date, date] | None:
    """The first and the last day of a window, None where either is missing."""
    first, last = (as_day(edges[0]), as_day(edges[1])) if edges else (None, None)
    return (first, last) if first and last else None


def moment(microseconds: float) -> str:
    """Microseconds since 1970 as text."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def readable(value: Any) -> str:
    """Any value of an artefact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and 10**14 <= value < 10**16:  # 1973 to 2286 in microseconds
        return moment(value)
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list):
        return ", ".join(readable(entry) for entry in value)
    return str(value)


def clip(value: Any, length: int = 160) -> str:
    """The text, cut at `length` characters."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def breakable(value: Any, length: int = 160) -> Markup:
    """The clipped, escaped text with a chance to break after each separator of ids and names."""
    pieces = re.split(r"(?<=[_/@:-])", clip(value, length))
    return Markup("<wbr>").join(escape(piece) for piece in pieces)


def count(value: float | None) -> str:
    """A whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """A metric with four decimals."""
    return "–" if value is None else f"{value:.4f}".replace("-", "−")


def figure(value: float | None) -> str:
    """A figure of unknown scale, such as a gate check's."""
    if value is not None and (abs(value) >= 1000 or float(value).is_integer()):
        return count(value).replace("-", "−")
    return number(value) if value is None or abs(value) < 10 else f"{value:,.1f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference with its sign and four decimals."""
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def share(part: float | None, whole: float | None) -> str:
    """`part` of `whole` in percent."""
    if part is None or not whole:
        return "–"
    percent = 100 * part / whole
    return (
        f"{percent:.0f} %" if percent >= 99.95 or percent == 0 else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"
    )


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return "–"
    return f"{value:.1f}s" if value < 10 else human_seconds(value)


def size(value: float) -> str:
    """Bytes as kB or MB."""
    return f"{value / 1e3:,.1f} kB" if value < 1e6 else f"{value / 1e6:,.1f} MB"
