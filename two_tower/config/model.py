"""The section `model`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.histories import AnyHistory, Transformer
from two_tower.settings import AUTO, Auto, Settings


class TowerSettings(Settings):
    """One tower: what enters it beside its features, and its layers."""

    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        [], description="Widths of the hidden layers, relu between."
    )
    cross: int = Field(0, ge=0, le=100, description="Cross layers (deep & cross, version 2) before the hidden layers.")
    linear: Auto[bool] = Field(
        AUTO,
        description="Whether the tower ends with a linear map. Wide id embeddings learn faster without: the map bears "
        "no learning rate as high as theirs, and costs time by the square of `dim`.",
    )
    use_id: Auto[bool] = Field(
        AUTO,
        description="Whether the item (or user) id has an embedding of its own. `auto`: items have, users where the "
        "query tower reads no history.",
    )
    id_dropout: Auto[Annotated[float, Field(ge=0, lt=1)]] = Field(
        AUTO, description="Share of training examples whose id embedding is hidden, so that features learn."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after each hidden layer; without hidden layers, of the tower's input."
    )


class ModelSettings(Settings):
    """The two towers. What is `auto` is chosen by the training events, together (docs/training.md)."""

    dim: Auto[Annotated[int, Field(ge=2, le=1024)]] = Field(
        AUTO, description="Width of the embeddings that meet in the dot product."
    )
    candidate: TowerSettings = TowerSettings()
    query: TowerSettings = TowerSettings()
    history: Auto[AnyHistory | None] = Field(
        AUTO, description="What makes one vector of the history; null leaves the history out of the query tower."
    )
    shared_items: bool = Field(
        True,
        description="Whether the history reads the candidate tower's item vectors; if not, it has embeddings of its "
        "own.",
    )
    normalize: bool = Field(True, description="Whether both towers end with an L2 normalisation.")
    item_bias: Auto[bool] = Field(
        AUTO,
        description="Whether a candidate has a bias, a number added to its score, learned from its log popularity on. "
        "It takes one of the `dim` coordinates, and no normalisation touches it.",
    )
    temperature: Auto[Annotated[float, Field(ge=1e-6, le=1e6)]] = Field(
        AUTO, description="What the scores are divided by in the loss."
    )
    learn_temperature: bool = Field(False, description="Whether the temperature is trained, from `temperature` on.")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelSettings:
        if isinstance(self.history, Transformer) and self.dim != AUTO and self.dim % self.history.heads:
            raise PydanticCustomError(
                "heads",
                "history.heads: {heads} heads do not divide dim {dim}",
                {"heads": self.history.heads, "dim": self.dim},
            )
        return self
