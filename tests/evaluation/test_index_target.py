"""The gate check of the index's target."""

from __future__ import annotations

import pytest

from two_tower.evaluation.checks.index_target import IndexTarget
from two_tower.metrics_file import Evaluation

TARGET = {"recall": 0.98, "k": 100}


@pytest.mark.parametrize(
    ("index", "status", "reason"),
    [
        ({"target": TARGET, "unmet": []}, "passed", "The index keeps its target of recall@100 0.98."),
        ({"target": TARGET, "unmet": ["p99 3 ms, 2 ms asked for"]}, "failed", "misses its target: p99 3 ms"),
        ({"target": None, "unmet": None}, "skipped", "built without a target"),
        ({}, "skipped", "built without a target"),
    ],
)
def test_index_target(index: dict[str, object], status: str, reason: str) -> None:
    result = IndexTarget(blocking=False).check(Evaluation.model_validate({"index": index}))
    assert result.status == status and reason in result.reason and not result.blocking
