"""What the prepared data will not bear is found before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from random_artefacts import TEST_FROM, VALIDATION_FROM, random_log, write_prepared

from two_tower.config import EvaluationSettings, IndexSettings, ModelSettings
from two_tower.errors import ConfigError, NoQueries
from two_tower.evaluation import check_prepared

ITEMS, TAKEN = 60, 50
EASE = {"type": "ease", "max_items": TAKEN - 1}
ABOVE_EASE = {"type": "better_than_baseline", "metric": "recall@10", "baseline": "ease"}
FLOOR_OF_EASE = {"type": "minimum", "metric": "recall@10", "system": "ease", "at_least": 0.1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = random_log(users=30, items=TAKEN, events=2500)  # the last ten items are never taken
    return write_prepared(tmp_path_factory.mktemp("early") / "prepared", log, items=ITEMS)


def checked(prepared: Path, *, index: IndexSettings | None = None, **evaluation: Any) -> dict[str, str]:
    settings = EvaluationSettings.model_validate({"ks": [10], "gate": [], **evaluation})
    return check_prepared(prepared, model=ModelSettings(dim=16), index=index or IndexSettings(), evaluation=settings)


@pytest.mark.parametrize("check", [ABOVE_EASE, FLOOR_OF_EASE], ids=["better", "floor"])
def test_a_blocking_check_of_a_baseline_that_does_not_fit_is_refused(prepared: Path, check: dict[str, Any]) -> None:
    gate = [{"type": "enough_queries", "at_least": 1}, check]
    with pytest.raises(ConfigError) as error:
        checked(prepared, baselines=[{"type": "popularity"}, EASE], gate=gate)
    message = str(error.value)
    assert message.startswith("evaluation.gate.1: recall@10 ")
    for part in (
        "the baseline ease does not fit these data: 50 items were taken, more than max_items: 49",
        "Raise max_items",
        "take ease out of evaluation.baselines",
        "evaluation.gate.1.blocking: false",
    ):
        assert part in message


def test_without_a_blocking_check_such_a_baseline_is_left_out(prepared: Path) -> None:
    baselines = [{"type": "popularity"}, EASE]
    for gate in ([], [{**ABOVE_EASE, "blocking": False}, {**FLOOR_OF_EASE, "blocking": False}]):
        left_out = checked(prepared, baselines=baselines, gate=gate)
        assert list(left_out) == ["ease"] and left_out["ease"].startswith("50 items were taken")
    assert checked(prepared, baselines=[{**EASE, "max_items": TAKEN}], gate=[ABOVE_EASE]) == {}


def test_a_blocking_check_on_a_slice_that_is_not_there_is_refused(prepared: Path) -> None:
    check = {"type": "minimum", "metric": "recall@10", "slice": "item.kind=green", "at_least": 0.1}
    with pytest.raises(ConfigError, match=r"evaluation\.gate\.0: .*no slice item\.kind=green; .*item\.kind=odd"):
        checked(prepared, slices=["item.kind"], gate=[check])
    assert checked(prepared, slices=["item.kind"], gate=[{**check, "blocking": False}]) == {}
    assert checked(prepared, slices=["item.kind"], gate=[{**check, "slice": "item.kind=odd"}]) == {}


def test_a_column_without_categories_makes_no_slices(prepared: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.slices: user\.age is of the type double"):
        checked(prepared, slices=["user.age"])


def test_candidates_that_do_not_fit_into_the_indexs_memory_are_refused(prepared: Path) -> None:
    small = IndexSettings.model_validate({"target": {"memory_gb": 1e-7}})
    with pytest.raises(ConfigError, match=r"index\.target\.memory_gb: 60 vectors of width 16 need at least"):
        checked(prepared, index=small)


def test_a_test_window_with_nothing_new_is_refused_where_the_past_is_left_out(tmp_path: Path) -> None:
    log = [(0, 0, 0), (0, 1, VALIDATION_FROM), (0, 0, TEST_FROM)]
    folder = write_prepared(tmp_path / "prepared", log, items=2)
    assert checked(folder) == {}
    with pytest.raises(NoQueries, match=r"no query with a relevant item that is new .*data\.split\.test longer"):
        checked(folder, exclude_seen=True)
