"""The sections `model` and `training` with a plain value in every place that would be `auto`."""

from __future__ import annotations

from typing import Any

from two_tower.config import ModelSettings, TrainingSettings


def plain_model(**values: Any) -> ModelSettings:
    """Small towers that read the history's mean; `values` replace settings, those of a tower one by one."""
    towers = {
        side: {"linear": True, "use_id": side == "candidate", "id_dropout": 0.1, **values.pop(side, {})}
        for side in ("candidate", "query")
    }
    plain = {"dim": 64, "history": {"type": "mean"}, "item_bias": False, "temperature": 0.05}
    return ModelSettings(**{**plain, **towers, **values})


def plain_training(**values: Any) -> TrainingSettings:
    """A training without a schedule of weights; `values` replace settings."""
    plain = {
        "epochs": 5,
        "batch_size": 2048,
        "learning_rate": 1e-3,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "half_life": None,
        "user_balance": 0.0,
        "patience": 2,
        "refit": False,
    }
    return TrainingSettings(**{**plain, **values})
