from .before_refit import measure_before_refit as measure_before_refit
from .export import export_candidate_tower as export_candidate_tower, export_query_tower as export_query_tower
from .recipes import Choice as Choice, Facts as Facts, choose as choose, settled as settled
from .trained import TrainedTowers as TrainedTowers
from .training import train as train
