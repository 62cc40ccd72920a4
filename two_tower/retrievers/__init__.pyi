from .query_tower import QueryTower as QueryTower, query_features as query_features
from .stored import Recommended as Recommended, StoredVersion as StoredVersion
from .towers import TwoTowerRetriever as TwoTowerRetriever, refuse_mix as refuse_mix
