from .artifact import Index as Index
from .base import Effort as Effort, Layout as Layout, SearchIndex as SearchIndex
from .build import build_index as build_index, load_index as load_index, require_memory as require_memory
from .delta import Allowed as Allowed, Found as Found, Rows as Rows
from .embeddings import (
    CandidateEmbeddings as CandidateEmbeddings,
    Embeddings as Embeddings,
    load_embeddings as load_embeddings,
)
from .exact import ExactIndex as ExactIndex, search_among as search_among
from .filters import allowed_rows as allowed_rows
from .live import LiveIndex as LiveIndex
from .measure import latency as latency, share_found as share_found
from .tuning import TUNING_QUERIES as TUNING_QUERIES
from .vector_search import write_vector_search_update as write_vector_search_update
