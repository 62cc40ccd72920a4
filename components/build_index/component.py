"""Embeddings to a searchable index."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output


def build_index(
    embeddings: Input[Dataset],
    query_tower: Input[Model],
    prepared: Input[Dataset],
    index_settings: str,
    code: str,
    index: Output[Artifact],
) -> None:
    """Builds the index of the candidates, and the input of Vertex Vector Search beside it.

    Args:
        embeddings: A `candidate_embeddings` artefact.
        query_tower: A `query_tower` artefact, for the queries on which the index is tuned.
        prepared: A `prepared_data` artefact, for its validation queries.
        index_settings: The `index` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
        index: An `index` artefact.
    """
    from components.runtime import running
    from two_tower import IndexSettings, build_index as build, parse_section, sample_queries
    from two_tower.index import TUNING_QUERIES

    with running("build_index") as step:
        settings = parse_section(IndexSettings, index_settings)
        queries = None
        if settings.target is not None:
            queries = sample_queries(
                step.read(query_tower), step.read(prepared), split="validation", most=TUNING_QUERIES
            )
        build(step.read(embeddings), step.write(index), index=settings, queries=queries)
