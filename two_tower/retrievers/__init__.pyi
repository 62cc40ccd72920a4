from .events import data_sizes as data_sizes
from .sample import sample_queries as sample_queries
from .stored import (
    RawQueries as RawQueries,
    Recommended as Recommended,
    RecommendedBatch as RecommendedBatch,
    StoredVersion as StoredVersion,
    refuse_unknown_context as refuse_unknown_context,
    some_of as some_of,
    tower_columns as tower_columns,
)
from .towers import TwoTowerRetriever as TwoTowerRetriever, refuse_mix as refuse_mix
