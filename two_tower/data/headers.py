"""Hints at what is wrong with a delimited file whose first line does not name the columns that are looked for."""

from __future__ import annotations

from itertools import islice

import polars as pl

from two_tower.data.records import Syntax
from two_tower.data.values import microseconds, numbers

LINES = 50
"""So many lines are searched for a header."""
DELIMITERS = (";", "\t", "|", "::", ",")


def header_hint(start: bytes, syntax: Syntax, wanted: list[str], *, key: str) -> str:
    """What to set, to stand behind an error's words; empty where nothing is known to help.

    Args:
        start: The beginning of the file.
        syntax: How it has been read.
        wanted: The names that its header should have.
        key: The configuration's section, such as data.items.
    """
    lines = list(islice(start.decode(syntax.settings.encoding, errors="replace").splitlines(), LINES))
    if not lines or not syntax.settings.header:
        return ""
    if b"\0" in start:
        encoding = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        return f"; it has NUL bytes as UTF-16 has them: set {key}.csv: {{encoding: {encoding}}}"
    names = syntax.fields(lines[0])
    if {*wanted} <= {name.strip().strip(syntax.quote or "") for name in names}:
        return f"; there are blanks before the names: set {key}.csv: {{skip_initial_space: true}}"
    for delimiter in DELIMITERS:
        other = Syntax(syntax.settings, delimiter)
        if {*wanted} <= {*other.fields(lines[0].replace(delimiter, other.delimiter))} - {*names}:
            return f"; the first line has {delimiter!r} between the names: set {key}.csv: {{delimiter: {delimiter!r}}}"
    for place, line in enumerate(lines[1:], 1):
        if {*wanted} <= {*syntax.fields(line)}:
            return f"; line {place + 1} has the names: set {key}.csv: {{skip_lines: {place}}}"
    return data_hint(names, key=key)


def data_hint(names: list[str], *, key: str = "") -> str:
    """What to do about a first line that holds values; empty if it does not look so."""
    texts = pl.Series("first line", names, dtype=pl.String)
    if numbers(texts).is_null().all() and microseconds(texts, timezone="UTC").is_null().all():
        return ""
    shown = ", ".join(f"c{place}" for place in range(1, min(len(names), 3) + 1))
    return (
        f"; the first line looks like a row, not like names: for a file without a header give the names of its "
        f"{len(names)} columns, {key}{'.' if key else ''}csv: {{header: false, names: [{shown}, ...]}}"
    )
