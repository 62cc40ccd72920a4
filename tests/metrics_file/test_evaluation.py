"""metrics.json as models: what is read is written again byte for byte, and figures are attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from two_tower.artifacts import write_artifact, write_json
from two_tower.errors import ArtifactError
from two_tower.metrics_file import FILE, KIND, Evaluation, Figure, System

ROOT = Path(__file__).parents[2]


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


CONTENT: dict[str, Any] = {
    "split": "test", "ks": [10, 100], "shown": ["recall@10"], "candidates": 40, "champion_candidates": None,
    "exclude_seen": False, "repeats": None, "confidence": 0.95, "smallest_slice": 50, "version": "4f0c81",
    "champion": None, "champion_error": None, "window": {"start": 1.5e9, "seen_until": None, "overlaps": False},
    "drift": {
        "columns": {"t.a": {"psi": 0.0, "js": None, "chance": 0, "missing_change": 0.5, "verdict": "none",
                            "reason": "Nothing."}},
        "schema": [{"column": "t.b", "change": "type", "from": "Int64", "to": None}],
        "volume": {"mean_before": 3, "mean_after": 2.5, "ratio": None, "unusual_days": [
            {"day": "2026-01-03", "events": 1, "expected": 4.0, "z": -4.5}], "missing_days": []},
        "largest": {},
    },
    "days": {"missing": ["2026-01-03"], "low": []}, "queries": 1000, "left_out": {"ease": "too many items"},
    "systems": {
        "two_tower": {"kind": "challenger", "queries": 1000, "curve": {"k": [1, 10], "recall": [0.0, 0.125]},
                      "metrics": {"recall@100": figure(0.5), "recall@10": figure(0.25), "mrr@10": figure(0.1)}},
        "two_tower_exact": {"kind": "exact", "queries": 500, "metrics": {"recall@10": figure(0.25)},
                            "end_to_end": {"metrics": {"recall@10": {"value": 0, "low": 0, "high": 1}}}},
    },
    "comparisons": {"popularity": {"recall@10": {"difference": 0.1, "low": 0.0, "high": 0.2,
                                                 "probability_better": 1.0}}},
    "slices": {"tail": {"queries": 0, "systems": {}, "comparisons": {}, "group": "items", "label": "tail items",
                        "too_small": True}},
    "loss": [{"k": 10, "queries": 500, "ceiling": 1, "exact": None, "end_to_end": 0.25}],
    "before_refit": None, "discovery": None,
    "popularity": {"items": {"head": 1, "middle": 2, "tail": 37}, "consumed": {"gini": None, "coverage": 1.0},
                   "recommended": {"two_tower": {"diversity@10": None, "coverage@10": 1}}},
    "users": {"count": 9, "without_good_candidate": {"two_tower": {"10": 0.5, "100": 0}}},
    "ranker": {"depth": 100, "recall": 0.5, "candidates": {"0.9": 3, "0.99": None}},
    "index": {"kind": "scann", "recall@10": 1.0, "recall@100": None, "latency_ms": {"p50": 0.2, "p99": 1},
              "target": {"k": 100, "recall": 0.98, "p99_ms": None, "memory_gb": None}, "unmet": []},
    "gate": {"decision": "refuse", "reason": "Refused.", "configured": "listed", "checks": [
        {"name": "queries >= 9", "status": "failed", "value": 7, "threshold": 9.0, "reason": "Few.", "blocking": True},
    ]},
}  # fmt: skip


def written(content: dict[str, Any], folder: Path) -> Path:
    write_json(folder / FILE, content)
    return folder / FILE


@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        {**CONTENT, "of_a_later_release": {"a": [1, 1.0]}, "gate": {**CONTENT["gate"], "asked": "twice"}},
        {name: CONTENT[name] for name in ("queries", "version", "systems", "gate")},
        {"version": "4f0c81", "systems": {"two_tower": {"metrics": {"recall@100": {"value": 1}}}}},
        {},
    ],
    ids=["today's", "a later release's", "with keys missing", "with figures alone", "empty"],
)
def test_what_is_read_is_written_again_byte_for_byte(content: dict[str, Any], tmp_path: Path) -> None:
    path = written(content, tmp_path)
    before = path.read_bytes()
    write_json(path, Evaluation.read(path).to_json())
    assert path.read_bytes() == before


def test_figures_are_attributes() -> None:
    found = Evaluation.model_validate(CONTENT)
    recall = found.systems["two_tower"].recall
    assert list(recall) == [10, 100] and recall[100] == Figure(value=0.5, low=0.49, high=0.51)
    assert (found.systems["two_tower"].mrr[10].value, found.systems["two_tower"].ndcg) == (0.1, {})
    assert found.users is not None and found.users.without_good_candidate["two_tower"][100] == 0
    assert found.index is not None and found.index.recall == {10: 1.0, 100: None}
    assert found.index.target is not None and found.index.target.recall == 0.98
    assert (
        found.drift is not None and found.drift.schema_changes[0].was == "Int64" and found.drift.largest.column is None
    )
    assert str(recall[100]) == "0.5000 [0.4900, 0.5100]" and str(Figure(value=1)) == "1.0000"


def test_what_is_missing_has_a_default() -> None:
    found = Evaluation.model_validate({})
    assert (found.main_k, found.queries, found.gate.decision, found.systems) == (100, 0, "", {})
    assert found.figure("two_tower", "recall@10") is None and found.difference("champion", "recall@10") is None
    assert System().recall == {}


def test_an_evaluation_says_on_one_line_what_it_is() -> None:
    assert repr(Evaluation.model_validate(CONTENT)) == (
        "Evaluation(1,000 test queries, recall@100 0.5000 [0.4900, 0.5100], version 4f0c81, refuse)"
    )
    assert repr(Evaluation(version="4f0c81")) == "Evaluation(0 test queries, version 4f0c81, not decided)"


def test_the_artefact_opens_itself(tmp_path: Path) -> None:
    with write_artifact(tmp_path, KIND) as artifact:
        artifact.write_json(FILE, CONTENT)
    assert Evaluation.open(tmp_path).to_json() == CONTENT
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(ArtifactError, match=r"metrics\.json: differs from what the manifest lists"):
        Evaluation.open(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"queries": "many"}'])
def test_what_is_no_evaluation_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ArtifactError, match=r"metrics\.json: not the figures of an evaluation"):
        Evaluation.read(tmp_path / FILE)


def test_a_check_of_an_earlier_release_is_told_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"an evaluation are attributes: \.users in place of \['users'\]"):
        Evaluation()["users"]


def test_the_schema_in_the_docs_is_that_of_the_models() -> None:
    """`python -m two_tower.metrics_file > docs/metrics.schema.json` writes it."""
    stored = json.loads((ROOT / "docs" / "metrics.schema.json").read_text(encoding="utf-8"))
    assert stored == Evaluation.model_json_schema()
