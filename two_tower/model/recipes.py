"""What `auto` stands for in the sections `model` and `training`: a recipe, by what the training events look like.

docs/training.md says what each recipe gave on which data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from two_tower.artifacts import ArtifactReader, Place, open_artifact
from two_tower.config import MeanPool, ModelSettings, TrainingSettings, value_at, with_values
from two_tower.errors import ConfigError
from two_tower.padding import list_lengths, list_values
from two_tower.settings import AUTO

Values = dict[str, Any]
"""Settings by dotted key, such as `model.dim`, as they are written in a file."""

REPEATED = 0.2
"""From this share of repeats on, what a user takes again says more than the order in which it was taken."""
SEQUENCE_STEPS = 1500
"""About how many steps of 1,024 positives a transformer takes to its best validation recall."""
FEW_EVENTS = 200_000
"""Below, sets of items are learned better by wider ids; a catalogue to match costs little then."""
MOST_SCORED_ITEMS = 200_000
"""The catalogue up to which a softmax over all of it fits into the memory of one machine."""
MOST_SCORES = 5e9
"""Queries times items of an epoch up to which such a softmax is worth its time."""
FAST_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
"""What Linux calls the instructions with which a processor multiplies bfloat16 matrices faster than float32 ones."""


@dataclass(frozen=True)
class Facts:
    """What a recipe is chosen by: the training positives of a prepared data set."""

    events: int
    users: int
    """Those with a training positive; 0 where the logs name none."""
    items: int
    """Those with a training positive."""
    repeats: float
    """The share of events whose user took the same item before."""
    ordered: bool
    """Whether a user's events have an order."""
    timed: bool
    """Whether events have times."""

    @classmethod
    def of(cls, prepared: ArtifactReader) -> Facts:
        """The facts of a `prepared_data` artefact."""
        table = prepared.table("train", ["user", "items", "targets"])
        target = list_values(table["targets"])
        items = list_values(table["items"])[target].astype(np.int64)
        users = np.repeat(np.asarray(table["user"], dtype=np.int64), list_lengths(table["items"]))[target]
        named = bool((users >= 0).any())
        distinct = len(np.unique(users << 32 | items)) if named else len(items)
        columns = prepared.manifest.config["interactions"]["columns"]
        return cls(
            events=len(items),
            users=len(np.unique(users)) if named else 0,
            items=len(np.unique(items)),
            repeats=1 - distinct / max(len(items), 1),
            ordered=bool(columns.get("time") or columns.get("order")),
            timed=bool(columns.get("time")),
        )


@dataclass(frozen=True)
class Choice:
    """Both sections with a value in every place, and how they came by it."""

    model: ModelSettings
    training: TrainingSettings
    recipe: str
    why: str
    """What of the data, or of the configuration, decided for the recipe."""
    chosen: Values
    """What stands where `auto` stood."""

    def to_json(self) -> dict[str, Any] | None:
        """The entry `chosen` of history.json; None where the configuration left nothing to choose."""
        return {"recipe": self.recipe, "why": self.why, "settings": self.chosen} if self.chosen else None

    def in_words(self) -> str:
        """What was chosen and why, in a line."""
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in self.chosen.items())
        return f"auto follows the recipe `{self.recipe}`, since {self.why}: {settings}"


def settled(prepared: Place, *, model: ModelSettings, training: TrainingSettings | None = None) -> Choice:
    """`choose` for the `prepared_data` artefact in the folder `prepared`.

    Raises:
        ArtifactError: The folder is no complete artefact.
        ConfigError: What the configuration says does not fit what the recipe adds.
    """
    return choose(model, training or TrainingSettings(), Facts.of(open_artifact(prepared, "prepared_data")))


def choose(model: ModelSettings, training: TrainingSettings, facts: Facts) -> Choice:
    """The settings with a value where `auto` stands; whatever the configuration says itself stays.

    Raises:
        ConfigError: What the configuration says does not fit what the recipe adds.
    """
    recipe, why = _recipe(model, facts)
    choice = Choice(model, training, recipe, why, {})
    try:
        choice = _filled(choice, {**_plain(), **_RECIPES[recipe](facts)})
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"model: {reason}, with what `auto` stands for; write both settings out") from error
    later: Values = {"training.patience": max(2, math.ceil(choice.training.epochs / 3))}
    if training.loss.type == AUTO:
        later["training.loss"] = _loss(facts, queries=facts.users if choice.model.history is None else facts.events)
    return _without_unused(_filled(choice, later))


def _filled(choice: Choice, values: Values) -> Choice:
    """The choice with these values where `auto` stands."""
    sections = {"model": choice.model, "training": choice.training}
    parted = {key: key.partition(".") for key in values}
    chosen: Values = {
        key: values[key]
        for key, (section, _, name) in parted.items()
        if value_at(sections[section], name) in (AUTO, {"type": AUTO})
    }

    def of(wanted: str) -> Values:
        return {name: chosen[key] for key, (section, _, name) in parted.items() if section == wanted and key in chosen}

    return replace(
        choice,
        model=with_values(choice.model, of("model")),
        training=with_values(choice.training, of("training")),
        chosen={**choice.chosen, **chosen},
    )


def _without_unused(choice: Choice) -> Choice:
    """The choice that does not tell of settings that change nothing: without an id there is none to hide."""
    towers = {"model.candidate": choice.model.candidate, "model.query": choice.model.query}
    unused = {f"{key}.id_dropout" for key, tower in towers.items() if not tower.use_id}
    return replace(choice, chosen={key: value for key, value in choice.chosen.items() if key not in unused})


def _recipe(model: ModelSettings, facts: Facts) -> tuple[str, str]:
    """The recipe's name and why; a history that the configuration names decides before the data does."""
    if isinstance(model.history, MeanPool):
        return "mean", "model.history is a mean"
    if model.history not in (AUTO, None):
        return "sequences", "model.history reads the order of a user's items"
    if not facts.users:
        return "context", "the logs name no users"
    repeats = f"{facts.repeats:.0%} of the {facts.events:,} training events repeat an item of their user"
    if facts.repeats >= REPEATED:
        return "repeats", repeats
    if model.history is None:
        return "sets", f"model.history is null and {repeats}"
    if not facts.ordered:
        return "sets", "a user's events have no order"
    return "sequences", f"a user's events have an order and {repeats}"


def _plain() -> Values:
    """What stands where a recipe says nothing else."""
    return {
        "model.dim": 64,
        "model.candidate.linear": True,
        "model.candidate.use_id": True,
        "model.candidate.id_dropout": 0.1,
        "model.query.linear": True,
        "model.query.use_id": False,
        "model.query.id_dropout": 0.1,
        "model.history": {"type": "mean"},
        "model.item_bias": False,
        "model.temperature": 0.05,
        "training.epochs": 10,
        "training.batch_size": 2048,
        "training.learning_rate": 0.002,
        "training.warmup": 0.0,
        "training.weight_decay": 0.0,
        "training.half_life": None,
        "training.user_balance": 0.0,
    }


def _mean(facts: Facts) -> Values:
    """The history as a mean of items, the features beside it."""
    return {"training.epochs": 5, "training.learning_rate": 0.001}


def _context(facts: Facts) -> Values:
    """Queries without a past, such as texts."""
    return {"model.history": None}


def _sequences(facts: Facts) -> Values:
    """What comes next in a user's history; users have no embedding, so that new ones are served as well."""
    batch = 1024
    epochs = round(SEQUENCE_STEPS * batch / max(facts.events, 1))
    return {
        "model.dim": 128,
        "model.candidate.id_dropout": 0.2,
        "model.history": {"type": "transformer", "layers": 2, "heads": 2, "dropout": 0.3, "decay": 0.6},
        "model.temperature": 0.07,
        "training.epochs": min(max(epochs, 3), 16),
        "training.batch_size": batch,
    }


def _ids(facts: Facts, *, steps_per_epoch: int) -> Values:
    """Users and items by wide ids, trained in few large steps."""
    batch = math.ceil(facts.events / steps_per_epoch)
    return {
        "model.candidate.linear": False,
        "model.query.linear": False,
        "model.query.use_id": True,
        "model.history": None,
        "model.item_bias": True,
        "training.batch_size": min(max(batch, 2048), 131_072),
        "training.learning_rate": 0.01,
    }


def _repeats(facts: Facts) -> Values:
    """What a user takes again and again, and of that the latest most."""
    return {
        **_ids(facts, steps_per_epoch=12),
        "model.dim": 256,
        "model.candidate.id_dropout": 0.02,
        "model.query.id_dropout": 0.02,
        "model.temperature": 0.07,
        "training.epochs": 25,
        "training.warmup": 0.15,
        "training.half_life": "120d" if facts.timed else None,
        "training.user_balance": 0.5,
    }


def _sets(facts: Facts) -> Values:
    """What belongs to the set of items that a user has; few events take wider ids and a softer softmax."""
    few = facts.events < FEW_EVENTS
    return {
        **_ids(facts, steps_per_epoch=45),
        "model.dim": 512 if few else 128,
        "model.candidate.id_dropout": 0.0,
        "model.query.id_dropout": 0.0,
        "model.temperature": 0.15 if few else 0.1,
        "training.epochs": 20,
        "training.weight_decay": 0.01,
    }


_RECIPES = {"mean": _mean, "context": _context, "sequences": _sequences, "repeats": _repeats, "sets": _sets}


def _loss(facts: Facts, *, queries: int) -> Values:
    """A softmax over the whole catalogue, or over a sample of it where that would take too much time or memory."""
    from two_tower.model.losses.auto import MOST_ITEMS

    small = facts.items <= MOST_ITEMS
    if small or (facts.items <= MOST_SCORED_ITEMS and queries * facts.items <= MOST_SCORES):
        return {"type": "full_softmax", "precision": "bfloat16" if _has_fast_bfloat16() else "float32"}
    return {"type": "sampled_softmax"}


def _has_fast_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16; where it does not say, it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(FAST_BFLOAT16 & set(flags.split()))
