from .conditions import FilterSettings as FilterSettings, Range as Range
from .config import Config as Config, RetentionSettings as RetentionSettings
from .data import DataSettings as DataSettings, ExamplesSettings as ExamplesSettings, QuerySettings as QuerySettings
from .environment import (
    Environment as Environment,
    KubeflowSettings as KubeflowSettings,
    PricesSettings as PricesSettings,
    ScheduleSettings as ScheduleSettings,
    VertexSettings as VertexSettings,
    load_environment as load_environment,
)
from .evaluation import EvaluationSettings as EvaluationSettings
from .histories import AnyHistory as AnyHistory, Gru as Gru, MeanPool as MeanPool, Transformer as Transformer
from .index import (
    EmbeddingSettings as EmbeddingSettings,
    IndexSettings as IndexSettings,
    IndexTargetSettings as IndexTargetSettings,
    VectorSearchSettings as VectorSearchSettings,
)
from .interactions import (
    ColumnSettings as ColumnSettings,
    EventSettings as EventSettings,
    InteractionsSettings as InteractionsSettings,
    KCore as KCore,
    Rate as Rate,
)
from .loading import (
    canonical_json as canonical_json,
    json_schema as json_schema,
    load_config as load_config,
    load_settings as load_settings,
    merged_yaml as merged_yaml,
    parse_section as parse_section,
)
from .machines import BeamSettings as BeamSettings, ResourcesSettings as ResourcesSettings
from .model import ModelSettings as ModelSettings, TowerSettings as TowerSettings
from .plugins import Features as Features
from .search import Between as Between, value_at as value_at, with_values as with_values
from .sources import BigQuerySettings as BigQuerySettings, CsvSettings as CsvSettings, SourceSettings as SourceSettings
from .splits import (
    AnySplit as AnySplit,
    Given as Given,
    GlobalTime as GlobalTime,
    LeaveLastK as LeaveLastK,
    LeaveLastOut as LeaveLastOut,
)
from .tables import ItemTableSettings as ItemTableSettings, UserTableSettings as UserTableSettings
from .times import at_time as at_time, first_time as first_time
from .training import MiningSettings as MiningSettings, TrainingSettings as TrainingSettings
