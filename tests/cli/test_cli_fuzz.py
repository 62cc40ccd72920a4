"""The command line against configurations and files with one fault each: a word for it, never a traceback."""

from __future__ import annotations

import copy
import json
import logging
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from random_artefacts import item_ids, random_log, write_prepared
from whole_version import write_whole_version

from pipelines import cli
from pipelines.runs import Run
from two_tower.config import load_config
from two_tower.registry import Registry

CALLS = 200
SEED = 20240117
ROWS = 240
KINDS = ("buy", "view", "view", "view")

CONFIG: dict[str, Any] = {
    "name": "shop",
    "data": {
        "interactions": {
            "path": "orders.csv",
            "columns": {"user": "customer", "item": "sku", "time": "at", "event": "kind", "weight": "amount"},
            "events": {"buy": 1.0, "view": 0.3},
            "filters": [{"column": "amount", "op": ">=", "value": 0}],
            "ranges": {"amount": {"min": 0, "max": 1000}},
        },
        "items": {
            "path": "items.parquet",
            "id": "sku",
            "features": {"price": {"type": "numeric"}, "tags": {"type": "multi_categorical"}},
            "display": ["title"],
            "available": [{"column": "stock", "op": ">", "value": 0}],
        },
        "users": {"path": "users.jsonl", "id": "customer", "features": {"age": {"type": "numeric"}}},
        "query": {"history_length": 10, "context": {"hour": {"type": "numeric"}}},
        "split": {"type": "global_time", "test": "5d", "validation": "5d"},
        "shards": 1,
    },
    "model": {"dim": 8, "candidate": {"hidden": [8]}, "query": {"hidden": [8]}},
    "training": {"loss": {"type": "full_softmax"}, "epochs": 1, "batch_size": 64},
    "index": {"kind": "exact"},
    "evaluation": {"ks": [5, 10], "baselines": [{"type": "popularity"}]},
}

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 10**30, -(10**30), 1e308, float("nan"), float("inf"), 0.5, "", " ", "x", "-", "yes",
    "1d", "99999999999999999d", "-5d", "2024-02-30", "2024-01-05", "../..", "/", "/proc/self/mem", "orders.csv", "*",
    "**", "[", "a\x00b", "\ud800", "Жük 🛒", "[/]", "[red]", "{date}", "{", "%s", "x" * 999, [], [None], [[]], ["x"],
    [0], ["orders.csv", "orders.csv"], {}, {"x": 1}, {"type": "x"}, {"type": None}, {"": ""}, {"min": 2, "max": 1},
]  # fmt: skip
"""What a person, a template or another program may leave in a configuration."""


@dataclass(frozen=True)
class Shop:
    """A working folder with a valid configuration, logs, tables and queries, of which a fault changes one."""

    folder: Path
    rng: random.Random
    champion: Path
    """Where a registry with a champion, and the prepared data of its run, lie."""

    def path(self, name: str) -> Path:
        return self.folder / "data" / "shop" / name

    def write(self, config: dict[str, Any]) -> None:
        (self.folder / "shop.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")

    def make(self) -> None:
        """Writes everything as it should be."""
        self.path("").mkdir(parents=True)
        lines = [
            f"c{n % 7},i{n % 11},2024-01-{1 + n // 8:02}T10:{n % 60:02}:00,{n % 9},{KINDS[n % 4]},{n % 24}"
            for n in range(ROWS)
        ]
        self.path("orders.csv").write_text("\n".join(["customer,sku,at,amount,kind,hour", *lines]) + "\n")
        items = [
            {"sku": f"i{n}", "title": f"item {n}", "price": n / 2, "stock": n % 5, "tags": ["a", "b"][: n % 3]}
            for n in range(12)
        ]
        pq.write_table(pa.Table.from_pylist(items), self.path("items.parquet"))
        self.path("users.jsonl").write_text(
            "".join(json.dumps({"customer": f"c{n}", "age": n}) + "\n" for n in range(7))
        )
        (self.folder / "q.jsonl").write_text('{"user_id": "c1", "history": ["i1"]}\n')
        self.write(CONFIG)
        run = Run.start(self.folder / "runs", name="shop", config_file="shop.yaml", config=CONFIG)
        run.step("prepare_data").outputs["prepared"] = str(self.champion / "prepared")
        run.version = (self.champion / "version").read_text()
        run.save()

    def add_champion(self) -> None:
        shutil.copytree(self.champion / "registry", self.folder / "runs" / "registry")


Fault = Callable[[Shop], str]
"""Changes one thing in a shop; what it was."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a configuration."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def within(config: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        config = config[key]
    return config


def wrong_value(shop: Shop) -> str:
    config = copy.deepcopy(CONFIG)
    *parents, last = shop.rng.choice(list(places(CONFIG)))
    within(config, tuple(parents))[last] = value = shop.rng.choice(VALUES)
    text = yaml.dump(config, allow_unicode="\ud800" not in str(value))
    (shop.folder / "shop.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"{parents} {last} = {value!r}"[:200]


def without_a_key(shop: Shop) -> str:
    config = copy.deepcopy(CONFIG)
    *parents, last = shop.rng.choice(list(places(CONFIG)))
    del within(config, tuple(parents))[last]
    shop.write(config)
    return f"without {parents} {last}"


def unknown_key(shop: Shop) -> str:
    config = copy.deepcopy(CONFIG)
    sections = [(), *(path for path in places(CONFIG) if isinstance(within(CONFIG, path), dict))]
    section, key = shop.rng.choice(sections), shop.rng.choice(["x", 0, True, None, 1.5, "Жük", ""])
    within(config, section)[key] = shop.rng.choice(VALUES[:12])
    shop.write(config)
    return f"{section} has {key!r}"


def a_wrong_setting(shop: Shop) -> str:
    """Another value at any setting there is; most of them are left to their defaults otherwise."""
    config = load_config(shop.folder / "shop.yaml").model_dump(mode="json")
    *parents, last = shop.rng.choice(list(places(config)))
    within(config, tuple(parents))[last] = value = shop.rng.choice([value for value in VALUES if is_text(value)])
    (shop.folder / "shop.yaml").write_text(yaml.dump(config), encoding="utf-8")
    return f"{parents} {last} = {value!r}"[:200]


def is_text(value: Any) -> bool:
    return value not in ("a\x00b", "\ud800")


def broken_yaml(shop: Shop) -> str:
    file, rng = shop.folder / "shop.yaml", shop.rng
    text = file.read_text()
    at = rng.randrange(len(text))
    kinds = {
        "cut": text[:at],
        "a tab": text.replace("  ", "\t", 1 + at % 5),
        "a stray mark": text[:at] + rng.choice("{}[]&*!|>%@`'\":#,?-") + text[at:],
        "NUL": text[:at] + "\0" + text[at:],
        "twice": text + text[: text.index("\n") + 1],
        "an endless alias": "a: &a [*a]\n" + text,
        "a bomb": "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + text,
        "an unknown alias": text + "x: *nowhere\n",
        "a tag": text + "x: !!python/object/apply:os.system ['true']\n",
        "two documents": text + "---\n" + text,
        "a list": "- a\n- b\n",
        "a word": "word\n",
        "nothing": "",
        "deep": "x: " + "[" * 3000 + "\n",
        "a complex key": text + "? [a, b]\n: c\n",
        "bad bytes": text,
        "UTF-16": text,
    }
    kind = rng.choice(list(kinds))
    encoding = "utf-16" if kind == "UTF-16" else "utf-8"
    file.write_bytes(kinds[kind].encode(encoding) + (b"\xff\xfe\xfa" if kind == "bad bytes" else b""))
    return f"YAML: {kind} at {at}"


def broken_file(shop: Shop) -> str:
    """A file of the data that is missing, cut, of other bytes, or something else."""
    file, rng = shop.path(shop.rng.choice(["orders.csv", "items.parquet", "users.jsonl"])), shop.rng
    content = file.read_bytes()
    at = rng.randrange(1, len(content))
    kinds = {
        "cut": content[:at],
        "empty": b"",
        "a blank line": b"\n",
        "bytes": rng.randbytes(300),
        "one byte": content[:at] + rng.randbytes(1) + content[at + 1 :],
        "UTF-16": content.decode("latin-1").encode("utf-16"),
        "NULs": content[:at] + b"\0" * 40 + content[at:],
        "a quote": content[:at] + b'"' + content[at:],
        "carriage returns": content.replace(b"\n", b"\r"),
        "a mark": b"\xef\xbb\xbf" + content,
        "one line": content.replace(b"\n", b""),
        "the first line twice": content.partition(b"\n")[0] + b"\n" + content,
        "half": content[len(content) // 2 :],
    }
    kind = rng.choice([*kinds, "missing", "a folder", "a link to itself"])
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "a link to itself":
        file.symlink_to(file)
    elif kind != "missing":
        file.write_bytes(kinds[kind])
    return f"{file.name}: {kind} at {at}"


CELLS = [
    "",
    " ",
    "nan",
    "NULL",
    "\\N",
    "1e400",
    "-1",
    "99999999999999999999",
    "Жük 🛒",
    "[/b]",
    "a" * 3000,
    '"a""b"',
    "'",
    "1,5",
]


def odd_cells(shop: Shop) -> str:
    """A column of the logs that is full of something else, or has an odd name."""
    lines = [line.split(",") for line in shop.path("orders.csv").read_text().splitlines()]
    column, cell = shop.rng.randrange(6), shop.rng.choice(CELLS)
    first = shop.rng.choice([0, 1, ROWS // 2])
    for row in lines[first:]:
        row[column] = cell
    shop.path("orders.csv").write_text("\n".join(",".join(row) for row in lines))
    return f"orders.csv: column {column} is {cell[:20]!r} from line {first}"


def odd_columns(shop: Shop) -> str:
    """The logs as Parquet or JSON Lines with a column of a type that nobody expects, used or not."""
    table = pa.Table.from_pylist([
        {"customer": f"c{n % 7}", "sku": f"i{n % 11}", "at": 1704103200 + 10000 * n, "amount": n % 9,
         "kind": KINDS[n % 4], "hour": n % 24} for n in range(ROWS)
    ])  # fmt: skip
    kinds = {
        "nested": pa.array([{"a": [{"b": n}]} for n in range(ROWS)]),
        "lists": pa.array([[n, None] for n in range(ROWS)]),
        "nulls": pa.nulls(ROWS),
        "bytes": pa.array([b"\xff"] * ROWS),
        "decimals": pa.array(range(ROWS), pa.decimal128(38, 0)),
        "wide decimals": pa.array([10**60 + n for n in range(ROWS)], pa.decimal256(76, 0)),
        "durations": pa.array(range(ROWS), pa.duration("ns")),
        "times of day": pa.array(range(ROWS), pa.time64("us")),
        "dates": pa.array(range(ROWS), pa.date32()),
        "far times": pa.array([2**60] * ROWS, pa.timestamp("us")),
        "large integers": pa.array([2**63 + n for n in range(ROWS)], pa.uint64()),
        "infinite": pa.array([float("inf")] * ROWS),
        "categories": pa.array(["a"] * ROWS).dictionary_encode(),
        "maps": pa.array([[("a", n)] for n in range(ROWS)], pa.map_(pa.string(), pa.int64())),
        "half floats": pa.array([1.0] * ROWS, pa.float16()) if hasattr(pa, "float16") else pa.nulls(ROWS),
    }
    kind, name = shop.rng.choice(list(kinds)), shop.rng.choice([*table.column_names, "extra", "", "[/x]", "a.b"])
    if name in table.column_names:
        table = table.set_column(table.column_names.index(name), name, kinds[kind])
    else:
        table = table.append_column(name, kinds[kind])
    pq.write_table(table, shop.path("orders.parquet"))
    config = copy.deepcopy(CONFIG)
    config["data"]["interactions"]["path"] = "orders.parquet"
    shop.write(config)
    return f"orders.parquet: {name!r} holds {kind}"


LINES = [
    "7", "[]", "null", "{", '{"customer": {"a": 1}}', '{"customer": [1]}', '{"customer": 1e400, "age": 1}', "NaN",
    '{"customer": "\\ud800"}', '{"customer": 12345678901234567890123, "age": "x"}', "{}", '{"user_id": 7.5}',
    '{"user_id": "c1", "user_id": 2}', '{"": 1}', "[" * 5000, '{"age": {"b": []}}',
]  # fmt: skip
"""Lines of JSON Lines, as users or as queries."""


def odd_lines(shop: Shop) -> str:
    """A line of the users with something else in it."""
    with shop.path("users.jsonl").open("a") as opened:
        opened.write((line := shop.rng.choice(LINES)) + "\n")
    return f"users.jsonl: {line[:40]}"


def odd_record(shop: Shop) -> str:
    """A run's record, the working folder or the registry, of something else."""
    runs, rng = shop.folder / "runs", shop.rng
    (record,) = runs.glob("*/run.json")
    content = record.read_text()
    kinds: dict[str, Callable[[], Any]] = {
        "cut": lambda: record.write_text(content[: rng.randrange(len(content))]),
        "a list": lambda: record.write_text("[]"),
        "NUL": lambda: record.write_bytes(b"\0\xff"),
        "another type": lambda: record.write_text(json.dumps(json.loads(content) | {"steps": [{"name": 1}]})),
        "a folder": lambda: (record.unlink(), record.mkdir()),
        "registry is a file": lambda: (runs / "registry").write_text("x"),
        "registry of odd things": lambda: (runs / "registry" / "shop" / "versions" / "x").mkdir(parents=True),
        "a champion of nothing": lambda: (
            (runs / "registry" / "shop").mkdir(parents=True),
            (runs / "registry" / "shop" / "champion.json").write_text(
                rng.choice(["", "{}", "[]", '{"version": 1}', "\0"])
            ),
        ),
    }
    kind = rng.choice(list(kinds))
    kinds[kind]()
    return f"runs: {kind}"


def odd_question(shop: Shop) -> str:
    """Nothing; what is odd is what the champion is asked."""
    shop.add_champion()
    return "a champion"


def odd_queries(shop: Shop) -> str:
    shop.add_champion()
    with (shop.folder / "q.jsonl").open("a") as opened:
        opened.write((line := shop.rng.choice(LINES)) + "\n")
    return f"q.jsonl: {line[:40]}"


def odd_version(shop: Shop) -> str:
    """A file of the champion that is missing or of other bytes."""
    shop.add_champion()
    files = sorted(path for path in (shop.folder / "runs" / "registry").rglob("*") if path.is_file())
    file = shop.rng.choice(files)
    file.unlink()
    if other := shop.rng.random() < 0.5:
        file.write_bytes(shop.rng.randbytes(200))
    return f"{file.relative_to(shop.folder)} {'holds other bytes' if other else 'is gone'}"


def no_fault(shop: Shop) -> str:
    return "none"


FAULTS: dict[Fault, tuple[str, ...]] = {
    wrong_value: ("config check", "config show", "data check", "compile", "recommend", "registry rollback"),
    without_a_key: ("config check", "data check", "compile"),
    unknown_key: ("config check", "config show", "data check"),
    a_wrong_setting: ("config check", "config show", "data check", "compile"),
    broken_yaml: ("config check", "config show", "data check", "registry prune"),
    broken_file: ("data check",),
    odd_cells: ("data check",),
    odd_columns: ("data check",),
    odd_lines: ("data check",),
    odd_record: (
        "runs list",
        "runs show",
        "runs compare",
        "registry list",
        "registry show",
        "recommend",
        "recommend --queries",
    ),
    odd_question: ("ask",),
    odd_queries: ("recommend --queries",),
    odd_version: ("recommend", "recommend --queries", "registry list", "registry show", "registry rollback"),
    no_fault: ("runs show nobody", "registry promote", "override", "compile nowhere", "runs list odd"),
}
COMMANDS = {
    "config check": "config check shop.yaml",
    "config show": "config show shop.yaml",
    "data check": "data check shop.yaml",
    "compile": "compile shop.yaml -o p.yaml",
    "recommend": "recommend shop.yaml --history i1",
    "recommend --queries": "recommend shop.yaml --queries q.jsonl -o out",
    "registry rollback": "registry rollback shop.yaml",
    "registry prune": "registry prune shop.yaml",
    "registry list": "registry list",
    "registry show": "registry show x",
    "registry promote": "registry promote [/x]",
    "runs list": "runs list",
    "runs show": "runs show latest",
    "runs compare": "runs compare latest latest --page page.html",
    "runs show nobody": "runs show [/x]",
    "runs list odd": "runs list --workdir shop.yaml",
    "compile nowhere": "compile shop.yaml -o data.yaml/p.yaml",
}


def call(command: str, rng: random.Random) -> list[str]:
    if command == "override":
        key = rng.choice([*(".".join(map(str, path)) for path in places(CONFIG)), "", ".", "a..b", "data.", "[/x].y"])
        return ["config", "show", "shop.yaml", "--set", f"{key}={rng.choice(['', '[', '{', '*a', '1', '[/x]', 'Жük'])}"]
    if command == "ask":
        option = rng.choice(["--user", "--history", "--context", "--k", "--version", "--queries"])
        return ["recommend", "shop.yaml", "--user", "u1", option, rng.choice(ASKED)]
    return COMMANDS[command].split()


ASKED = [
    "u1", "i1,i2", ",", " ", "", "-5", "$(id)", "[/x]", "Жük 🛒", "\udcff", "x" * 5000, "a=b", "user.age=x", "=", "0",
    "9" * 30,
]  # fmt: skip


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion that answers, and the prepared data of the run that made it."""
    folder, ids = tmp_path_factory.mktemp("champion"), item_ids(12)
    write_prepared(folder / "prepared", random_log(users=7, items=12, events=200), items=12)
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    parts = write_whole_version(folder / "parts", folder / "prepared", vectors, ids, config=CONFIG)
    version = Registry(folder / "registry", "shop").promote(parts)
    (folder / "version").write_text(version)
    return folder


@pytest.mark.slow
def test_one_fault_is_answered_in_words(champion, tmp_path, monkeypatch, capfd):
    rng, wrong = random.Random(SEED), []
    monkeypatch.delenv("TWO_TOWER_DATA", raising=False)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # lest pytest takes what a person would see
    for number in range(CALLS):
        shop = Shop(tmp_path / str(number), random.Random(rng.random()), champion)
        shop.make()
        fault = rng.choice(list(FAULTS))
        arguments = call(rng.choice(FAULTS[fault]), rng)
        what = f"call {number}, {fault.__name__}, {fault(shop)}: two-tower {' '.join(arguments)}"
        monkeypatch.chdir(shop.folder)
        monkeypatch.setattr(sys, "argv", ["two-tower", *arguments])
        if complaint := complaint_of(capfd):
            wrong.append(f"{what}\n    {complaint}")
    assert not wrong, f"{len(wrong)} of {CALLS} calls:\n" + "\n".join(wrong)


def complaint_of(capfd: pytest.CaptureFixture[str]) -> str:
    """What is wrong with how the command of `sys.argv` ends; nothing where all is well."""
    raised: BaseException | None = None
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        code, raised = 1, error
    out, err = capfd.readouterr()
    if raised is not None:
        return f"{type(raised).__name__}: …{str(raised)[-300:]}"
    if "Traceback" in out + err or "panicked" in out + err:
        return f"a traceback: {err[-300:]}"
    if code not in (0, 1, 2):
        return f"exit code {code}: {err}"
    named = re.search(r"^error: |a run would refuse these logs|^Usage: ", out + err, re.MULTILINE) or code == 0
    return "" if named or "shop.yaml" in err else f"exit code {code} without a word"
