"""Embeddings to a searchable index."""

from kfp.dsl import Artifact, Dataset, Input, Output


def build_index(embeddings: Input[Dataset], index_settings: str, code: str, index: Output[Artifact]):
    """Builds the index of the candidates, and the input of Vertex Vector Search beside it.

    Args:
        embeddings: A `candidate_embeddings` artefact.
        index_settings: The `index` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
        index: An `index` artefact.
    """
    from components.runtime import running
    from two_tower.config import Index, parse_section
    from two_tower.index import build_index as build

    with running("build_index"):
        build(embeddings.path, index.path, index=parse_section(Index, index_settings))
