from .base import (
    FIRST as FIRST,
    MISSING as MISSING,
    OOV as OOV,
    FittedFeature as FittedFeature,
    fit_features as fit_features,
    holds_categories as holds_categories,
    load_features as load_features,
    lookup as lookup,
    lookup_tensor as lookup_tensor,
    raw_text as raw_text,
)
from .raw_arrays import RawColumns as RawColumns, raw_array as raw_array, raw_arrays as raw_arrays
