from .candidates import embed as embed
from .queries import EveryUser as EveryUser, QueryFile as QueryFile, QuerySource as QuerySource
from .recommend import (
    ROWS_PER_SHARD as ROWS_PER_SHARD,
    Recommendations as Recommendations,
    ScoreShard as ScoreShard,
    recommend_all as recommend_all,
)
