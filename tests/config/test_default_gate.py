"""The checks that a configuration gets which names none."""

import json
from pathlib import Path
from typing import Any

import pytest

from two_tower.config import Config, EvaluationSettings, canonical_json, load_config, parse_section, with_values
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
BASELINES = ["popularity", "recent_popularity", "personal_frequency_28d"]


def without_gate(folder: Path, *overrides: str) -> Config:
    """tiny.yaml less its checks."""
    lines = TINY.read_text().splitlines()
    start = lines.index("  gate:")
    end = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith("    "))
    (folder / "tiny.yaml").write_text("\n".join(lines[:start] + lines[end:]))
    return load_config(folder / "tiny.yaml", overrides)


def written(evaluation: EvaluationSettings) -> list[dict[str, Any]]:
    """The checks as `two-tower config show` prints them."""
    return json.loads(canonical_json(evaluation))["gate"]


@pytest.mark.parametrize("overrides", [(), ("evaluation.gate=null",)])
def test_without_checks_there_are_those_against_the_champion_and_as_advice_the_baselines(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = without_gate(tmp_path, *overrides)
    champion, *baselines = written(config.evaluation)
    assert (champion["type"], champion["metric"]) == ("not_worse_than_champion", "recall@100")
    assert (champion["margin"], champion["probability"], champion["blocking"]) == ("auto", 0.9, True)
    assert [check["baseline"] for check in baselines] == BASELINES
    assert {(check["type"], check["metric"], check["blocking"]) for check in baselines} == {
        ("better_than_baseline", "recall@100", False)
    }
    assert config.evaluation.gate_is_default and config.evaluation.checks == config.evaluation.gate


def test_null_in_place_of_the_checks_of_a_file_is_the_default() -> None:
    assert load_config(TINY, ["evaluation.gate=null"]).evaluation.gate_is_default
    assert not load_config(TINY).evaluation.gate_is_default


def test_an_empty_list_means_none() -> None:
    evaluation = load_config(TINY, ["evaluation.gate=[]"]).evaluation
    assert evaluation.gate == evaluation.checks == [] and not evaluation.gate_is_default


@pytest.mark.parametrize(
    ("ks", "monitor_k", "expected"),
    [
        ([10, 100, 1000], 10, 10),
        ([1000, 100, 10], 100, 100),
        ([10, 30], 20, 10),
        ([30, 10], 20, 10),
        ([10, 30], 21, 30),
        ([50], 1000, 50),
    ],
)
def test_the_k_is_the_one_nearest_to_what_training_watches(
    tmp_path: Path, ks: list[int], monitor_k: int, expected: int
) -> None:
    config = without_gate(tmp_path, f"evaluation.ks={ks}", f"training.monitor_k={monitor_k}")
    assert {check["metric"] for check in written(config.evaluation)} == {f"recall@{expected}"}
    assert config.evaluation.gate_is_default


def test_baselines_are_named_as_in_the_figures(tmp_path: Path) -> None:
    listed = "evaluation.baselines=[{type: ease, half_life: 56d}, {type: ease}]"
    names = [check["baseline"] for check in written(without_gate(tmp_path, listed).evaluation)[1:]]
    assert names == ["ease_56d", "ease"]
    assert len(written(without_gate(tmp_path, "evaluation.baselines=[]").evaluation)) == 1


def test_a_step_is_handed_the_default_and_knows_it_for_one(tmp_path: Path) -> None:
    config = without_gate(tmp_path, "training.monitor_k=10")
    handed = parse_section(EvaluationSettings, canonical_json(config.evaluation))
    assert handed == config.evaluation and handed.gate_is_default
    assert parse_section(Config, canonical_json(config)) == config
    searched = with_values(config, {"training.monitor_k": 100})
    assert searched.evaluation == config.evaluation, "trials are held to the same gate"


def test_a_section_alone_has_the_default_at_the_k_nearest_to_100() -> None:
    alone = EvaluationSettings.model_validate({"ks": [5, 20, 400], "baselines": [{"type": "popularity"}]})
    assert alone.gate_is_default
    assert [check.name for check in alone.checks] == [
        "recall@20 not worse than champion (auto margin)", "recall@20 above popularity",
    ]  # fmt: skip
    assert [check.name for check in EvaluationSettings().checks] == ["recall@100 not worse than champion (auto margin)"]


def test_the_checks_of_a_file_stay_as_they_are_whatever_training_watches() -> None:
    """Even where they are those that the default would have been for another K."""
    gate = '[{type: not_worse_than_champion, metric: "recall@10", margin: auto}]'
    sets = [f"evaluation.gate={gate}", "evaluation.baselines=[]", "training.monitor_k=100"]
    assert [check["metric"] for check in written(load_config(TINY, sets).evaluation)] == ["recall@10"]


def test_a_margin_that_is_neither_a_number_nor_automatic_is_named_by_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(TINY, ["evaluation.gate.4.margin=automatic"])
    assert "evaluation.gate.4.margin: " in str(caught.value) and "'auto'" in str(caught.value)
