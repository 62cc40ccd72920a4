"""One data set's whole configuration; every key is documented in its description."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.data import DataSettings
from two_tower.config.evaluation import EvaluationSettings
from two_tower.config.index import EmbeddingSettings, IndexSettings
from two_tower.config.machines import BeamSettings, ResourcesSettings
from two_tower.config.model import ModelSettings
from two_tower.config.search import Searched, canonical_search
from two_tower.config.training import TrainingSettings
from two_tower.settings import MANY, Settings, did_you_mean
from two_tower.steps import STEPS, TABLE


class RetentionSettings(Settings):
    """Which versions the registry keeps beside the champion and the one before it."""

    keep: int | None = Field(
        10,
        ge=1,
        le=MANY,
        description="How many versions stay, former champions before refused ones, the latest first; null for all.",
    )
    days: int | None = Field(
        None,
        ge=0,
        le=365_000,
        description="Versions that were decided about less than so many days ago stay beyond that number.",
    )


class Config(Settings):
    """One data set's whole configuration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Names the pipeline, its registry and its data folder.")
    dataset: str | None = Field(None, description="The data folder's name, where it is not `name`.")
    description: str = ""
    """The data set in a sentence, which stands in the compiled pipeline too."""
    data: DataSettings
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    retention: RetentionSettings = RetentionSettings()
    beam: BeamSettings = BeamSettings()
    resources: dict[Literal[STEPS], ResourcesSettings] = {}  # type: ignore[valid-type]
    tune: dict[str, Searched] = Field(
        {},
        description="What `two-tower tune` searches, by dotted key below model or training: a list of choices, or a "
        "range {low, high, log, step}.",
    )

    @property
    def steps(self) -> tuple[str, ...]:
        """The DAG's steps for this configuration: all of them, or without what is done after a refit."""
        return tuple(step for step in STEPS if self.training.refit or TABLE[step].when != "refit")

    @model_validator(mode="after")
    def _validation_counts_what_the_test_counts(self) -> Config:
        rules = {name: getattr(self.evaluation, name) for name in ("exclude_seen", "repeats")}
        missing = {name: rule for name, rule in rules.items() if getattr(self.training, name) is None}
        if missing:
            object.__setattr__(self, "training", self.training.model_copy(update=missing))
        return self

    @model_validator(mode="after")
    def _the_default_gate_looks_at_what_training_watches(self) -> Config:
        if self.evaluation.gate is None:
            gate = self.evaluation.default_gate(near=self.training.monitor_k)
            object.__setattr__(self, "evaluation", self.evaluation.model_copy(update={"gate": gate}))
        return self

    @model_validator(mode="after")
    def _restricts_are_attributes(self) -> Config:
        attributes = self.data.items.attributes if self.data.items else []
        search = self.index.vector_search
        named = {
            "restricts": search.restricts,
            "numeric_restricts": search.numeric_restricts,
            "crowding": None if search.crowding is None else [search.crowding],
        }
        for key, names in named.items():
            for name in names or []:
                if name not in attributes:
                    raise PydanticCustomError(
                        "no_attribute",
                        "{name} is not among data.items.attributes ({there})",
                        {"key": key, "name": repr(name), "there": ", ".join(attributes) or "none"},
                    )
        return self

    @model_validator(mode="after")
    def _slices_are_columns(self) -> Config:
        data = self.data
        of_items = [*data.items.features, *data.items.attributes, *data.items.display] if data.items else []
        of_users = data.users.features if data.users else {}
        sides = {"item": of_items, "user": of_users, "context": data.query.context}
        there = list(dict.fromkeys(f"{side}.{name}" for side, names in sides.items() for name in names))
        for column in self.evaluation.slices:
            if column not in there:
                raise PydanticCustomError(
                    "no_slice",
                    "there is no feature, attribute or displayed column {column}{hint} ({there})",
                    {"column": column, "hint": did_you_mean(column, there), "there": ", ".join(there) or "none"},
                )
        return self

    @model_validator(mode="after")
    def _searched_settings_exist(self) -> Config:
        if self.tune:
            object.__setattr__(self, "tune", canonical_search(self.model_copy(update={"tune": {}}), self.tune))
        return self
