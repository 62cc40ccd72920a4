from .events import data_sizes as data_sizes
from .sample import sample_queries as sample_queries
from .towers import TwoTowerRetriever as TwoTowerRetriever, refuse_mix as refuse_mix
