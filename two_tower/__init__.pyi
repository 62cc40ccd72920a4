from .about import __version__ as __version__
from .config import (
    BeamSettings as BeamSettings,
    Config as Config,
    DataSettings as DataSettings,
    EmbeddingSettings as EmbeddingSettings,
    EvaluationSettings as EvaluationSettings,
    IndexSettings as IndexSettings,
    ModelSettings as ModelSettings,
    RetentionSettings as RetentionSettings,
    TrainingSettings as TrainingSettings,
    load_config as load_config,
    parse_section as parse_section,
)
from .data import EveryUser as EveryUser, Prepared as Prepared, prepare as prepare, resolve_sources as resolve_sources
from .embedding import embed_candidates as embed_candidates
from .errors import (
    ArtifactError as ArtifactError,
    ConfigError as ConfigError,
    DataError as DataError,
    RegistryError as RegistryError,
    TrainingError as TrainingError,
    UserError as UserError,
)
from .evaluation import check_prepared as check_prepared, evaluate as evaluate
from .index import Embeddings as Embeddings, Index as Index, build_index as build_index
from .metrics_file import Evaluation as Evaluation
from .model import (
    TrainedTowers as TrainedTowers,
    export_candidate_tower as export_candidate_tower,
    export_query_tower as export_query_tower,
    measure_before_refit as measure_before_refit,
    train as train,
)
from .registry import Registry as Registry, Version as Version, VersionParts as VersionParts, version_id as version_id
from .report import write_report as write_report
from .retrievers import sample_queries as sample_queries
from .serving import Recommender as Recommender, recommend_all as recommend_all
from .towers import CandidateTower as CandidateTower, QueryTower as QueryTower
