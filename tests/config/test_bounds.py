"""The bounds of every number in the settings: what no library could use is refused by name, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from two_tower.config import Config, Environment, load_config
from two_tower.config.search import Between
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
OF_THE_DATA = {("Range", "min"), ("Range", "max"), ("FilterSettings", "value")}
"""Values of columns, which have no bounds of their own."""
OF_THE_SEARCHED = {(Between.__name__, name) for name in Between.model_fields}
"""Ranges of other settings: both ends are read as the setting itself."""


def numbers(schema: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every rule for a number in a JSON Schema, with the model and the field that it is of."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number") and "enum" not in schema:
            yield place, schema
        for name, model in schema.get("$defs", {}).items():
            yield from numbers(model.get("properties", {}), (name,))
        for key, inner in schema.items():
            if key not in ("$defs", "default", "examples", "discriminator"):
                yield from numbers(inner, (*place, key)[:2])
    elif isinstance(schema, list):
        for inner in schema:
            yield from numbers(inner, place)


RULES = [rule for model in (Config, Environment) for rule in numbers(model.model_json_schema(), (model.__name__,))]
BOUNDED = {".".join(place): rule for place, rule in RULES if place not in OF_THE_DATA | OF_THE_SEARCHED}


def test_the_numbers_are_found() -> None:
    assert {"TrainingSettings.epochs", "TowerSettings.hidden", "EventSettings.weight"} <= {*BOUNDED}
    assert "PricesSettings.accelerator_hour" in BOUNDED
    assert {"Hashed.buckets", "Ials.alpha", "InBatch.memory", "Latency.at_most_ms"} <= {*BOUNDED}
    assert len(BOUNDED) > 100


@pytest.mark.parametrize("name", sorted(BOUNDED))
def test_every_number_has_bounds(name: str) -> None:
    """A new setting has to say what is too much."""
    rule = BOUNDED[name]
    low = rule.get("minimum", rule.get("exclusiveMinimum"))
    high = rule.get("maximum", rule.get("exclusiveMaximum"))
    assert low is not None and high is not None, "give the Field ge= and le="
    assert math.isfinite(low) and high <= (2**32 if rule["type"] == "integer" else 1e30)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(TINY, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.seed", "-1"), ("training.seed", str(2**32)), ("evaluation.seed", "-1"),
        ("training.epochs", str(10**9)), ("training.learning_rate", "1.0e+300"), ("training.learning_rate", "1.0e-300"),
        ("training.batch_size", str(10**12)), ("training.clip_norm", "1.0e-300"), ("training.patience", str(10**10)),
        ("model.temperature", "1.0e-300"), ("model.candidate.hidden.0", str(10**9)),
        ("data.items.features.category.dim", str(10**9)), ("data.query.history_length", str(10**9)),
        ("data.interactions.max_rate.events", str(10**18)), ("data.shards", str(10**9)),
        ("evaluation.ks.0", str(10**18)), ("evaluation.bootstrap_samples", str(10**12)),
        ("index.target.k", str(10**18)), ("index.reorder", str(10**12)), ("embedding.batch_size", str(10**12)),
        ("retention.days", str(10**9)), ("beam.workers", str(10**9)),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_its_key(key: str, value: str) -> None:
    hidden = "model.candidate.hidden=[8]"
    rate = "data.interactions.max_rate={events: 5}"
    message = refusal(hidden, rate, f"{key}={value}")
    assert f"{key}: Input should be" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.epochs", "true", "expected a number, got true or false"),
        ("training.epochs", "yes", "expected a number, got true or false"),
        ("training.learning_rate", "false", "expected a number, got true or false"),
        ("evaluation.ks", "[true, 10]", "expected a number, got true or false"),
        ("model.candidate.hidden", "[on]", "expected a number, got true or false"),
        ("training.epochs", "3.5", "Input should be a valid integer"),
        ("training.epochs", "1e3", "Input should be a valid integer"),
        ("training.learning_rate", ".inf", "Input should be a finite number"),
        ("training.learning_rate", ".nan", "Input should be a finite number"),
        ("training.learning_rate", "1" + "0" * 400, "Input should be"),
        ("training.epochs", "1" + "0" * 400, "Input should be less than or equal to"),
    ],
)
def test_what_is_no_such_number_is_refused_by_its_key(key: str, value: str, message: str) -> None:
    assert f"{key}: {message}" in refusal(f"{key}={value}")


def test_numbers_may_be_written_as_text_and_whole_ones_with_a_point() -> None:
    config = load_config(TINY, ["training.epochs='3'", "training.patience=3.0", "training.learning_rate='0.01'"])
    assert (config.training.epochs, config.training.patience, config.training.learning_rate) == (3, 3, 0.01)


def test_searched_ends_are_those_of_the_setting(tmp_path: Path) -> None:
    content = yaml.safe_load(TINY.read_text()) | {"tune": {"training.learning_rate": {"low": 0.001, "high": 1e300}}}
    (tmp_path / "searched.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"tune\.training\.learning_rate: 1e\+300 does not fit"):
        load_config(tmp_path / "searched.yaml")
    content["tune"]["training.learning_rate"] = {"low": True, "high": 2}
    (tmp_path / "searched.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="low: expected a number, got true or false"):
        load_config(tmp_path / "searched.yaml")
