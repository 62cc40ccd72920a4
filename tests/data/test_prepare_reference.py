"""The step against the brute-force reference, on random logs with ties, duplicates and cold ids."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from prepared_logs import (
    START,
    Row,
    Rules,
    by_ids,
    event,
    ordinary_log,
    reference,
    run,
    run_rows,
    settings as data_settings,
    write_rows,
)

from two_tower.data import Prepared
from two_tower.errors import DataError

HOUR = 3_600_000_000
EVENTS = {
    "click": ("positive", 1.0),
    "buy": ("positive", 2.0),
    "skip": ("negative", 0.5),
    "view": ("impression", 0.25),
}
EMPTY_PART = r"window is empty|positive events, so this split|no positive event|none is left after the filters|k_core"

USERS = ["ann", "ann ", "Ç", *(f"u{n}" for n in range(9))]
ITEMS = ["x", "007", "7", "é", *(f"i{n}" for n in range(16))]
LEAVE_LAST = ("leave_last", "apart")
KINDS = ("global_time", *LEAVE_LAST, "given", "cut")
"""The splits; `apart` is `leave_last` with ties apart, `cut` a given one whose validation part is cut from training."""


def random_rows(random: Random) -> list[Row]:
    """Few hours and values, so that ties and duplicates are common; some users and items are, others are rare."""
    return [
        {
            "user": random.choices(USERS, [1 / (n + 2) for n in range(len(USERS))])[0],
            "item": random.choices(ITEMS, [1 / (n + 2) for n in range(len(ITEMS))])[0],
            "hour": random.randint(0, 40),
            "event": random.choice([*EVENTS, "click", "buy", "noise"]),
            "split": random.choice(["train", "train", "valid", "test"]),
            "amount": random.randint(0, 1),
        }
        for _ in range(random.randint(60, 240))
    ]


@st.composite
def all_rules(draw: st.DrawFn, kind: str) -> Rules:
    """Rules for one of `KINDS`."""
    moments = {"global_time": ["time"]} | {name: ["time", "order"] for name in LEAVE_LAST}
    moment = draw(st.sampled_from(moments.get(kind, ["time", "order", None, None])))
    is_given, is_cut = kind in ("given", "cut"), kind == "cut"
    rate = st.tuples(st.integers(1, 4), st.integers(1, 6).map(lambda hours: hours * HOUR))
    core = st.tuples(st.integers(1, 4), st.integers(1, 3))
    roles = draw(st.sampled_from([None, EVENTS, EVENTS]))
    names = st.sets(st.sampled_from(["positive", "negative", "impression"]), min_size=1)
    return Rules(
        split="given" if is_given else "leave_last" if kind in LEAVE_LAST else kind,
        test=8 * HOUR if kind == "global_time" else 0,
        validation=7 * HOUR if kind == "global_time" else 0,
        k=draw(st.integers(1, 3)) if kind in LEAVE_LAST else 1,
        ties="apart" if kind == "apart" else "order",
        given={"test": "test"} | ({} if is_cut else {"valid": "validation"}) if is_given else {},
        moment=moment,
        roles=roles,
        history_roles=tuple(sorted(draw(names))) if roles else ("positive",),
        history=draw(st.integers(0, 5)),
        first_only=draw(st.booleans()),
        # see test_the_rate_limit_in_a_given_split...; what is cut is seen in the sequences, which must be complete
        rate=draw(st.none() | rate) if moment == "time" and not is_cut else None,
        core=draw(st.none() | core) if not is_cut else None,
        max_per_user=draw(st.none() | st.integers(1, 4)),
        pairs=draw(st.booleans()),
        recent=draw(st.integers(1, 30)) * HOUR,
    )


def log_for(rules: Rules, drawn: list[Row], *, context: bool) -> list[Row]:
    """The columns that the rules need; fewer columns have more duplicates."""
    needed = {
        "event": rules.roles is not None,
        "split": rules.split == "given",
        "amount": context,
    }
    log = []
    for row in drawn:
        moment = {"time": {"time": START + row["hour"] * HOUR}, "order": {"order": row["hour"]}, None: {}}[rules.moment]
        more = {name: row[name] for name, wanted in needed.items() if wanted}
        log.append({"user": row["user"], "item": row["item"], **moment, **more})
    return log


def settings_for(rules: Rules, *, is_cut: bool, context: bool) -> dict[str, Any]:
    """The same in the words of the configuration."""
    columns = {"user": "user", "item": "item"} | ({rules.moment: rules.moment} if rules.moment else {})
    log: dict[str, Any] = {"columns": columns, "max_bad_share": 1.0, "repeats": "first" if rules.first_only else "keep"}
    if rules.roles:
        columns["event"] = "event"
        log["events"] = {name: {"role": role, "weight": weight} for name, (role, weight) in rules.roles.items()}
    if rules.rate:
        log["max_rate"] = {"events": rules.rate[0], "per": f"{rules.rate[1] // HOUR}h"}
    if rules.core:
        log["k_core"] = {"user": rules.core[0], "item": rules.core[1]}
    splits: dict[str, dict[str, Any]] = {
        "global_time": {"test": f"{rules.test // HOUR}h", "validation": f"{rules.validation // HOUR}h"},
        "leave_last": {"ties": rules.ties}
        | ({"type": "leave_last_k", "k": rules.k} if rules.k > 1 else {"type": "leave_last_out"}),
        "given": {"column": "split", "test": "test"}
        | ({"validation_share": 0.4} if is_cut else {"validation": "valid"}),
    }
    query: dict[str, Any] = {"history_length": rules.history, "history_roles": list(rules.history_roles)}
    if context:
        query["context"] = {"amount": {"type": "numeric"}}
    return {
        "log": log,
        "split": {"type": rules.split, **splits[rules.split]},
        "query": query,
        "examples": {"shape": "pairs" if rules.pairs else "sequences", "max_per_user": rules.max_per_user},
        "recent": f"{rules.recent // HOUR}h",
    }


def pairs_in_training(prepared: Prepared) -> set[tuple[str, str]]:
    return {(user, entry[0]) for user, entries in by_ids(prepared)["train"].items() for entry in entries}


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_equals_the_reference(kind: str, data: st.DataObject) -> None:
    rules = data.draw(all_rules(kind))
    context, shards = data.draw(st.booleans()), data.draw(st.integers(1, 4))
    log = log_for(rules, random_rows(data.draw(st.randoms(use_true_random=True))), context=context)
    is_cut = kind == "cut"
    changes = settings_for(rules, is_cut=is_cut, context=context) | {"shards": shards, "workers": 1}
    with tempfile.TemporaryDirectory() as folder:
        if not is_cut and not all(reference(log, rules)["events"].values()):
            with pytest.raises(DataError, match=EMPTY_PART):
                run_rows(Path(folder), log, **changes)
            return
        prepared = run_rows(Path(folder), log, **changes)
        if is_cut:  # which pairs, a hash says; the reference then keeps the rows of each pair together
            rules = replace(rules, train_pairs=pairs_in_training(prepared))
        expected = reference(log, rules)
        found = by_ids(prepared)
        for name in expected:
            assert found[name] == expected[name], name
        assert found.keys() == expected.keys()
        if rules.moment == "time":
            assert sum(prepared.summary["per_day"]["events"]) == expected["rows"]["kept"]
            newest = max(entry[1] for entries in expected["train"].values() for entry in entries)
            assert prepared.manifest.data_seen_until == newest


def test_the_rate_limit_in_a_given_split_counts_only_what_lies_before(tmp_path: Path) -> None:
    """The test row of u0 is five hours older than its training row: nothing lies in the hour before either."""
    log = [event(user, f"i{n}", 1, split=split) for user in ("u1", "u2") for n, split in enumerate(["a", "v", "t"])]
    log = [row | {"user": f"{row['user']}{row['split']}"} for row in log]
    log += [event("u0", "i1", 10 / 24, split="a"), event("u0", "i2", 5 / 24, split="t")]
    prepared = run_rows(
        tmp_path,
        log,
        log={"max_rate": {"events": 1, "per": "1h"}, "max_bad_share": 1.0},
        split={"type": "given", "column": "split", "test": "t", "validation": "v"},
    )
    assert prepared.summary["rows"]["set_aside"] == {}


def test_histories_come_from_before_the_cutoff_and_the_test_history_includes_validation(tmp_path: Path) -> None:
    prepared = run_rows(tmp_path, ordinary_log())
    extra = prepared.manifest.extra
    for split, key in (("validation", "validation_from"), ("test", "test_from")):
        for row in prepared.queries(split).to_pylist():
            assert row["cutoff"] == extra[key]
            assert max(row["history_times"]) < row["cutoff"]
    assert any(
        time >= extra["validation_from"]
        for row in prepared.queries("test")["history_times"].to_pylist()
        for time in row
    )


def test_the_split_into_files_and_their_format_change_nothing(tmp_path: Path) -> None:
    rows = [row | {"user": row["user"].removeprefix("u")} for row in ordinary_log()]
    typed = [row | {"user": int(row["user"])} for row in rows]
    reference_run = run_rows(tmp_path / "parquet", typed)
    for name in ("log.csv.gz", "log.jsonl"):
        other = run_rows(tmp_path / name, typed, name=name)
        for table in ("items", "users", "sequences"):
            assert getattr(other, table)().equals(getattr(reference_run, table)()), (name, table)
        assert other.queries("test").equals(reference_run.queries("test"))
        assert other.summary == reference_run.summary
    third = len(typed) // 3
    for part in range(3):
        write_rows(tmp_path / "logs" / f"day={part}" / "part.csv", typed[part * third : (part + 1) * third])
    (tmp_path / "logs" / "_SUCCESS").touch()
    (tmp_path / "logs" / ".hidden.csv").write_text("x\n")
    split = run(tmp_path / "split", data_settings(tmp_path / "logs"))
    assert split.sequences().equals(reference_run.sequences())
