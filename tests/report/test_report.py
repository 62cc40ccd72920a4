"""The report, rendered from small artefacts that follow docs/artefacts.md."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from two_tower.artifacts import write_artifact
from two_tower.errors import ArtifactError
from two_tower.metrics_file import Evaluation
from two_tower.report import write_failure_page, write_report
from two_tower.report.plots import events_per_day, index_tuning
from two_tower.report.slices import slices_section
from two_tower.report.verdict import verdict_section

KS = [10, 100, 1000]
EXACT = {10: 0.1093, 100: 0.2958, 1000: 0.5746}
SYSTEMS = {
    "two_tower": ("challenger", {10: 0.1092, 100: 0.2949, 1000: 0.5701}),
    "two_tower_exact": ("exact", EXACT),
    "recent_popularity": ("baseline", {10: 0.0421, 100: 0.1498, 1000: 0.3902}),
    "all_time_popularity": ("baseline", {10: 0.0388, 100: 0.1401, 1000: 0.3711}),
    "personal_frequency": ("baseline", {10: 0.1187, 100: 0.2861, 1000: 0.4513}),
    "champion": ("champion", {10: 0.1051, 100: 0.2871, 1000: 0.5634}),
}
DISPLAY = ("product_type", "product_category", "department", "brand", "package_size")
PRODUCTS = [
    ("FLUID MILK WHITE ONLY", "FLUID MILK PRODUCTS", "GROCERY", "Private", "1 GA"),
    ("BANANAS", "TROPICAL FRUIT", "PRODUCE", "National", "40 LB"),
    ("YOGURT NOT MULTI-PACKS", "YOGURT", "DAIRY", "National", "6 OZ"),
    ("SOFT DRINKS 12/18&15PK CAN CAR", "SOFT DRINKS", "GROCERY", "National", "12 OZ"),
    ("SHREDDED CHEESE", "CHEESE", "GROCERY", "Private", "8 OZ"),
    ("MAINSTREAM WHITE BREAD", "BAKED BREAD/BUNS/ROLLS", "GROCERY", "Private", "20 OZ"),
    ("GASOLINE-REG UNLEADED", "COUPON/MISC ITEMS", "FUEL", "Private", None),
    ("FRZN SS PREMIUM ENTREES/DNRS/N", "FRZN MEAT/MEAT DINNERS", "GROCERY", "National", "9.5 OZ"),
    ("PRIMAL", "BEEF", "MEAT", "National", None),
    ("CANDY BARS (SINGLES)(INCLUDING)", "CANDY - CHECKLANE", "GROCERY", "National", "1.55 OZ"),
]
CONFIG: dict[str, Any] = {
    "name": "complete_journey",
    "description": "Purchases of 2,469 households in 2017.",
    "data": {
        "interactions": {
            "path": "transactions.parquet",
            "columns": {"user": "household_id", "item": "product_id", "time": "transaction_timestamp"},
        },
        "split": {"type": "global_time", "test": "14d", "validation": "14d"},
    },
    "evaluation": {"ks": [10, 100, 1000]},
}


def micros(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1e6)


def product(rank: int, *, display: bool = True) -> dict[str, Any]:
    shown = dict(zip(DISPLAY, PRODUCTS[rank % len(PRODUCTS)], strict=True)) if display else {}
    return {"item_id": str(819_000 + 7919 * rank), **shown}


def check(
    name: str, value: float | None, threshold: float, reason: str, *, status: str = "passed", blocking: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "status": status,
        "value": value,
        "threshold": threshold,
        "reason": reason,
        "blocking": blocking,
    }


class Artefacts:
    """The four artefacts of a run, plausible for Complete Journey; change `metrics` and the like, then `write`."""

    def __init__(self, folder: Path, *, users: bool = True, queries: int = 1728, items: int = 9233) -> None:
        self.folder = folder
        random = np.random.default_rng(7)
        tail = 9000 * np.arange(1, items + 1) ** -0.8 * random.uniform(0.7, 1.3, items)
        self.item_counts = np.sort(np.where(random.uniform(size=items) < 0.25, 0, tail).astype(np.int64))[::-1]
        self.queries = queries
        self.display: tuple[str, ...] = DISPLAY
        self.summary = self._summary(random, users=users, items=items)
        self.history = self._history(random)
        self.space: dict[str, Any] | None = self._space(random)
        self.metrics = self._metrics(random)
        self.profile: dict[str, Any] | None = None
        self.examples = [self._example(rank, users=users, random=random) for rank in range(10)]
        self.set_aside = [
            {
                "file": "/data/complete_journey/transactions-000.parquet", "row": 401 * n, "reason": reason,
                "content": json.dumps({"household_id": user, "product_id": item, "transaction_timestamp": when,
                                       "basket_id": 31198570044 + n, "sales_value": 1.25, "quantity": 1}),
            }
            for n, (reason, user, item, when) in enumerate(
                [("missing user id", None, "1095275", "2017-03-02 10:11:12"),
                 ("unparsable time", "900", "1041453", "yesterday <b>evening</b>"),
                 ("time in the future", "1228", "826249", "2071-12-01 00:00:00")] * 4
            )
        ]  # fmt: skip

    def _summary(self, random: np.random.Generator, *, users: bool, items: int) -> dict[str, Any]:
        days = [date(2017, 1, 1) + timedelta(days=n) for n in range(365)]
        events = [
            int(3600 + 500 * np.sin(n / 58) + (900 if day.weekday() > 4 else 0) + random.normal(0, 180))
            for n, day in enumerate(days)
        ]
        events[358] = 310
        windows = {"train": (0, 336), "validation": (337, 350), "test": (351, 364)}
        return {
            "rows": {
                "read": 1_469_307, "kept": 1_402_144,
                "filtered": {"quantity > 0": 52_113, "duplicate": 12_010},
                "set_aside": {"missing user id": 1_812, "unparsable time": 988, "time in the future": 240},
            },
            "users": 2_469 if users else 0, "items": 92_331, "items_seen": 68_509,
            "events": {"train": 1_288_310, "validation": 57_120, "test": 56_714},
            "windows": {name: [micros(days[first]), micros(days[last])] for name, (first, last) in windows.items()},
            "per_day": {"day": [str(day) for day in days], "events": events},
            "item_counts": [int(count) for count in self.item_counts[:1000]],
            "queries": {"validation": 1_702, "test": self.queries},
            "new_users": {"validation": 11, "test": 9},
            "cold_items": {"validation": 640, "test": 812},
        }  # fmt: skip

    def _history(self, random: np.random.Generator) -> dict[str, Any]:
        steps = list(range(20, 3020, 20))
        losses = [float(6.4 + 3 * np.exp(-step / 500) + random.normal(0, 0.05)) for step in steps]
        return {
            "epoch": [1, 2, 3, 4, 5, 6], "loss": [7.91, 7.12, 6.85, 6.71, 6.62, 6.55],
            "validation_recall": [0.2103, 0.2614, 0.2801, 0.2877, 0.2869, 0.2858],
            "seconds": [41.2, 39.8, 39.9, 40.4, 39.7, 40.1],
            "monitor": "recall@100", "best_epoch": 4,
            "steps": {"step": steps, "loss": losses},
        }  # fmt: skip

    def _metrics(self, random: np.random.Generator) -> dict[str, Any]:
        curve_ks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

        def system(kind: str, recall: dict[int, float]) -> dict[str, Any]:
            factors = {"recall": 1.0, "hit_rate": 2.1, "precision": 0.8, "mrr": 0.9, "ndcg": 1.2, "map": 0.4}
            metrics = {}
            for name, factor in factors.items():
                for k, value in recall.items():
                    value = min(0.99, value * factor)
                    metrics[f"{name}@{k}"] = {"value": value, "low": value - 0.006, "high": value + 0.0062}
            logs = np.log([1, *recall])
            curve = np.interp(np.log(curve_ks), logs, [recall[10] / 5, *recall.values()])
            return {
                "kind": kind,
                "queries": self.queries,
                "metrics": metrics,
                "curve": {"k": curve_ks, "recall": curve.tolist()},
            }

        ours = SYSTEMS["two_tower"][1]

        def part(queries: int, factor: float) -> dict[str, Any]:
            """A slice's or discovery's figures: everything `factor` times what it is on all."""
            figures = {
                name: {f"recall@{k}": {"value": value * factor, "low": value * factor - 0.01,
                                       "high": value * factor + 0.01} for k, value in recall.items()}
                for name, (_, recall) in SYSTEMS.items()
            }  # fmt: skip
            differences = {
                name: {k: (ours[k] - value) * factor for k, value in recall.items()}
                for name, (kind, recall) in SYSTEMS.items() if kind in ("baseline", "champion")
            }  # fmt: skip
            return {
                "queries": queries,
                "systems": {name: {"metrics": metrics} for name, metrics in figures.items()},
                "comparisons": {
                    name: {f"recall@{k}": {"difference": value, "low": value - 0.002, "high": value + 0.002,
                                           "probability_better": 0.9} for k, value in row.items()}
                    for name, row in differences.items()
                },
            }  # fmt: skip

        def slice_of(group: str, label: str, queries: int, factor: float) -> dict[str, Any]:
            found = {**part(queries, factor), "group": group, "label": label, "too_small": queries < 50}
            return {**found, "comparisons": {}} if queries < 50 else found

        slices = {
            "returning_users": slice_of("users", "returning users", self.queries - 9, 1.0),
            "new_users": slice_of("users", "new users", 9, 0.5),
            "history 1-5": slice_of("history", "1 to 5 events", 60, 0.6),
            "history 21+": slice_of("history", "21 events or more", 900, 1.1),
            "history 6-20": slice_of("history", "6 to 20 events", 400, 0.9),
            "cold_items": slice_of("items", "cold items", 402, 0.0),
            "repeated": {"queries": 0, "systems": {}, "comparisons": {}, "group": "items", "label": "repeated",
                         "too_small": True},
            **{f"item.department={name}": slice_of("item.department", name, 30 * rank, 1 + rank / 20)
               for rank, name in enumerate(("FUEL", "MEAT", "DAIRY", "PRODUCE", "GROCERY"))},
        }  # fmt: skip
        return {
            "queries": self.queries, "ks": KS, "candidates": 92_331, "exclude_seen": False, "confidence": 0.95,
            "version": "3f9ac01be27d4410", "champion": "a1772f09c3e85b6d", "champion_error": None,
            "champion_candidates": 91_800, "smallest_slice": 50,
            "window": {"start": 1_513_555_200, "seen_until": 1_513_555_199, "overlaps": False},
            "loss": [
                {"k": k, "queries": self.queries, "ceiling": min(1.0, k / 110), "exact": EXACT[k],
                 "end_to_end": ours[k]} for k in KS
            ],
            "ranker": {"depth": 1000, "recall": 0.5701, "candidates": {"0.9": 512, "0.95": 1_702, "0.99": None}},
            "users": {"count": 1_690, "without_good_candidate": {
                name: {str(k): 1 - value for k, value in recall.items()} for name, (_, recall) in SYSTEMS.items()}},
            "days": {"missing": ["2017-12-25"], "low": []},
            "systems": {name: system(kind, recall) for name, (kind, recall) in SYSTEMS.items()},
            "comparisons": {
                name: {
                    f"recall@{k}": {
                        "difference": ours[k] - recall[k], "low": ours[k] - recall[k] - 0.008,
                        "high": ours[k] - recall[k] + 0.008, "probability_better": 0.985,
                    }
                    for k in KS
                }
                for name, (kind, recall) in SYSTEMS.items() if kind in ("baseline", "champion")
            },
            "index": {"kind": "scann", "recall@10": 0.9987, "recall@100": 0.9951, "recall@1000": 0.9874,
                      "latency_ms": {"p50": 0.214, "p95": 0.388, "p99": 0.517}},
            "discovery": part(1500, 0.3),
            "slices": slices,
            "popularity": {
                "items": {"head": 210, "middle": 1_890, "tail": 90_231},
                "consumed": {"head": 0.31, "middle": 0.34, "tail": 0.35, "log_count": 4.81, "novelty": 13.2,
                             "gini": 0.81, "coverage": 0.1812},
                "recommended": {
                    name: {f"{key}@{k}": value for k in KS for key, value in shares.items()}
                    for rank, name in enumerate(SYSTEMS)
                    for shares in [{"head": 1 - 0.1 * rank, "middle": 0.06 * rank, "tail": 0.04 * rank,
                                    "log_count": 8.5 - rank, "novelty": 9.0 + rank, "gini": 0.9 + rank / 100,
                                    "coverage": 0.01 * rank, "diversity": None if rank else 0.612}]
                },
            },
            "gate": {
                "decision": "promote",
                "reason": "The gate lets it through: 4 of 6 checks passed; 1 had nothing to check; advisory only: "
                "recall@10 above personal_frequency failed.",
                "checks": [
                    check("recall@100 >= 0.2", 0.2949, 0.2, "recall@100 is 0.2949, at least 0.2."),
                    check("recall@100 above recent_popularity", 0.1451, 0, "It is 0.1451."),
                    check("recall@10 above personal_frequency", -0.0095, 0, "It is -0.0095.", status="failed",
                          blocking=False),
                    check("index recall@100 >= 0.98", 0.9951, 0.98, "It returns 0.9951 of exact search."),
                    check("p99 latency <= 10 ms", 0.517, 10.0, "0.517 ms on one thread.", blocking=False),
                    check("recall@100 not worse than champion", None, 0.9, "There is no champion.", status="skipped"),
                ],
            },
        }  # fmt: skip

    def _space(self, random: np.random.Generator) -> dict[str, Any]:
        edges = np.linspace(-0.5, 1, 41)
        scores = {"positives": random.normal(0.6, 0.2, 2_000), "negatives": random.normal(0, 0.2, 20_000)}
        points = np.column_stack([random.normal(size=(300, 2)).round(4), random.integers(3, size=300)])
        return {
            "scores": {"edges": edges.tolist()}
            | {name: np.histogram(drawn, edges)[0].tolist() for name, drawn in scores.items()},
            "map": {"column": "department", "categories": ["GROCERY", "DAIRY", "other"], "explained": [0.31, 0.22],
                    "points": [[x, y, int(number)] for x, y, number in points.tolist()]},
            "neighbours": [
                {"item": product(rank), "train_count": 4_000 - rank,
                 "neighbours": [{**product(rank + n), "cosine": 0.95 - 0.02 * n} for n in range(1, 6)]}
                for rank in range(10)
            ],
        }  # fmt: skip

    def _example(self, rank: int, *, users: bool, random: np.random.Generator) -> dict[str, Any]:
        taken = random.choice(60, size=9, replace=False)
        recommended = random.choice(60, size=10, replace=False)
        query = (
            {"user_id": str(900 + 17 * rank), "cutoff": micros(date(2017, 12, 18))}
            if users
            else {"search_text": "red retrospot bag"}
        )
        return {
            "query": query,
            "history": [product(int(n)) for n in random.choice(60, size=31)] if users else [],
            "relevant": [product(int(n)) for n in taken],
            "recommended": [
                {**product(int(n)), "score": 0.93 - 0.021 * place, "hit": bool(n in taken)}
                for place, n in enumerate(recommended)
            ],
        }  # fmt: skip

    def write(self) -> dict[str, Path]:
        paths = {name: self.folder / name for name in ("prepared", "trained", "evaluation", "index")}
        until = micros(date(2017, 12, 31))
        with write_artifact(paths["prepared"], "prepared_data", data_seen_until=until) as writer:
            counts = pa.array(self.item_counts, pa.int64())
            ids = [str(n) for n in range(len(counts))]
            display = {f"display.{name}": ids for name in self.display}
            writer.write_table("items.parquet", pa.table({"item_id": ids, "train_count": counts, **display}))
            schema = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string(), "content": pa.string()})
            writer.write_table("set_aside.parquet", pa.Table.from_pylist(self.set_aside, schema=schema))
            writer.write_json("summary.json", self.summary)
        with write_artifact(paths["trained"], "trained_towers", data_seen_until=until) as writer:
            writer.write_json("history.json", self.history)
        with write_artifact(paths["evaluation"], "evaluation", data_seen_until=until) as writer:
            writer.write_json("metrics.json", self.metrics)
            writer.write_json("examples.json", self.examples)
            if self.space is not None:
                writer.write_json("space.json", self.space)
            if self.profile is not None:
                writer.write_json("profile.json", self.profile)
        with write_artifact(paths["index"], "index", data_seen_until=until) as writer:
            settings = {
                "kind": "scann",
                "dimension": 64,
                "shards": [{"rows": 10, "parameters": {"reorder": 1000, "storage": "int8"}}],
            }
            writer.write_json("settings.json", settings)
        return paths

    def render(self, **changes: Any) -> str:
        out = self.folder / "report.html"
        write_report(out, **{**self.write(), "config": CONFIG, "run": RUN, **changes})
        return out.read_text(encoding="utf-8")


STEPS = {
    "resolve_inputs": ("ran", 0.4),
    "prepare_data": ("cached", 0.1),
    "train_towers": ("ran", 251.3),
    "export_candidate_tower": ("ran", 9.8),
    "embed_candidates": ("ran", 17.2),
    "build_index": ("ran", 6.3),
    "export_query_tower": ("ran", 8.8),
    "evaluate_recall": ("ran", 41.0),
    "promote": ("waiting", 0.0),
    "write_report": ("running", None),
}
RUN: dict[str, Any] = {
    "run_id": "complete-journey-20250102-030405-7f3c",
    "started": "2025-01-02 03:04:05 UTC",
    "code": "df16967",
    "steps": [{"name": name, "state": state, "seconds": seconds} for name, (state, seconds) in STEPS.items()],
    "versions": {"python": "3.11.2", "tensorflow": "2.20.0", "tensorflow-recommenders": "0.7.7", "scann": "1.4.2"},
}


class Page(HTMLParser):
    """What a browser would load and show; a wrong nesting of tags is an error."""

    VOID = frozenset({"meta", "br", "wbr", "input", "img", "link", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.words.append("" if tag == "wbr" else " ")
        self.tags.add(tag)
        self.references += [
            value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "action")
        ]
        self.ids += [value or "" for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()
        self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Artefacts(tmp_path_factory.mktemp("report")).render()


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(tmp_path, queries=60, items=300)


def test_page_is_well_formed_and_refers_to_nothing_outside(html: str) -> None:
    page = Page(html)
    images = [reference for reference in page.references if reference.startswith("data:image/png;base64,")]
    inside = [reference for reference in page.references if reference.startswith("#")]
    assert len(images) == 1 and inside and len(page.references) == len(images) + len(inside)
    assert not page.tags & {"script", "link", "iframe", "img", "object"}
    assert "http" not in html and "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in inside} <= set(page.ids)


def test_colours_of_pictures_are_variables_of_both_colour_schemes(html: str) -> None:
    light, dark = (block.split("}")[0] for block in html.split(":root {")[1:3])
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", html)) - {"c", "tone"}
    assert "accent" in used and "validation" in used
    for block in (light, dark):
        assert used <= set(re.findall(r"--([a-z0-9-]+):", block))
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(svgs) == 9 + 2 + 2 * 13  # the pictures; the two scales and the rows of the dot plot
    assert not any(re.search(r"#[0-9a-f]{6}\b|DejaVu", svg) for svg in svgs)


def test_sections_stand_in_order(html: str) -> None:
    text = Page(html).text
    headings = [
        "Gate checks",
        "Challenger against champion",
        "Every system on every slice",
        "Ties count against the system",
        "Recall over K",
        "Where recall is lost",
        "Hit rate",
        "Precision",
        "MAP",
        "Paired comparison",
        "New to the user",
        "Candidates for the ranker",
        "Users without a good candidate",
        "The long tail",
        "The candidate space",
        "Nearest neighbours",
        "Example queries",
        "Rows not used",
        "Training loss",
        "Configuration",
        "Package versions",
    ]
    start = text.index("Gate checks")
    places = [text.index(heading, start) for heading in headings]
    assert places == sorted(places)


def test_verdict_names_every_check_with_its_status_and_weight(html: str) -> None:
    text = Page(html).text
    assert text.index("The gate lets it through: 4 of 6 checks passed") < text.index("Gate checks")
    assert "Challenger minus champion +0.0078 −0.0002 to +0.0158 unclear, P(better) 0.985" in text
    assert "seen events up to 2017-12-17 23:59 UTC; the first query is of 2017-12-18 00:00 UTC" in text
    assert "Gate checks 4 pass 1 fail 1 skipped" in text
    assert "fail advisory recall@10 above personal_frequency" in text
    assert "measured −0.0095 threshold 0" in text
    assert "measured 0.517 ms threshold 10 ms" in text
    assert "skipped blocking recall@100 not worse than champion" in text


@pytest.mark.parametrize(
    ("name", "status", "value", "threshold", "bar"),
    [
        ("recall@100 >= 0.2", "passed", 0.5, 0.2, (0, 50, 20, (20, 80), False)),
        ("recall@100 <= 0.9", "failed", 0.95, 0.9, (0, 95, 90, (0, 90), False)),
        ("gini@10 <= 0.5", "passed", 0.5, 0.5, (0, 50, 50, (0, 50), False)),
        ("p99 latency <= 2 ms", "passed", 1.0, 2.0, (0, 43.48, 86.96, (0, 86.96), False)),
        ("queries >= 200", "passed", 17_280, 200, (0, 100, 28.99, (28.99, 71.01), True)),
        ("candidates >= 200", "failed", 0, 200, (0, 0, 86.96, (86.96, 13.04), False)),
        ("above popularity", "failed", -0.1, 0.0, (11.54, 76.92, 88.46, (88.46, 11.54), False)),
        ("missing days <= 0", "passed", 0, 0, (0, 0, 0, (0, 0), False)),
    ],
)
def test_bar_shows_the_value_against_the_threshold_and_the_side_that_passes(
    name: str, status: str, value: float, threshold: float, bar: tuple[Any, ...]
) -> None:
    shown = verdict_section(
        Evaluation.model_validate({"ks": KS, "systems": {}, "comparisons": {}, "gate": {
            "decision": "refuse", "checks": [check(name, value, threshold, "Why.", status=status)]}})
    ).checks[0].bar  # fmt: skip
    assert shown and shown.zone
    zone = (shown.zone.start, shown.zone.width)
    found = (shown.start, shown.width, shown.threshold, zone, shown.beyond)
    assert found[:3] == pytest.approx(bar[:3]) and found[3] == pytest.approx(bar[3]) and found[4] == bar[4]


def test_overlap_of_training_and_test_is_told_at_the_top(artefacts: Artefacts) -> None:
    artefacts.metrics["window"].update(seen_until=1_513_600_000, overlaps=True)
    text = Page(artefacts.render()).text
    assert text.index("The version has seen events of the test window: its newest event is of 2017-12-18 12:26 UTC") < (
        text.index("Gate checks")
    )


def test_recall_table_has_every_system_with_interval_and_the_best_possible(html: str) -> None:
    text = Page(html).text
    assert "all 92,331 candidates (the champion's index holds 91,800)" in text
    table = text[text.index("Recall found relevant items") : text.index("Recall over K")]
    assert "two_tower this run, query tower and index 0.1092 0.1032–0.1154" in table
    assert "two_tower_exact this run, exact search 0.1093" in table
    assert "best possible by a perfect ranking 0.0909 0.9091 1.0000" in table
    assert table.index("personal_frequency baseline") < table.index("recent_popularity baseline")  # by Recall@100
    assert "was measured on" not in text


def test_exact_search_on_a_sample_is_told(artefacts: Artefacts) -> None:
    systems = artefacts.metrics["systems"]
    systems["two_tower_exact"] |= {"queries": 50, "end_to_end": {"metrics": systems["champion"]["metrics"]}}
    del artefacts.metrics["discovery"]["systems"]["two_tower_exact"]
    del artefacts.metrics["users"]["without_good_candidate"]["two_tower_exact"]
    for stage in artefacts.metrics["loss"]:
        stage["queries"] = 50
    text = Page(artefacts.render()).text
    assert "two_tower_exact (50 of 60 queries) this run, exact search 0.1093" in text
    assert "two_tower (the same 50 queries) this run, query tower and index 0.1" in text
    assert "model, exact search 0.2958 0.2898–0.3020 50 of 60 queries" in text[: text.index("Gate checks")]
    unmarked = re.findall(r"two_tower_exact(?! \(50 of| was measured on 50)", text)
    assert not unmarked, "in no table and in no picture's legend does it stand as if it were of all queries"
    assert "two_tower_exact was measured on 50 of the queries, evenly spread." in text
    assert "Where recall is lost on 50 of the queries" in text
    assert "by a perfect ranking" not in text  # the ceilings are those of the sample


def test_a_baseline_that_is_left_out_is_told(artefacts: Artefacts) -> None:
    artefacts.metrics["left_out"] = {"ease": "20,033 items were taken, more than max_items: 20,000"}
    text = Page(artefacts.render()).text
    assert "The baseline ease is left out: 20,033 items were taken, more than max_items: 20,000." in text


def test_the_towers_before_their_refit_stand_below_and_are_no_rival(artefacts: Artefacts) -> None:
    before = {"value": 0.9999, "low": 0.99, "high": 1.0}
    artefacts.metrics["before_refit"] = {"queries": 1728, "metrics": {"recall@10": before, "recall@100": before}}
    page = artefacts.render()
    text = Page(page).text
    assert "two_tower (before the refit) trained without the validation events, exact search 0.9999" in text
    assert "compare published figures with that row" in text
    assert "<b>0.9999</b>" not in page


def test_the_first_sentence_says_which_system_is_best_and_what_to_do(artefacts: Artefacts) -> None:
    metrics = artefacts.metrics
    best = max(
        (name for name, system in metrics["systems"].items() if system["kind"] == "baseline"),
        key=lambda name: metrics["systems"][name]["metrics"]["recall@100"]["value"],
    )
    compared = metrics["comparisons"][best]["recall@100"]

    def said(low: float, high: float) -> str:
        compared.update(low=low, high=high)
        return str(verdict_section(Evaluation.model_validate(metrics)).best)

    assert said(0.01, 0.02).startswith("The two towers are the best system that was measured: Recall@100 0.")
    assert said(-0.01, 0.02).startswith(f"The two towers and {best} cannot be told apart: Recall@100 0.")
    worse = said(-0.02, -0.01)
    assert worse.startswith(f"{best} is the best system that was measured: Recall@100 0.")
    assert "Serve it for now" in worse and "two-tower try measures" in worse
    assert worse in Page(artefacts.render()).text


def test_a_trial_on_validation_queries_decides_nothing(artefacts: Artefacts) -> None:
    artefacts.metrics["split"] = "validation"
    artefacts.metrics["gate"] = {"decision": "try", "reason": "Measured on validation queries.", "checks": []}
    text = Page(artefacts.render()).text
    assert "Tried" in text and "validation queries ranked against all" in text


def test_what_auto_stood_for_is_told_with_the_training(artefacts: Artefacts) -> None:
    settings = {"model.dim": 128, "model.history": None}
    artefacts.history["chosen"] = {"recipe": "repeats", "why": "30% repeat an item", "settings": settings}
    artefacts.history["stopped_early"] = "stopped after epoch 7 of 20"
    text = Page(artefacts.render()).text
    assert "since 30% repeat an item." in text and "auto followed the recipe repeats" in text
    assert "The 2 settings that it stood for" in text and "model.history null" in text
    assert "Training stopped after epoch 7 of 20." in text


def test_repeats_that_count_as_misses_are_told(artefacts: Artefacts) -> None:
    counts = {"queries": 2_027, "of_queries": 30_431, "relevant": 2_027, "of_relevant": 30_431}
    artefacts.metrics |= {"exclude_seen": True, "repeats": {"counted": "miss", **counts}}
    artefacts.metrics["loss"][1].update(ceiling=0.6875)
    text = Page(artefacts.render()).text
    assert (
        "2,027 of 30,431 queries ask only for items that the user has had; they count as misses (evaluation.repeats: "
        "leave_out leaves them out)."
    ) in text[text.index("test queries ranked") :]
    assert "since some queries have more than 100 relevant items or ask for items that the user has had" in text


def test_loss_is_split_between_model_index_and_reach(artefacts: Artefacts) -> None:
    artefacts.metrics["loss"][1].update(ceiling=0.6875)
    text = Page(artefacts.render()).text
    assert "Of 100 relevant items, 30 are in the exact first 100, 29 in the index's." in text
    assert (
        "Of the 0.7051 that is missing, 0.3917 is missed by the model (exact search does not find it either), 0.0009 "
        "by the index (exact search finds it) and 0.3125 is out of reach, since some queries have more than 100 "
        "relevant items: better towers, not a wider search, would raise recall."
    ) in text


def test_loss_by_the_index_is_named(artefacts: Artefacts) -> None:
    artefacts.metrics["loss"][1].update(ceiling=0.95, exact=0.9, end_to_end=0.012)
    text = Page(artefacts.render()).text
    assert "Of 100 relevant items, 90 are in the exact first 100, 1 in the index's." in text
    assert "a wider search in the index would raise recall first" in text


def test_loss_without_exact_search_tells_what_the_index_finds(artefacts: Artefacts) -> None:
    for stage in artefacts.metrics["loss"]:
        stage["exact"] = None
    text = Page(artefacts.render()).text
    assert "Of 100 relevant items, 29.5 are in the index's first 100; exact search was not measured." in text
    assert "missed by the model" not in text


def test_ranker_and_users_are_told_in_a_sentence_and_a_table(html: str) -> None:
    text = Page(html).text
    assert "Of the recall that the first 1,000 candidates reach, 512 give 90 % and 1,702 give 95 %." in text
    assert "90.0 % 0.5131 512" in text and "99.0 % 0.5644 –" in text
    assert "70.5 % of the 1,690 users have no relevant item among the first 100 candidates." in text
    assert "champion serving now 89.5 % 71.3 % 43.7 %" in text


def test_data_counts_reasons_and_samples(html: str) -> None:
    text = Page(html).text
    assert "rows read 1,469,307 kept 1,402,144 95.4 % filtered 64,123 4.4 % set aside 3,040 0.2 %" in text
    assert "did not meet quantity > 0 filtered 52,113" in text and "duplicate filtered 12,010" in text
    assert "span 365 days 2017-01-01 to 2017-12-31" in text
    assert text.count("transactions-000.parquet, row") == 6  # two for each of three reasons
    assert '"yesterday <b>evening</b>"' in text


def test_examples_show_display_columns_in_the_order_of_the_configuration(html: str) -> None:
    text = Page(html).text
    assert "FLUID MILK WHITE ONLY FLUID MILK PRODUCTS · GROCERY · Private · 1 GA · 819000" in text
    assert "user id 900 cutoff 2017-12-18 00:00 UTC" in text
    assert "and 21 more" in text


def test_slices_are_compared_with_the_champion_in_groups(html: str) -> None:
    text = Page(html).text
    section = text[text.index("Challenger against champion") : text.index("Every system on every slice")]
    assert "Those of fewer than 50 queries, in grey, are too small for one." in section
    assert "all queries (1,728) 1,728 +0.0078 unclear" in section
    assert "returning users with an event before the cut-off (1,719) 1,719 +0.0078 better" in section
    labels = ["Users", "new users", "Length of the history", "1 to 5", "6 to 20", "21 events", "Relevant items",
              "item.department", "GROCERY", "PRODUCE", "DAIRY", "MEAT", "FUEL"]  # fmt: skip
    places = [section.index(label, section.index("all queries")) for label in labels]
    assert places == sorted(places)


def test_slices_that_are_too_small_get_no_verdict(html: str) -> None:
    text = Page(html).text
    section = text[text.index("Challenger against champion") : text.index("Every system on every slice")]
    assert "new users without an event before the cut-off (9) 9 too few queries" in section
    assert "repeated of the user's past (0) 0 too few queries" in section
    assert html.count('class="slice small"') == 4 and section.count("too few queries") == 4


def test_table_of_the_slices_has_every_system_and_what_is_beyond_chance(html: str) -> None:
    text = Page(html).text
    section = text[text.index("Every system on every slice") : text.index("Ties count against")]
    assert "two_tower champion personal_frequency recent_popularity all_time_popularity" in section
    row = section[section.index("returning_users") : section.index("new_users")]
    assert "0.2949 0.2849–0.3049" in row and "0.1498 0.1398–0.1598 better" in row
    assert "repeated 0 – – – – –" in section


def test_without_a_champion_the_rival_is_the_best_baseline(artefacts: Artefacts) -> None:
    del artefacts.metrics["systems"]["champion"], artefacts.metrics["comparisons"]["champion"]
    artefacts.metrics["champion"] = None
    text = Page(artefacts.render()).text
    section = text[text.index("Challenger against the best baseline") : text.index("Every system on every slice")]
    assert "There is no champion to compare with. The rival is personal_frequency, the best baseline." in section
    assert "all queries (60) 60 +0.0088 better" in section


@pytest.mark.parametrize(
    ("champion", "why"),
    [("3f9ac01be27d4410", "The version is the champion itself."), ("other", "The champion could not be evaluated.")],
)
def test_why_there_is_no_champion_among_the_systems(artefacts: Artefacts, champion: str, why: str) -> None:
    del artefacts.metrics["systems"]["champion"], artefacts.metrics["comparisons"]["champion"]
    artefacts.metrics["champion"] = champion
    assert Page(artefacts.render()).text.count(why) == 2


def test_dots_and_intervals_stand_where_their_figures_are(artefacts: Artefacts) -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    systems = {"ours": {"kind": "challenger", "metrics": {"recall@100": figure}},
               "champion": {"kind": "champion", "metrics": {"recall@100": {"value": 0.25}}}}  # fmt: skip
    whole = {"ks": [100], "queries": 90, "confidence": 0.95, "systems": systems}
    difference = {"difference": 0.25, "low": 0.2, "high": 0.3, "probability_better": 1.0}
    wide = {**difference, "low": -9.0}
    part = {**whole, "group": "context.device", "label": "phone", "too_small": False}
    metrics = {
        **whole,
        "comparisons": {"champion": {"recall@100": difference}},
        "slices": {
            **{f"n{n}": {**part, "comparisons": {"champion": {"recall@100": difference}}} for n in range(5)},
            "wide": {**part, "comparisons": {"champion": {"recall@100": wide}}},
        },
    }
    section = slices_section(Evaluation.model_validate(metrics))
    assert section is not None
    first = section.groups[0].dots[0].at
    assert first.rival * 2 == pytest.approx(first.own, abs=0.02)
    assert first.low < first.own < first.high < 100
    assert 50 < first.start < first.difference < first.end < 100
    assert [dots.at.start for dots in section.groups[1].dots if dots.row.name == "wide"] == [0]  # cut at the edge
    assert [tick.at for tick in section.difference_ticks if tick.label == "0"] == [50]


def test_what_is_new_to_the_user_is_compared(html: str) -> None:
    text = Page(html).text
    section = text[text.index("New to the user items of the query's past excluded, 1,500 queries") :]
    assert "recent_popularity baseline 0.0126" in section and "+0.0435 +0.0415 to +0.0455 better" in section


def test_popularity_of_what_is_recommended_stands_beside_what_is_consumed(html: str) -> None:
    text = Page(html).text
    assert "hold a third of the training events each: 210, 1,890 and 90,231 items" in text
    assert "consumed the relevant items 31.0 % 34.0 % 35.0 % 4.81 13.20 18.1 % 0.810 –" in text
    assert "recent_popularity baseline 80.0 % 12.0 % 8.0 % 6.50 11.00 2.0 % 0.920 –" in text
    assert "two_tower this run, query tower and index 100 % 0 % 0 % 8.50 9.00 0 % 0.900 0.612" in text


def test_candidate_space_has_scores_a_map_and_neighbours(html: str) -> None:
    text = Page(html).text
    section = text[text.index("The candidate space") : text.index("Example queries")]
    share = float(re.search(r"scores above a random candidate in ([0-9.]+) % of the pairs", section)[1])  # type: ignore[index]
    assert share == pytest.approx(98.3, abs=0.7)  # two normal distributions, 3 deviations / √2 apart
    assert "Map of 300 candidates, coloured by department" in section and "GROCERY DAIRY other" in section
    assert "component 1, 31 % of the variance" in section
    heading = "FLUID MILK WHITE ONLY FLUID MILK PRODUCTS · GROCERY · Private · 1 GA · 819000 · 4,000 events"
    assert f"{heading} 1 BANANAS TROPICAL FRUIT · PRODUCE · National · 40 LB · 826919 0.930" in section


def test_without_a_candidate_space_there_is_no_section(artefacts: Artefacts) -> None:
    for space in (None, {"scores": None, "map": None, "neighbours": []}):
        artefacts.space = space
        artefacts.folder = artefacts.folder / "again"
        page = Page(artefacts.render())
        assert "space" not in page.ids and "Nearest neighbours" not in page.text


def test_map_without_categories_and_items_without_display_columns(artefacts: Artefacts) -> None:
    assert artefacts.space is not None
    artefacts.space["map"].update(column=None, categories=[], points=[[0.1, 0.2, 0], [0.3, 0.1, 0]])
    artefacts.space["scores"] = None
    artefacts.space["neighbours"] = [
        {"item": {"item_id": "a"}, "train_count": 3, "neighbours": [{"item_id": "b", "cosine": 0.5}]}
    ]
    section = Page(artefacts.render()).text.partition("The candidate space")[2]
    assert "Map of 2 candidates" in section and "coloured" not in section
    assert "a 3 events 1 b 0.500" in section and "random candidate" not in section


def test_steps_that_did_not_run_have_no_time(html: str) -> None:
    text = Page(html).text
    assert "prepare_data cached 0.1s" in text and "train_towers ran 4m11s" in text and "promote waiting –" in text


NASTY = "<script>alert(1)</script> & \"quoted\" '$x_1$' {{ 7 * 7 }} ]]> --> \u202e \ud83d\ude00 "


def test_everything_from_the_data_is_escaped(artefacts: Artefacts) -> None:
    nasty = NASTY.encode("utf-16", "surrogatepass").decode("utf-16")
    item = {"item_id": nasty, "product_type": nasty, "score": 0.5, "hit": True}
    artefacts.examples = [{"query": {nasty: nasty}, "history": [item], "relevant": [item], "recommended": [item]}]
    artefacts.set_aside = [{"file": nasty, "row": 1, "reason": nasty, "content": nasty}]
    artefacts.summary["rows"]["set_aside"] = {nasty: 1}
    artefacts.metrics["systems"][nasty] = artefacts.metrics["systems"].pop("recent_popularity")
    artefacts.metrics["comparisons"][nasty] = artefacts.metrics["comparisons"].pop("recent_popularity")
    artefacts.metrics["slices"] = {nasty: {**artefacts.metrics["slices"]["cold_items"], "group": nasty, "label": nasty}}
    assert artefacts.space is not None
    artefacts.space["map"].update(column=nasty, categories=[nasty, nasty, "other"])
    artefacts.space["neighbours"] = [{"item": item, "train_count": 1, "neighbours": [{**item, "cosine": 0.5}]}]
    artefacts.metrics["gate"]["reason"] = nasty
    artefacts.metrics["gate"]["checks"][0].update(name=nasty, reason=nasty)
    artefacts.history["monitor"] = nasty
    run = {
        **RUN,
        "run_id": nasty,
        "code": nasty,
        "steps": [{"name": nasty, "state": nasty}],
        "versions": {nasty: nasty},
    }
    page = Page(artefacts.render(config={"name": nasty, "description": nasty}, run=run))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}" in page.text and "'$x_1$'" in page.text


def test_file_stays_small_whatever_the_data_hold(artefacts: Artefacts) -> None:
    long = "x" * 2_000
    item = {"item_id": long, "product_type": long, "score": 1.0, "hit": False}
    examples = {"query": {"text": long}, "history": [item] * 60, "relevant": [item], "recommended": [item] * 60}
    artefacts.examples = [examples] * 40
    artefacts.set_aside = [{"file": long, "row": n, "reason": f"reason {n}", "content": long} for n in range(100)]
    artefacts.summary["rows"]["set_aside"] = {f"reason {n} {long}": 1 for n in range(100)}
    days = [str(date(1990, 1, 1) + timedelta(days=n)) for n in range(12_000)]
    artefacts.summary["per_day"] = {"day": days, "events": [n % 7 for n in range(12_000)]}
    artefacts.history["steps"] = {"step": list(range(200_000)), "loss": [1.0] * 200_000}
    slices = artefacts.metrics["slices"]
    slices |= {f"c{n}={long}": {**slices["cold_items"], "group": f"c{n % 20}", "label": long} for n in range(200)}
    assert artefacts.space is not None
    artefacts.space["map"]["points"] = [[n % 997, n % 1_009, n % 9] for n in range(100_000)]
    artefacts.space["map"]["categories"] = [long] * 8 + ["other"]
    artefacts.space["neighbours"] = [
        {"item": item, "train_count": 1, "neighbours": [{**item, "cosine": 0.5}] * 50}
    ] * 50
    html = artefacts.render()
    assert len(html.encode()) < 5_000_000
    Page(html)


def test_without_champion_baselines_users_history_and_display_columns(artefacts: Artefacts) -> None:
    """A text search: queries without users."""
    for name in ("champion", "recent_popularity", "all_time_popularity", "personal_frequency"):
        del artefacts.metrics["systems"][name]
    artefacts.metrics.update(
        comparisons={}, champion=None, champion_candidates=None, slices={}, discovery=None, popularity=None,
        users=None, window=None,
    )  # fmt: skip
    artefacts.metrics["gate"] = {
        "decision": "promote",
        "reason": "The gate lets it through: no check is configured (gate: []).",
        "configured": "none",
        "checks": [],
    }
    artefacts.summary.update(users=0, new_users={"validation": 0, "test": 0})
    artefacts.display = ()
    item = {"item_id": "85099B", "score": 0.7, "hit": True}
    artefacts.examples = [
        {"query": {"search_text": "red bag"}, "history": [], "relevant": [{"item_id": "85099B"}], "recommended": [item]}
    ]
    page = Page(artefacts.render())
    assert "champion none yet" in page.text
    assert "The configuration names no baselines. There is no champion to compare with." in page.text
    assert "Promote The gate lets it through: no check is configured (gate: [])." in page.text
    assert "No check is configured (gate: []), so a worse version replaces the champion, too." in page.text
    assert "users none each row is a query" in page.text
    assert "search text red bag 1 of 1 recommended are hits, 1 taken" in page.text
    assert "History" not in page.text and "Paired" not in page.text and "slices" not in page.ids


def test_without_bad_rows_examples_index_and_run(artefacts: Artefacts) -> None:
    artefacts.set_aside, artefacts.examples = [], []
    artefacts.summary["rows"].update(filtered={}, set_aside={})
    artefacts.metrics.update(index=None, loss=[])
    del artefacts.metrics["systems"]["two_tower_exact"]
    page = Page(artefacts.render(index=None, run=None))
    assert "None: every row that was read is kept." in page.text
    assert (
        "Samples of rows" not in page.text and "Where recall is lost" not in page.text and "Index kind" not in page.text
    )
    assert not {"examples", "index"} & set(page.ids) and "Package versions" not in page.text


def test_without_a_query_there_is_the_verdict_the_data_and_the_training(artefacts: Artefacts) -> None:
    reason = "Refused: The test window holds no query; make data.split.test longer."
    artefacts.metrics.update(
        queries=0, systems={}, comparisons={}, slices={}, loss=[], index=None, popularity=None, ranker=None, users=None,
        window=None, discovery=None,
        gate={"decision": "refuse", "reason": reason,
              "checks": [check("queries >= 1", 0, 1, "The test window holds no query.", status="failed")]},
    )  # fmt: skip
    artefacts.examples, artefacts.space = [], None
    html = artefacts.render()
    page = Page(html)
    assert f"Refuse {reason} Gate checks 1 fail" in page.text and "measured 0 threshold 1" in page.text
    assert {"verdict", "checks", "data", "training", "run"} <= set(page.ids)
    assert not {"slices", "recall", "handover", "space", "examples"} & set(page.ids)
    assert not re.search(r'<div class="(card|grid)">\s*</div>', html)


def test_leave_last_out_and_a_single_epoch(artefacts: Artefacts) -> None:
    """Leave-last-out: every window spans the logs."""
    whole = [micros(date(2017, 1, 1)), micros(date(2017, 12, 31))]
    artefacts.summary["windows"] = {"train": whole, "validation": whole, "test": whole}
    artefacts.history = {
        "refit": {"epochs": 1, "loss": [1.0], "seconds": [3.0]},
        "epoch": [1],
        "loss": [5.0],
        "validation_recall": [0.2],
        "seconds": [3.0],
        "monitor": "recall@100",
        "best_epoch": 1,
        "steps": {"step": [], "loss": []},
    }
    text = Page(artefacts.render()).text
    assert "validation window" not in text
    assert "best validation Recall@100, 0.2000, came after epoch 1" in text
    assert "a second training, 1 epoch in 3.0s" in text


def test_champion_that_could_not_be_evaluated_is_told(artefacts: Artefacts) -> None:
    artefacts.metrics["gate"].update(decision="refuse", reason="Refused, since the champion cannot be evaluated.")
    artefacts.metrics["champion_error"] = "its query tower lacks an input"
    text = Page(artefacts.render()).text
    assert "Refuse Refused, since the champion cannot be evaluated." in text
    assert "The champion could not be evaluated: its query tower lacks an input" in text


def test_default_gate_is_told_and_a_gate_of_ones_own_is_not(artefacts: Artefacts) -> None:
    words = "These are the checks of the default gate; evaluation.gate in the configuration replaces them."
    artefacts.metrics["gate"]["configured"] = "listed"
    assert words not in Page(artefacts.render()).text
    artefacts.metrics["gate"]["configured"] = "default"
    assert words in Page(artefacts.render()).text


def test_same_artefacts_give_the_same_bytes(artefacts: Artefacts) -> None:
    assert artefacts.render() == artefacts.render()


def test_another_kind_of_artefact_is_refused(artefacts: Artefacts, tmp_path: Path) -> None:
    paths = artefacts.write()
    with pytest.raises(ArtifactError, match="this is a trained_towers, expected a evaluation"):
        write_report(tmp_path / "page.html", **{**paths, "evaluation": paths["trained"]}, config=CONFIG)
    assert not (tmp_path / "page.html").exists()


def test_days_without_events_count_in_the_mean_of_long_spans() -> None:
    picture = events_per_day([date(2011, 1, 1), date(2014, 12, 31)], [6, 6])  # 1,461 days, two of them listed
    assert [entry.label for entry in picture.legend] == ["events, mean of 3 days"]


def test_index_is_drawn_on_a_scale_with_numbers_however_close_the_times_are() -> None:
    for slowest in (0.7, 70.0):
        points = [{"latency_ms": {"p50": time}, "recall": 0.9 + time / 1000} for time in (0.6, slowest)]
        picture = index_tuning(points, points[1], {"recall": 0.98, "k": 100})
        assert len(re.findall(r">[0-9.]+</text>", picture.svg.partition("milliseconds")[0])) >= 3


def test_failure_page_names_the_step_its_last_lines_and_the_way_on(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "page.html"
    states = {"prepare_data": "failed", "train_towers": "skipped", "promote": "skipped"}
    steps = [{"name": name, "state": state, "seconds": 3.2} for name, state in states.items()]
    tail = "DataError: transactions.csv, row 17: <script>alert(1)</script>"
    write_failure_page(
        out, title="my_shop", run_id="my-shop-1", failed_step="prepare_data", error_tail=tail, run={"steps": steps}
    )
    page = Page(out.read_text(encoding="utf-8"))
    assert "The step prepare_data failed." in page.text and tail in page.text
    assert "two-tower step prepare_data CONFIG --run my-shop-1" in page.text
    assert "train_towers skipped –" in page.text and "No version was promoted" in page.text
    assert "script" not in page.tags and not page.references


def test_failure_page_begins_with_the_cause_and_ends_with_the_log(tmp_path: Path) -> None:
    cause, tail = "transactions.csv, row 17: <b>no item</b>;\nmend it", "06:14:44 ERROR prepare_data failed"
    write_failure_page(
        tmp_path / "p.html", title="my_shop", run_id="1", failed_step="prepare_data", cause=cause, error_tail=tail
    )
    text = Page((tmp_path / "p.html").read_text(encoding="utf-8")).text
    order = ["row 17: <b>no item</b>; mend it", "The step prepare_data failed.", "How to go on", "end of its log", tail]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    write_failure_page(
        tmp_path / "p.html", title="my_shop", run_id="1", failed_step=None, cause="The job was cancelled."
    )
    text = Page((tmp_path / "p.html").read_text(encoding="utf-8")).text
    assert "The job was cancelled." in text and "log" not in text


def test_failure_page_without_a_known_step(tmp_path: Path) -> None:
    write_failure_page(tmp_path / "p.html", title="my_shop", run_id="1", failed_step=None, error_tail="", run=None)
    text = Page((tmp_path / "p.html").read_text(encoding="utf-8")).text
    assert "The run did not finish." in text and "promoted" not in text and "The step left no log lines." in text


def test_failure_page_after_promotion_does_not_claim_that_nothing_changed(tmp_path: Path) -> None:
    steps = [{"name": "promote", "state": "ran", "seconds": 1.0}, {"name": "write_report", "state": "failed"}]
    out = tmp_path / "p.html"
    write_failure_page(
        out, title="my_shop", run_id="1", failed_step="write_report", error_tail="x", run={"steps": steps}
    )
    assert "Its version had been promoted before." in Page(out.read_text(encoding="utf-8")).text


def test_failure_page_keeps_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = "".join(f"line {n}\n" for n in range(100_000)) + "the reason"
    write_failure_page(tmp_path / "p.html", title="my_shop", run_id="1", failed_step="train_towers", error_tail=log)
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "the reason" in html and len(html) < 200_000


def test_the_columns_and_what_changed_in_them_are_shown(artefacts: Artefacts) -> None:
    described = {"type": "Float64", "missing": 5, "missing_share": 0.05, "distinct": 40, "distinct_exact": True,
                 "min": 1.0, "max": 9.5, "quantiles": [1.0] * 50 + [4.25] * 51, "top": []}  # fmt: skip
    estimated = described | {"distinct": 12_345, "distinct_exact": False}
    profile = {"tables": {"interactions": {"columns": {"a<b": described, "c": estimated}}}}
    moved = {"psi": 0.4, "verdict": "large", "reason": "The stability index 0.400 is above 0.25."}
    ids = {"psi": None, "verdict": "not_compared", "reason": "Ids are not compared."}
    volume = {"mean_before": 1000.0, "mean_after": 1500.0, "unusual_days": [{"day": "2017-12-24"}], "missing_days": []}
    schema = [{"column": "interactions.new", "change": "added", "from": None, "to": "String"}]
    artefacts.metrics["drift"] = {
        "columns": {"interactions.user": ids, "interactions.a<b": moved}, "schema": schema, "volume": volume,
    }  # fmt: skip
    artefacts.profile = profile
    page = artefacts.render().replace("<wbr>", "")
    for shown in ("1 to 9.5, median 4.25", "5.0 %", "0.4000", "above 0.25", "2017-12-24", "was added", "~12,345 ±3 %"):
        assert shown in page
    assert "a&lt;b" in page and page.index("interactions.a&lt;b") < page.index("interactions.user")
