"""Where the records of delimited text lie, found in blocks of bytes as Python's `csv` module would read them."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from two_tower.config import CsvSettings
from two_tower.contracts import Bool, Int64

STAND_IN = "\x1f"
"""What a delimiter of several characters, or one that is not ASCII, is replaced by, since the parsers take others."""
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Syntax:
    """How a file is written."""

    settings: CsvSettings
    written: str
    """The delimiter as it stands in the file."""

    @classmethod
    def of(cls, settings: CsvSettings, path: str) -> Syntax:
        """That of a file; the delimiter `auto` goes by the ending of its name."""
        by_name = "\t" if ".tsv" in PurePath(path).name.lower() else ","
        return cls(settings, by_name if settings.delimiter == "auto" else settings.delimiter)

    @property
    def delimiter(self) -> str:
        """The single character that the parsers take for it: one byte, and not NUL."""
        return self.written if len(self.written.encode()) == 1 and self.written != "\0" else STAND_IN

    @property
    def quote(self) -> str | None:
        """The quoting character, if there is one."""
        return self.settings.quote

    @cached_property
    def arrow(self) -> dict[str, Any]:
        """The arguments of `pyarrow.csv.ParseOptions`."""
        return {
            "delimiter": self.delimiter,
            "quote_char": self.quote or False,
            "escape_char": self.settings.escape or False,
            "newlines_in_values": self.quote is not None,
        }

    def fields(self, record: str) -> list[str]:
        """The fields of one record."""
        csv.field_size_limit(1 << 62)  # the whole process's limit, too small for long values
        quoting: dict[str, Any] = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        lines = io.StringIO(record, newline="")
        return next(csv.reader(lines, delimiter=self.delimiter, escapechar=self.settings.escape, **quoting), [])


@dataclass(frozen=True)
class Records:
    """The records of a block of whole lines that begins with one."""

    block: bytes
    starts: Int64
    """`[records + 1]`: their first bytes, and the end of the last."""
    lines: Int64
    """`[records]`: the lines that each stands on."""
    ends: Int64
    """`[lines]`: the places behind the lines' ends."""
    counted: Bool
    """`[records]`: false for empty lines and comments, which are no rows."""
    is_open: bool
    """Whether the last one ends within quotes, or with an escaped line break."""
    is_regular: bool
    """Whether every quote begins a field or ends one, or is doubled within one."""

    def __len__(self) -> int:
        return len(self.lines)

    def bytes_of(self, number: int) -> bytes:
        """One record, its line break included."""
        return self.block[self.starts[number] : self.starts[number + 1]]

    def joined(self, chosen: Bool) -> bytes:
        """The chosen records, one after the other."""
        if chosen.all():
            return self.block
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
        runs = zip(self.starts[edges[0::2]].tolist(), self.starts[edges[1::2]].tolist(), strict=True)
        return b"".join(self.block[start:stop] for start, stop in runs)

    def count_by_line(self, character: str) -> Int64:
        """`[lines]`: how often a character stands in each line."""
        places = np.flatnonzero(np.frombuffer(self.block, dtype=np.uint8) == ord(character))
        return np.diff(np.searchsorted(places, np.concatenate([[0], self.ends])))

    def without_last(self) -> Records:
        """All but the last, which is open."""
        return replace(
            self,
            block=self.block[: self.starts[-2]],
            starts=self.starts[:-1],
            lines=self.lines[:-1],
            ends=self.ends[: -self.lines[-1]],
            counted=self.counted[:-1],
            is_open=False,
        )

    def since(self, first: int) -> Records:
        """Those from the number `first` on."""
        begin = self.starts[first]
        return replace(
            self,
            block=self.block[begin:],
            starts=self.starts[first:] - begin,
            lines=self.lines[first:],
            ends=self.ends[self.lines[:first].sum() :] - begin,
            counted=self.counted[first:],
        )


def find_records(block: bytes, syntax: Syntax) -> Records:
    """The records of a block of whole lines that begins with one."""
    structure = _without_escaped(block, syntax)
    content = np.frombuffer(structure, dtype=np.uint8)
    ends = _line_ends(structure, content)
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    continues, is_regular = _continued(structure, content, begins, ends, syntax)
    first = np.flatnonzero(~np.concatenate([[False], continues[:-1]]))  # the lines that begin a record
    empty = (content[begins] == _NEWLINE) | (content[begins] == _RETURN)
    if syntax.settings.comment:
        comment = syntax.settings.comment.encode()
        empty |= np.array([block.startswith(comment, place) for place in begins.tolist()], dtype=bool)
    return Records(
        block=block,
        starts=np.append(begins[first], len(block)).astype(np.int64),
        lines=np.diff(np.append(first, len(ends))),
        ends=ends,
        counted=~empty[first],
        is_open=bool(continues[-1]) or (block[-1:] in (b"\n", b"\r") and structure.endswith(b"x")),
        is_regular=is_regular,
    )


def is_regular(record: bytes, syntax: Syntax) -> bool:
    """Whether every quote of a record begins a field or ends one, or is doubled within one."""
    content = np.frombuffer(_without_escaped(record, syntax), dtype=np.uint8)
    return _is_regular(content, np.flatnonzero(content == ord(syntax.quote or '"')), syntax)


def _without_escaped(block: bytes, syntax: Syntax) -> bytes:
    """The block with all that is escaped, line breaks too, as letters, in as many bytes.

    A comment ends with its line, whatever stands there.
    """
    if syntax.settings.escape is None:
        return block
    comment = (syntax.settings.comment or "\n").encode()

    def letters(escaped: re.Match[bytes]) -> bytes:
        begin = block.rfind(b"\n", 0, escaped.start()) + 1
        return escaped[0] if escaped[1] == b"\n" and block.startswith(comment, begin) else b"xx"

    return re.sub(rb"(?s)%b(.)" % re.escape(syntax.settings.escape.encode()), letters, block)


def _line_ends(block: bytes, content: _Bytes) -> Int64:
    """The places behind the lines' ends: a newline, or a return that none follows."""
    is_end = content == _NEWLINE
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        is_end |= (content == _RETURN) & (np.append(content[1:], 0) != _NEWLINE)
    ends = np.flatnonzero(is_end) + 1
    return ends if len(ends) and ends[-1] == len(block) else np.append(ends, len(block)).astype(np.int64)


def _continued(block: bytes, content: _Bytes, begins: Int64, ends: Int64, syntax: Syntax) -> tuple[Bool, bool]:
    """Which lines `[lines]` end within quotes, and whether all quotes are regular.

    Where they are, a line ends within quotes if an odd number of them precedes its end.
    """
    quote = syntax.quote
    if quote is None or quote.encode() not in block:
        return np.zeros(len(ends), dtype=bool), True
    quotes = np.flatnonzero(content == ord(quote))
    if syntax.settings.comment is None and _is_regular(content, quotes, syntax):
        return np.searchsorted(quotes, ends) % 2 == 1, True
    return _continued_by_line(block, content, np.append(begins, len(block)), quotes, syntax), False


def _continued_by_line(block: bytes, content: _Bytes, edges: Int64, quotes: Int64, syntax: Syntax) -> Bool:
    """Which lines `[lines]` end within quotes, found line by line.

    Only those are looked at that may change the state: outside of quotes the irregular ones in which a field begins
    with a quote, within quotes all that hold one.
    """
    continues = np.zeros(len(edges) - 1, dtype=bool)
    line_of = np.searchsorted(edges, quotes, side="right") - 1
    holding = line_of[_firsts(line_of)]
    may_open = _may_open(content, quotes, line_of, syntax)
    inside, line = False, 0
    while True:
        coming = holding if inside else may_open
        place = np.searchsorted(coming, line)
        following = int(coming[place]) if place < len(coming) else len(continues)
        continues[line:following] = inside
        if following == len(continues):
            return continues
        inside = _ends_inside(block[edges[following] : edges[following + 1]], inside, syntax)
        continues[following] = inside
        line = following + 1


def _may_open(content: _Bytes, quotes: Int64, line_of: Int64, syntax: Syntax) -> Int64:
    """The numbers of the lines that may end within quotes although they begin outside of them.

    Not those in which no field begins with a quote, and not those whose quotes are regular and even in number.
    """
    before, after = _neighbours(content, quotes)
    is_edge = _edges(syntax)
    if syntax.settings.comment:
        return line_of[_firsts(line_of)]
    first = _firsts(line_of)
    count = np.diff(np.append(first, len(quotes)))
    opens = (np.arange(len(quotes)) - np.repeat(first, count)) % 2 == 0
    fine = np.where(opens, is_edge[before], is_edge[after])
    is_regular = np.logical_and.reduceat(fine, first) & (count % 2 == 0)
    begins = np.isin(before, [ord(syntax.delimiter), _NEWLINE, _RETURN])
    has_opening = np.logical_or.reduceat(begins, first)
    lines: Int64 = line_of[first][~is_regular & has_opening]
    return lines


def _firsts(ascending: Int64) -> Int64:
    """Where each distinct value begins (`numpy.unique` hashes, at ten times the time)."""
    return np.flatnonzero(np.diff(ascending, prepend=-1))


def _is_regular(content: _Bytes, quotes: Int64, syntax: Syntax) -> bool:
    """Whether the first, third … of the quotes stands where a field begins, and each other one where it ends.

    A doubled quote within a value ends it and begins it again.
    """
    before, after = _neighbours(content, quotes)
    is_edge = _edges(syntax)
    return bool(is_edge[before[0::2]].all() and is_edge[after[1::2]].all())


def _neighbours(content: _Bytes, places: Int64) -> tuple[_Bytes, _Bytes]:
    """The bytes before and behind places, a newline at the ends."""
    before, after = content[places - 1], content[np.minimum(places + 1, len(content) - 1)]
    return np.where(places > 0, before, _NEWLINE), np.where(places + 1 < len(content), after, _NEWLINE)


def _edges(syntax: Syntax) -> Bool:
    """`[256]`: the characters beside which a quote begins or ends a field."""
    edges = np.zeros(256, dtype=bool)
    edges[[ord(syntax.delimiter), _NEWLINE, _RETURN, ord(syntax.quote or '"')]] = True
    return edges


def _ends_inside(line: bytes, inside: bool, syntax: Syntax) -> bool:
    """Whether a line ends within quotes, given whether it begins so.

    A quote opens where a field begins; within quotes a doubled one is a character like others.
    """
    assert syntax.quote is not None
    comment = syntax.settings.comment
    if comment and not inside and line.startswith(comment.encode()):
        return False
    quote, opening = syntax.quote.encode(), (syntax.delimiter + syntax.quote).encode()
    place = 0
    if not inside and line.startswith(quote):
        inside, place = True, 1
    while True:
        if not inside:
            if (place := line.find(opening, place) + len(opening)) < len(opening):
                return False
            inside = True
        elif (found := line.find(quote, place)) < 0:
            return True
        elif line.startswith(quote, found + 1):
            place = found + 2
        else:
            inside, place = False, found + 1
