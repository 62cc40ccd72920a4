"""The settings that live with what they set: feature types, losses, retrievers, gate checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from two_tower.contracts import FeatureType, GateCheck, Loss, RetrieverSettings
from two_tower.settings import one_of

if TYPE_CHECKING:
    AnyFeature = FeatureType
    AnyLoss = Loss
    AnyBaseline = RetrieverSettings
    AnyCheck = GateCheck
else:
    AnyFeature = one_of("two_tower.features", FeatureType)
    AnyLoss = one_of("two_tower.model.losses", Loss)
    AnyBaseline = one_of("two_tower.retrievers", RetrieverSettings)
    AnyCheck = one_of("two_tower.evaluation.checks", GateCheck)

Features = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], AnyFeature]
