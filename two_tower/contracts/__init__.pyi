from .arrays import Bool as Bool, Float32 as Float32, Float64 as Float64, Int32 as Int32, Int64 as Int64
from .feature import FeatureType as FeatureType, Statistics as Statistics
from .gate_check import RANKING as RANKING, SLICES as SLICES, GateCheck as GateCheck, RankingMetric as RankingMetric
from .loss import Loss as Loss, LossBatch as LossBatch, LossContext as LossContext
from .retriever import (
    ROLES as ROLES,
    DataSizes as DataSizes,
    Repeats as Repeats,
    Retrieved as Retrieved,
    Retriever as Retriever,
    RetrieverSettings as RetrieverSettings,
    Role as Role,
)
