"""What `auto` stands for: by the data, around what the configuration says itself, and in the artefact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from project import ROOT
from tiny_towers import write_tiny

from two_tower.artifacts import open_artifact
from two_tower.config import ModelSettings, TrainingSettings, load_config
from two_tower.errors import ConfigError
from two_tower.model import train
from two_tower.model.recipes import Facts, choose
from two_tower.settings import AUTO

REVIEWS = Facts(events=150_000, users=22_000, items=12_000, repeats=0.0, ordered=True, timed=False)
GROCERIES = Facts(events=1_350_000, users=2_500, items=92_000, repeats=0.6, ordered=True, timed=True)
PLACES = Facts(events=730_000, users=30_000, items=41_000, repeats=0.0, ordered=False, timed=False)
TEXTS = Facts(events=50_000, users=0, items=3_000, repeats=0.0, ordered=True, timed=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


def autos(section: Any) -> set[str]:
    """The dotted keys at which `auto` stands."""

    def walk(value: Any, place: str) -> set[str]:
        if isinstance(value, dict):
            return {found for key, inner in value.items() for found in walk(inner, f"{place}.{key}")}
        return {place[1:]} if value == AUTO else set()

    return walk(section.model_dump(mode="json"), "")


def test_the_facts_are_those_of_the_training_positives(prepared: Path) -> None:
    reader = open_artifact(prepared, "prepared_data")
    taken = [
        (user, item)
        for user, items, targets in zip(
            *(reader.table("train")[name].to_pylist() for name in ("user", "items", "targets")), strict=True
        )
        for item, target in zip(items, targets, strict=True)
        if target
    ]
    facts = Facts.of(reader)
    assert (facts.events, facts.users, facts.items) == (
        len(taken), len({user for user, _ in taken}), len({item for _, item in taken})
    )  # fmt: skip
    assert facts.repeats == pytest.approx(1 - len(set(taken)) / len(taken))
    assert facts.ordered and facts.timed


@pytest.mark.parametrize(
    ("facts", "recipe", "history", "by_user"),
    [
        (REVIEWS, "sequences", "transformer", False),
        (GROCERIES, "repeats", None, True),
        (PLACES, "sets", None, True),
        (replace(PLACES, repeats=0.5), "repeats", None, True),
        (TEXTS, "context", None, False),
    ],
)
def test_the_data_decides(facts: Facts, recipe: str, history: str | None, by_user: bool) -> None:
    choice = choose(ModelSettings(), TrainingSettings(), facts)
    assert choice.recipe == recipe
    assert (choice.model.history and choice.model.history.type) == history
    assert choice.model.query.use_id == by_user
    assert not autos(choice.model) | autos(choice.training)
    assert choice.why in choice.in_words() and f"training.epochs {choice.training.epochs}" in choice.in_words()


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ({"history": None}, "sets"),
        ({"history": {"type": "gru"}}, "sequences"),
        ({"history": {"type": "mean"}}, "mean"),
    ],
)
def test_a_history_in_the_configuration_decides_before_the_data(model: dict[str, Any], recipe: str) -> None:
    choice = choose(ModelSettings(**model), TrainingSettings(), REVIEWS)
    assert choice.recipe == recipe
    assert "model.history" not in choice.chosen
    assert choice.model.history == ModelSettings(**model).history


def test_what_the_configuration_says_stays() -> None:
    model = ModelSettings(dim=24, query={"use_id": True}, temperature=0.5)
    choice = choose(model, TrainingSettings(epochs=7, loss={"type": "bpr"}, half_life="3d"), GROCERIES)
    assert (choice.model.dim, choice.model.query.use_id, choice.model.temperature) == (24, True, 0.5)
    assert (choice.training.epochs, choice.training.patience, choice.training.loss.type) == (7, 3, "bpr")
    assert str(choice.training.half_life) == "3 days, 0:00:00"
    assert not {"model.dim", "training.epochs", "training.loss", "training.half_life"} & set(choice.chosen)


def test_events_without_times_have_no_half_life() -> None:
    assert choose(ModelSettings(), TrainingSettings(), GROCERIES).training.half_life
    assert choose(ModelSettings(), TrainingSettings(), replace(GROCERIES, timed=False)).training.half_life is None


@pytest.mark.parametrize(
    ("facts", "loss"),
    [
        (REVIEWS, "full_softmax"),
        (GROCERIES, "full_softmax"),  # a query a household: all purchases share one softmax
        (replace(GROCERIES, users=1_000_000), "sampled_softmax"),
        (replace(GROCERIES, items=300_000), "sampled_softmax"),
        (replace(REVIEWS, items=60_000), "sampled_softmax"),
        (replace(REVIEWS, items=50_000), "full_softmax"),
    ],
)
def test_the_whole_catalogue_is_scored_where_that_costs_little(facts: Facts, loss: str) -> None:
    assert choose(ModelSettings(), TrainingSettings(), facts).training.loss.type == loss


def test_more_events_take_fewer_epochs_and_the_patience_goes_with_them() -> None:
    epochs = [
        choose(ModelSettings(), TrainingSettings(), replace(REVIEWS, events=10**n)).training.epochs
        for n in (4, 5, 6, 7)
    ]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1] >= 3
    assert choose(ModelSettings(), TrainingSettings(epochs=30), REVIEWS).training.patience == 10


def test_settings_that_do_not_fit_together_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model: .*3 heads do not divide dim 128.*write both"):
        choose(ModelSettings(history={"type": "transformer", "heads": 3}), TrainingSettings(), REVIEWS)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_leave_nothing_to_auto(config: Path) -> None:
    """Their measured results do not change where a recipe does."""
    settings = load_config(config)
    unused = {f"{side}.id_dropout" for side in ("candidate", "query") if not getattr(settings.model, side).use_id}
    assert autos(settings.model) == unused
    assert not autos(settings.training) and settings.training.loss.type != AUTO


def test_the_artefact_holds_what_was_chosen_and_why(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(str(prepared), str(out), model=ModelSettings(dim=4), training=TrainingSettings(epochs=1, refit=False))
    reader = open_artifact(out, "trained_towers")
    chosen = reader.json("history.json")["chosen"]
    assert chosen["recipe"] in chosen["why"] or chosen["why"]
    assert "model.temperature" in chosen["settings"] and "model.dim" not in chosen["settings"]
    model, training = (
        kind.model_validate(reader.manifest.config[name])
        for kind, name in ((ModelSettings, "model"), (TrainingSettings, "training"))
    )
    assert not autos(model) | autos(training)
    assert model.temperature == chosen["settings"]["model.temperature"]
