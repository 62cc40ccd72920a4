from .events import data_sizes as data_sizes
from .query_tower import QueryTower as QueryTower, query_features as query_features
from .sample import sample_queries as sample_queries
from .towers import TwoTowerRetriever as TwoTowerRetriever, refuse_mix as refuse_mix
