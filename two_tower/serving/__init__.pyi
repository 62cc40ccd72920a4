from .batch import (
    ROWS_PER_SHARD as ROWS_PER_SHARD,
    Recommendations as Recommendations,
    ScoreShard as ScoreShard,
    recommend_all as recommend_all,
)
from .query_file import QueryFile as QueryFile
from .raw_queries import Columns as Columns, Query as Query, query_schema as query_schema
from .recommender import Recommender as Recommender
from .results import Recommended as Recommended, RecommendedBatch as RecommendedBatch, some_of as some_of
from .sources import KnownUsers as KnownUsers, QuerySource as QuerySource
