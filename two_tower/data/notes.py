"""What a person should know of logs and tables although no row is bad: counted while they are read, said in words.

`data check` prints the sentences, a run logs them.  The counts are sums over batches, so they are the same on whatever
runner and in whatever batches the rows come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

Noted = Counter[str]
"""How often each thing was seen, by `key`; a count of 0 is kept, since for some things it is what matters."""


def key(kind: str, subject: str = "") -> str:
    """The key of a count: a kind of `SENTENCES`, and the column or setting that it is about."""
    return f"{kind}:{subject}"


def parts_of(one: str) -> tuple[str, str]:
    """The kind and the subject of a key."""
    kind, _, subject = one.partition(":")
    return kind, subject


def summed(parts: list[Mapping[str, int]]) -> Noted:
    """The counts of several batches, units or tables together."""
    total: Noted = Counter()
    for part in parts:
        total.update(part)  # `+=` would drop zeros
    return total


def in_sentences(noted: Mapping[str, int]) -> list[str]:
    """What is worth saying of the counts, in the order of `SENTENCES`."""
    said = []
    for kind, sentence in SENTENCES.items():
        for one in sorted(noted):
            name, subject = parts_of(one)
            if name == kind and (text := sentence(subject, noted[one])):
                said.append(text)
    return said


SENTENCES: dict[str, Callable[[str, int], str | None]] = {
    "swallowed": lambda where, lines: (
        f"{where}: a quote opens here and closes lines below; {lines:,} lines that look like rows would be one value "
        "and are malformed. Where quotes are characters like others, set data.interactions.csv: {quoting: none}"
    ),
    "extra_lines": lambda _, lines: f"quoted values hold line breaks: there are {lines:,} more lines than rows",
    "equals": lambda said, count: None if count else f"{said}: no row has this value",
    "begins": lambda said, count: None if count else f"{said}: no row has a value that begins so",
    "no_number": lambda said, count: (
        f"{said}: {count:,} values are no numbers, so it leaves them out" if count else None
    ),
    "no_time": lambda said, count: f"{said}: {count:,} values are no times, so it leaves them out" if count else None,
}
"""By kind: what is said of a subject and its count, or None where there is nothing to say."""
