"""The section `training`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from two_tower.config.plugins import AnyLoss
from two_tower.contracts import Repeats
from two_tower.settings import AUTO, MANY, Auto, Duration, Seed, Settings


class MiningSettings(Settings):
    """Hard negatives: what the current model ranks high for a query, without being right.

    Xiong et al., "Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval", 2021.
    """

    after: int = Field(
        2, ge=1, le=MANY, description="Epochs before the first mining; an untrained model's mistakes say little."
    )
    every: int = Field(1, ge=1, le=MANY, description="Epochs between two minings.")
    top: int = Field(100, ge=1, le=100_000, description="Negatives are drawn from this many best of a query.")
    skip: int = Field(
        0, ge=0, le=100_000, description="How many of the very best are passed over: they may well be right."
    )
    per_query: int = Field(8, ge=1, le=10_000, description="How many are drawn for a query in a step.")


class TrainingSettings(Settings):
    """How the towers are trained. What is `auto` is chosen by the training events, together (docs/training.md)."""

    loss: AnyLoss = Field({"type": "auto"}, validate_default=True)
    """What is minimised."""
    epochs: Auto[Annotated[int, Field(ge=1, le=1_000_000)]] = AUTO
    """Most passes over the training events; see `patience`."""
    batch_size: Auto[Annotated[int, Field(ge=2, le=MANY)]] = Field(
        AUTO, description="About how many positives a step sees."
    )
    learning_rate: Auto[Annotated[float, Field(ge=1e-10, le=1e30)]] = Field(
        AUTO, description="Adam's, at its highest; it falls to none along a cosine."
    )
    warmup: Auto[Annotated[float, Field(ge=0, lt=1)]] = Field(
        AUTO, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: Auto[Annotated[float, Field(ge=0, le=1e6)]] = Field(AUTO, description="Decoupled, as in AdamW.")
    clip_norm: float | None = Field(
        None, ge=1e-10, le=1e10, description="The gradient's largest norm, over all weights together."
    )
    half_life: Auto[Duration | None] = Field(
        AUTO, description="A training event this much older than the newest one weighs half; with null all are equal."
    )
    user_balance: Auto[Annotated[float, Field(ge=0, le=1)]] = Field(
        AUTO,
        description="How far heavy users' events weigh less: the weight of a user's events together is to the power of "
        "1 - user_balance. 0: every event counts the same; 1: every user does.",
    )
    whole_history: bool = Field(
        False,
        description="Whether all positives of a user share one query that sees the whole history, themselves included "
        "(an autoencoder): for logs in which the same items are taken again and again, and far cheaper.",
    )
    unordered_groups: int = Field(
        8,
        ge=2,
        le=10_000,
        description="Where histories have no order, a user's items are dealt into this many groups in each epoch, and "
        "each group is predicted from the others.",
    )
    known_positives: Literal["query", "user"] = Field(
        "query",
        description="Which items are no negatives for a query: its own positives, or all that its user took in "
        "training.",
    )
    mining: MiningSettings | None = None
    patience: Auto[Annotated[int, Field(ge=1, le=MANY)]] = Field(
        AUTO,
        description="Epochs without a better validation recall before training stops. `auto`: a third of `epochs`, "
        "since recall rises last while the learning rate falls.",
    )
    monitor_k: int = Field(
        100, ge=1, le=1_000_000, description="The K of the validation Recall@K that early stopping watches."
    )
    validation_queries: int = Field(
        20000, ge=1, le=MANY, description="At most this many queries, evenly spread, validate."
    )
    exclude_seen: bool | None = Field(
        None, description="Whether validation leaves out what a user has seen; `evaluation.exclude_seen` if not given."
    )
    repeats: Repeats | None = Field(
        None, description="How validation then counts repeats; `evaluation.repeats` if not given."
    )
    refit: bool = Field(
        True,
        description="Whether the towers are trained anew on training and validation events together once the best "
        "number of epochs is known.",
    )
    warm_start: bool = Field(False, description="Whether training starts from the champion's weights, if there is one.")
    deterministic: bool = Field(False, description="Whether TensorFlow repeats every operation exactly; slower.")
    seed: Seed = 42
    """What the random numbers of the training begin from."""
