"""Two runs beside each other, in the terminal and as a page."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.runs import Run
from pipelines.views.comparison import RunComparison, compare_runs, config_differences
from pipelines.views.comparison_page import write_comparison
from pipelines.views.comparison_tables import comparison_tables
from two_tower.artifacts import write_artifact

QUERIES = 400
SETTINGS = {"bootstrap_samples": 300, "seed": 3, "confidence": 0.9}
SUMMARY = {
    "rows": {"read": 12_345, "kept": 12_000, "filtered": {"event": 300}, "set_aside": {"bad_time": 5, "malformed": 40}},
    "users": 60, "items": 40, "events": {"train": 1500, "validation": 200, "test": 300},
    "queries": {"validation": 50, "test": 55}, "windows": {"train": [0, 1], "validation": None, "test": [2, 3]},
}  # fmt: skip


def shown(comparison: RunComparison) -> str:
    console = Console(file=StringIO(), width=160)
    for part in comparison_tables(comparison):
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def hits(seed: int, *, queries: int = QUERIES, more: float = 0.0) -> np.ndarray:
    """Figures by query `[queries]` whose runs go together, `more` of them raised to 1."""
    values = np.random.default_rng(0).random(queries).astype(np.float32)
    values[np.random.default_rng(seed).random(queries) < more] = 1
    return values


def finished(workdir: Path, values: np.ndarray, **changes: Any) -> Run:
    """A finished run with these figures by query; `changes` are of its metrics, `made_from`, `first` and `config`."""
    config = {"name": "shop", "model": {"dim": 16}, "evaluation": SETTINGS, **changes.pop("config", {})}
    run = Run.start(workdir, name="shop", config_file="shop.yaml", config=config)
    run.state = "finished"
    first, made_from = changes.pop("first", 0), changes.pop("made_from", "same")
    figure = {"value": float(values.mean()), "low": 0.2, "high": 0.3}
    metrics = {
        "split": "test", "queries": len(values), "ks": [100], "exclude_seen": False, "confidence": 0.9,
        "version": f"version of {run.run_id}", "champion": None,
        "systems": {"two_tower": {"metrics": {"recall@100": figure}}},
        "slices": {"tail": {"queries": 9, "group": "items", "label": "rare", "too_small": True,
                            "systems": {"two_tower": {"metrics": {"recall@100": figure}}}, "comparisons": {}}},
        "gate": {"decision": "promote", "reason": "All <b>fine</b>.", "checks": [
            {"name": "queries >= 50", "status": "passed", "value": 400, "threshold": 50, "reason": "", "blocking": True}
        ]},
        **changes,
    }  # fmt: skip
    folder = run.folder / "evaluation"
    with write_artifact(folder, "evaluation", made_from={"prepared_data": made_from}) as artifact:
        artifact.write_json("metrics.json", metrics)
        numbers = pa.array(np.arange(first, first + len(values)), pa.int32())
        table = {"query": numbers, "two_tower/recall@100": values, "popularity/recall@100": values}
        artifact.write_table("per_query.parquet", pa.table(table))
    run.step("evaluate_recall").outputs["evaluation"] = str(folder)
    run.step("train_towers").state, run.step("train_towers").seconds = "ran", 75.0
    run.save()
    return run


def test_runs_on_the_same_queries_are_compared_in_pairs(tmp_path: Path) -> None:
    first, second = hits(1), hits(2, more=0.1)
    comparison = compare_runs(finished(tmp_path, first), finished(tmp_path, second))
    assert "the same 400 queries" in comparison.remark
    (pair,) = comparison.metrics
    assert pair.difference is not None
    assert pair.difference.difference == pytest.approx(float((second - first).mean()), abs=1e-6)
    assert 0 < pair.difference.low < pair.difference.difference < pair.difference.high < 0.1
    assert pair.difference.probability_better == 1
    text = shown(comparison)
    assert "better" in text and "1.000" in text


def test_rules_for_repeats_that_nobody_has_make_no_difference(tmp_path: Path) -> None:
    repeats = {"counted": "miss", "relevant": 0}
    comparison = compare_runs(finished(tmp_path, hits(1)), finished(tmp_path, hits(2), repeats=repeats))
    assert comparison.metrics[0].difference is not None


def figures(value: float) -> dict[str, Any]:
    figure = {"value": value, "low": 0.0, "high": 1.0}
    return {"metrics": dict.fromkeys(("recall@10", "recall@100", "mrr@100", "ndcg@10", "map@10"), figure)}


def test_every_system_is_shown_in_both_runs_with_the_metrics_that_either_asks_for(tmp_path: Path) -> None:
    sampled = {**figures(0.625), "queries": 50, "end_to_end": figures(0.5625)}
    first = finished(
        tmp_path, hits(1), ks=[10, 100], shown=["ndcg@10"], systems={"two_tower": figures(0.5), "old": figures(0.125)}
    )
    second = finished(
        tmp_path, hits(2), ks=[10, 100], shown=["mrr@100"],
        systems={"two_tower": figures(0.75), "two_tower_exact": sampled},
    )  # fmt: skip
    comparison = compare_runs(first, second)
    assert comparison.shown == ["recall@10", "recall@100", "ndcg@10", "mrr@100"]
    assert [(row.system, row.run_id) for row in comparison.systems] == [
        ("old", first.run_id),
        ("two_tower", first.run_id),
        ("two_tower", second.run_id),
        ("two_tower_exact (50 of 400 queries)", second.run_id),
        ("two_tower (the same 50 queries)", second.run_id),
    ]
    text = shown(comparison)
    assert "map@10" not in text and "mrr@100" in text and "0.1250" in text and "0.6250" in text
    write_comparison(comparison, tmp_path / "page.html")
    page = re.sub(r"<[^>]+>", "", (tmp_path / "page.html").read_text())
    assert "two_tower_exact (50 of 400 queries)" in page and "map@10" in page


def test_the_pairing_makes_the_interval_narrow(tmp_path: Path) -> None:
    """Two runs that differ in few queries differ surely, however much the queries vary among themselves."""
    first, second = hits(1), hits(2, more=0.02)
    (pair,) = compare_runs(finished(tmp_path, first), finished(tmp_path, second)).metrics
    assert pair.difference is not None
    unpaired = 2 * 1.645 * np.sqrt(first.var() / QUERIES + second.var() / QUERIES)
    assert pair.difference.high - pair.difference.low < unpaired / 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"made_from": "other"}, "they come from different prepared data"),
        ({"first": 5}, "they are other rows of the same prepared data"),
        ({"split": "validation"}, "they have different splits, test and validation"),
        ({"exclude_seen": True}, "they have different rules for what was seen before, False and True"),
        ({"repeats": {"counted": "miss", "relevant": 4}}, "they count repeats differently, leave_out and miss"),
        ({"systems": {}, "slices": {}, "queries": 0}, "measured none"),
    ],
)
def test_runs_on_other_queries_have_their_figures_and_no_difference(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    comparison = compare_runs(finished(tmp_path, hits(1)), finished(tmp_path, hits(2), **changes))
    assert comparison.remark.startswith("The queries differ, so that no difference is drawn: ")
    assert why in comparison.remark
    assert [pair.difference for pair in comparison.metrics] == [None]
    text = shown(comparison)
    assert f"{hits(1).mean():.4f}" in text and "better" not in text


def test_a_run_that_was_never_evaluated_is_shown_beside_one_that_was(tmp_path: Path) -> None:
    bare = Run.start(tmp_path, name="shop", config_file="shop.yaml", config={})
    comparison = compare_runs(bare, finished(tmp_path, hits(1)))
    assert f"run {bare.run_id} measured none" in comparison.remark
    text = shown(comparison)
    assert "not evaluated" in text and "1m15s" in text and "rare" in text
    assert "not evaluated" in shown(compare_runs(bare, bare))


def test_what_differs_in_the_configuration_is_named_key_by_key() -> None:
    first = {"model": {"dim": 16, "hidden": [32]}, "gate": [{"k": 1}, {"k": 2}], "same": 1, "empty": {}, "old": None}
    second = {"model": {"dim": 32, "hidden": [32]}, "gate": [{"k": 1}, {"k": 3}], "same": 1, "empty": {"new": "x"}}
    assert [(pair.name, pair.first, pair.second) for pair in config_differences(first, second)] == [
        ("model.dim", "16", "32"),
        ("gate", '{"k": 2}', '{"k": 3}'),
        ("empty", "{}", "–"),
        ("old", "null", "–"),
        ("empty.new", "–", "x"),
    ]
    (pair,) = config_differences({"ks": [1, 2]}, {"ks": [2, 1]})
    assert (pair.first, pair.second) == ("1\n2", "2\n1")
    assert config_differences(first, first) == []


def test_the_data_are_told_while_they_are_there(tmp_path: Path) -> None:
    run = finished(tmp_path, hits(1))
    run.step("prepare_data").outputs["prepared"] = str(tmp_path / "prepared")
    assert "not there" in shown(compare_runs(run, run))
    with write_artifact(tmp_path / "prepared", "prepared_data") as artifact:
        artifact.write_json("summary.json", SUMMARY)
    data = {pair.name: pair.first for pair in compare_runs(run, run).data}
    assert data["rows read"] == "12,345" and data["rows set aside"] == "45" and data["test queries"] == "55"
    assert data["train window"] == "1970-01-01 00:00 to 1970-01-01 00:00" and "validation window" not in data


def test_the_page_holds_everything_and_refers_to_nothing(tmp_path: Path) -> None:
    first = finished(tmp_path, hits(1), config={"description": "<script>alert(1)</script>"})
    second = finished(tmp_path, hits(2, more=0.1), config={"model": {"dim": 32}})
    write_comparison(compare_runs(first, second), tmp_path / "new" / "page.html")
    page = (tmp_path / "new" / "page.html").read_text()
    assert not re.search(r"https?://|<script|<link|src=|url\(", page)
    assert "All &lt;b&gt;fine&lt;/b&gt;." in page
    text = re.sub(r"<[^>]+>", "", page)
    for said in (first.run_id, second.run_id, "model.dim", "rare", "too few queries to judge", "better", "1m15s"):
        assert said in text
    assert page.count('class="bar"') == 1


def test_the_page_of_runs_on_other_queries_draws_no_difference(tmp_path: Path) -> None:
    comparison = compare_runs(finished(tmp_path, hits(1)), finished(tmp_path, hits(2), made_from="other"))
    write_comparison(comparison, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert 'class="bar"' not in page and "The queries differ" in page
