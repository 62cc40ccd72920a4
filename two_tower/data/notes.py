"""What a person should know of logs and tables although no row is bad: counted while they are read, said in words.

`data check` prints the sentences, a run logs them.  The counts are sums over batches, so they are the same on whatever
runner and in whatever batches the rows come.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from two_tower.config import FilterSettings
from two_tower.data.time_formats import FORMS

Noted = Counter[str]
"""How often each thing was seen, by `key`; a count of 0 is kept, since for some things it is what matters."""
_CONDITION = rf" (?:{'|'.join(get_args(FilterSettings.model_fields['op'].annotation))})(?: |$)"


def key(kind: str, subject: str = "") -> str:
    """The key of a count: a kind of `SENTENCES`, and the column or setting that it is about."""
    return f"{kind}:{subject}"


def parts_of(one: str) -> tuple[str, str]:
    """The kind and the subject of a key."""
    kind, _, subject = one.partition(":")
    return kind, subject


def summed(parts: Iterable[Mapping[str, int]]) -> Noted:
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


def filtered_in_words(name: str) -> str:
    """Why rows were filtered out, of the name that summary.json counts them by."""
    return f"did not meet {name}" if re.search(_CONDITION, name) else name


def facts(*of: object) -> str:
    """A subject of several parts."""
    return json.dumps(of, ensure_ascii=False)


def _bad_times(subject: str, count: int) -> str:
    column, given, formats = json.loads(subject)
    if given == "auto":
        said = f"{count:,} times in {column!r} cannot be read; what can be: {FORMS}"
    else:
        said = f"{count:,} times in {column!r} are not of the data.interactions.time_format {given}"
    return f"{said}. {_try(formats)}" if formats else f"{said}; other forms need a data.interactions.time_format"


def _old_times(subject: str, count: int) -> str:
    column, first, last, formats = json.loads(subject)
    if formats is None:
        hint = "They are timestamps already, so look at how the program that wrote them made them from numbers"
    elif formats:
        hint = _try(formats)
    else:
        hint = (
            "If they only number the events, name the column in data.interactions.columns.order instead of time; if "
            "they are seconds since 1970, say so with data.interactions.time_format: s"
        )
    return f"all times in {column!r} are read as from {first} to {last}, too long ago for logs. {hint}"


def _try(formats: list[str]) -> str:
    """What to set, and what to decide where the sample fits several formats."""
    if len(formats) == 1:
        return f"With data.interactions.time_format: {formats[0]} a sample of them can be read"
    return (
        f"With data.interactions.time_format: {' and with '.join(formats)} a sample of them can be read, as different "
        "times: look up which one is meant"
    )


def _future_times(subject: str, count: int) -> str:
    return (
        f"after {subject}, a day after the newest file changed, is the future; {count:,} rows lie there (if the files "
        "are younger than their date says, `touch` them)"
    )


def _rounded_ids(subject: str, count: int) -> str:
    role, column, example = json.loads(subject)
    return (
        f"{count:,} rows have a rounded number as their {role}, such as {example}: different {role}s have become one; "
        f"export {column!r} as text"
    )


def _placeholder_ids(subject: str, count: int) -> str:
    role, column, found = json.loads(subject)
    listed = json.dumps(found, ensure_ascii=False)
    return (
        f"{count:,} rows have {', '.join(found)} as their {role}, which stands for a missing value elsewhere and is "
        f"one {role} here; to leave them out, filter by {{column: {column}, op: not_in, value: {listed}}}"
    )


def _padded_ids(subject: str, count: int) -> str:
    role, column, padded, other = json.loads(subject)
    return (
        f"{count:,} {role}s differ from another one only by blanks at the ends, such as {padded!r} from {other!r}, and "
        f"are different {role}s; strip {column!r} where it is exported"
    )


def _unmatched_ids(subject: str, count: int) -> str:
    role, logged, example, known = json.loads(subject)
    if count == logged:
        which = f"none of the {logged:,} {role}s of the logs is in the {role} table"
    else:
        which = f"{count:,} {role}s of the logs are missing in the {role} table"
    ids = f" (the logs have {example!r}, the table {known!r}: check data.{role}s.id)" if 2 * count > logged else ""
    return f"{which}{ids}; they have no features"


def _unknown_ids(subject: str, count: int) -> str:
    role, known = json.loads(subject)
    return f"{count:,} rows have a {role} that the {role} table lacks, whose ids are such as {known!r}"


def _cut_values(subject: str, count: int) -> str:
    feature, setting, limit, rows = json.loads(subject)
    return (
        f"{count:,} of {rows:,} {feature.split('.')[1]} have more in {feature} than {setting}: {limit} lets in; the "
        "rest is left out"
    )


SENTENCES: dict[str, Callable[[str, int], str | None]] = {
    "bad_times": _bad_times,
    "old_times": _old_times,
    "future_times": _future_times,
    "rounded_ids": _rounded_ids,
    "placeholder_ids": _placeholder_ids,
    "padded_ids": _padded_ids,
    "unmatched_ids": _unmatched_ids,
    "unknown_ids": _unknown_ids,
    "cut_values": _cut_values,
    "swallowed": lambda where, lines: (
        f"{where}: a quote opens here and closes lines below; {lines:,} lines that look like rows would be one value "
        "and are malformed. Where quotes are characters like others, set data.interactions.csv: {quoting: none}"
    ),
    "extra_lines": lambda where, lines: (
        f"{where or 'data.interactions'}: quoted values hold line breaks: there are {lines:,} more lines than rows"
    ),
    "equals": lambda said, count: None if count else f"{said}: no row has this value",
    "begins": lambda said, count: None if count else f"{said}: no row has a value that begins so",
    "no_number": lambda said, count: (
        f"{said}: {count:,} values are no numbers, so it leaves them out" if count else None
    ),
    "no_time": lambda said, count: f"{said}: {count:,} values are no times, so it leaves them out" if count else None,
}
"""By kind: what is said of a subject and its count, or None where there is nothing to say."""
