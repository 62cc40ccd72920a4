"""The section `model.history`: what makes one vector of a history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from two_tower.settings import Settings


class MeanPool(Settings):
    """The mean of the history's item vectors, the newer ones weighing more."""

    type: Literal["mean"] = "mean"
    decay: float = Field(
        1.0, gt=0, le=1, description="Weight of each older item relative to the next newer one; 1 is the mean."
    )


class Gru(Settings):
    """A recurrent encoder (Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", 2016)."""

    type: Literal["gru"] = "gru"
    layers: int = Field(1, ge=1, le=8)
    """Recurrent layers, one on the other."""
    decay: float = Field(
        0.7, gt=0, le=1, description="Of the mean that the units' output is added to, as that of `mean`."
    )
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout of the item vectors and of the last layer's states."""


class Transformer(Settings):
    """A causal transformer (Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018)."""

    type: Literal["transformer"] = "transformer"
    layers: int = Field(2, ge=1, le=16)
    """Blocks, one on the other."""
    heads: int = Field(2, ge=1, le=32, description="Must divide `model.dim`.")
    decay: float = Field(
        0.7, gt=0, le=1, description="Of the mean that the blocks' output is added to, as that of `mean`."
    )
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout of the item vectors and of what each block adds."""


AnyHistory = Annotated[MeanPool | Gru | Transformer, Field(discriminator="type")]
