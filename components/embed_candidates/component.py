"""The candidate table to embeddings."""

from kfp.dsl import Dataset, Input, Model, Output


def embed_candidates(
    candidate_tower: Input[Model],
    prepared: Input[Dataset],
    embedding: str,
    beam: str,
    code: str,
    embeddings: Output[Dataset],
) -> None:
    """Embeds every candidate with the exported tower, also those that nobody has clicked.

    Args:
        candidate_tower: A `candidate_tower` artefact.
        prepared: A `prepared_data` artefact, for its candidate table.
        embedding: The `embedding` section as canonical JSON.
        beam: The `beam` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
        embeddings: A `candidate_embeddings` artefact.
    """
    from components.runtime import running
    from two_tower import BeamSettings, EmbeddingSettings, embed_candidates as embed, parse_section

    with running("embed_candidates") as step:
        settings = parse_section(EmbeddingSettings, embedding)
        if settings.previous:
            settings = settings.model_copy(update={"previous": step.fetch(settings.previous)})
        embed(
            step.read(candidate_tower),
            step.read(prepared),
            step.write(embeddings),
            embedding=settings,
            beam=parse_section(BeamSettings, beam),
        )
