"""Why logs are refused: the reasons with examples, and what is odd about them."""

from __future__ import annotations

from typing import Any

from two_tower.data.notes import Noted, filtered_in_words, in_sentences
from two_tower.data.rows import EXAMPLES
from two_tower.errors import DataError

SHOWN = 5
"""So many filters are named."""
Example = dict[str, Any]
"""A row that is not kept: its `file`, `row`, `reason` (or 'filtered') and `content`."""


class NothingKept(DataError):
    """No row of the logs is left.

    Attributes:
        verdict: The message without reasons, examples and notes.
        rows: As in summary.json.
        examples: Some rows for each reason.
        noted: What is odd (`two_tower.data.notes`).
        tables: As in the profile.
    """

    def __init__(self, rows: dict[str, Any], examples: list[Example], noted: Noted, tables: dict[str, Any]) -> None:
        self.verdict = _nothing_kept(rows)
        super().__init__(f"{self.verdict}\n{_why(rows, examples, noted)}")
        self.rows, self.examples, self.noted, self.tables = rows, examples, noted, tables


def refuse_too_many_bad(
    rows: dict[str, Any], examples: list[Example], noted: Noted, *, used: int, limit: float
) -> None:
    """Checks that of the `used` rows, which the filters leave, no larger share is bad.

    Raises:
        DataError: More are.
    """
    bad = sum(rows["set_aside"].values())
    if bad > limit * used:
        raise DataError(
            f"data.interactions: {bad:,} of {used:,} rows are bad ({bad / max(used, 1):.1%}), more than max_bad_share "
            f"allows ({limit:.1%}); mend the logs, filter these rows out (data.interactions.filters) or raise "
            f"data.interactions.max_bad_share\n{_why(rows, examples, noted)}"
        )


def _nothing_kept(rows: dict[str, Any]) -> str:
    """What became of all the rows, in a sentence."""
    verdict = f"data.interactions: of {rows['read']:,} rows none is left"
    filters = [f"{filtered_in_words(name)}: {count:,}" for name, count in rows["filtered"].items() if count]
    if filters:
        verdict += f" after the filters ({', '.join(filters[:SHOWN])}); check data.interactions.filters and events"
    if bad := sum(rows["set_aside"].values()):
        verdict += f"; {bad:,} are bad: mend the logs, or say how they are written (docs/data.md)"
    return verdict


def _why(rows: dict[str, Any], examples: list[Example], noted: Noted) -> str:
    """The reasons for which rows are not kept, with examples, and what is odd, a line each."""
    counts = rows["set_aside"] if rows["kept"] else rows["set_aside"] | {"filtered": sum(rows["filtered"].values())}
    lines = []
    for reason in (reason for reason, count in counts.items() if count):
        lines.append(f"  {reason}: {counts[reason]:,} rows")
        shown = [one for one in examples if one["reason"] == reason][:EXAMPLES]
        lines += [f"    {one['file']} row {one['row']}: {one['content'][:300]}" for one in shown]
    return "\n".join([*lines, *(f"  note: {sentence}" for sentence in in_sentences(noted))])
