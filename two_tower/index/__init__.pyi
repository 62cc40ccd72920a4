from .base import Index as Index
from .build import build_index as build_index, load_index as load_index
from .embeddings import CandidateEmbeddings as CandidateEmbeddings, load_embeddings as load_embeddings
from .exact import ExactIndex as ExactIndex
