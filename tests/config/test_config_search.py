"""The section `tune`: what it takes, how it is read, and that nothing but the search reads it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from schema_check import violations

from pipelines.dag.pipeline import parameters_of
from two_tower.config import Between, canonical_json, json_schema, load_config, merged_yaml, parse_section, with_values
from two_tower.config.config import Config
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
SPACE = {
    "training.learning_rate": {"low": "1e-4", "high": 1, "log": True},
    "training.batch_size": {"low": 64, "high": 256, "step": 64.0},
    "training.half_life": [None, "48h"],
    "model.history": [None, {"type": "gru"}],
}


def loaded(tune: dict[str, Any], *overrides: str) -> Config:
    return load_config(TINY, [f"tune={canonical_json(tune)}", *overrides])


def test_every_value_is_kept_as_the_configuration_reads_it() -> None:
    tune = loaded(SPACE).tune
    assert tune["training.learning_rate"] == Between(low=0.0001, high=1.0, log=True)
    assert tune["training.batch_size"] == Between(low=64, high=256, step=64)
    assert all(isinstance(value, int) for value in (tune["training.batch_size"].low, tune["training.batch_size"].step))
    assert tune["training.half_life"] == [None, "2d"]
    assert tune["model.history"] == [None, {"type": "gru", "layers": 1, "decay": 0.7, "dropout": 0.2}]


def test_the_section_is_canonical_and_in_the_schema() -> None:
    config = loaded(SPACE)
    assert parse_section(Config, canonical_json(config)) == config
    assert canonical_json(parse_section(Config, canonical_json(config))) == canonical_json(config)
    schema = json_schema()
    data = {
        **yaml.safe_load(TINY.read_text()),
        "tune": {"model.dim": [8, 16], "training.epochs": {"low": 1, "high": 3}},
    }
    assert list(violations(data, schema, schema)) == []
    for wrong in (3, [], [1], {"low": 1}, {"low": 1, "high": 2, "stp": 1}):
        assert list(violations({**data, "tune": {"model.dim": wrong}}, schema, schema)) != []


def test_no_step_of_the_dag_but_the_stored_configuration_changes_with_it() -> None:
    plain, searched = parameters_of(load_config(TINY)), parameters_of(loaded(SPACE))
    assert {key for key in plain if plain[key] != searched[key]} == {"config"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.epoch", [1, 2], "tune.training.epoch: there is no 'epoch'; did you mean 'epochs'?"),
        ("model.nothing.dim", [1, 2], "tune.model.nothing.dim: there is no 'nothing'"),
        ("data.shards", [1, 2], "tune.data.shards: only settings below model and training"),
        ("training", [1, 2], "tune.training: only settings below"),
        ("training.mining.top", [1, 2], "mining is null, so there is nothing under it"),
        ("training.epochs", 3, "expected a list of choices, or a range {low: ..., high: ...}"),
        ("training.epochs", [3], "at least 2"),
        ("training.epochs", [3, 3], "the choice 3 stands there twice"),
        ("training.epochs", [3, 0], "0 does not fit"),
        ("training.epochs", {"low": 1, "high": 2.5}, "2.5 does not fit"),
        ("training.epochs", {"low": 1, "high": 4, "step": 1.5}, "whole numbers"),
        ("training.epochs", {"low": 3, "high": 2}, "low must be below high"),
        ("training.epochs", {"low": 1, "high": 2, "stp": 1}, "did you mean 'step'"),
        ("training.learning_rate", {"low": 0, "high": 1, "log": True}, "low must be above 0"),
        ("training.learning_rate", {"low": 1, "high": 2, "log": True, "step": 1}, "log or step, not both"),
        ("training.half_life", {"low": "1d", "high": "2d"}, "low"),
        ("training.monitor_k", [10, 100], "cannot be compared"),
        ("training.repeats", ["miss", "leave_out"], "cannot be compared"),
        ("training.refit", [True, False], "changes nothing"),
        ("training.loss.type", ["full_softmax", "in_batch"], "search training.loss with whole choices"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(TINY.read_text() + yaml.safe_dump({"tune": {key: value}}))
    first = TINY.read_text().count("\n") + 2  # the entry's first line
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    line = int(str(caught.value).removeprefix(f"{path}:").partition(":")[0])
    assert first <= line <= first + (len(value) if isinstance(value, dict) else 0)


def test_a_setting_and_what_is_below_it_cannot_both_be_searched() -> None:
    with pytest.raises(ConfigError, match=r"tune\.training\.loss: it holds training\.loss\.type"):
        loaded({"training.loss.type": ["a", "b"], "training.loss": [{"type": "full_softmax"}, {"type": "in_batch"}]})


def test_merged_yaml_reads_back_as_the_configuration_with_the_values(tmp_path: Path) -> None:
    """Also where the file leaves the section that holds the setting to its defaults."""
    overrides = ["training.epochs=2", "training.refit=true"]
    config = load_config(TINY, overrides)
    values = {"model.history.decay": 0.5, "model.dim": 8, "training.loss": {"type": "in_batch"}}
    best = with_values(config, values)
    path = tmp_path / "best.yaml"
    path.write_text(merged_yaml(TINY, overrides, config=best, keys=values))
    again = load_config(path)
    assert again == best
    assert (again.model.history.decay, again.model.dim, again.training.epochs) == (0.5, 8, 2)  # type: ignore[union-attr]
    assert again.training.refit and again.training.loss.type == "in_batch"
