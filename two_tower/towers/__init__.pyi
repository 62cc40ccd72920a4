from .candidate_tower import CandidateTower as CandidateTower
from .query_tower import QueryTower as QueryTower, query_features as query_features
