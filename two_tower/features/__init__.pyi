from .base import (
    FittedFeature as FittedFeature,
    fit_features as fit_features,
    load_features as load_features,
)
