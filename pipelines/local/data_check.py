"""What a preparation would make of the logs: their profile, what would be kept and why, without a run."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipelines.views.console import headed
from pipelines.views.remarks import remarks
from two_tower.config import Config
from two_tower.errors import UserError

if TYPE_CHECKING:
    from two_tower.data import NothingKept, Prepared

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 72
"""Columns of the picture of the days."""


def check_data(config: Config, console: Console) -> bool:
    """Prints what a preparation makes of the configuration's logs; false where a run would refuse them.

    Raises:
        DataError: The logs cannot be read at all, or a window of the split is empty.
    """
    from pipelines.local.runner import data_root
    from two_tower.data import NothingKept, examples_of, open_prepared, prepare, read_profile, resolve_run

    config, sources = resolve_run(config, datetime.now(UTC), data_root=data_root())
    log = config.data.interactions
    for name, files in sources.items():
        if files:
            size = sum(file["bytes"] for file in files)
            console.print(f"{name}: {len(files):,} files, {size / 1e6:,.1f} MB, the first is {files[0]['path']}",
                          highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    lenient = log.model_copy(update={"max_bad_share": 1.0})  # the whole picture first, then the verdict
    with tempfile.TemporaryDirectory() as folder:
        out, profile = Path(folder) / "prepared", Path(folder) / "profile"
        data = config.data.model_copy(update={"interactions": lenient, "incremental": False})
        try:
            prepare(sources, out=out, data=data, beam=config.beam, profile=profile)
        except NothingKept as error:
            _print_refusal(error, config, console)
            return False
        prepared, described = open_prepared(out), read_profile(profile)
        rows = prepared.summary["rows"]
        console.print("", _columns_table(described["tables"], config), "", _rows_table(rows))
        _print_samples(examples_of(prepared.set_aside()), rows, console)
        console.print("", _split_table(prepared, config))
        _print_days(described["per_day"], console)
        return _print_verdict(prepared, described, config, console)


def _print_refusal(error: NothingKept, config: Config, console: Console) -> None:
    """Prints what there is to see of logs of which no row is left."""
    from two_tower.data import in_sentences

    if error.tables["interactions"]["rows"]:
        console.print("", _columns_table(error.tables, config))
    console.print("", _rows_table(error.rows))
    _print_samples(error.examples, error.rows, console)
    console.print()
    for sentence in in_sentences(error.noted):
        _print_note(sentence, console)
    console.print(headed("a run would refuse these logs:", f" {error.verdict}", style="red"), soft_wrap=True)


def _print_note(text: str, console: Console) -> None:
    console.print(headed("note:", f" {text}", style="yellow"), soft_wrap=True)


def _columns_table(tables: dict[str, Any], config: Config) -> Table:
    """What the columns hold, of the rows that the filters leave."""
    from two_tower.profile import in_words

    table = Table(title="columns, after the filters", title_justify="left")
    for name in ("table", "column", "used as", "type", "missing", "distinct"):
        table.add_column(
            name, justify="right" if name in ("missing", "distinct") else "left", no_wrap=True, min_width=len(name)
        )
    table.add_column("range or most frequent values", no_wrap=True, ratio=1)
    uses = _uses(config)
    for name, described in tables.items():
        for column, facts in described["columns"].items():
            missing = f"{facts['missing_share']:.1%}" if facts["missing"] else ""
            distinct = f"{facts['distinct']:,}" if facts["distinct_exact"] else f"~{facts['distinct']:,} ±3 %"
            kind = facts["type"].partition("(")[0]
            table.add_row(name, column, uses.get((name, column), ""), kind, missing, distinct, in_words(facts))
    return table


def _uses(config: Config) -> dict[tuple[str, str], str]:
    """What the configuration does with a column, by table and column."""
    log = config.data.interactions
    uses = {("interactions", column): role for role, column in log.columns.model_dump().items() if column}
    for condition in log.filters:
        uses.setdefault(("interactions", condition.column), "filter")
    for column in log.ranges:
        uses.setdefault(("interactions", column), "range")
    for name, feature in config.data.query.context.items():
        uses.setdefault(("interactions", feature.column or name), f"context ({feature.type})")
    for key, part in (("items", config.data.items), ("users", config.data.users)):
        for name, feature in (part.features if part else {}).items():
            uses[key, name] = feature.type
    return uses


def _rows_table(rows: dict[str, Any]) -> Table:
    """What becomes of the rows."""
    from two_tower.data import filtered_in_words

    table = Table(title="rows", title_justify="left")
    table.add_column("what", no_wrap=True, max_width=80)
    for name in ("rows", "share"):
        table.add_column(name, justify="right")

    def add(what: str, count: int, style: str = "") -> None:
        table.add_row(what, f"{count:,}", f"{count / max(rows['read'], 1):.1%}", style=style)

    add("read", rows["read"])
    for name, count in rows["filtered"].items():
        add(f"filtered: {filtered_in_words(name)}", count, style="dim")
    for reason, count in rows["set_aside"].items():
        add(f"set aside: {reason}", count, style="yellow")
    add("kept", rows["kept"], style="bold")
    if outside := rows.get("outside_core"):
        add("of these not trained on: outside the core", outside)
    return table


def _print_samples(aside: list[dict[str, Any]], rows: dict[str, Any], console: Console) -> None:
    """Prints the first rows that are set aside for each reason, or that are filtered where these are all."""
    from two_tower.data import EXAMPLES

    for reason in (*rows["set_aside"], "filtered"):
        for row in [row for row in aside if row["reason"] == reason][:EXAMPLES]:
            text = f"{reason}: {row['file']} row {row['row']}: {row['content']}"
            console.print(text, highlight=False, markup=False, no_wrap=True, overflow="ellipsis")


def _split_table(prepared: Prepared, config: Config) -> Table:
    """What falls into training, validation and test."""
    from two_tower.progress import moment_text

    summary = prepared.summary
    table = Table(title=f"split {config.data.split.type}", title_justify="left")
    for name in ("", "from", "to", "events", "queries", "of new users", "items without training events"):
        table.add_column(name, justify="left" if name in ("", "from", "to") else "right")
    for part in ("train", "validation", "test"):
        first, last = (
            moment_text(edge) if edge is not None else "" for edge in summary["windows"].get(part, (None, None))
        )
        counts = [summary[key].get(part) for key in ("queries", "new_users", "cold_items")]
        table.add_row(part, first, last, f"{summary['events'][part]:,}",
                      *("" if count is None else f"{count:,}" for count in counts))  # fmt: skip
    return table


def _print_days(per_day: dict[str, list[Any]], console: Console) -> None:
    """A small picture of the events of each day, or of several days together where there are many."""
    if not per_day["day"]:
        return
    days = [date.fromisoformat(day) for day in per_day["day"]]
    span = (days[-1] - days[0]).days + 1
    together = -(-span // WIDTH)
    counts = [0] * -(-span // together)
    for day, events in zip(days, per_day["events"], strict=True):
        counts[(day - days[0]).days // together] += events
    most = max(counts)
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)
    each = "day" if together == 1 else f"{together} days"
    console.print(f"\nevents each {each}, {days[0]} to {days[-1]}, at most {most:,}\n{bars}", highlight=False)


def _print_verdict(prepared: Prepared, profile: dict[str, Any], config: Config, console: Console) -> bool:
    """Says what is worth a look, and whether a run would go on; true if it would."""
    summary, limit = prepared.summary, config.data.interactions.max_bad_share
    rows = summary["rows"]
    used = rows["read"] - sum(count for name, count in rows["filtered"].items() if name != "repeats")
    bad = sum(rows["set_aside"].values())
    console.print()
    for remark in remarks(prepared, profile, config):
        _print_note(remark, console)
    refusal = _later_refusal(prepared, config, console)
    if bad > limit * used:
        share = f"{bad:,} of {used:,} rows are bad ({bad / used:.1%})"
        refusal = f"{share}, more than data.interactions.max_bad_share allows ({limit:.1%})"
    if refusal:
        console.print(headed("a run would refuse these logs:", f" {refusal}", style="red"), soft_wrap=True)
        return False
    kept = f" {rows['kept']:,} of {rows['read']:,} rows would be kept: {summary['users']:,} users"
    found = f", {summary['items_seen']:,} items, and {summary['items']:,} candidates"
    console.print(headed("fine:", kept + found, style="green"), soft_wrap=True)
    return True


def _later_refusal(prepared: Prepared, config: Config, console: Console) -> str:
    """Why a run would end before the training although the logs are good; names the baselines that would not fit."""
    from two_tower.evaluation import check_prepared
    from two_tower.model import settled

    try:
        model = settled(str(prepared.folder), model=config.model).model
        left_out = check_prepared(prepared.folder, model=model, index=config.index, evaluation=config.evaluation)
    except UserError as error:
        return str(error)
    for name, why in left_out.items():
        _print_note(f"the baseline {name} does not fit and would be left out: {why}", console)
    return ""
