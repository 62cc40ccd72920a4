from .check_prepared import check_prepared as check_prepared
from .confidence import interval as interval, paired_difference as paired_difference, resampled_means as resampled_means
from .evaluate import evaluate as evaluate, headlines as headlines
from .gate import run_gate as run_gate
from .measure import Measured as Measured, measure as measure
from .metrics import (
    ranking_metrics as ranking_metrics,
    ranks_with_ties_against as ranks_with_ties_against,
    with_ties_against as with_ties_against,
)
from .queries import Queries as Queries
from .sets import ItemSets as ItemSets
from .table_metrics import (
    repeats_in_words as repeats_in_words,
    sample_in_words as sample_in_words,
    shown_metrics as shown_metrics,
    table_rows as table_rows,
)
